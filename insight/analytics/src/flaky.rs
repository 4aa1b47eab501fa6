//! Flakiness told apart from failure, by running the same case again.
//!
//! A case is *flaky* if it passes and fails in the same circumstances. Take two runs of a case at random:
//! the probability that they disagree is `2 p (1 - p)`, 0 for what always passes or always fails and at most
//! one half. [`disagreement`] estimates it without bias over all cases, with each case's weight its own, and
//! bounds it by the jackknife over cases (Efron & Stein, Annals of Statistics 9, 1981). Time and memory are
//! linear in the cases.

use crate::rate::{Confidence, Interval, Tally};
use serde::Serialize;

/// What reruns say of one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Nature {
    /// Too few runs to say.
    Unknown,
    /// Surely passes more often than the threshold.
    Passes,
    /// Surely fails more often than the threshold.
    Fails,
    /// Passed and failed, and is surely neither.
    Flaky,
}

/// Judges one case from runs in the same circumstances.
///
/// `steady` (0.5 to 1, for example 0.95) is the rate from which on a case counts as passing, and its
/// complement as failing. A case with both outcomes is flaky once the Wilson bounds exclude both; until
/// then it is unknown.
pub fn nature(runs: Tally, steady: f64, confidence: Confidence) -> Nature {
    let bounds = runs.wilson(confidence);
    if runs.tries == 0 {
        return Nature::Unknown;
    }
    if bounds.low >= steady {
        Nature::Passes
    } else if bounds.high <= 1.0 - steady {
        Nature::Fails
    } else if bounds.low > 1.0 - steady && bounds.high < steady {
        Nature::Flaky
    } else {
        Nature::Unknown
    }
}

/// How often two runs of one case disagree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Disagreement {
    /// From 0 (steady) to about 0.5 (a coin).
    pub share: f64,
    /// Where the true share lies.
    pub interval: Interval,
    /// Cases with at least two runs; the others say nothing.
    pub cases: usize,
}

/// The mean disagreement over cases. None if no case was run twice.
pub fn disagreement(cases: &[Tally], confidence: Confidence) -> Option<Disagreement> {
    let each: Vec<f64> = cases
        .iter()
        .filter(|runs| runs.tries >= 2)
        .map(|runs| {
            let (passed, failed, tries) = (runs.passed as f64, runs.failed() as f64, runs.tries as f64);
            2.0 * passed * failed / (tries * (tries - 1.0))
        })
        .collect();
    if each.is_empty() {
        return None;
    }
    let count = each.len() as f64;
    let share = each.iter().sum::<f64>() / count;
    // The jackknife of a mean is its standard error; one case bounds nothing.
    let half = if each.len() > 1 {
        let squares: f64 = each.iter().map(|one| (one - share).powi(2)).sum();
        // Cases that all agree still leave what so few cannot have shown (the rule of three).
        (confidence.deviations() * (squares / (count * (count - 1.0))).sqrt()).max(if squares == 0.0 {
            3.0 / count
        } else {
            0.0
        })
    } else {
        1.0
    };
    let interval = Interval { low: (share - half).max(0.0), high: (share + half).min(1.0) };
    Some(Disagreement { share, interval, cases: each.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    #[test]
    fn flaky_is_neither_failing_nor_passing() {
        let of = |passed, tries| nature(Tally { passed, tries }, 0.9, Confidence::default());
        assert_eq!(of(0, 40), Nature::Fails);
        assert_eq!(of(40, 40), Nature::Passes);
        assert_eq!(of(10, 20), Nature::Flaky);
        assert_eq!(of(1, 2), Nature::Unknown);
        assert_eq!(of(0, 3), Nature::Unknown);
    }

    #[test]
    fn suites_that_fail_steadily_are_not_flaky_and_coins_are() {
        let steady = [Tally { passed: 0, tries: 5 }, Tally { passed: 5, tries: 5 }].repeat(20);
        assert_eq!(disagreement(&steady, Confidence::default()).unwrap().share, 0.0);
        let mut noise = Noise::new(2);
        let coins: Vec<Tally> = (0..200)
            .map(|_| Tally { passed: (0..5).filter(|_| noise.chance(0.5)).count() as u64, tries: 5 })
            .collect();
        let found = disagreement(&coins, Confidence::default()).unwrap();
        assert!(found.interval.low < 0.5 && 0.5 < found.interval.high, "{found:?}");
    }

    #[test]
    fn single_runs_say_nothing() {
        assert_eq!(disagreement(&[Tally { passed: 0, tries: 1 }], Confidence::default()), None);
    }

    proptest! {
        #[test]
        fn shares_and_bounds_are_in_order(
            cases in prop::collection::vec((0_u64..9, 0_u64..9), 0..30),
        ) {
            let cases: Vec<Tally> =
                cases.into_iter().map(|(a, b)| Tally { passed: a, tries: a + b }).collect();
            if let Some(found) = disagreement(&cases, Confidence::default()) {
                prop_assert!(found.interval.low <= found.share && found.share <= found.interval.high);
                prop_assert!((0.0..=1.0).contains(&found.share));
            }
        }
    }
}
