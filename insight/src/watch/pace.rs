//! How fast machines are at the moment: what takes as much longer for every subject is nobody's doing. Pure.
//!
//! Each evaluation says how much longer it took than its like usually does. The pace of a worker, as one subject sees it, is
//! the median over all *other* subjects of what they said there lately; where too few ran there, it is that of all workers.
//! Times are divided by it before anything else looks at them, so that a busy host makes no subject slower, and a subject
//! that became slower is not excused by itself. Where few subjects are evaluated, nothing is known, and nothing is divided;
//! and what was known last holds until more is known.
//! What makes *every* subject slower, an image for example, is the machines' pace as well: that is the price.

use super::sighting::Sighting;
use evalfleet_analytics::robust::median;
use evalfleet_proto::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Evaluations that tell a pace, the newest: of one worker, and of all.
const RECENT: usize = 5;
const RECENT_OF_ALL: usize = 15;
/// Other subjects that it wants at least.
const SUBJECTS_MIN: usize = 3;
/// No machine is so many times faster or slower: that is something else.
const BEYOND: f64 = 20.0;
/// The most workers that are remembered.
const WORKERS_MAX: usize = 1000;

#[derive(Debug, Clone)]
struct Told {
    subject: Arc<str>,
    at: Timestamp,
    /// The logarithm of how many times as long as usual it took.
    longer: f64,
}

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    workers: BTreeMap<Arc<str>, VecDeque<Told>>,
    all: VecDeque<Told>,
}

impl Pace {
    /// How many times as long as usual everything takes where this ran; 1 where that is not known.
    pub(super) fn of(&self, one: &Sighting) -> f64 {
        let own = one.worker.as_ref().and_then(|worker| self.workers.get(worker));
        let known = own.and_then(|told| typical(told, one)).or_else(|| typical(&self.all, one));
        known.map_or(1.0, f64::exp)
    }

    /// Takes note of one that took `wall`, of which the like usually takes `usual`, both in milliseconds.
    pub(super) fn note(&mut self, one: &Sighting, wall: f64, usual: f64) {
        let longer = (wall / usual).ln();
        let Some(worker) = one.worker.as_ref().filter(|_| longer.abs() <= BEYOND.ln()) else { return };
        let told = Told { subject: one.subject.clone(), at: one.at, longer };
        bound(&mut self.all, told.clone(), RECENT_OF_ALL);
        bound(self.workers.entry(worker.clone()).or_default(), told, RECENT);
        if self.workers.len() > WORKERS_MAX {
            let newest = |told: &VecDeque<Told>| told.back().map(|told| told.at);
            let oldest = self.workers.iter().min_by_key(|(_, told)| newest(told));
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.map(|oldest| self.workers.remove(&oldest));
        }
    }
}

fn bound(of: &mut VecDeque<Told>, told: Told, most: usize) {
    of.push_back(told);
    if of.len() > most {
        of.pop_front();
    }
}

/// The median of what each other subject typically said: one that is evaluated often counts no more than others.
fn typical(told: &VecDeque<Told>, one: &Sighting) -> Option<f64> {
    let mut subjects: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for told in told.iter().filter(|told| told.subject != one.subject) {
        subjects.entry(&told.subject).or_default().push(told.longer);
    }
    let mut each: Vec<f64> = subjects.into_values().filter_map(|mut all| median(&mut all)).collect();
    if each.len() < SUBJECTS_MIN {
        return None;
    }
    median(&mut each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;
    use proptest::prelude::*;

    fn of(nth: u32, subject: u32, worker: &str) -> Sighting {
        Sighting { subject: format!("tool={subject}").into(), worker: Some(worker.into()), ..one(nth) }
    }

    fn is(pace: f64, expected: f64) -> bool {
        (pace / expected - 1.0).abs() < 0.01
    }

    #[test]
    fn a_busy_worker_is_slow_for_all_and_its_peers_are_not() {
        let mut pace = Pace::default();
        for nth in 0..20 {
            pace.note(&of(nth, nth % 5, "busy"), 200.0, 100.0);
            pace.note(&of(nth, nth % 5, "idle"), 100.0, 100.0);
        }
        assert!(is(pace.of(&of(20, 0, "busy")), 2.0) && is(pace.of(&of(20, 0, "idle")), 1.0));
        (20..40).for_each(|nth| pace.note(&of(nth, nth % 5, "busy"), 100.0, 100.0));
        assert!(is(pace.of(&of(40, 0, "busy")), 1.0), "that is over");
    }

    #[test]
    fn one_subject_excuses_neither_itself_nor_others() {
        let mut pace = Pace::default();
        for nth in 0..20 {
            let subject = nth % 5;
            pace.note(&of(nth, subject, "w"), if subject == 0 { 300.0 } else { 100.0 }, 100.0);
        }
        assert!(is(pace.of(&of(20, 0, "w")), 1.0) && is(pace.of(&of(20, 1, "w")), 1.0));
        let mut alone = Pace::default();
        (0..20).for_each(|nth| alone.note(&of(nth, nth % 2, "w"), 300.0, 100.0));
        assert!(is(alone.of(&of(20, 9, "w")), 1.0), "two others are too few to know");
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_never_absurd(rows in prop::collection::vec((0_u32..2000, 0_u32..9, 1.0_f64..4000.0), 0..2500)) {
            let mut pace = Pace::default();
            for (nth, (worker, subject, wall)) in (0..).zip(rows) {
                let one = of(nth, subject, &worker.to_string());
                pace.note(&one, wall, 100.0);
                let is = pace.of(&one);
                prop_assert!((0.999 / BEYOND..=1.001 * BEYOND).contains(&is), "{}", is);
                prop_assert!(pace.workers.len() <= WORKERS_MAX && pace.all.len() <= RECENT_OF_ALL);
            }
        }
    }
}
