//! Alerts, as the history tells them, and how often they were right. Pure.

use super::rates::Rate;
use crate::projection::alerts::Card;
use crate::projection::{At, World};
use evalfleet_analytics::alarm::{self, Judgement};
use evalfleet_analytics::rate::Confidence;
use evalfleet_proto::alert::{Said, State};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// Which alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that people were told of.
    Told,
    /// All, suspicions that came to nothing included.
    Any,
    /// Those in one state.
    In(State),
}

impl Which {
    /// Reads what is asked for; those that people were told of where nothing is.
    pub fn parse(word: Option<&str>) -> Option<Self> {
        match word {
            None => Some(Self::Told),
            Some("any") => Some(Self::Any),
            Some(word) => State::parse(word).map(Self::In),
        }
    }

    fn has(self, card: &Card) -> bool {
        match self {
            Self::Told => card.was_raised(),
            Self::Any => true,
            Self::In(state) => card.state == state,
        }
    }
}

/// How often alerts were right, as people judged them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Precision {
    /// Right of judged, with Wilson's bounds.
    pub right: Rate,
    /// Raised and not judged: they count neither way.
    pub unjudged: u64,
}

/// The alerts of a moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Alerts {
    /// The newest suspicion first.
    pub alerts: Vec<Card>,
    /// How many fit in all.
    pub total: u64,
    /// How many are raised now, whatever was asked for.
    pub raised: u64,
    /// How often all that were raised by then were right.
    pub precision: Precision,
    /// The transaction that the list stands on.
    pub basis_t: u64,
}

/// Lists them: those that `which` means, of `subject` if one is named, at most `limit`.
pub fn alerts(world: &World, at: At, which: Which, subject: Option<&str>, limit: usize) -> Alerts {
    let all = world.alerts(at);
    let wanted = |card: &&Arc<Card>| which.has(card) && subject.is_none_or(|subject| card.subject == subject);
    let fitting: Vec<_> = all.iter().filter(wanted).collect();
    Alerts {
        total: fitting.len() as u64,
        raised: all.iter().filter(|card| card.state == State::Raised).count() as u64,
        alerts: fitting.into_iter().take(limit).map(|card| (**card).clone()).collect(),
        precision: precision(&all),
        basis_t: at.t,
    }
}

fn precision(all: &[Arc<Card>]) -> Precision {
    let judged = |card: &Card| match card.judgement.as_ref().map(|word| word.said) {
        Some(Said::Right) => Some(Judgement::Right),
        Some(Said::Wrong) => Some(Judgement::Wrong),
        Some(Said::Unknown) | None => None,
    };
    let raised = all.iter().filter(|card| card.was_raised());
    // Closed or not is the same to this.
    let states: Vec<alarm::State> =
        raised.map(|card| alarm::State::Closed { at: Duration::ZERO, judged: judged(card) }).collect();
    let found = alarm::precision(&states, Confidence::default());
    Precision { right: found.judged.into(), unjudged: found.unjudged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_datomic::edn::Value;
    use evalfleet_datomic::{Datom, Transaction};
    use evalfleet_proto::Timestamp;

    fn world(alerts: &[(&str, &str, Option<&str>)]) -> World {
        let mut world = World::new(100);
        for (t, (subject, state, judged)) in (1..).zip(alerts) {
            let mut facts = vec![
                ("id", Value::Str(format!("a{t}"))),
                ("subject", Value::Str((*subject).to_owned())),
                ("state", Value::keyword(*state)),
                ("suspected", Value::Inst(Timestamp::from_second(t).unwrap())),
            ];
            facts.extend(judged.map(|judged| ("judgement", Value::keyword(judged))));
            let datoms = facts.into_iter().map(|(name, value)| Datom {
                entity: 100 + t,
                attribute: format!("alert/{name}"),
                value,
                added: true,
            });
            let (datoms, tx_instant) = (datoms.collect(), Timestamp::from_second(t).unwrap());
            world.apply(&Transaction { t: t as u64, tx_instant, datoms });
        }
        world
    }

    #[test]
    fn what_people_were_told_is_listed_and_counts_as_they_judged_it() {
        let world = world(&[
            ("tool=a", "raised", Some("right")),
            ("tool=b", "closed", Some("wrong")),
            ("tool=b", "dismissed", None),
            ("tool=c", "raised", None),
        ]);
        let at = world.at(None).unwrap();
        let ids = |which, subject| {
            let found = alerts(&world, at, which, subject, 10);
            found.alerts.into_iter().map(|card| card.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(Which::Told, None), ["a4", "a2", "a1"]);
        assert_eq!(ids(Which::Any, Some("tool=b")), ["a3", "a2"]);
        assert_eq!(ids(Which::In(State::Dismissed), None), ["a3"]);
        let found = alerts(&world, at, Which::Told, None, 1);
        assert_eq!((found.alerts.len(), found.total, found.raised), (1, 3, 2));
        let precision = found.precision;
        assert_eq!((precision.right.passed, precision.right.tries, precision.unjudged), (1, 2, 1));
        // As of before, fewer were.
        let then = world.at(Some(evalfleet_datomic::Point::T(1))).unwrap();
        assert_eq!(alerts(&world, then, Which::Any, None, 10).total, 1);
    }

    #[test]
    fn a_word_that_is_no_state_is_none() {
        assert_eq!(Which::parse(None), Some(Which::Told));
        assert_eq!(Which::parse(Some("closed")), Some(Which::In(State::Closed)));
        assert_eq!(Which::parse(Some("open")), None);
    }
}
