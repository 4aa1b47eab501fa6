//! What looks worse, out of every evaluation as it is recorded. Pure.
//!
//! Each subject has a series of outcomes and of durations, and so has each of its cases, so that one case that breaks is
//! not lost among many that do not. At most [`SERIES_MAX`] series of each sort are kept; beyond that, those that were
//! added to longest ago go.

use super::rates::{Fall, Series, count, sum};
use super::sighting::Sighting;
use super::times::{Slowdown, Times};
use evalfleet_analytics::rate::Tally;
use evalfleet_proto::alert::{CASES_MAX, Kind, Level};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The most series of outcomes, and of durations.
const SERIES_MAX: usize = 4000;

/// Something that looks worse.
#[derive(Debug, Clone)]
pub struct Suspicion {
    /// What.
    pub kind: Kind,
    /// Of what.
    pub subject: Arc<str>,
    /// The cases that are worse; empty: it cannot be told by cases.
    pub cases: BTreeSet<Arc<str>>,
    /// How it was before.
    pub before: Level,
    /// How it was since.
    pub after: Level,
    /// The evaluations that are worse, the oldest first; never empty.
    pub bad: Vec<Arc<Sighting>>,
    /// Evaluations from before, as they should be, the oldest first.
    pub good: Vec<Arc<Sighting>>,
}

type Key = (Arc<str>, Option<Arc<str>>, Option<Arc<str>>);

/// All series.
#[derive(Debug, Default)]
pub struct Detector {
    rates: HashMap<Key, Series>,
    times: HashMap<Key, Times>,
    seen: u64,
}

fn level(tally: Tally) -> Level {
    Level { passed: tally.passed, tries: tally.tries, wall_ms: None }
}

fn tally<'s>(rows: impl Iterator<Item = &'s Arc<Sighting>>) -> Tally {
    rows.filter_map(|one| one.outcome).fold(Tally::default(), count)
}

/// The cases of all these, if each has one and they are few enough to be named.
fn cases(rows: &[Arc<Sighting>]) -> BTreeSet<Arc<str>> {
    let cases: Option<BTreeSet<_>> = rows.iter().map(|one| one.case.clone()).collect();
    cases.filter(|cases| cases.len() <= CASES_MAX).unwrap_or_default()
}

impl Detector {
    /// Learns from the past, and raises nothing: what was wrong then is how it was, unless there is an open alarm about it
    /// (`is_known`), which will settle it.
    pub fn learn(&mut self, one: &Arc<Sighting>, is_known: bool) {
        self.seen += 1;
        for key in rate_keys(one) {
            let series = self.rates.entry(key).or_default();
            series.touched = self.seen;
            if series.push(one).is_some() && !is_known {
                series.settle(true);
            }
        }
        let times = self.times.entry(time_key(one)).or_default();
        times.touched = self.seen;
        times.learn(one);
        self.forget();
    }

    /// Takes an evaluation in, and says what looks worse by it: at most one suspicion of each kind.
    pub fn see(&mut self, one: &Arc<Sighting>) -> Vec<Suspicion> {
        self.seen += 1;
        let mut fall = None;
        for key in rate_keys(one) {
            let series = self.rates.entry(key).or_default();
            series.touched = self.seen;
            // The more general one comes first; the more particular one knows better.
            fall = series.push(one).or(fall);
        }
        let times = self.times.entry(time_key(one)).or_default();
        times.touched = self.seen;
        let slower = times.push(one);
        let found = fall.map(|fall| self.failing(one, fall));
        let found = found.into_iter().chain(slower.map(|slower| slowdown(one, slower))).collect();
        self.forget();
        found
    }

    fn failing(&self, one: &Sighting, fall: Fall) -> Suspicion {
        let bad: Vec<Arc<Sighting>> =
            fall.rows.iter().filter(|row| row.outcome == Some(false)).cloned().collect();
        let cases = cases(&bad);
        // How the failing cases did before; where they are new, how all did.
        let series = |case: Option<Arc<str>>| self.rates.get(&(one.subject.clone(), case, None));
        let of_cases: Vec<_> = cases.iter().filter_map(|case| series(Some(case.clone()))).collect();
        let before = of_cases.iter().map(|series| series.base().0).fold(Tally::default(), sum);
        let mut good: Vec<Arc<Sighting>> =
            of_cases.iter().flat_map(|series| series.base().1).cloned().collect();
        let concerned = |row: &&Arc<Sighting>| {
            before.tries == 0 || row.case.as_ref().is_some_and(|case| cases.contains(case))
        };
        let after = tally(fall.rows.iter().filter(concerned));
        if before.tries == 0 {
            good.extend(series(None).into_iter().flat_map(|series| series.base().1).cloned());
        }
        good.sort_by_key(|row| row.at);
        Suspicion {
            kind: Kind::Failing,
            subject: one.subject.clone(),
            cases,
            before: level(if before.tries == 0 { fall.before } else { before }),
            after: level(after),
            bad,
            good,
        }
    }

