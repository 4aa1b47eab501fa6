//! Every version of every row, and what they come to.

use super::fold::Entity;
use super::row::{DeadLetter, Row};
use super::summary::Summary;
use super::symbols::{Symbol, Symbols};
use evalfleet_datomic::Point;
use evalfleet_proto::Timestamp;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

/// How many summaries of other moments are remembered.
const SUMMARIES_MAX: usize = 8;

/// A row from one transaction until another.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) row: Arc<Row>,
    pub(super) since: u64,
    pub(super) until: u64,
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
    by_time: BTreeSet<(i64, u64)>,
    by_tool: HashMap<Symbol, VecDeque<u64>>,
    current: HashMap<Arc<str>, u64>,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) hosts: HashMap<Symbol, Symbol>,
    /// Transactions and their times, in order.
    clock: Vec<(u64, i64)>,
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
            by_time: BTreeSet::new(),
            by_tool: HashMap::new(),
            current: HashMap::new(),
            letters: Vec::new(),
            hosts: HashMap::new(),
            clock: Vec::new(),
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

    /// All rows of a moment with their numbers, newest event first, from before `(time, number)` on.
    pub fn by_time(&self, at: At, before: Option<(i64, u64)>) -> impl Iterator<Item = (u64, &Row)> {
        let range = match before {
            Some(before) => self.by_time.range(..before),
            None => self.by_time.range(..),
        };
        range.rev().filter_map(move |(_, number)| Some((*number, self.alive(*number, at)?)))
    }

    /// The rows of a moment that called `tool`, in the order of their recording.
    pub fn of_tool(&self, tool: Symbol, at: At) -> impl Iterator<Item = &Row> {
        let numbers = self.by_tool.get(&tool).into_iter().flatten();
        numbers.filter_map(move |number| self.alive(*number, at))
    }

    /// One row of a moment.
    pub fn find(&self, id: &str, at: At) -> Option<&Row> {
        let newest = *self.current.get(id)?;
        if let Some(row) = self.alive(newest, at) {
            return Some(row);
        }
        self.versions.iter().find(|version| version.alive(at.t) && &*version.row.id == id).map(|v| &*v.row)
    }

    /// The dead letters of a moment, newest first.
    pub fn letters(&self, at: At) -> impl Iterator<Item = &DeadLetter> {
        self.letters.iter().rev().filter(move |letter| letter.since <= at.t)
    }

    /// The host of a worker.
    pub fn host(&self, worker: Symbol) -> Option<&str> {
        self.hosts.get(&worker).map(|host| self.symbols.text(*host))
    }

    /// When each row that is true now was recorded, in order.
    pub fn recordings(&self) -> impl Iterator<Item = i64> {
        let mut clock = self.clock.iter().peekable();
        let shown = |version: &&Version| version.until == u64::MAX && version.row.kind.is_some();
        self.versions.iter().filter(shown).filter_map(move |version| {
            while clock.peek().is_some_and(|(t, _)| *t < version.since) {
                clock.next();
            }
            clock.peek().map(|(_, instant)| *instant)
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
            frozen.by_time.insert((row.at, number));
            let row = Arc::new(row.clone());
            frozen.versions.push_back(Version { row, since: 0, until: u64::MAX });
        }
        frozen
    }

    /// The newest versions recorded after transaction `t`, newest first.
    pub fn after(&self, t: u64) -> impl Iterator<Item = &Row> {
        let newer = self.versions.iter().rev().take_while(move |version| version.since > t);
        newer.filter(|version| version.until == u64::MAX && version.row.kind.is_some()).map(|v| &*v.row)
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
        if let Some(number) = replaced {
            self.retire(number, t);
        }
        let number = self.first + self.versions.len() as u64;
        let row = Arc::new(row);
        self.now.add(&row);
        self.by_time.insert((row.at, number));
        let mut names: Vec<Symbol> = row.calls.iter().filter_map(|call| call.name).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.by_tool.entry(name).or_default().push_back(number);
        }
        self.current.insert(row.id.clone(), number);
        self.versions.push_back(Version { row, since: t, until: u64::MAX });
        number
    }

    fn retire(&mut self, number: u64, t: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(version) = index.and_then(|index| self.versions.get_mut(index))
            && version.until == u64::MAX
        {
            version.until = t;
            self.now.remove(&version.row);
        }
    }

    /// Ends a transaction: notes its time, and lets go what is beyond the bound.
    pub(super) fn commit(&mut self, t: u64, instant: Timestamp) {
        self.clock.push((t, instant.as_millisecond()));
        while self.versions.len() > self.versions_max {
            let Some(gone) = self.versions.pop_front() else { break };
            let number = self.first;
            self.first += 1;
            self.by_time.remove(&(gone.row.at, number));
            for call in gone.row.calls.iter() {
                if let Some(numbers) = call.name.and_then(|name| self.by_tool.get_mut(&name)) {
                    while numbers.front().is_some_and(|first| *first <= number) {
                        numbers.pop_front();
                    }
                }
            }
            for entity in &gone.row.call_entities {
                self.entities.remove(entity);
            }
            if gone.until == u64::MAX {
                self.now.remove(&gone.row);
                self.current.remove(&gone.row.id);
                self.entities.remove(&gone.row.entity);
                self.parts.remove(&gone.row.entity);
            }
            self.kept_from = gone.since + 1;
        }
        if self.letters.len() > self.versions_max {
            let beyond = self.letters.len() - self.versions_max;
            self.letters.drain(..beyond);
        }
    }

    /// The summary of now, for comparing it with one that is made anew.
    #[cfg(test)]
    pub(super) fn current_summary(&self) -> &Summary {
        &self.now
    }
}
