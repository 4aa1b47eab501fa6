//! What is said to all workers at once, and what they say of themselves.

use crate::ids::JobId;
use crate::units::millis;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A message to every worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Control {
    /// Call a job off.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// Finish what you have, take nothing new.
    Drain,
    /// A message that this build does not know.
    #[serde(other)]
    Unknown,
}

/// A lossy notice of progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A worker took a job.
    Started {
        /// Which.
        job: JobId,
        /// Who.
        worker: String,
        /// Which try.
        attempt: u32,
    },
    /// The subject wrote something.
    Output {
        /// Which job.
        job: JobId,
        /// To standard error rather than standard output.
        stderr: bool,
        /// What.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// What a job has used so far, as its host sees it; at most once a second.
    Progress {
        /// Which job.
        job: JobId,
        /// Since its subject was started.
        #[serde(rename = "elapsed_ms", with = "millis")]
        elapsed: Duration,
        /// Time on the host's processors, user and system together.
        #[serde(rename = "cpu_ms", with = "millis")]
        cpu: Duration,
        /// The VM's memory beyond its template.
        memory_bytes: u64,
        /// Read from its disks.
        disk_read_bytes: u64,
        /// Written to its disks.
        disk_written_bytes: u64,
    },
    /// A try ended in a fault of ours and will be made again.
    Retried {
        /// Which job.
        job: JobId,
        /// The try that failed.
        attempt: u32,
        /// Why.
        error: String,
    },
    /// An event that this build does not know.
    #[serde(other)]
    Unknown,
}
