//! Rates and counts, as documents show them.

use crate::projection::Counts;
use evalfleet_analytics::rate::{Confidence, Tally};
use serde::Serialize;
use utoipa::ToSchema;

/// How often something passed, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Rate {
    /// How many passed.
    pub passed: u64,
    /// Of how many.
    pub tries: u64,
    /// From 0 to 1; null without tries.
    pub rate: Option<f64>,
    /// The lower Wilson bound at 95 %.
    pub low: f64,
    /// The upper one.
    pub high: f64,
}

impl From<Tally> for Rate {
    fn from(tally: Tally) -> Self {
        let bounds = tally.wilson(Confidence::default());
        Self {
            passed: tally.passed,
            tries: tally.tries,
            rate: tally.rate(),
            low: bounds.low,
            high: bounds.high,
        }
    }
}

/// Evaluations by whose doing their end was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct Causes {
    /// All of them.
    pub total: u64,
    /// Those that passed.
    pub passed: u64,
    /// The subject failed.
    pub subject: u64,
    /// A limit was exceeded.
    pub budget: u64,
    /// A machine or a service failed: not counted against the subject.
    pub infrastructure: u64,
    /// The request was at fault: not counted against the subject.
    pub harness: u64,
}

impl From<&Counts> for Causes {
    fn from(counts: &Counts) -> Self {
        Self {
            total: counts.total(),
            passed: counts.passed,
            subject: counts.subject,
            budget: counts.budget,
            infrastructure: counts.infrastructure,
            harness: counts.harness,
        }
    }
}

/// A set of evaluations in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Standing {
    /// By whose doing their end was.
    pub evaluations: Causes,
    /// Where the subject was put to the test: infrastructure's and the request's failures left out.
    pub rate: Rate,
    /// Every failure counted.
    pub raw: Rate,
    /// The mean time of a subject on the clock; null where none was measured.
    pub wall_ms_mean: Option<f64>,
}

impl From<&Counts> for Standing {
    fn from(counts: &Counts) -> Self {
        let mean = (counts.timed > 0).then(|| counts.wall as f64 / counts.timed as f64 / 1000.0);
        Self {
            evaluations: counts.into(),
            rate: counts.attributed().into(),
            raw: counts.raw().into(),
            wall_ms_mean: mean,
        }
    }
}

/// The value below which a share of sorted values lies, by the nearest rank; none without values.
pub(crate) fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((share * last as f64).round() as usize).copied()
}

/// How long subjects ran.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Durations {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50_ms: f64,
    /// Nine in ten are shorter.
    pub p90_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Durations {
    /// Of times in microseconds; none without any above zero.
    pub(crate) fn of(mut times: Vec<u64>) -> Option<Self> {
        times.retain(|time| *time > 0);
        times.sort_unstable();
        let at = |share| quantile(&times, share).map(|time| time as f64 / 1000.0);
        Some(Self { count: times.len() as u64, p50_ms: at(0.5)?, p90_ms: at(0.9)?, max_ms: at(1.0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let durations = Durations::of(vec![4000, 0, 1000, 3000, 2000, 5000]).unwrap();
        assert_eq!((durations.count, durations.p50_ms, durations.max_ms), (5, 3.0, 5.0));
        assert_eq!(Durations::of(vec![0]), None);
    }
}
