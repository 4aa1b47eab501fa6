//! What the tests of the whole stand on: a machine of their own, and the command as people use it.

pub mod machine;
pub mod part;
pub mod reckoning;
