//! What looks worse, out of every evaluation as it is recorded. Pure.
//!
//! Each subject has a series of outcomes, and so has each of its cases, so that one case that breaks is not lost among many
//! that do not; and of each case there is a series of every [`Measure`]. How long clean VMs take is of two series: of one
//! worker in one image, which says when that machine became slow, and of one subject over all workers and images, which
//! says when an image did. At most [`SERIES_MAX`] series of outcomes and lineages are kept, and [`AMOUNTS_MAX`] of amounts;
//! beyond that, those that were added to longest ago go.

use super::amounts::{Amounts, Rise};
use super::culprit::culprit;
use super::lineage::{Lineage, Run};
use super::measure::Measure;
use super::rates::{BASE_MIN, Fall, Series, count, good, sum};
use super::sighting::Sighting;
use evalfleet_analytics::rate::Tally;
use evalfleet_proto::alert::{CASES_MAX, Kind, Level};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The most series of outcomes, and the most lineages.
const SERIES_MAX: usize = 4000;
/// The most series of amounts.
const AMOUNTS_MAX: usize = 4 * SERIES_MAX;

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
    /// The origins of the newest bad one's case, the oldest first; empty where that is of no matter.
    pub lineage: Vec<Run>,
}

type Key = (Arc<str>, Option<Arc<str>>);

/// Which series of amounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    measure: Measure,
    subject: Arc<str>,
    /// The case; of a worker's resets the image.
    within: Option<Arc<str>>,
    accelerator: Option<Arc<str>>,
}

/// All series.
#[derive(Debug, Default)]
pub struct Detector {
    rates: HashMap<Key, Series>,
    amounts: HashMap<Place, Amounts>,
    lineages: HashMap<Key, Lineage>,
    seen: u64,
}

