//! Success rates, one series of outcomes at a time: each against what it used to be. Pure.
//!
//! A series learns its base rate from what it saw while nothing was suspicious; beside it runs a cumulative sum
//! (`evalfleet_analytics::sequential`), which says when outcomes speak for a lower rate. By itself that is a suspicion
//! and no more.

use super::sighting::Sighting;
use evalfleet_analytics::rate::{Confidence, Tally};
use evalfleet_analytics::sequential::{Cusum, Rates};
use std::collections::VecDeque;
use std::sync::Arc;

/// Outcomes that a base rate wants at least.
pub(super) const BASE_MIN: u64 = 8;
/// Beyond so many, older ones count half.
const BASE_MAX: u64 = 400;
/// A rate is believed to be no better: of a hundred passes nobody knows that the next one passes.
const GOOD_MAX: f64 = 0.98;
/// How sure the rate is that confirmation holds outcomes against: 0.9 leaves one in twenty below it.
const SURE: f64 = 0.9;
/// What passes less often is not watched for failing more.
const GOOD_MIN: f64 = 0.3;
/// The drop that is looked for.
pub(super) const DROP: f64 = 0.15;
/// Nearly all fail: a rate so many times lower.
pub(super) const BROKEN: f64 = 8.0;
/// What the sum must reach; `Cusum::new` says what that means.
const THRESHOLD: f64 = 4.5;
/// Evaluations that a suspicion keeps, the newest.
const EXCURSION_MAX: usize = 64;
/// Passes before it that are remembered, the newest.
const PASSED_MAX: usize = 12;

/// The rate that a base stands for: the mean of its posterior under Jeffreys' prior, bounded.
pub(super) fn good(base: Tally) -> f64 {
    ((base.passed as f64 + 0.5) / (base.tries as f64 + 1.0)).min(GOOD_MAX)
}

/// The least that a base may stand for: the lower end of Wilson's interval. What is held against it wants to be worse than
/// what is sure, not than what is likely: a flaky subject that passed nine times of nine has no rate of 0.95.
pub(super) fn surely(base: Tally) -> f64 {
    let confidence = Confidence::new(SURE).unwrap_or_default();
    base.wilson(confidence).low.min(good(base))
}

/// The rates that are told apart; none where there is too little to go by, or little passes anyway.
///
/// Two sums run: one for a [`DROP`], one for nearly everything failing, which in a flaky series the first would take long to
/// see.
fn watched(base: Tally) -> Option<[Cusum; 2]> {
    let good = good(base);
    if base.tries < BASE_MIN || good < GOOD_MIN {
        return None;
    }
    let sum = |bad| Some(Cusum::new(Rates::new(good, bad)?, THRESHOLD));
    Some([sum((good - DROP).max(good / 2.0))?, sum(good / BROKEN)?])
}

/// The rates that confirmation tells apart, out of what was before and what was seen since: half as good at the worst,
/// [`DROP`] less at the best.
pub(super) fn told_apart(before: Tally, after: Tally) -> Option<Rates> {
    let good = surely(before);
    let seen = (after.passed as f64 + 0.5) / (after.tries as f64 + 1.0);
    Rates::new(good, seen.min(good - DROP).max(good / 2.0))
}

pub(super) fn sum(one: Tally, other: Tally) -> Tally {
    Tally { passed: one.passed + other.passed, tries: one.tries + other.tries }
}

pub(super) fn count(tally: Tally, passed: bool) -> Tally {
    sum(tally, Tally { passed: u64::from(passed), tries: 1 })
}

/// A rate that fell, perhaps.
#[derive(Debug, Clone)]
pub(super) struct Fall {
    /// What it was before.
    pub(super) before: Tally,
    /// What was seen since, the oldest first.
    pub(super) rows: Vec<Arc<Sighting>>,
}

/// One series of outcomes.
#[derive(Debug, Default)]
pub(super) struct Series {
    base: Tally,
    cusums: Option<[Cusum; 2]>,
    /// Since the sum was last at rest.
    pending: Tally,
    excursion: VecDeque<Arc<Sighting>>,
    passed: VecDeque<Arc<Sighting>>,
    /// What was suspicious, and is not settled yet.
    suspicious: Tally,
    /// What was seen while it was known to fail.
    meanwhile: Tally,
    /// When it was last added to, in sightings of all series.
    pub(super) touched: u64,
    /// Whether it is known to fail now: what passes meanwhile says nothing of how often it should.
    pub(super) frozen: bool,
}

impl Series {
    /// What it knows of better times: how often it passed, and the newest that did.
    pub(super) fn base(&self) -> (Tally, impl Iterator<Item = &Arc<Sighting>>) {
        (self.base, self.passed.iter())
    }

