//! Tallies: in all, per tool, per model, per worker, each per hour of event time; and per batch, run and image. Pure.
//!
//! A row can be added and taken out again, so that the summary of now is kept up with every transaction,
//! and that of another moment is the sum of the rows alive then.

use super::group::{self, Group};
use super::row::{Outcome, Row};
use super::symbols::Symbol;
use evalfleet_analytics::rate::Tally;
use evalfleet_proto::status::Cause;
use std::collections::BTreeMap;

/// Milliseconds of an hour.
pub const HOUR: i64 = 3_600_000;

/// Evaluations by how they count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that passed.
    pub passed: u64,
    /// The subject failed.
    pub subject: u64,
    /// A budget was exceeded.
    pub budget: u64,
    /// A machine or a service failed.
    pub infrastructure: u64,
    /// The request was at fault.
    pub harness: u64,
    /// The sum of the subjects' times on the clock, in microseconds.
    pub wall: u64,
    /// How many of them have such a time.
    pub timed: u64,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.passed + self.subject + self.budget + self.infrastructure + self.harness
    }

    /// Those in which the subject was put to the test.
    pub fn attributed(&self) -> Tally {
        Tally { passed: self.passed, tries: self.passed + self.subject + self.budget }
    }

    /// All, every failure counted.
    pub fn raw(&self) -> Tally {
        Tally { passed: self.passed, tries: self.total() }
    }

    fn slot(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Not(Cause::Subject) => &mut self.subject,
            Outcome::Not(Cause::Budget) => &mut self.budget,
            Outcome::Not(Cause::Infrastructure) => &mut self.infrastructure,
            Outcome::Not(Cause::Harness) => &mut self.harness,
        }
    }

    /// Counts `times` more of one outcome.
    pub fn count(&mut self, outcome: Outcome, times: u64) {
        *self.slot(outcome) += times;
    }

    /// Sums two.
    pub fn merge(&mut self, other: &Self) {
        self.passed += other.passed;
        self.subject += other.subject;
        self.budget += other.budget;
        self.infrastructure += other.infrastructure;
        self.harness += other.harness;
        self.wall += other.wall;
        self.timed += other.timed;
    }

    pub(super) fn without(&mut self, other: &Self) {
        self.passed -= other.passed;
        self.subject -= other.subject;
        self.budget -= other.budget;
        self.infrastructure -= other.infrastructure;
        self.harness -= other.harness;
        self.wall -= other.wall;
        self.timed -= other.timed;
    }
}

/// The counts of one subject, hour by hour.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// All hours together.
    pub total: Counts,
    /// By hours since 1970, those without evaluations left out.
    pub hours: BTreeMap<i64, Counts>,
}

impl Line {
    fn change(&mut self, hour: i64, counts: &Counts, add: bool) {
        let slot = self.hours.entry(hour).or_default();
        if add {
            self.total.merge(counts);
            slot.merge(counts);
        } else {
            self.total.without(counts);
            slot.without(counts);
            if *slot == Counts::default() {
                self.hours.remove(&hour);
            }
        }
    }

    /// The counts from one moment to another (milliseconds), by whole hours.
    pub fn between(&self, from: i64, to: i64) -> Counts {
        let mut sum = Counts::default();
        if from < to {
            let hours = from.div_euclid(HOUR)..=(to - 1).div_euclid(HOUR);
            self.hours.range(hours).for_each(|(_, counts)| sum.merge(counts));
        }
        sum
    }
}

/// What a set of rows comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All evaluations.
    pub all: Line,
    /// By function called; a function of an imported batch counts as often as it was called.
    pub tools: BTreeMap<Symbol, Line>,
    /// By model.
    pub models: BTreeMap<Symbol, Line>,
    /// By worker.
    pub workers: BTreeMap<Symbol, Line>,
    /// By batch: its jobs, or its questions.
    pub batches: BTreeMap<Symbol, Group>,
    /// By run.
    pub runs: BTreeMap<Symbol, Group>,
    /// By image.
    pub images: BTreeMap<Symbol, Group>,
    /// How many rows were recorded, batches included.
    pub rows: u64,
}

impl Summary {
    /// Takes a row in.
    pub fn add(&mut self, row: &Row) {
        self.change(row, true);
    }

    /// Takes it out again.
    pub fn remove(&mut self, row: &Row) {
        self.change(row, false);
    }

    fn change(&mut self, row: &Row, add: bool) {
        if row.kind.is_none() {
            return;
        }
        self.rows = if add { self.rows + 1 } else { self.rows - 1 };
        let hour = row.at.div_euclid(HOUR);
        for call in row.calls.iter() {
            if let Some(name) = call.name
                && let Some(counts) = counts_of_call(row, call)
            {
                change(&mut self.tools, name, hour, &counts, add);
            }
        }
        let Some(outcome) = row.outcome() else { return };
        let counts = one(outcome, row.measures.wall);
        self.all.change(hour, &counts, add);
        if let Some(model) = row.model {
            change(&mut self.models, model, hour, &counts, add);
        }
        if let Some(worker) = row.worker {
            change(&mut self.workers, worker, hour, &counts, add);
        }
        group::change(&mut self.batches, row.batch, row, &counts, add);
        group::change(&mut self.runs, row.run, row, &counts, add);
        group::change(&mut self.images, row.image, row, &counts, add);
    }
}

fn change(lines: &mut BTreeMap<Symbol, Line>, key: Symbol, hour: i64, counts: &Counts, add: bool) {
    let line = lines.entry(key).or_default();
    line.change(hour, counts, add);
    if line.hours.is_empty() {
        lines.remove(&key);
    }
}

fn one(outcome: Outcome, wall: u64) -> Counts {
    let mut counts = Counts { wall, timed: u64::from(wall > 0), ..Counts::default() };
    counts.count(outcome, 1);
    counts
}

/// A batch's functions were counted by whoever ran it. Calls of a job count as their rate says, or, where they
/// have none, as the job does; of several that one record sums, as many failed as it says.
fn counts_of_call(row: &Row, call: &super::row::Call) -> Option<Counts> {
    if row.is_batch() {
        let passed = call.count.saturating_sub(call.failures);
        return (call.count > 0).then_some(Counts {
            passed,
            subject: call.count - passed,
            ..Counts::default()
        });
    }
    let outcome = match (call.success_rate, row.outcome()) {
        (Some(rate), _) if rate >= 1.0 => Outcome::Passed,
        (Some(_), Some(Outcome::Not(cause))) => Outcome::Not(cause),
        (Some(_), _) => Outcome::Not(Cause::Subject),
        (None, outcome) => outcome?,
    };
    let mut counts = one(outcome, row.measures.wall);
    if call.count > 1 {
        let failed = match outcome {
            Outcome::Passed => 0,
            Outcome::Not(_) if call.success_rate.is_some() && call.failures > 0 => {
                call.failures.min(call.count)
            }
            Outcome::Not(_) => call.count,
        };
        counts = Counts { wall: counts.wall, timed: counts.timed, ..Counts::default() };
        counts.count(outcome, failed);
        counts.count(Outcome::Passed, call.count - failed);
    }
    Some(counts)
}
