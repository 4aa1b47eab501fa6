//! What is said to all workers at once, and what they say of themselves.

use crate::ids::{BatchId, JobId, WorkerId};
use crate::units::millis;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most characters of the reason for which a job is called off, or a worker drained.
pub const REASON_CHARS_MAX: usize = 500;

/// A message to every worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Control {
    /// Call a job off.
    Cancel {
        /// Which.
        job: JobId,
        /// Why, as its record will say; at most [`REASON_CHARS_MAX`] characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Call all jobs of a batch off.
    CancelBatch {
        /// Which.
        batch: BatchId,
        /// Those that were submitted until then: a batch's name may be used again.
        until: Timestamp,
        /// Why, as their records will say; at most [`REASON_CHARS_MAX`] characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A reader's own mark: when it reads it in the log, it has read all that was said before.
    Mark {
        /// Whose.
        nonce: String,
    },
    /// Finish the job you have, and take none until you are told to resume.
    Drain {
        /// Who; everybody when missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<WorkerId>,
        /// Why, as the worker will say of itself; at most [`REASON_CHARS_MAX`] characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Take jobs again.
    Resume {
        /// Who; everybody when missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<WorkerId>,
    },
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
        /// Whose machine failed; missing where an older worker says it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<String>,
    },
    /// An event that this build does not know.
    #[serde(other)]
    Unknown,
}
