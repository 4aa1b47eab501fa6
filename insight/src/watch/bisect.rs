//! Which of several versions was the first that is worse, when one that is well and one that is worse have others between
//! them: by running those again. Pure.
//!
//! ```text
//! well ── ? ── ? ── ? ── ? ── worse
//!                   └ run again: worse ─▶ the first is here or before; fine ─▶ it is later
//! ```
//!
//! Outcomes waver, so a plain binary search would believe the first one that lies. Instead each place has a probability of
//! being the first that is worse, out of all that was seen: what the history has of each version, and what was run again.
//! The version that halves it best is run again next, until one place has [`SURE`].
//!
//! Source: Horstein, *Sequential transmission using noiseless feedback*, IEEE Transactions on Information Theory 9 (1963);
//! Waeber, Frazier & Henderson, *Bisection search with noisy responses*, SIAM J. Control and Optimization 51 (2013).

use super::lineage::Run;
use super::sighting::Sighting;
use evalfleet_analytics::sequential::Rates;
use evalfleet_proto::alert::Culprit;
use evalfleet_proto::ids::JobId;

/// How probable the first must be before it is named.
const SURE: f64 = 0.9;
/// However good or bad a version is, so many of its evaluations are otherwise for reasons of their own.
const LIES: f64 = 0.05;
/// Tries of one version that came to nothing before it is passed over.
const SPOILED_MAX: u32 = 3;

/// One version, for one agent, in one image.
#[derive(Debug, Clone)]
struct Place {
    run: Run,
    /// The evaluation that can be run again.
    job: JobId,
    fine: u32,
    bad: u32,
    spoiled: u32,
}

/// The search.
#[derive(Debug, Clone)]
pub(super) struct Bisect {
    /// The oldest first; the last is known to be worse.
    places: Vec<Place>,
    /// How often one is fine, of those before the first that is worse, and from it on.
    well: f64,
    worse: f64,
}

impl Bisect {
    /// Searches `runs`, the oldest first, of which the one with `worse` in it is known to be worse; `fine` says how each
    /// evaluation is. None where it has nothing before it.
    pub(super) fn new(
        runs: &[Run],
        worse: JobId,
        rates: Rates,
        fine: impl Fn(&Sighting) -> Option<bool>,
    ) -> Option<Self> {
        let last = runs.iter().rposition(|run| run.rows.iter().any(|row| row.id == worse))?;
        let places: Vec<Place> = runs[..=last]
            .iter()
            .filter_map(|run| {
                let count = |what| run.rows.iter().filter(|row| fine(row) == Some(what)).count() as u32;
                let (job, fine, bad) = (run.rows.back()?.id, count(true), count(false));
                Some(Place { run: run.clone(), job, fine, bad, spoiled: 0 })
            })
            .collect();
        let bound = |rate: f64| rate.clamp(LIES, 1.0 - LIES);
        let (well, worse) = (bound(rates.good()), bound(rates.bad()));
        (places.len() > 1).then_some(Self { places, well, worse })
    }

    /// For each place, how probable it is the first that is worse. The first of all stands for whatever came before it.
    fn chances(&self) -> Vec<f64> {
        let weight = |place: &Place, rate: f64| {
            f64::from(place.fine) * rate.ln() + f64::from(place.bad) * (1.0 - rate).ln()
        };
        let mut sum: f64 = self.places.iter().map(|place| weight(place, self.worse)).sum();
        let logs: Vec<f64> = self
            .places
            .iter()
            .map(|place| {
                let here = sum;
                sum += weight(place, self.well) - weight(place, self.worse);
                here
            })
            .collect();
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = logs.iter().map(|log| (log - most).exp()).collect();
        let all: f64 = shares.iter().sum();
        shares.into_iter().map(|share| share / all).collect()
    }

    /// The place that is surely the first, if one is.
    fn first(&self) -> Option<usize> {
        self.chances().iter().position(|chance| *chance >= SURE)
    }

