//! A worker: takes one job at a time, runs it in a clean VM, and reports what it really did.
//!
//! ```text
//! lanes ──▶ service ──▶ job ──▶ supply ──▶ vm::Clean ──▶ vm::Active ──▶ vm::Spent
//!              ▲         │                                                  │
//!              │         └── order: what to run     verdict: whose doing ◀──┘ effects
//!              └── result confirmed, then the job settled
//! ```
//!
//! [`service`] owns the broker's side, [`control`] hears which jobs are called off, [`keep`] keeps what they ask, [`contents`] the texts that they changed,
//! [`job`] is one job's life, [`supply`] the VMs; [`order`] and [`verdict`] are pure. A worker keeps nothing that outlives it: kill it anywhere, and the job it had
//! is delivered again.

pub mod vm;

pub mod contents;
pub mod control;
pub mod job;
pub mod keep;
pub mod named;
pub mod opinion;
pub mod order;
pub mod output;
pub mod probe;
pub mod reach;
mod room;
pub mod service;
pub mod supply;
pub mod verdict;
pub mod visit;
