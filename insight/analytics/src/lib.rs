//! What a history of evaluations means, in numbers.
//!
//! Pure functions: no I/O, no clock, no randomness of their own. The same input gives the same answer, and
//! every answer carries the numbers it rests on.

pub mod alarm;
pub mod changepoint;
pub mod cluster;
pub mod drivers;
pub mod flaky;
pub mod outlier;
pub mod rate;
pub mod recommend;
pub mod robust;
pub mod sequential;

#[cfg(test)]
mod testing;
