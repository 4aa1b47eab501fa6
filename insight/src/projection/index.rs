//! Where to find rows without looking at all of them: which rows have a value, and the orders of lists. Pure.
//!
//! A *posting list* names the rows that have one value in one field, in the order of their recording, as
//! search engines keep them (Manning, Raghavan and Schütze, *Introduction to Information Retrieval*, 2008, chapter 1).
//! It names every version of a row; whoever reads it asks which of them were true at its moment.

use super::row::Row;
use super::symbols::Symbol;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// What a row can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The model: its own or its batch's.
    Model,
    /// A function that it called.
    Tool,
    /// The case that it tried.
    Case,
    /// The suite of its case.
    Suite,
    /// The run that it is part of.
    Run,
    /// The batch that sums it.
    Batch,
    /// `passed`, `failed`, …
    Status,
    /// `function_call`, `command`, …
    Kind,
    /// Who ran it.
    Worker,
    /// `kvm` or `tcg`.
    Accelerator,
    /// The evaluation that it repeats.
    ReplayOf,
    /// A label.
    Label,
}

impl Field {
    const COUNT: usize = Self::Label as usize + 1;
}

/// What rows are in order of; greater keys first, and of equal ones what was recorded later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The newest event first.
    Newest,
    /// The oldest event first.
    Oldest,
    /// The longest on the clock first.
    Slowest,
    /// Those that took the most memory first.
    Largest,
}

impl Order {
    const ALL: [Self; 4] = [Self::Newest, Self::Oldest, Self::Slowest, Self::Largest];

    /// A row's place.
    pub fn key(self, row: &Row) -> i64 {
        let bounded = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        match self {
            Self::Newest => row.at,
            Self::Oldest => row.at.saturating_neg(),
            Self::Slowest => bounded(row.measures.wall),
            Self::Largest => bounded(row.measures.memory),
        }
    }
}

impl Row {
    /// Whether it has this value there.
    pub fn has(&self, field: Field, value: Symbol) -> bool {
        match field {
            Field::Tool => self.calls(value),
            Field::Label => self.labels.contains(&value),
            Field::Model => self.model == Some(value),
            Field::Case => self.case == Some(value),
            Field::Suite => self.suite == Some(value),
            Field::Run => self.run == Some(value),
            Field::Batch => self.batch == Some(value),
            Field::Status => self.status == Some(value),
            Field::Kind => self.kind == Some(value),
            Field::Worker => self.worker == Some(value),
            Field::Accelerator => self.accelerator == Some(value),
            Field::ReplayOf => self.replay_of == Some(value),
        }
    }

    /// All its values, each once.
    fn values(&self) -> BTreeSet<(Field, Symbol)> {
        let single = [
            (Field::Model, self.model),
            (Field::Case, self.case),
            (Field::Suite, self.suite),
            (Field::Run, self.run),
            (Field::Batch, self.batch),
            (Field::Status, self.status),
            (Field::Kind, self.kind),
            (Field::Worker, self.worker),
            (Field::Accelerator, self.accelerator),
            (Field::ReplayOf, self.replay_of),
        ];
        let single = single.into_iter().filter_map(|(field, value)| Some((field, value?)));
        let calls = self.calls.iter().filter_map(|call| Some((Field::Tool, call.name?)));
        let labels = self.labels.iter().map(|label| (Field::Label, *label));
        single.chain(calls).chain(labels).collect()
    }
}

/// The index of all versions that are kept, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Index {
    postings: [HashMap<Symbol, VecDeque<u64>>; Field::COUNT],
    orders: [BTreeSet<Reverse<(i64, u64)>>; Order::ALL.len()],
}

impl Index {
    /// Takes a row in; numbers only grow.
    pub(super) fn add(&mut self, number: u64, row: &Row) {
        for (field, value) in row.values() {
            self.postings[field as usize].entry(value).or_default().push_back(number);
        }
        for order in Order::ALL {
            self.orders[order as usize].insert(Reverse((order.key(row), number)));
        }
    }

    /// Takes the oldest row out.
    pub(super) fn remove_oldest(&mut self, number: u64, row: &Row) {
        for (field, value) in row.values() {
            let postings = &mut self.postings[field as usize];
            let Some(posting) = postings.get_mut(&value) else { continue };
            while posting.front().is_some_and(|first| *first <= number) {
                posting.pop_front();
            }
            if posting.is_empty() {
                postings.remove(&value);
            }
        }
        for order in Order::ALL {
            self.orders[order as usize].remove(&Reverse((order.key(row), number)));
        }
    }

    /// The versions that have this value there, in the order of their recording.
    pub(super) fn having(&self, field: Field, value: Symbol) -> impl DoubleEndedIterator<Item = u64> {
        self.postings[field as usize].get(&value).into_iter().flatten().copied()
    }

    /// How many versions have this value there.
    pub(super) fn count(&self, field: Field, value: Symbol) -> usize {
        self.postings[field as usize].get(&value).map_or(0, VecDeque::len)
    }

    /// All values of a field that some version has.
    pub(super) fn values(&self, field: Field) -> impl Iterator<Item = Symbol> {
        self.postings[field as usize].keys().copied()
    }

    /// The versions in an order, those after `(key, number)` where that is given.
    pub(super) fn ordered(&self, order: Order, after: Option<(i64, u64)>) -> impl Iterator<Item = u64> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |after| Excluded(Reverse(after)));
        self.orders[order as usize].range((from, Unbounded)).map(|Reverse((_, number))| *number)
    }
}
