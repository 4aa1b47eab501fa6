//! Every version of every row, and what they come to.

use super::alerts::{Alerts, Card};
use super::fold::Entity;
use super::healings::{Healing, Healings};
use super::index::{Field, Index, Order};
use super::letters::Letters;
use super::row::{DeadLetter, Row};
use super::summary::Summary;
use super::symbols::{Symbol, Symbols};
use evalfleet_datomic::Point;
use evalfleet_proto::Timestamp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// How many summaries of other moments are remembered.
const SUMMARIES_MAX: usize = 8;

/// A row from one transaction until another.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) row: Arc<Row>,
    pub(super) since: u64,
    pub(super) until: u64,
    /// The number of the one before.
    replaced: Option<u64>,
    /// Whether the evaluation was recorded with it, and not only changed.
    first: bool,
}

impl Version {
    fn alive(&self, t: u64) -> bool {
        self.since <= t && t < self.until
    }
}

/// A moment of the history: the newest transaction that was known then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// That transaction.
    pub t: u64,
    /// Its time, in milliseconds since 1970; 0 before the first.
    pub instant: i64,
    /// Whether it is the newest of all.
    pub now: bool,
}

/// A moment of which the projection knows nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only what was recorded from transaction {kept_from} on is kept in memory (api.evaluations_max)")]
pub struct TooEarly {
    /// The earliest transaction that can be asked for.
    pub kept_from: u64,
}

/// The projection.
#[derive(Debug)]
pub struct World {
    pub(super) symbols: Symbols,
    pub(super) entities: HashMap<i64, Entity>,
    pub(super) parts: HashMap<i64, Vec<i64>>,
    versions: VecDeque<Version>,
    /// The number of the first version that is kept; numbers are never used again.
    first: u64,
    index: Index,
    current: HashMap<Arc<str>, u64>,
    pub(super) letters: Letters,
    pub(super) alerts: Alerts,
    pub(super) healings: Healings,
    pub(super) hosts: HashMap<Symbol, Symbol>,
    /// Transactions and their times, in order.
    clock: Vec<(u64, i64)>,
    /// How many rows that are true now each transaction recorded.
    recorded: BTreeMap<u64, u64>,
    now: Summary,
    others: Mutex<VecDeque<(u64, Arc<Summary>)>>,
    kept_from: u64,
    versions_max: usize,
}

impl World {
    /// An empty history of which at most `versions_max` versions of rows will be kept.
    pub fn new(versions_max: usize) -> Self {
        Self {
            symbols: Symbols::default(),
            entities: HashMap::new(),
            parts: HashMap::new(),
            versions: VecDeque::new(),
            first: 0,
            index: Index::default(),
            current: HashMap::new(),
            letters: Letters::default(),
            alerts: Alerts::default(),
            healings: Healings::default(),
            hosts: HashMap::new(),
            clock: Vec::new(),
            recorded: BTreeMap::new(),
            now: Summary::default(),
            others: Mutex::default(),
            kept_from: 0,
            versions_max: versions_max.max(1),
        }
    }

    /// The texts of its symbols.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The newest transaction, and its time.
    pub fn newest(&self) -> Option<(u64, i64)> {
        self.clock.last().copied()
    }

    /// The time of the first transaction that recorded something.
    pub fn begin(&self) -> Option<i64> {
        self.clock.first().map(|(_, instant)| *instant)
    }

    /// The newest transaction, 0 before there is one.
    pub fn basis_t(&self) -> u64 {
        self.newest().map_or(0, |(t, _)| t)
    }

    /// Resolves a moment.
    ///
    /// # Errors
    /// When it lies before what is kept.
    pub fn at(&self, moment: Option<Point>) -> Result<At, TooEarly> {
        let known = match moment {
            None => self.clock.len(),
            Some(Point::T(t)) => self.clock.partition_point(|(other, _)| *other <= t),
            Some(Point::Time(time)) => {
                let time = time.as_millisecond();
                self.clock.partition_point(|(_, instant)| *instant <= time)
            }
        };
        let (t, instant) = match known.checked_sub(1).and_then(|last| self.clock.get(last)) {
            Some(found) => *found,
            None => (0, 0),
        };
        if t < self.kept_from {
            return Err(TooEarly { kept_from: self.kept_from });
        }
        Ok(At { t, instant, now: known == self.clock.len() })
    }

