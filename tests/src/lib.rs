//! What the tests of the whole stand on: a machine of their own, the command as people use it,
//! and a worker without VMs.

pub mod machine;
pub mod part;
pub mod rabbit;
pub mod reckoning;
pub mod stand_in;
