//! A dead letter: a job that could not be run, with all that is needed to understand and replay it.
//!
//! [`DeadLetter`] is what a worker or a recorder writes; a [`Letter`] is read out of that, and out of what
//! the broker passes on by itself; a [`Card`] is what lists show of a letter and its fate; a [`Filter`] says
//! which are meant; [`Handled`] tells the recorder what was done with one.

mod card;
mod filter;
mod letter;

pub use card::{Card, State};
pub use filter::{Filter, FilterError};
pub use letter::Letter;

use crate::ids::{JobId, Lane};
use crate::job::Attempt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A job that could not be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The version of this document.
    pub schema: u16,
    /// The job's id, also when its body does not decode: the envelope names it.
    pub id: JobId,
    /// Why it is here.
    pub reason: Reason,
    /// What went wrong last.
    pub error: String,
    /// The lane it came from.
    pub lane: Lane,
    /// Every try that was made.
    pub attempts: Vec<Attempt>,
    /// The worker that gave it up.
    pub worker: String,
    /// When it was given up.
    pub died: Timestamp,
    /// The job's message as it came, byte for byte.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// Why a job is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It cannot be decoded, or asks for what no worker knows.
    Poison,
    /// Every try ended in a fault of ours.
    AttemptsSpent,
    /// The broker gave it up: delivered too often without an answer.
    Broker,
    /// No queue takes what it was published with: a lane or a retry tier that nobody declared.
    Unroutable,
    /// A reason that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What was done with a dead letter, as the recorder is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handled {
    /// The version of this document.
    pub schema: u16,
    /// The letter: [`Card::id`].
    pub letter: String,
    /// What.
    pub did: Did,
    /// Who: the user and the host, as far as they are known.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What can be done with a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum Did {
    /// A new job asks the same again.
    Replayed {
        /// That job.
        job: JobId,
    },
    /// It was given up for good.
    Dropped {
        /// Why.
        reason: String,
    },
    /// Something that this build does not know.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::AttemptsSpent => "attempts_spent",
            Self::Broker => "broker",
            Self::Unroutable => "unroutable",
            Self::Unknown => "unknown",
        }
    }
}
