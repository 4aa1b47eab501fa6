//! Dead letters, as the history tells them. Pure.

use super::{text, time};
use crate::projection::{At, DeadLetter, World};
use evalfleet_proto::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A job that could not be run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Letter {
    /// The job.
    pub job: String,
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
}

impl Letter {
    pub(super) fn of(world: &World, at: At, letter: &DeadLetter) -> Self {
        let job = world.symbols().find(&letter.job);
        let replay = job.and_then(|job| world.rows(at).rev().find(|row| row.replay_of == Some(job)));
        Self::with(world, at, letter, replay.map(|row| row.id.to_string()))
    }

    fn with(world: &World, at: At, letter: &DeadLetter, replayed_by: Option<String>) -> Self {
        let row = world.find(&letter.job, at);
        Self {
            job: letter.job.to_string(),
            reason: text(world, letter.reason),
            kind: text(world, letter.kind),
            tool: row.and_then(|row| text(world, row.tool())),
            died: time(letter.at),
            attempts: letter.attempts,
            error: letter.error.as_deref().map(str::to_owned),
            replayed_by,
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
    let mut replays = BTreeMap::new();
    for row in world.rows(at) {
        if let Some(of) = row.replay_of {
            replays.insert(of, row.id.to_string());
        }
    }
    let replay =
        |letter: &DeadLetter| world.symbols().find(&letter.job).and_then(|job| replays.get(&job)).cloned();
    let mut reasons = BTreeMap::new();
    let (mut count, mut open, mut listed) = (0, 0, Vec::new());
    for letter in world.letters(at) {
        count += 1;
        let replayed_by = replay(letter);
        open += u64::from(replayed_by.is_none());
        let why = text(world, letter.reason).unwrap_or_default();
        let wanted = reason.is_none_or(|reason| reason == why);
        *reasons.entry(why).or_default() += 1;
        let error = letter.error.as_deref().unwrap_or_default();
        let found = letter.job.contains(needle) || error.to_lowercase().contains(needle);
        if wanted && found && listed.len() < limit {
            listed.push(Letter::with(world, at, letter, replayed_by));
        }
    }
    Letters { dead_letters: listed, count, open, reasons, basis_t: at.t }
}
