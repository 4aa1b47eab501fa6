//! Times of one kind, and what is said of them.

use serde::Serialize;
use std::time::Duration;

/// Times, in the order they were taken.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<Duration>);

/// A series in numbers, all milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The shortest.
    pub min: f64,
    /// Half are shorter.
    pub median: f64,
    /// Nine of ten are shorter.
    pub p90: f64,
    /// 99 of a hundred are shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// All, in their order.
    pub values: Vec<f64>,
}

impl Series {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Sums them up; an empty series is all zeros.
    pub fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = |percent: usize| {
            let nearest = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(nearest).copied().map_or(0.0, ms)
        };
        let (min, max) = (sorted.first().copied().map_or(0.0, ms), sorted.last().copied().map_or(0.0, ms));
        let values = self.0.iter().copied().map(ms).collect();
        Summary { min, median: rank(50), p90: rank(90), p99: rank(99), max, values }
    }
}

/// Milliseconds, to the microsecond.
fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut series = Series::default();
        (1..=100).rev().for_each(|value| series.push(Duration::from_millis(value)));
        let summary = series.summary();
        let percentiles = [summary.min, summary.median, summary.p90, summary.p99, summary.max];
        assert_eq!(percentiles, [1.0, 50.0, 90.0, 99.0, 100.0]);
        assert_eq!(Series::default().summary().median, 0.0);
    }
}