fn level(tally: Tally) -> Level {
    Level { passed: tally.passed, tries: tally.tries, ..Level::default() }
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
    /// (`is_known`), which will settle it, or has told of it (`is_raised`).
    pub fn learn(&mut self, one: &Arc<Sighting>, is_known: bool, is_raised: bool) {
        self.seen += 1;
        for key in rate_keys(one) {
            let series = self.rates.entry(key).or_default();
            (series.touched, series.frozen) = (self.seen, is_raised);
            if series.push(one).is_some() && !is_known {
                series.settle(true);
            }
        }
        for place in places(one) {
            // A change of the past is none any more.
            self.amounts_of(place).push(one);
        }
        self.descend(one);
        self.forget();
    }

    /// Takes an evaluation in, and says what looks worse by it: at most one suspicion of each kind. While an alarm about
    /// its subject `is_raised`, nothing is learned of how often it should pass.
    pub fn see(&mut self, one: &Arc<Sighting>, is_raised: bool) -> Vec<Suspicion> {
        self.seen += 1;
        let mut fall = None;
        for key in rate_keys(one) {
            let series = self.rates.entry(key).or_default();
            (series.touched, series.frozen) = (self.seen, is_raised);
            // The more general one comes first; the more particular one knows better.
            fall = series.push(one).or(fall);
        }
        let mut rises = Vec::new();
        for place in places(one) {
            let rise = self.amounts_of(place.clone()).push(one);
            rises.extend(rise.map(|rise| (place, rise)));
        }
        self.descend(one);
        let found = fall.map(|fall| self.failing(one, fall));
        let risen = rises.into_iter().filter_map(|(place, rise)| self.risen(place, rise));
        let found = found.into_iter().chain(risen).collect();
        self.forget();
        found
    }

    fn amounts_of(&mut self, place: Place) -> &mut Amounts {
        let measure = place.measure;
        let amounts = self.amounts.entry(place).or_insert_with(|| Amounts::new(measure));
        amounts.touched = self.seen;
        amounts
    }

    fn descend(&mut self, one: &Arc<Sighting>) {
        let lineage = self.lineages.entry((one.subject.clone(), one.case.clone())).or_default();
        lineage.touched = self.seen;
        lineage.push(one);
    }

    /// The origins of what was evaluated here.
    fn lineage(&self, of: &Sighting) -> Vec<Run> {
        let key = (of.subject.clone(), of.case.clone());
        self.lineages.get(&key).map(Lineage::runs).unwrap_or_default()
    }

    fn failing(&self, one: &Sighting, fall: Fall) -> Suspicion {
        let bad: Vec<Arc<Sighting>> =
            fall.rows.iter().filter(|row| row.outcome == Some(false)).cloned().collect();
        let cases = cases(&bad);
        // How the failing cases did before; where they are new, how all did.
        let series = |case: Option<Arc<str>>| self.rates.get(&(one.subject.clone(), case));
        let of_cases: Vec<_> = cases.iter().filter_map(|case| series(Some(case.clone()))).collect();
        let before = of_cases.iter().map(|series| series.base().0).fold(Tally::default(), sum);
        let is_new = before.tries < BASE_MIN;
        let mut good: Vec<Arc<Sighting>> =
            of_cases.iter().flat_map(|series| series.base().1).cloned().collect();
        let concerned =
            |row: &&Arc<Sighting>| is_new || row.case.as_ref().is_some_and(|case| cases.contains(case));
        let after = tally(fall.rows.iter().filter(concerned));
        if is_new {
            good.extend(series(None).into_iter().flat_map(|series| series.base().1).cloned());
        }
        good.sort_by_key(|row| row.at);
        let lineage = bad.last().map(|last| self.lineage(last)).unwrap_or_default();
        Suspicion {
            kind: Kind::Failing,
            subject: one.subject.clone(),
            cases,
            before: level(if is_new { fall.before } else { before }),
            after: level(after),
            bad,
            good,
            lineage,
        }
    }

    /// None where it is about no one: VMs that take longer, and no image that is new.
    fn risen(&self, place: Place, rise: Rise) -> Option<Suspicion> {
        let Rise { before, after, mut rows, mut earlier } = rise;
        let mut subject = place.subject;
        let is_of_image = place.measure == Measure::Reset && !subject.starts_with(WORKER);
        if is_of_image {
            // Where it began is not exact to the point.
            let newest = rows.last()?.image.clone();
            earlier.extend(rows.extract_if(.., |row| row.image != newest));
            let culprit = culprit(Kind::Reset, &rows, &earlier)?;
            earlier.retain(|row| row.image != newest);
            subject = format!("image={}", culprit.value).into();
        }
        let level =
            |rows: &[Arc<Sighting>], typical: f64| place.measure.put(level(tally(rows.iter())), typical);
        let is_reset = place.measure == Measure::Reset;
        let lineage = rows.last().filter(|_| !is_reset).map(|last| self.lineage(last)).unwrap_or_default();
        Some(Suspicion {
            kind: place.measure.kind(),
            cases: place.within.into_iter().filter(|_| !is_reset && subject.starts_with("tool=")).collect(),
            subject,
            before: level(&earlier, before),
            after: level(&rows, after),
            bad: rows,
            good: earlier,
            lineage,
        })
    }

    /// How often the like of it passes; none where too little is known of it.
    pub(super) fn rate(&self, one: &Sighting) -> Option<f64> {
        let bases = rate_keys(one).filter_map(|key| self.rates.get(&key).map(|series| series.base().0));
        bases.filter(|base| base.tries >= BASE_MIN).last().map(good)
    }

    /// What the like of it usually takes, in milliseconds; none where too little is known of it.
    pub(super) fn usual(&self, one: &Sighting) -> Option<f64> {
        let place = place(one, Measure::Time, &one.subject, one.case.as_ref());
        self.amounts.get(&place).and_then(Amounts::usual)
    }

    /// A suspicion of `subject` is settled.
    pub fn settle(&mut self, subject: &str, belongs: bool) {
        for (_, series) in self.rates.iter_mut().filter(|((of, ..), _)| **of == *subject) {
            series.settle(belongs);
        }
    }

    fn forget(&mut self) {
        // A tenth at once: to look for the oldest one takes a look at all.
        fn bound<K, V>(of: &mut HashMap<K, V>, most: usize, touched: impl Fn(&V) -> u64) {
            if of.len() > most {
                let mut times: Vec<u64> = of.values().map(&touched).collect();
                times.sort_unstable();
                let before = times[times.len() / 10];
                of.retain(|_, one| touched(one) > before);
            }
        }
        bound(&mut self.rates, SERIES_MAX, |series| series.touched);
        bound(&mut self.lineages, SERIES_MAX, |lineage| lineage.touched);
        bound(&mut self.amounts, AMOUNTS_MAX, |amounts| amounts.touched);
    }
}