    /// Takes an outcome in.
    pub(super) fn push(&mut self, one: &Arc<Sighting>) -> Option<Fall> {
        let passed = one.outcome?;
        self.pending = count(self.pending, passed);
        self.excursion.push_back(one.clone());
        if self.excursion.len() > EXCURSION_MAX {
            self.excursion.pop_front();
        }
        if self.cusums.is_none() {
            self.cusums = watched(self.base);
        }
        let Some(cusums) = &mut self.cusums else {
            self.rest();
            return None;
        };
        let [drop, broken] = cusums.each_mut().map(|cusum| cusum.push(passed).is_some());
        let is_at_rest = cusums.iter().all(|cusum| cusum.sum() <= 0.0);
        if drop || broken {
            self.cusums = None;
            self.suspicious = sum(self.suspicious, std::mem::take(&mut self.pending));
            let rows = std::mem::take(&mut self.excursion).into();
            return Some(Fall { before: self.base, rows });
        }
        if is_at_rest {
            self.rest();
        }
        None
    }

    /// Nothing is suspicious: what was seen is how it is.
    fn rest(&mut self) {
        let (pending, rows) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.excursion));
        if self.frozen {
            self.meanwhile = sum(self.meanwhile, pending);
            return;
        }
        self.belongs(pending);
        self.passed.extend(rows.into_iter().filter(|one| one.outcome == Some(true)));
        while self.passed.len() > PASSED_MAX {
            self.passed.pop_front();
        }
    }

    /// Adds to the base, and with it changes the rates that are told apart.
    fn belongs(&mut self, more: Tally) {
        self.base = sum(self.base, more);
        while self.base.tries > BASE_MAX {
            self.base = Tally { passed: self.base.passed / 2, tries: self.base.tries.div_ceil(2) };
        }
        self.cusums = None;
    }

    /// The suspicion is settled. Where it came to nothing, or passed without anything having changed, what raised it belongs
    /// to the base: it is how the series is, and the same must not raise it again and again.
    pub(super) fn settle(&mut self, belongs: bool) {
        let seen = sum(std::mem::take(&mut self.suspicious), std::mem::take(&mut self.meanwhile));
        if belongs {
            self.belongs(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;
    use proptest::prelude::*;

    fn feed(series: &mut Series, outcomes: &[bool]) -> Option<(usize, Fall)> {
        outcomes.iter().enumerate().find_map(|(nth, passed)| {
            let seen = Arc::new(Sighting { outcome: Some(*passed), ..one(nth as u32) });
            series.push(&seen).map(|fall| (nth, fall))
        })
    }

    #[test]
    fn failures_in_a_row_after_better_times_are_suspicious_and_say_what_was_before() {
        let mut series = Series::default();
        assert!(feed(&mut series, &[true; 24]).is_none());
        let (nth, fall) = feed(&mut series, &[false; 10]).unwrap();
        assert!((1..=3).contains(&nth), "{nth}");
        assert_eq!((fall.before, fall.rows.len()), (Tally { passed: 24, tries: 24 }, nth + 1));
        assert_eq!(series.base().1.count(), PASSED_MAX);
    }

    #[test]
    fn nothing_is_suspicious_without_a_past_nor_in_what_fails_anyway() {
        assert!(feed(&mut Series::default(), &[false; 200]).is_none());
        let mut poor = Series::default();
        let mixed: Vec<bool> = (0..100).map(|nth| nth % 10 == 0).collect();
        assert!(feed(&mut poor, &mixed).is_none() && feed(&mut poor, &[false; 50]).is_none());
    }

    #[test]
    fn what_our_machines_spoiled_says_nothing() {
        let mut series = Series::default();
        feed(&mut series, &[true; 24]);
        let before = series.base().0;
        for nth in 0..100 {
            assert!(series.push(&Arc::new(Sighting { outcome: None, ..one(nth) })).is_none());
        }
        assert_eq!(series.base().0, before);
    }

    #[test]
    fn a_suspicion_that_came_to_nothing_is_not_raised_by_the_same_for_ever() {
        let half: Vec<bool> = (0..4000).map(|nth| nth % 2 == 0).collect();
        let falls = |settle: bool| {
            let mut series = Series::default();
            feed(&mut series, &[true; 40]);
            let mut falls = 0;
            for (nth, passed) in half.iter().enumerate() {
                let seen = Arc::new(Sighting { outcome: Some(*passed), ..one(nth as u32) });
                if series.push(&seen).is_some() {
                    falls += 1;
                    if settle {
                        series.settle(true);
                    }
                }
            }
            falls
        };
        assert!(falls(true) * 8 < falls(false), "{} and {}", falls(true), falls(false));
    }

    proptest! {
        #[test]
        fn whatever_comes_it_stays_bounded(outcomes in prop::collection::vec(prop::option::of(any::<bool>()), 0..1500)) {
            let mut series = Series::default();
            for (nth, outcome) in outcomes.into_iter().enumerate() {
                if let Some(fall) = series.push(&Arc::new(Sighting { outcome, ..one(nth as u32) })) {
                    prop_assert!(fall.rows.len() <= EXCURSION_MAX && fall.before.tries >= BASE_MIN);
                    prop_assert!(fall.rows.iter().any(|row| row.outcome == Some(false)));
                }
                prop_assert!(series.base.tries <= BASE_MAX && series.base.passed <= series.base.tries);
                prop_assert!(series.excursion.len() <= EXCURSION_MAX && series.passed.len() <= PASSED_MAX);
            }
        }
    }
}
