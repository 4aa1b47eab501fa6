//! How a job ended, whose doing it was, and the exit code that says so.

use serde::{Deserialize, Serialize};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Status {
    /// The subject ended with exit status 0.
    Passed,
    /// The subject ended by itself with another.
    Failed,
    /// It exceeded its time, on the clock or on the processors.
    TimedOut,
    /// It exceeded its memory.
    OutOfMemory,
    /// It exceeded another limit.
    LimitExceeded,
    /// It was ended by a signal of its own, or took the VM down.
    Crashed,
    /// It was called off.
    Cancelled,
    /// Its deadline passed before it was started.
    Expired,
    /// It could not be run, and waits among the dead letters.
    Dead,
}

impl Status {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::LimitExceeded => "limit_exceeded",
            Self::Crashed => "crashed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Dead => "dead",
        }
    }

    /// Reads the word that documents use.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [
            Self::Passed,
            Self::Failed,
            Self::TimedOut,
            Self::OutOfMemory,
            Self::LimitExceeded,
            Self::Crashed,
            Self::Cancelled,
            Self::Expired,
            Self::Dead,
        ];
        all.into_iter().find(|status| status.as_str() == word)
    }

    /// The share of the subject that passed, 1 or 0; none when it was not put to the test.
    pub fn success_rate(self, cause: Option<Cause>) -> Option<f64> {
        match (self, cause) {
            (Self::Passed, _) => Some(1.0),
            (Self::Cancelled | Self::Expired | Self::Dead, _) => None,
            (_, Some(Cause::Subject | Cause::Budget)) => Some(0.0),
            (_, Some(Cause::Infrastructure | Cause::Harness) | None) => None,
        }
    }
}

/// Whose doing it was that a job did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Cause {
    /// What was evaluated.
    Subject,
    /// Our machines: retried, and never counted against the subject.
    Infrastructure,
    /// A limit.
    Budget,
    /// The request itself.
    Harness,
}

impl Cause {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Infrastructure => "infrastructure",
            Self::Budget => "budget",
            Self::Harness => "harness",
        }
    }

    /// Reads the word that documents use.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Subject, Self::Infrastructure, Self::Budget, Self::Harness];
        all.into_iter().find(|cause| cause.as_str() == word)
    }
}

/// Exit codes of every command. Scripts rely on them; they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything passed.
    Passed = 0,
    /// The subject failed.
    Subject = 1,
    /// A budget was exceeded.
    Budget = 2,
    /// Infrastructure failed, after its retries.
    Infrastructure = 3,
    /// The request itself was at fault.
    Harness = 4,
    /// It was cancelled.
    Cancelled = 5,
    /// Usage or configuration.
    Usage = 64,
    /// A part is unreachable.
    Unreachable = 69,
    /// A defect of ours.
    Defect = 70,
}

impl Exit {
    /// The exit code of a job that ended so.
    pub fn of(status: Status, cause: Option<Cause>) -> Self {
        match (status, cause) {
            (Status::Passed, _) => Self::Passed,
            (Status::Cancelled, _) => Self::Cancelled,
            (_, Some(Cause::Subject)) => Self::Subject,
            (_, Some(Cause::Budget)) => Self::Budget,
            (_, Some(Cause::Infrastructure)) => Self::Infrastructure,
            (_, Some(Cause::Harness)) => Self::Harness,
            // A cause is missing exactly when a job passed: this is a result that broke the rule.
            (_, None) => Self::Defect,
        }
    }

    /// The code itself.
    pub fn code(self) -> u8 {
        self as u8
    }
}
