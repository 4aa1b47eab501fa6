//! Of which versions, for which agents and in which images a case was evaluated, one after the other. Pure.
//!
//! What returns after something else is a run of its own: it is the order of time that counts.

use super::sighting::{Origin, Sighting};
use std::collections::VecDeque;
use std::sync::Arc;

/// Runs that are remembered, the newest.
const RUNS_MAX: usize = 16;
/// Evaluations of each, the newest.
const ROWS_MAX: usize = 6;

/// Evaluations of one version for one agent in one image, with none of another between them.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) origin: Origin,
    /// The oldest first; never empty.
    pub(super) rows: VecDeque<Arc<Sighting>>,
}

/// The runs of one case.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    runs: VecDeque<Run>,
    /// When it was last added to, in sightings of all.
    pub(super) touched: u64,
}

impl Lineage {
    /// Takes an evaluation in, unless our machines spoiled it.
    pub(super) fn push(&mut self, one: &Arc<Sighting>) {
        if one.outcome.is_none() {
            return;
        }
        let origin = one.origin();
        match self.runs.back_mut().filter(|run| run.origin == origin) {
            Some(run) => {
                run.rows.push_back(one.clone());
                if run.rows.len() > ROWS_MAX {
                    run.rows.pop_front();
                }
            }
            None => {
                self.runs.push_back(Run { origin, rows: VecDeque::from([one.clone()]) });
                if self.runs.len() > RUNS_MAX {
                    self.runs.pop_front();
                }
            }
        }
    }

    /// The runs, the oldest first.
    pub(super) fn runs(&self) -> Vec<Run> {
        self.runs.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;

    #[test]
    fn what_returns_is_a_run_of_its_own_and_all_is_bounded() {
        let mut lineage = Lineage::default();
        let mut push = |nth: u32, version: &str, outcome: Option<bool>| {
            lineage.push(&Arc::new(Sighting { version: Some(version.into()), outcome, ..one(nth) }));
        };
        for (nth, version) in (0..).zip(["a", "a", "b", "a"]) {
            push(nth, version, Some(true));
        }
        push(9, "spoiled", None);
        (10..30).for_each(|nth| push(nth, "c", Some(false)));
        let of = |lineage: &Lineage| -> Vec<(String, usize)> {
            let run = |run: &Run| (run.origin.version.as_deref().unwrap_or("").to_owned(), run.rows.len());
            lineage.runs.iter().map(run).collect()
        };
        let expected = [("a", 2), ("b", 1), ("a", 1), ("c", ROWS_MAX)];
        assert_eq!(of(&lineage), expected.map(|(version, rows)| (version.to_owned(), rows)));
        for nth in 100..200 {
            lineage.push(&Arc::new(Sighting { version: Some(nth.to_string().into()), ..one(nth) }));
        }
        assert_eq!((lineage.runs.len(), of(&lineage)[RUNS_MAX - 1].0.as_str()), (RUNS_MAX, "199"));
    }
}
