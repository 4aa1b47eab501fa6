//! Dead letters, as the history tells them. Pure.

use super::subjects::word;
use super::{text, time};
use crate::projection::{At, DeadLetter, Row, World};
use evalfleet_proto::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A job that could not be run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Letter {
    /// Its name, under which it is shown, replayed and dropped.
    pub id: String,
    /// The job; null where not even the envelope names one.
    pub job: Option<String>,
    /// `poison`, `attempts_spent`, …
    pub reason: Option<String>,
    /// What was to be run: `function_call`, `command`, …
    pub kind: Option<String>,
    /// The tool or the program.
    pub tool: Option<String>,
    /// When it was given up.
    #[schema(value_type = String, format = DateTime)]
    pub died: Timestamp,
    /// How many tries were made.
    pub attempts: u64,
    /// What went wrong last.
    pub error: Option<String>,
    /// The evaluation that repeats it.
    pub replayed_by: Option<String>,
    /// What came of that: `passed`, or whose doing it was that it did not pass.
    pub replay_outcome: Option<&'static str>,
}

impl Letter {
    pub(super) fn of(world: &World, at: At, letter: &DeadLetter) -> Self {
        let replay = world.symbols().find(&letter.job).and_then(|job| world.replay_of(job, at));
        let row = world.find(&letter.job, at);
        Self {
            id: letter.id.to_string(),
            job: (!letter.job.is_empty()).then(|| letter.job.to_string()),
            reason: text(world, letter.reason),
            kind: text(world, letter.kind),
            tool: row.and_then(|row| text(world, row.tool())),
            died: time(letter.at),
            attempts: letter.attempts,
            error: letter.error.as_deref().map(str::to_owned),
            replayed_by: replay.map(|row| row.id.to_string()),
            replay_outcome: replay.and_then(Row::outcome).map(word),
        }
    }
}

/// The dead letters of a moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Letters {
    /// The newest first.
    pub dead_letters: Vec<Letter>,
    /// How many there are in all.
    pub count: u64,
    /// How many of them nobody has replayed.
    pub open: u64,
    /// How many for each reason.
    pub reasons: BTreeMap<String, u64>,
    /// The transaction that the list stands on.
    pub basis_t: u64,
}

/// Lists them: those of `reason` whose job or error contains `needle` (in lower case), at most `limit`.
pub fn letters(world: &World, at: At, reason: Option<&str>, needle: &str, limit: usize) -> Letters {
    let (count, open) = world.letter_counts(at);
    let (mut reasons, mut listed) = (BTreeMap::new(), Vec::new());
    for letter in world.letters(at) {
        *reasons.entry(letter.reason).or_default() += 1;
        let why = letter.reason.map_or("", |reason| world.symbols().text(reason));
        let wanted = reason.is_none_or(|reason| reason == why) && listed.len() < limit;
        let error = letter.error.as_deref().unwrap_or_default();
        if wanted && (letter.id.contains(needle) || error.to_lowercase().contains(needle)) {
            listed.push(Letter::of(world, at, letter));
        }
    }
    let reasons = reasons.into_iter().map(|(reason, count)| (text(world, reason).unwrap_or_default(), count));
    Letters { dead_letters: listed, count, open, reasons: reasons.collect(), basis_t: at.t }
}