    /// What is to be run again next, with the version, agent or image that it stands for; none when the first is known, or
    /// nothing more can tell.
    pub(super) fn next(&self) -> Option<(JobId, String)> {
        if self.first().is_some() {
            return None;
        }
        let chances = self.chances();
        let halves = chances.iter().scan(0.0, |sum, chance| {
            *sum += chance;
            Some((*sum - 0.5_f64).abs())
        });
        // The last is known to be worse.
        let asked = self.places.iter().zip(halves).enumerate().take(self.places.len() - 1);
        let asked = asked.filter(|(_, (place, _))| place.spoiled < SPOILED_MAX);
        let (at, (place, _)) = asked.min_by(|one, other| one.1.1.total_cmp(&other.1.1))?;
        let value = self.difference(at).map(|(_, value, _)| value).unwrap_or_default();
        Some((place.job, value))
    }

    /// How one that was run again came out; none where it says nothing.
    pub(super) fn heard(&mut self, of: JobId, fine: Option<bool>) {
        for place in self.places.iter_mut().filter(|place| place.job == of) {
            match fine {
                Some(true) => place.fine += 1,
                Some(false) => place.bad += 1,
                None => place.spoiled += 1,
            }
        }
    }

    /// It cannot be run again.
    pub(super) fn refused(&mut self, of: JobId) {
        for place in self.places.iter_mut().filter(|place| place.job == of) {
            place.spoiled = SPOILED_MAX;
        }
    }

    /// What came in with the first that is worse.
    pub(super) fn culprit(&self) -> Option<Culprit> {
        let at = self.first().filter(|at| *at > 0)?;
        let (attribute, value, before) = self.difference(at)?;
        Some(Culprit { attribute: attribute.to_owned(), value, before: before? })
    }

