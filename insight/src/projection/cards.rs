//! Entities that are told of again at each change, every version of each, as the log tells them. Pure.
//!
//! At most [`CARDS_MAX`] are kept; beyond that the oldest known go.

use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Datom, Transaction};
use evalfleet_proto::Timestamp;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// The most entities that are kept.
pub(super) const CARDS_MAX: usize = 10_000;

/// One entity in a line.
pub trait Told: Clone {
    /// What its attributes begin with.
    const OURS: &'static str;

    /// One of which nothing is known.
    fn unknown() -> Self;

    /// Takes a fact in; `attribute` is without [`Told::OURS`].
    fn learn(&mut self, attribute: &str, value: &Value);

    /// Whether it was told itself, and not only named.
    fn is_told(&self) -> bool;

    /// What lists are ordered by, the greatest first.
    fn place(&self) -> (Timestamp, &str);
}

/// All of one sort.
#[derive(Debug)]
pub struct Cards<C> {
    versions: HashMap<i64, Vec<(u64, Arc<C>)>>,
    /// In the order in which they became known.
    order: VecDeque<i64>,
}

impl<C> Default for Cards<C> {
    fn default() -> Self {
        Self { versions: HashMap::new(), order: VecDeque::new() }
    }
}

impl<C: Told> Cards<C> {
    /// Takes a transaction in; tells whether it says anything of them.
    pub(super) fn learn(&mut self, transaction: &Transaction) -> bool {
        let ours = |datom: &&Datom| datom.attribute.starts_with(C::OURS);
        let touched: BTreeSet<i64> =
            transaction.datoms.iter().filter(ours).map(|datom| datom.entity).collect();
        for entity in &touched {
            let versions = self.versions.entry(*entity).or_insert_with(|| {
                self.order.push_back(*entity);
                Vec::new()
            });
            let mut card = versions.last().map_or_else(C::unknown, |(_, card)| (**card).clone());
            // A retraction comes with the new value, and nothing of them is ever only taken back.
            for datom in transaction.datoms.iter().filter(ours).filter(|datom| datom.added) {
                if datom.entity == *entity {
                    card.learn(&datom.attribute[C::OURS.len()..], &datom.value);
                }
            }
            versions.push((transaction.t, Arc::new(card)));
        }
        while self.order.len() > CARDS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.versions.remove(&oldest);
            }
        }
        !touched.is_empty()
    }

    /// All as they stood at transaction `t`, in the order of [`Told::place`].
    pub fn at(&self, t: u64) -> Vec<Arc<C>> {
        let known = |versions: &Vec<(u64, Arc<C>)>| {
            let (_, card) = versions.iter().rev().find(|(since, _)| *since <= t)?;
            card.is_told().then(|| card.clone())
        };
        let mut cards: Vec<_> = self.versions.values().filter_map(known).collect();
        cards.sort_unstable_by(|one, other| other.place().cmp(&one.place()));
        cards
    }
}

/// A text out of the log.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A word out of the log, as documents write it.
pub(super) fn word(value: &Value) -> String {
    value.as_keyword().unwrap_or_default().replace('-', "_")
}

/// A moment out of the log.
pub(super) fn time(value: &Value) -> Timestamp {
    value.as_inst().unwrap_or(Timestamp::UNIX_EPOCH)
}
