//! Evaluations that belong together: the jobs of a batch, those of a run, those that ran in an image. Pure.

use super::row::Row;
use super::summary::Counts;
use super::symbols::Symbol;
use std::collections::BTreeMap;

/// What such evaluations come to. A row can be taken out again, first and last included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// By whose doing their end was.
    pub counts: Counts,
    /// By how they ended.
    pub statuses: BTreeMap<Symbol, u64>,
    /// By the model that was evaluated, where one was named.
    pub models: BTreeMap<Symbol, u64>,
    /// How many finished when, in milliseconds since 1970.
    times: BTreeMap<i64, u64>,
}

impl Group {
    /// When the first of them finished, in milliseconds since 1970; 0 when there is none.
    pub fn first(&self) -> i64 {
        self.times.keys().next().copied().unwrap_or(0)
    }

    /// When the last of them did.
    pub fn last(&self) -> i64 {
        self.times.keys().next_back().copied().unwrap_or(0)
    }

    fn change(&mut self, row: &Row, counts: &Counts, add: bool) {
        if add {
            self.counts.merge(counts)
        } else {
            self.counts.without(counts)
        }
        tally(&mut self.times, row.at, add);
        if let Some(status) = row.status {
            tally(&mut self.statuses, status, add);
        }
        if let Some(model) = row.model {
            tally(&mut self.models, model, add);
        }
    }
}

/// Takes a row that counts as `counts` into its group, or out of it.
pub(super) fn change(
    groups: &mut BTreeMap<Symbol, Group>,
    key: Option<Symbol>,
    row: &Row,
    counts: &Counts,
    add: bool,
) {
    let Some(key) = key else { return };
    let group = groups.entry(key).or_default();
    group.change(row, counts, add);
    if group.times.is_empty() {
        groups.remove(&key);
    }
}

/// One more of `key`, or one less; what is down to none is not listed.
fn tally<K: Ord>(of: &mut BTreeMap<K, u64>, key: K, add: bool) {
    if add {
        *of.entry(key).or_default() += 1;
    } else if let Some(count) = of.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            of.remove(&key);
        }
    }
}
