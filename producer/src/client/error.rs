//! Why a job was not submitted, or its evaluation did not come.

use crate::registry;
use evalfleet_broker as broker;
use evalfleet_proto::evaluation::Verdict;
use evalfleet_proto::ids::{JobId, Lane};
use evalfleet_proto::status::Exit;
use evalfleet_proto::submission;
use evalfleet_service::blobs;
use std::time::Duration;

/// Why a job was not submitted, or its evaluation did not come.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is no job. Nothing was enqueued.
    #[error(transparent)]
    Submission(#[from] submission::Error),
    /// The call does not fit its tool. Nothing was enqueued.
    #[error(transparent)]
    Tool(#[from] registry::Error),
    /// Its large inputs cannot be kept. Nothing was enqueued.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// The broker cannot take it.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The broker was lost while the job was on its way.
    #[error("RabbitMQ did not confirm the job {id} within {} s{}: it may or may not be enqueued. Submit it again with the same key, or look with `evalfleet get {id}`", .waited.as_secs(), last(.reason.as_deref()))]
    Undecided {
        /// The job.
        id: JobId,
        /// How long was waited.
        waited: Duration,
        /// What the broker said last.
        reason: Option<String>,
    },
    /// The broker was lost before the job was on its way.
    #[error("RabbitMQ was lost for {} s{}: the job {id} was not enqueued. `evalfleet status` shows the parts", .waited.as_secs(), last(.reason.as_deref()))]
    Unheard {
        /// The job.
        id: JobId,
        /// How long was waited.
        waited: Duration,
        /// What the broker said last.
        reason: Option<String>,
    },
    /// No queue takes jobs of that lane.
    #[error("there is no lane {lane}: broker.lanes has {known}")]
    Lane {
        /// What was asked for.
        lane: Lane,
        /// The lanes there are.
        known: String,
    },
    /// The job is enqueued, and its evaluation did not come.
    #[error("no result of {id} within {}: it is still enqueued or running. `evalfleet status` shows the workers, `evalfleet dead list` the dead letters, `evalfleet wait {id}` waits on", humantime::format_duration(*.waited))]
    Patience {
        /// The job.
        id: JobId,
        /// How long was waited.
        waited: Duration,
    },
    /// Too many jobs are waited for at once.
    #[error("{max} results are outstanding, no more may be, and none came within {} s: wait for some, or submit without waiting", .waited.as_secs())]
    TooMany {
        /// The bound.
        max: usize,
        /// How long was waited for room.
        waited: Duration,
    },
    /// The reason for calling a job off is too long, or that for a verdict or a judgement says nothing.
    #[error("the reason has {chars} characters, and may have 1 to {max}")]
    Reason {
        /// Its length.
        chars: usize,
        /// The bound.
        max: usize,
    },
    /// No verdict can be amended to that.
    #[error("a verdict cannot be {verdict}: {why}")]
    Verdict {
        /// What was asked for.
        verdict: Verdict,
        /// Why not.
        why: &'static str,
    },
    /// The broker was lost while a job was being called off, a verdict amended, or something said of an alert or a healing.
    #[error("RabbitMQ did not confirm within {} s what was said about {what}: it may or may not have heard. Say it again", .waited.as_secs())]
    Unsaid {
        /// A job, a batch, a verdict, an alert, or a healing.
        what: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The client was closed.
    #[error("the client was closed while it waited for {id}")]
    Closed {
        /// The job.
        id: JobId,
    },
}

fn last(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

impl Error {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Submission(_) | Self::Tool(_) | Self::Verdict { .. } | Self::Lane { .. } => Exit::Harness,
            Self::Broker(broker::Error::TooLarge { .. }) => Exit::Harness,
            Self::Blobs(_)
            | Self::Broker(_)
            | Self::Undecided { .. }
            | Self::Unheard { .. }
            | Self::Unsaid { .. } => Exit::Unreachable,
            Self::Patience { .. } => Exit::Infrastructure,
            Self::TooMany { .. } | Self::Reason { .. } => Exit::Usage,
            Self::Closed { .. } => Exit::Defect,
        }
    }
}