    /// What all rows of a moment come to.
    pub fn summary<R>(&self, at: At, use_it: impl FnOnce(&Summary) -> R) -> R {
        if at.now {
            return use_it(&self.now);
        }
        let mut others = self.others.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = others.iter().find(|(t, _)| *t == at.t).map(|(_, summary)| summary.clone());
        let summary = known.unwrap_or_else(|| {
            let mut summary = Summary::default();
            self.rows(at).for_each(|row| summary.add(row));
            let summary = Arc::new(summary);
            others.truncate(SUMMARIES_MAX - 1);
            others.push_front((at.t, summary.clone()));
            summary
        });
        drop(others);
        use_it(&summary)
    }

    /// All rows of a moment, in the order of their recording.
    pub fn rows(&self, at: At) -> impl DoubleEndedIterator<Item = &Row> {
        self.versions.iter().filter(move |version| version.alive(at.t)).map(|version| &*version.row)
    }

    /// All rows of a moment with their numbers, in an order, those after `(key, number)` where that is given.
    pub fn ordered(
        &self,
        order: Order,
        at: At,
        after: Option<(i64, u64)>,
    ) -> impl Iterator<Item = (u64, &Row)> {
        let numbers = self.index.ordered(order, after);
        numbers.filter_map(move |number| Some((number, self.alive(number, at)?)))
    }

    /// All rows of a moment with their numbers, newest event first, from before `(time, number)` on.
    pub fn by_time(&self, at: At, before: Option<(i64, u64)>) -> impl Iterator<Item = (u64, &Row)> {
        self.ordered(Order::Newest, at, before)
    }

    /// The rows of a moment that have `value` there, with their numbers, in the order of their recording.
    pub fn having(
        &self,
        field: Field,
        value: Symbol,
        at: At,
    ) -> impl DoubleEndedIterator<Item = (u64, &Row)> {
        let numbers = self.index.having(field, value);
        numbers.filter_map(move |number| Some((number, self.alive(number, at)?)))
    }

    /// How many versions of rows have `value` there: no fewer than rows of any moment.
    pub fn most(&self, field: Field, value: Symbol) -> usize {
        self.index.count(field, value)
    }

    /// One row of a moment.
    pub fn find(&self, id: &str, at: At) -> Option<&Row> {
        let mut number = *self.current.get(id)?;
        loop {
            let version = self.version(number)?;
            if version.alive(at.t) {
                return Some(&version.row);
            }
            number = version.replaced?;
        }
    }

    /// The dead letters of a moment, newest first.
    pub fn letters(&self, at: At) -> impl Iterator<Item = &DeadLetter> {
        self.letters.known(at.t)
    }

    /// Those of them that are about a job, newest first.
    pub fn letters_of(&self, job: &str, at: At) -> impl Iterator<Item = &DeadLetter> {
        self.letters.of_job(job, at.t)
    }

    /// How many dead letters a moment has, and how many of them nobody has replayed.
    pub fn letter_counts(&self, at: At) -> (u64, u64) {
        let all = self.letters.count(at.t);
        let replayed = self.index.values(Field::ReplayOf).filter(|of| self.replay_of(*of, at).is_some());
        let replayed: usize =
            replayed.map(|of| self.letters.of_job(self.symbols.text(of), at.t).count()).sum();
        (all as u64, all.saturating_sub(replayed) as u64)
    }

    /// The newest evaluation that repeats another.
    pub fn replay_of(&self, of: Symbol, at: At) -> Option<&Row> {
        self.having(Field::ReplayOf, of, at).next_back().map(|(_, row)| row)
    }

    /// The alerts as they stood at a moment, the newest suspicion first.
    pub fn alerts(&self, at: At) -> Vec<Arc<Card>> {
        self.alerts.at(at.t)
    }

    /// The healings as they stood at a moment, the newest first.
    pub fn healings(&self, at: At) -> Vec<Arc<Healing>> {
        self.healings.at(at.t)
    }

    /// The host of a worker.
    pub fn host(&self, worker: Symbol) -> Option<&str> {
        self.hosts.get(&worker).map(|host| self.symbols.text(*host))
    }

    /// When rows that are true now were recorded, in order, and how many at each of these moments.
    pub fn recordings(&self) -> impl Iterator<Item = (i64, u64)> {
        let mut clock = self.clock.iter().peekable();
        self.recorded.iter().filter_map(move |(t, rows)| {
            while clock.peek().is_some_and(|(other, _)| other < t) {
                clock.next();
            }
            clock.peek().map(|(_, instant)| (*instant, *rows))
        })
    }

