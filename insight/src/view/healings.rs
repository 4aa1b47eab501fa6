//! Healings, as the history tells them. Pure.

use crate::projection::healings::Healing;
use crate::projection::{At, World};
use evalfleet_proto::healing::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Which healings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All.
    Any,
    /// Those of which something may still become.
    Open,
    /// Those in one state.
    In(State),
}

impl Which {
    /// Reads what is asked for; all where nothing is.
    pub fn parse(word: Option<&str>) -> Option<Self> {
        match word {
            None | Some("any") => Some(Self::Any),
            Some("open") => Some(Self::Open),
            Some(word) => State::parse(word).map(Self::In),
        }
    }

    fn has(self, state: State) -> bool {
        match self {
            Self::Any => true,
            Self::Open => state.is_open(),
            Self::In(wanted) => state == wanted,
        }
    }
}

/// The healings of a moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Healings {
    /// The newest first.
    pub healings: Vec<Healing>,
    /// How many fit in all.
    pub total: u64,
    /// How many wait for a person's word, whatever was asked for.
    pub proposed: u64,
    /// How many are in force, whatever was asked for.
    pub applied: u64,
    /// The transaction that the list stands on.
    pub basis_t: u64,
}

/// Lists them: those that `which` means, of `subject` if one is named, at most `limit`.
pub fn healings(world: &World, at: At, which: Which, subject: Option<&str>, limit: usize) -> Healings {
    let all = world.healings(at);
    let wanted =
        |card: &&Arc<Healing>| which.has(card.state) && subject.is_none_or(|subject| card.subject == subject);
    let fitting: Vec<_> = all.iter().filter(wanted).collect();
    let count = |state| all.iter().filter(|card| card.state == state).count() as u64;
    Healings {
        total: fitting.len() as u64,
        proposed: count(State::Proposed),
        applied: count(State::Applied),
        healings: fitting.into_iter().take(limit).map(|card| (**card).clone()).collect(),
        basis_t: at.t,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_datomic::edn::Value;
    use evalfleet_datomic::{Datom, Point, Transaction};
    use evalfleet_proto::Timestamp;

    fn world(healings: &[(&str, &str)]) -> World {
        let mut world = World::new(100);
        for (t, (subject, state)) in (1..).zip(healings) {
            let time = Timestamp::from_second(t).unwrap();
            let facts = [
                ("id", Value::Str(format!("h{t}"))),
                ("subject", Value::Str((*subject).to_owned())),
                ("state", Value::keyword(*state)),
                ("found", Value::Inst(time)),
            ];
            let datoms = facts.into_iter().map(|(name, value)| Datom {
                entity: 100 + t,
                attribute: format!("healing/{name}"),
                value,
                added: true,
            });
            world.apply(&Transaction { t: t as u64, tx_instant: time, datoms: datoms.collect() });
        }
        world
    }

    #[test]
    fn they_are_listed_by_state_and_subject_as_of_any_moment() {
        let world = world(&[("worker=a", "applied"), ("worker=b", "proposed"), ("worker=a", "undone")]);
        let at = world.at(None).unwrap();
        let ids = |which, subject| {
            let found = healings(&world, at, which, subject, 10);
            found.healings.into_iter().map(|card| card.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(Which::Any, None), ["h3", "h2", "h1"]);
        assert_eq!(ids(Which::Open, None), ["h2", "h1"]);
        assert_eq!(ids(Which::In(State::Undone), Some("worker=a")), ["h3"]);
        let found = healings(&world, at, Which::Any, None, 1);
        assert_eq!((found.healings.len(), found.total, found.proposed, found.applied), (1, 3, 1, 1));
        let then = world.at(Some(Point::T(1))).unwrap();
        assert_eq!(healings(&world, then, Which::Any, None, 10).total, 1);
        assert_eq!((Which::parse(None), Which::parse(Some("well"))), (Some(Which::Any), None));
    }
}