/// What the subject of a worker's resets begins with.
const WORKER: &str = "worker=";

/// The series that an outcome belongs to: its subject's, and its case's where the subject is not the case itself.
fn rate_keys(one: &Sighting) -> impl Iterator<Item = Key> + use<> {
    let subject = one.subject.clone();
    let case = one.case.clone().filter(|_| subject.starts_with("tool="));
    let whole = (subject.clone(), None);
    std::iter::once(whole).chain(case.map(|case| (subject, Some(case))))
}

fn place(one: &Sighting, measure: Measure, subject: &Arc<str>, within: Option<&Arc<str>>) -> Place {
    let (subject, within) = (subject.clone(), within.cloned());
    Place { measure, subject, within, accelerator: one.accelerator.clone() }
}

/// The series that its amounts belong to: cases take what they take, and accelerators are never mixed.
fn places(one: &Sighting) -> Vec<Place> {
    let place = |measure, subject: &Arc<str>, within| place(one, measure, subject, within);
    let own = Measure::OF_SUBJECTS.map(|measure| place(measure, &one.subject, one.case.as_ref()));
    let of_worker = one.worker.as_ref().map(|worker| {
        let subject = format!("{WORKER}{worker}").into();
        place(Measure::Reset, &subject, one.image.as_ref())
    });
    let of_image = one.image.as_ref().map(|_| place(Measure::Reset, &one.subject, None));
    let all = own.into_iter().chain(of_worker).chain(of_image);
    // What is not measured needs no series.
    all.filter(|place| place.measure.of(one).is_some()).collect()
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
            cases.flat_map(|case| detector.see(&one(case), false)).collect()
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
        assert!((0..40).all(|nth| detector.see(&of(nth, "", Some(true)), false).is_empty()));
        assert!((40..400).all(|nth| detector.see(&of(nth, "", None), false).is_empty()));
    }

    #[test]
    fn the_past_raises_nothing() {
        let after = |is_known: bool| {
            let mut detector = Detector::default();
            (0..40).for_each(|nth| detector.learn(&of(nth, "", Some(true)), is_known, false));
            (40..60).for_each(|nth| detector.learn(&of(nth, "", Some(false)), is_known, false));
            detector.rates.values().next().unwrap().base().0
        };
        assert!(after(false).tries > 50, "it is how it was, but for the newest");
        assert_eq!(after(true), Tally { passed: 40, tries: 40 }, "an alarm says that it is not");
    }

    #[test]
    fn what_passes_while_it_is_known_to_fail_makes_it_no_better() {
        let base = |is_raised: bool| {
            let mut detector = Detector::default();
            (0..40).for_each(|nth| drop(detector.see(&of(nth, "", Some(nth % 4 != 0)), false)));
            (40..90).for_each(|nth| drop(detector.see(&of(nth, "", Some(true)), is_raised)));
            good(detector.rates.values().next().unwrap().base().0)
        };
        assert!(base(true) < 0.8 && base(false) > 0.85, "{} {}", base(true), base(false));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn the_number_of_series_is_bounded(subjects in prop::collection::vec(0_u32..20_000, 0..9000)) {
            let mut detector = Detector::default();
            for (nth, subject) in subjects.into_iter().enumerate() {
                let subject = Arc::from(format!("tool={subject}"));
                let seen = Sighting { subject, outcome: Some(true), ..one(nth as u32) };
                detector.see(&Arc::new(seen), false);
                prop_assert!(detector.rates.len() <= SERIES_MAX);
                prop_assert!(detector.amounts.len() <= AMOUNTS_MAX && detector.lineages.len() <= SERIES_MAX);
            }
        }
    }
}
