//! One evaluation in the few words that lists, rates and series need. The whole of it stays in the store.

use super::symbols::Symbol;
use evalfleet_proto::status::Cause;
use std::sync::Arc;

/// What became of one call of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function.
    pub name: Option<Symbol>,
    /// 1 or 0 for one call, a share for a batch's; none where the subject was not put to the test.
    pub success_rate: Option<f64>,
    /// How many calls it stands for.
    pub count: u64,
    /// How many of them failed.
    pub failures: u64,
}

impl Default for Call {
    fn default() -> Self {
        Self { name: None, success_rate: None, count: 1, failures: 0 }
    }
}

/// How an evaluation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It did not, and whose doing that was.
    Not(Cause),
}

/// Times and sizes, each 0 where it was not measured. Times are in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// From submission to the result.
    pub duration: u64,
    /// The subject's own time on the clock.
    pub wall: u64,
    /// On the processors, user and system.
    pub cpu: u64,
    /// Waiting for a worker.
    pub queued: u64,
    /// Waiting for a clean VM.
    pub claim: u64,
    /// Running.
    pub run: u64,
    /// Reading what changed.
    pub effects: u64,
    /// Composing the result.
    pub report: u64,
    /// Making the clean VM.
    pub reset: u64,
    /// The most memory beyond the template, in bytes.
    pub memory: u64,
    /// Written to the disks, in bytes.
    pub disk_written: u64,
}

/// What a question was to lead to, and did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Question {
    /// The tools that were expected, in no order.
    pub expected: Vec<Symbol>,
    /// The tools that were called, each once.
    pub called: Vec<Symbol>,
}

/// A batch's own sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Its parts.
    pub total: u64,
    /// Those that passed.
    pub passed: u64,
    /// Those that failed for no fault of theirs.
    pub infrastructure: u64,
}

/// One evaluation, as of one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Its id.
    pub id: Arc<str>,
    /// Its entity in the store.
    pub(super) entity: i64,
    /// `function_call`, `command`, `batch`, …; none while it is only referred to.
    pub kind: Option<Symbol>,
    /// `passed`, `failed`, …
    pub status: Option<Symbol>,
    /// Whose doing it was, unless it passed.
    pub cause: Option<Cause>,
    /// When it finished, in milliseconds since 1970; a question's is its batch's.
    pub at: i64,
    /// As reported.
    pub success_rate: Option<f64>,
    /// The same without infrastructure's faults.
    pub adjusted_rate: Option<f64>,
    /// The model: its own or its batch's.
    pub model: Option<Symbol>,
    /// Who ran it.
    pub worker: Option<Symbol>,
    /// In what.
    pub image: Option<Symbol>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<Symbol>,
    /// The lane that it waited in; none is the default one.
    pub lane: Option<Symbol>,
    /// The run it is part of.
    pub run: Option<Symbol>,
    /// The suite of its case.
    pub suite: Option<Symbol>,
    /// The case that it tried; a question's is the question.
    pub case: Option<Symbol>,
    /// The batch that sums it.
    pub batch: Option<Symbol>,
    pub(super) batch_entity: i64,
    /// The evaluation that it repeats.
    pub replay_of: Option<Symbol>,
    /// Which attempt gave this result.
    pub attempt: u32,
    /// What it called.
    pub calls: Arc<[Call]>,
    pub(super) call_entities: Vec<i64>,
    /// `key=value`, without those that have fields of their own.
    pub labels: Vec<Symbol>,
    /// What went wrong, the beginning of it.
    pub error: Option<Arc<str>>,
    /// Exit status.
    pub exit_code: Option<i64>,
    /// What it left different, and how much of that was not announced.
    pub effects: u64,
    /// Of these, unannounced.
    pub effects_unexpected: u64,
    /// Times and sizes.
    pub measures: Measures,
    /// A batch's sums.
    pub sums: Sums,
    /// Of a question: its tools.
    pub question: Option<Arc<Question>>,
    pub(super) is_batch: bool,
    pub(super) has_passed: bool,
}

impl Row {
    /// How it counts; none for batches (their parts count) and for what has no verdict.
    pub fn outcome(&self) -> Option<Outcome> {
        if self.is_batch {
            return None;
        }
        match self.cause {
            Some(cause) => Some(Outcome::Not(cause)),
            None if self.has_passed => Some(Outcome::Passed),
            None => None,
        }
    }

    /// Whether it sums others.
    pub fn is_batch(&self) -> bool {
        self.is_batch
    }

    /// The first function that it called.
    pub fn tool(&self) -> Option<Symbol> {
        self.calls.iter().find_map(|call| call.name)
    }

    /// Whether it called a function.
    pub fn calls(&self, name: Symbol) -> bool {
        self.calls.iter().any(|call| call.name == Some(name))
    }
}

/// A job that could not be run, as the history tells it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeadLetter {
    /// Its name: its job's, where there is one.
    pub id: Arc<str>,
    /// The job; empty where the message names none.
    pub job: Arc<str>,
    /// The transaction that recorded it.
    pub since: u64,
    /// `poison`, `attempts_spent`, …
    pub reason: Option<Symbol>,
    /// What was to be run.
    pub kind: Option<Symbol>,
    /// The tool, or the program.
    pub tool: Option<Symbol>,
    /// When it was given up, in milliseconds since 1970.
    pub at: i64,
    /// How many tries were made.
    pub attempts: u64,
    /// What went wrong last.
    pub error: Option<Arc<str>>,
}
