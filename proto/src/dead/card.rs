//! What lists show of a dead letter: where it came from, why it is here, what was done with it.

use crate::ids::JobId;
use crate::status::Cause;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What was done with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing yet.
    Waiting,
    /// A new job asked the same again.
    Replayed,
    /// It was given up for good.
    Dropped,
    /// Any of these: only a filter says so.
    Any,
}

impl State {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
            Self::Any => "any",
        }
    }
}

/// A dead letter as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// What it is called: its job's id; for what is no job, a name of its own.
    pub id: String,
    /// The job.
    pub job: Option<JobId>,
    /// What was done with it.
    pub state: State,
    /// `poison`, `attempts_spent`, `broker`.
    pub reason: String,
    /// Whose doing it is.
    pub cause: Option<Cause>,
    /// What went wrong last.
    pub error: String,
    /// The lane it came from.
    pub lane: Option<String>,
    /// `command`, `function_call`; null when it does not decode.
    pub kind: Option<String>,
    /// The tool, or the program.
    pub tool: Option<String>,
    /// The part that gave it up; null when the broker did.
    pub worker: Option<String>,
    /// The batch of its job.
    pub batch: Option<String>,
    /// The model of its job.
    pub model: Option<String>,
    /// The image of its job.
    pub image: Option<String>,
    /// How many tries were made.
    pub attempts: u64,
    /// When its job was submitted.
    pub submitted: Option<Timestamp>,
    /// When it was given up.
    pub died: Timestamp,
    /// The job that its job repeats.
    pub replay_of: Option<JobId>,
    /// The jobs that repeat its job, oldest first.
    pub replays: Vec<JobId>,
    /// When something was done with it last.
    pub handled: Option<Timestamp>,
    /// By whom.
    pub handled_by: Option<String>,
    /// Why it was dropped.
    pub drop_reason: Option<String>,
    /// Whether it can be replayed.
    pub replayable: bool,
}