    /// In what a place differs from the one before it: of several parts the one that is nearest to the subject.
    fn difference(&self, at: usize) -> Option<(&'static str, String, Option<String>)> {
        let here = self.places.get(at)?.run.origin.parts();
        let before = at.checked_sub(1).map(|at| self.places[at].run.origin.parts());
        here.into_iter().enumerate().find_map(|(nth, (name, value))| {
            let was = before.and_then(|before| before[nth].1);
            let is_new = before.is_none() || was != value;
            is_new.then(|| Some((name, value?.to_string(), was.map(ToString::to_string)))).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::sighting::Origin;
    use crate::watch::testing::one;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::sync::Arc;

    /// Versions 0, 1, … of which each was evaluated `rows` times; `bad` says which evaluations were.
    fn runs(count: u32, rows: u32, bad: impl Fn(u32) -> bool) -> Vec<Run> {
        let run = |version: u32| {
            let row = |nth: u32| {
                let (name, outcome) = (Some(version.to_string().into()), Some(!bad(version)));
                Arc::new(Sighting { version: name, outcome, ..one(version * 100 + nth) })
            };
            let rows: VecDeque<_> = (0..rows).map(row).collect();
            Run { origin: rows[0].origin(), rows }
        };
        (0..count).map(run).collect()
    }

    fn rates() -> Rates {
        Rates::new(0.98, 0.49).unwrap()
    }

    /// Runs it again until it is known; how often that was, and what was named.
    fn search(runs: &[Run], mut outcome: impl FnMut(u32) -> Option<bool>) -> (u32, Option<Culprit>) {
        let worse = runs.last().unwrap().rows.back().unwrap().id;
        let mut bisect = Bisect::new(runs, worse, rates(), |row| row.outcome).unwrap();
        let mut asked = 0;
        while let Some((job, value)) = bisect.next() {
            let run = runs.iter().find(|run| run.rows.back().unwrap().id == job).unwrap();
            let version = run.origin.version.clone().unwrap();
            assert_eq!(*version, *value);
            bisect.heard(job, outcome(version.parse().unwrap()));
            asked += 1;
            assert!(asked < 200, "it ends");
        }
        (asked, bisect.culprit())
    }

    #[test]
    fn neighbours_with_a_clear_past_are_told_without_any_rerun() {
        let (asked, culprit) = search(&runs(2, 6, |version| version == 1), |_| unreachable!());
        let culprit = culprit.unwrap();
        assert_eq!(
            (asked, culprit.attribute.as_str(), culprit.value.as_str(), culprit.before.as_str()),
            (0, "version", "1", "0")
        );
    }

    #[test]
    fn an_agent_or_an_image_is_named_where_the_version_is_the_same() {
        let named = |set: fn(&mut Origin, &str)| {
            let mut two = runs(2, 6, |version| version == 1);
            for (run, name) in two.iter_mut().zip(["old", "new"]) {
                run.origin.version = Some("v".into());
                set(&mut run.origin, name);
            }
            let worse = two[1].rows[0].id;
            let bisect = Bisect::new(&two, worse, rates(), |row| row.outcome).unwrap();
            assert_eq!(bisect.next(), None);
            let culprit = bisect.culprit().unwrap();
            assert_eq!((culprit.before.as_str(), culprit.value.as_str()), ("old", "new"));
            culprit.attribute
        };
        assert_eq!(named(|origin, image| origin.image = Some(image.into())), "image");
        assert_eq!(named(|origin, agent| origin.agent = Some(agent.into())), "agent");
    }

    #[test]
    fn of_several_agents_the_first_that_fails_is_found_by_running_them_again() {
        // As of versions, but that the tool stays what it is, and each agent asks its own way.
        let mut agents = runs(9, 1, |agent| agent == 8);
        agents.iter_mut().for_each(|run| {
            let agent = run.origin.version.replace("same".into());
            run.origin.agent = agent.map(|name| format!("rev-{name}").into());
        });
        let worse = agents[8].rows[0].id;
        let mut bisect = Bisect::new(&agents, worse, rates(), |row| row.outcome).unwrap();
        while let Some((job, value)) = bisect.next() {
            let at = agents.iter().position(|run| run.rows[0].id == job).unwrap();
            assert_eq!(value, format!("rev-{at}"));
            bisect.heard(job, Some(at < 5));
        }
        let culprit = bisect.culprit().unwrap();
        assert_eq!(
            (culprit.attribute.as_str(), culprit.value.as_str(), culprit.before.as_str()),
            ("agent", "rev-5", "rev-4")
        );
    }

    #[test]
    fn what_cannot_be_run_again_is_passed_over_and_nothing_is_claimed_of_it() {
        // One evaluation of each, which passed by luck: the history says nothing of where it began.
        let three = runs(3, 1, |version| version == 2);
        let worse = three[2].rows[0].id;
        let mut bisect = Bisect::new(&three, worse, rates(), |_| None).unwrap();
        while let Some((job, _)) = bisect.next() {
            bisect.refused(job);
        }
        assert_eq!(bisect.culprit(), None);
        assert!(search(&three, |_| None).0 <= 2 * SPOILED_MAX);
    }

    #[test]
    fn what_was_bad_from_the_beginning_names_none() {
        assert_eq!(search(&runs(4, 6, |_| true), |_| Some(false)).1, None);
    }

    proptest! {
        #[test]
        fn the_first_that_always_fails_is_found_with_few_reruns(count in 2_u32..16, first in 1_u32..16, rows in 1_u32..6) {
            let first = first.min(count - 1);
            // What the history has of it is of before anyone knew: some passed, some did not.
            let (asked, culprit) = search(&runs(count, rows, |version| version >= first), |version| Some(version < first));
            let culprit = culprit.expect("it is found");
            prop_assert_eq!(culprit.value, first.to_string());
            prop_assert_eq!(culprit.before, (first - 1).to_string());
            prop_assert!(asked <= 12, "{}", asked);
        }

        #[test]
        fn whatever_comes_back_it_ends_or_asks_for_one_between(
            count in 2_u32..16,
            answers in prop::collection::vec(prop::option::of(any::<bool>()), 0..60),
        ) {
            let all = runs(count, 1, |version| version + 1 == count);
            let worse = all.last().unwrap().rows[0].id;
            let mut bisect = Bisect::new(&all, worse, rates(), |row| row.outcome).unwrap();
            for answer in answers {
                let sum: f64 = bisect.chances().iter().sum();
                prop_assert!((sum - 1.0).abs() < 1e-9);
                let Some((job, _)) = bisect.next() else { break };
                prop_assert!(job != worse);
                bisect.heard(job, answer);
            }
        }
    }
}
