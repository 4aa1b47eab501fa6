//! How each worker does, over all subjects: a machine on which this and that fails which elsewhere passes ails, and what it
//! says of outcomes is not heeded until it is well again. Pure.
//!
//! For each worker a cumulative sum of log-likelihood ratios (as `evalfleet_analytics::sequential` has them) weighs whether
//! subjects pass there as often as they do, or less. One subject that fails is that subject's doing, so of failures of the
//! same subject one after the other only the first speaks against the worker; and where more than a third of all workers seem to
//! ail, it is none of them.

use super::sighting::Sighting;
use evalfleet_proto::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The most workers that are remembered.
const WORKERS_MAX: usize = 1000;
/// A worker that finished nothing for so long is not there, as far as one can tell.
const THERE: Duration = Duration::from_secs(3600);
/// On a worker that ails subjects pass with this share of their rate.
const AILING: f64 = 0.7;
/// A rate is believed to be no better and no worse.
const RATES: (f64, f64) = (0.3, 0.97);
/// What the sum must reach, what it falls to when the worker is well again, and what it never exceeds.
const AILS: f64 = 7.0;
const WELL: f64 = 1.0;
const MOST: f64 = 12.0;

#[derive(Debug)]
struct Worker {
    /// When it last finished something.
    at: Timestamp,
    sum: f64,
    ails: bool,
    /// The subject that failed on it last.
    failed: Option<Arc<str>>,
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    known: BTreeMap<Arc<str>, Worker>,
}

impl Workers {
    /// Takes note of an evaluation; `rate` is how often the like of it passes.
    pub(super) fn note(&mut self, one: &Sighting, rate: Option<f64>) {
        let Some(name) = &one.worker else { return };
        let fresh = || Worker { at: one.at, sum: 0.0, ails: false, failed: None };
        let worker = self.known.entry(name.clone()).or_insert_with(fresh);
        worker.at = one.at;
        if let (Some(passed), Some(rate)) = (one.outcome, rate) {
            worker.weigh(&one.subject, passed, rate.clamp(RATES.0, RATES.1));
        }
        if self.known.len() > WORKERS_MAX {
            let oldest = self.known.iter().min_by_key(|(_, worker)| worker.at).map(|(name, _)| name.clone());
            oldest.map(|oldest| self.known.remove(&oldest));
        }
    }

    /// Whether this one ails, and not most of them.
    pub(super) fn ails(&self, name: &str) -> bool {
        let Some(worker) = self.known.get(name).filter(|worker| worker.ails) else { return false };
        let there = self.there(worker.at);
        let (all, ailing) =
            there.fold((0, 0), |(all, ailing), one| (all + 1, ailing + usize::from(one.ails)));
        3 * ailing <= all
    }

    /// Whether others than this one are there at a moment.
    pub(super) fn has_others(&self, name: &str, at: Timestamp) -> bool {
        let Ok(since) = at.checked_sub(THERE) else { return false };
        self.known.iter().any(|(other, worker)| **other != *name && worker.at >= since)
    }

    fn there(&self, at: Timestamp) -> impl Iterator<Item = &Worker> {
        let since = at.checked_sub(THERE).unwrap_or(Timestamp::MIN);
        self.known.values().filter(move |worker| worker.at >= since)
    }
}

impl Worker {
    fn weigh(&mut self, subject: &Arc<str>, passed: bool, rate: f64) {
        let ailing = rate * AILING;
        let weight = if passed { (ailing / rate).ln() } else { ((1.0 - ailing) / (1.0 - rate)).ln() };
        if !passed {
            if self.failed.as_ref() == Some(subject) {
                return;
            }
            self.failed = Some(subject.clone());
        }
        self.sum = (self.sum + weight).clamp(0.0, MOST);
        self.ails = if self.ails { self.sum > WELL } else { self.sum >= AILS };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;
    use proptest::prelude::*;

    fn seen(nth: u32, worker: &str, subject: u32, passed: bool) -> Sighting {
        let subject = format!("tool={subject}").as_str().into();
        Sighting { worker: Some(worker.into()), subject, outcome: Some(passed), ..one(nth) }
    }

    const NAMES: [&str; 4] = ["w1", "w2", "w3", "w4"];

    /// Takes turns; says after how many of its own the first worker was found to ail.
    fn turns(workers: &mut Workers, count: u32, passed: impl Fn(&str, u32) -> bool) -> Option<u32> {
        (0..count).find(|turn| {
            for name in NAMES {
                let subject = turn % 5;
                workers.note(&seen(*turn, name, subject, passed(name, subject)), Some(0.95));
            }
            workers.ails("w1")
        })
    }

    #[test]
    fn one_on_which_everything_fails_ails_and_is_well_again_when_it_passes() {
        let mut workers = Workers::default();
        assert_eq!(turns(&mut workers, 100, |_, _| true), None);
        let found = turns(&mut workers, 20, |name, _| name != "w1").expect("it ails");
        assert!(found <= 4 && !workers.ails("w2"), "{found}");
        for _ in 0..60 {
            turns(&mut workers, 1, |_, _| true);
        }
        assert!(!workers.ails("w1"));
    }

    #[test]
    fn a_subject_that_fails_and_a_day_on_which_all_does_are_no_workers_doing() {
        let mut workers = Workers::default();
        assert_eq!(turns(&mut workers, 200, |_, subject| subject != 3), None);
        let mut workers = Workers::default();
        assert_eq!(turns(&mut workers, 200, |_, _| false), None);
    }

    #[test]
    fn others_are_there_for_as_long_as_they_finish_something() {
        let mut workers = Workers::default();
        workers.note(&seen(0, "w1", 0, true), None);
        workers.note(&seen(1, "w2", 0, true), None);
        let now = one(1).at;
        assert!(workers.has_others("w1", now) && !workers.has_others("w1", now + 2 * THERE));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn whatever_comes_they_are_bounded(names in prop::collection::vec(0_u32..3000, 0..3000)) {
            let mut workers = Workers::default();
            for (nth, name) in (0..).zip(names) {
                workers.note(&seen(nth, &name.to_string(), name, false), Some(0.9));
                prop_assert!(workers.known.len() <= WORKERS_MAX);
                prop_assert!(workers.known.values().all(|worker| (0.0..=MOST).contains(&worker.sum)));
            }
        }
    }
}
