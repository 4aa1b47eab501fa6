//! Durations, one series at a time: by the change points of `evalfleet_analytics`. Pure.
//!
//! Only what passed counts, and what ran on one accelerator: two never share a series.

use super::sighting::Sighting;
use evalfleet_analytics::changepoint::{Settings, changes};
use std::collections::VecDeque;
use std::sync::Arc;

/// Points of a series, the newest: finding changes takes time with their square.
const POINTS_MAX: usize = 160;
/// Points that a series wants at least before it is looked at.
const POINTS_MIN: usize = 24;
/// It is looked at after so many new ones.
const EVERY: usize = 8;
/// A change that began longer ago, in points, is no news.
const NEWS: usize = 40;
/// What is less slower than this, as a share and in milliseconds, interests nobody.
const SLOWER_MIN: f64 = 0.3;
const SLOWER_MIN_MS: f64 = 20.0;
/// Twice a log-likelihood ratio beyond the penalty: 10 is much.
const EVIDENCE_MIN: f64 = 10.0;

/// Something that takes longer, perhaps.
#[derive(Debug, Clone)]
pub(super) struct Slowdown {
    /// The mean before, in milliseconds.
    pub(super) before_ms: f64,
    /// The mean since.
    pub(super) after_ms: f64,
    /// What was seen since, the oldest first.
    pub(super) rows: Vec<Arc<Sighting>>,
    /// What was seen before, the oldest first.
    pub(super) earlier: Vec<Arc<Sighting>>,
}

/// One series of durations.
#[derive(Debug, Default)]
pub(super) struct Times {
    points: VecDeque<Arc<Sighting>>,
    fresh: usize,
    /// When it was last added to, in sightings of all series.
    pub(super) touched: u64,
}

impl Times {
    /// Takes a point in without a look at it.
    pub(super) fn learn(&mut self, one: &Arc<Sighting>) {
        if one.outcome != Some(true) || one.wall.is_zero() {
            return;
        }
        self.points.push_back(one.clone());
        self.fresh += 1;
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
    }

    /// Takes a point in, and looks whether it became slower.
    pub(super) fn push(&mut self, one: &Arc<Sighting>) -> Option<Slowdown> {
        self.learn(one);
        if self.points.len() < POINTS_MIN || self.fresh < EVERY {
            return None;
        }
        self.fresh = 0;
        let wall = |one: &Arc<Sighting>| one.wall.as_secs_f64() * 1000.0;
        let values: Vec<f64> = self.points.iter().map(wall).collect();
        // Fewer points than are ever too many.
        let found = changes(&values, &Settings::default()).ok()?;
        let change = found.changes.last()?;
        let more = change.mean_after - change.mean_before;
        let matters = more > change.mean_before * SLOWER_MIN && more > SLOWER_MIN_MS;
        let news = values.len() - change.at <= NEWS;
        if !matters || !news || change.evidence < EVIDENCE_MIN {
            return None;
        }
        let earlier: Vec<_> = self.points.drain(..change.at).collect();
        // From here on it is measured by itself: the same change is told once.
        let rows = self.points.iter().cloned().collect();
        Some(Slowdown { before_ms: change.mean_before, after_ms: change.mean_after, rows, earlier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;
    use std::time::Duration;

    fn slow(series: &mut Times, count: u32, ms: u64) -> Vec<Slowdown> {
        let sighting = |nth| {
            let wall = Duration::from_millis(ms + u64::from(nth % 7));
            Arc::new(Sighting { wall, outcome: Some(true), ..one(nth) })
        };
        (0..count).filter_map(|nth| series.push(&sighting(nth))).collect()
    }

    #[test]
    fn what_takes_longer_is_told_once_and_what_wavers_is_not() {
        let mut series = Times::default();
        assert!(slow(&mut series, 60, 100).is_empty());
        let found = slow(&mut series, 60, 180);
        assert_eq!(found.len(), 1);
        assert!((found[0].after_ms / found[0].before_ms - 1.8).abs() < 0.15, "{:?}", found[0]);
        assert!(!found[0].rows.is_empty() && !found[0].earlier.is_empty());
        assert!(slow(&mut series, 60, 180).is_empty());
        let mut faster = Times::default();
        slow(&mut faster, 60, 180);
        assert!(slow(&mut faster, 60, 100).is_empty(), "faster is no alarm");
    }

    #[test]
    fn failures_and_what_was_not_measured_are_no_points() {
        let mut series = Times::default();
        for nth in 0..500 {
            let failed = Sighting { outcome: Some(false), wall: Duration::from_secs(9), ..one(nth) };
            let unknown = Sighting { outcome: Some(true), wall: Duration::ZERO, ..one(nth) };
            assert!(series.push(&Arc::new(failed)).is_none() && series.push(&Arc::new(unknown)).is_none());
        }
        assert!(series.points.is_empty());
    }
}