    /// A suspicion of `subject` is settled.
    pub fn settle(&mut self, subject: &str, came_to_nothing: bool) {
        for (_, series) in self.rates.iter_mut().filter(|((of, ..), _)| **of == *subject) {
            series.settle(came_to_nothing);
        }
    }

    fn forget(&mut self) {
        // A tenth at once: to look for the oldest one takes a look at all.
        let gone = |mut touched: Vec<u64>| {
            touched.sort_unstable();
            touched.get(touched.len() / 10).copied().unwrap_or(0)
        };
        if self.rates.len() > SERIES_MAX {
            let before = gone(self.rates.values().map(|series| series.touched).collect());
            self.rates.retain(|_, series| series.touched > before);
        }
        if self.times.len() > SERIES_MAX {
            let before = gone(self.times.values().map(|series| series.touched).collect());
            self.times.retain(|_, series| series.touched > before);
        }
    }
}

/// The series that an outcome belongs to: its subject's, and its case's where the subject is not the case itself.
fn rate_keys(one: &Sighting) -> impl Iterator<Item = Key> + use<> {
    let subject = one.subject.clone();
    let case = one.case.clone().filter(|_| subject.starts_with("tool="));
    let whole = (subject.clone(), None, None);
    std::iter::once(whole).chain(case.map(|case| (subject, Some(case), None)))
}

/// The series that a duration belongs to: cases take as long as they take, and accelerators are never mixed.
fn time_key(one: &Sighting) -> Key {
    (one.subject.clone(), one.case.clone(), one.accelerator.clone())
}

fn slowdown(one: &Sighting, slower: Slowdown) -> Suspicion {
    let level = |rows: &[Arc<Sighting>], mean: f64| {
        let Tally { passed, tries } = tally(rows.iter());
        Level { passed, tries, wall_ms: Some(mean) }
    };
    Suspicion {
        kind: Kind::Slower,
        subject: one.subject.clone(),
        cases: one.case.iter().filter(|_| one.subject.starts_with("tool=")).cloned().collect(),
        before: level(&slower.earlier, slower.before_ms),
        after: level(&slower.rows, slower.after_ms),
        bad: slower.rows,
        good: slower.earlier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;
    use proptest::prelude::*;

    fn of(nth: u32, case: &str, passed: Option<bool>) -> Arc<Sighting> {
        let case = (!case.is_empty()).then(|| Arc::from(case));
        Arc::new(Sighting { case, outcome: passed, ..one(nth) })
    }

    #[test]
    fn one_case_of_three_that_breaks_is_found_and_named() {
        let mut detector = Detector::default();
        let round = |detector: &mut Detector, nth: u32, broken: bool| -> Vec<Suspicion> {
            let cases = ["s/c1", "s/c2", "s/c3"].into_iter().enumerate();
            let one = |(at, case)| of(nth * 3 + at as u32, case, Some(!(broken && case == "s/c2")));
            cases.flat_map(|case| detector.see(&one(case))).collect()
        };
        assert!((0..10).all(|nth| round(&mut detector, nth, false).is_empty()));
        let found: Vec<_> = (10..16).flat_map(|nth| round(&mut detector, nth, true)).collect();
        let first = found.first().expect("it is found");
        assert_eq!(first.cases.iter().map(|case| &**case).collect::<Vec<_>>(), ["s/c2"]);
        assert_eq!((first.before.passed, first.before.tries, first.after.passed), (10, 10, 0));
        assert!(first.bad.iter().chain(&first.good).all(|one| one.case.as_deref() == Some("s/c2")));
    }

    #[test]
    fn machines_that_fail_put_no_subject_under_suspicion() {
        let mut detector = Detector::default();
        assert!((0..40).all(|nth| detector.see(&of(nth, "", Some(true))).is_empty()));
        assert!((40..400).all(|nth| detector.see(&of(nth, "", None)).is_empty()));
    }

    #[test]
    fn the_past_raises_nothing() {
        let after = |is_known: bool| {
            let mut detector = Detector::default();
            (0..40).for_each(|nth| detector.learn(&of(nth, "", Some(true)), is_known));
            (40..60).for_each(|nth| detector.learn(&of(nth, "", Some(false)), is_known));
            detector.rates.values().next().unwrap().base().0
        };
        assert!(after(false).tries > 50, "it is how it was, but for the newest");
        assert_eq!(after(true), Tally { passed: 40, tries: 40 }, "an alarm says that it is not");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_number_of_series_is_bounded(subjects in prop::collection::vec(0_u32..20_000, 0..9000)) {
            let mut detector = Detector::default();
            for (nth, subject) in subjects.into_iter().enumerate() {
                let subject = Arc::from(format!("tool={subject}"));
                let seen = Sighting { subject, outcome: Some(true), ..one(nth as u32) };
                detector.see(&Arc::new(seen));
                prop_assert!(detector.rates.len() <= SERIES_MAX && detector.times.len() <= SERIES_MAX);
            }
        }
    }
}
