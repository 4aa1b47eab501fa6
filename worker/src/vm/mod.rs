//! One QEMU: from a template, through one job, to its end.
//!
//! ```text
//!            make, probe, publish                      kill QEMU, confirm its death
//! image ──▶ Template ──┐                             ┌──────────────────────────▶ gone
//!                      │ clone                       │
//!                      ▼                             │
//!   [spawn ─ load ─ prove ─ wake ─ warm ─ pause] ─▶ Clean ──claim──▶ Active ──stop──▶ Spent
//!                                                     (paused)      (runs one job)   (disk readable)
//! ```
//!
//! Each state is a type of its own, and each step consumes the one before: a VM that ran a job has no
//! way to run another, because [`Active`] cannot be had from a [`Spent`]. What the job means, whose
//! fault its end was, and what becomes of the report is left to others.

pub mod accelerator;
mod agent;
pub mod breath;
mod chore;
mod clone;
mod complaints;
pub mod effects;
pub mod ext4;
pub mod foreign;
pub mod frames;
pub mod jail;
mod metrics;
mod names;
pub mod net;
mod process;
mod proof;
mod qapi;
mod qemu;
mod snapshot;
mod sparse;
pub mod strategy;
pub mod template;
mod upper;

mod active;

pub use active::{Active, Ending, Event, Halt, Limit, Meter, PROGRESS, Progress, Spent};
pub use clone::{Clean, ResetProof};
pub use jail::Jail;
pub use metrics::Usage;
pub use qemu::{Accelerator, Machine};
pub use snapshot::Snapshot;
pub use strategy::Strategy;
pub use template::Template;

/// Why there is no clean VM, or why it went away: always ours, never the subject's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// QEMU could not be locked up.
    #[error("the jail {0}")]
    Jail(String),
    /// QEMU could not be started, or ended by itself.
    #[error("QEMU: {0}")]
    Qemu(String),
    /// QEMU's control socket said no.
    #[error("QMP {command}: {message}")]
    Qmp {
        /// The command.
        command: &'static str,
        /// What it answered.
        message: String,
    },
    /// The agent in the VM did not do as it must.
    #[error("the guest agent {0}")]
    Agent(String),
    /// Something took longer than it may.
    #[error("{what} took longer than {seconds} s")]
    TimedOut {
        /// What.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// A clone is not what its template is.
    #[error("the clone is not clean: {0}")]
    NotClean(String),
    /// A file of the host.
    #[error("{what}: {source}")]
    Host {
        /// What was done to which file.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn host(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Host { what, source }
    }
}