    /// How many versions of rows are kept.
    pub fn kept(&self) -> usize {
        self.versions.len()
    }

    /// The earliest transaction whose rows are all kept; 0 for everything.
    pub fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// The newest `most` rows by event time, as a world of their own that looks at no moment but this one:
    /// for what takes too long to hold the log up.
    pub fn frozen(&self, at: At, most: usize) -> Self {
        let mut frozen = Self::new(most);
        frozen.symbols = self.symbols.clone();
        frozen.clock = vec![(at.t, at.instant)];
        for (_, row) in self.by_time(at, None).take(most) {
            let number = frozen.versions.len() as u64;
            frozen.index.add(number, row);
            let row = Arc::new(row.clone());
            frozen.versions.push_back(Version {
                row,
                since: 0,
                until: u64::MAX,
                replaced: None,
                first: true,
            });
        }
        frozen
    }

    /// The newest versions recorded after transaction `t`, newest first.
    pub fn after(&self, t: u64) -> impl Iterator<Item = &Row> {
        let newer = self.versions.iter().rev().take_while(move |version| version.since > t);
        newer.filter(|version| version.until == u64::MAX && version.row.kind.is_some()).map(|v| &*v.row)
    }

    /// What was recorded after transaction `t`, oldest first and as it was reported: an evaluation that is amended, or
    /// summed up otherwise, is not recorded again.
    pub fn recorded_after(&self, t: u64) -> impl DoubleEndedIterator<Item = &Row> {
        let begin = self.versions.partition_point(|version| version.since <= t);
        self.versions.range(begin..).filter(|version| version.first).map(|version| &*version.row)
    }

    fn alive(&self, number: u64, at: At) -> Option<&Row> {
        let version = self.version(number)?;
        version.alive(at.t).then_some(&*version.row)
    }

    fn version(&self, number: u64) -> Option<&Version> {
        self.versions.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The row of a version that is still the newest of its kind.
    pub(super) fn row(&self, number: u64) -> Option<Arc<Row>> {
        Some(self.version(number)?.row.clone())
    }

    /// Puts a version in the place of another, or beside all.
    pub(super) fn put(&mut self, t: u64, row: Row, replaced: Option<u64>) -> u64 {
        // While it is only referred to, an evaluation has no kind.
        let is_known = |number| self.version(number).is_none_or(|old| old.row.kind.is_some());
        let known = replaced.is_some_and(is_known);
        let first = row.kind.is_some() && !known;
        if let Some(number) = replaced {
            self.retire(number, t);
        }
        let number = self.first + self.versions.len() as u64;
        let row = Arc::new(row);
        self.now.add(&row);
        *self.recorded.entry(t).or_default() += u64::from(row.kind.is_some());
        self.index.add(number, &row);
        self.current.insert(row.id.clone(), number);
        self.versions.push_back(Version { row, since: t, until: u64::MAX, replaced, first });
        number
    }

    fn retire(&mut self, number: u64, t: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(version) = index.and_then(|index| self.versions.get_mut(index))
            && version.until == u64::MAX
        {
            version.until = t;
            self.now.remove(&version.row);
            let (since, counts) = (version.since, version.row.kind.is_some());
            self.forget_recording(since, counts);
        }
    }

    fn forget_recording(&mut self, t: u64, counts: bool) {
        if let Some(rows) = self.recorded.get_mut(&t) {
            *rows -= u64::from(counts);
            if *rows == 0 {
                self.recorded.remove(&t);
            }
        }
    }

    /// Ends a transaction: notes its time, and lets go what is beyond the bound.
    pub(super) fn commit(&mut self, t: u64, instant: Timestamp) {
        self.clock.push((t, instant.as_millisecond()));
        while self.versions.len() > self.versions_max {
            let Some(gone) = self.versions.pop_front() else { break };
            let number = self.first;
            self.first += 1;
            self.index.remove_oldest(number, &gone.row);
            for entity in &gone.row.call_entities {
                self.entities.remove(entity);
            }
            if gone.until == u64::MAX {
                self.now.remove(&gone.row);
                self.forget_recording(gone.since, gone.row.kind.is_some());
                self.current.remove(&gone.row.id);
                self.entities.remove(&gone.row.entity);
                self.parts.remove(&gone.row.entity);
            }
            self.kept_from = gone.since + 1;
        }
        self.letters.bound(self.versions_max);
    }

    /// The summary of now, for comparing it with one that is made anew.
    #[cfg(test)]
    pub(super) fn current_summary(&self) -> &Summary {
        &self.now
    }
}
