//! Durations, memory, what was written, resets: one series of one [`Measure`] at a time, by the change points of
//! `evalfleet_analytics`. Pure.
//!
//! What ran on two accelerators never shares a series.

use super::measure::Measure;
use super::sighting::Sighting;
use evalfleet_analytics::changepoint::{Settings, changes};
use evalfleet_analytics::robust::median;
use std::collections::VecDeque;
use std::sync::Arc;

/// Points of a series, the newest: finding changes takes time with their square.
const POINTS_MAX: usize = 160;
/// Points that a series wants at least before it is looked at.
const POINTS_MIN: usize = 24;
/// Points that say what is usual.
const USUAL_MIN: usize = 8;
/// It is looked at after so many new ones.
const EVERY: usize = 8;
/// Of a change that is as young as any can be, where it began is not known to the point: some after it may be from before.
const YOUNG: usize = 8;
/// A change that began longer ago, in points, is no news.
const NEWS: usize = 40;
/// Twice a log-likelihood ratio beyond the penalty: 10 is much.
const EVIDENCE_MIN: f64 = 10.0;

/// Something that there is more of, perhaps.
#[derive(Debug, Clone)]
pub(super) struct Rise {
    /// The median before, in the measure's unit.
    pub(super) before: f64,
    /// The median since.
    pub(super) after: f64,
    /// What was seen since, the oldest first.
    pub(super) rows: Vec<Arc<Sighting>>,
    /// What was seen before, the oldest first.
    pub(super) earlier: Vec<Arc<Sighting>>,
}

/// One series.
#[derive(Debug)]
pub(super) struct Amounts {
    measure: Measure,
    points: VecDeque<Arc<Sighting>>,
    fresh: usize,
    /// When it was last added to, in sightings of all series.
    pub(super) touched: u64,
}

impl Amounts {
    /// One without any point.
    pub(super) fn new(measure: Measure) -> Self {
        Self { measure, points: VecDeque::new(), fresh: 0, touched: 0 }
    }

    /// The median of what it has, where that is enough to go by.
    pub(super) fn usual(&self) -> Option<f64> {
        let mut values: Vec<f64> = self.points.iter().filter_map(|one| self.measure.of(one)).collect();
        if values.len() < USUAL_MIN { None } else { median(&mut values) }
    }

    fn add(&mut self, one: &Arc<Sighting>) {
        if self.measure.of(one).is_none() {
            return;
        }
        self.points.push_back(one.clone());
        self.fresh += 1;
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
    }

    /// Takes a point in, and looks whether there is more of it.
    pub(super) fn push(&mut self, one: &Arc<Sighting>) -> Option<Rise> {
        self.add(one);
        if self.points.len() < POINTS_MIN || self.fresh < EVERY {
            return None;
        }
        self.fresh = 0;
        let values: Vec<f64> = self.points.iter().filter_map(|one| self.measure.of(one)).collect();
        // Fewer points than are ever too many.
        let found = changes(&values, &Settings::default()).ok()?;
        let change = found.changes.last()?;
        // The typical one: a machine that is busy draws the mean up, and not the median.
        let (_, earlier) = found.changes.split_last()?;
        let begin = earlier.last().map_or(0, |earlier| earlier.at);
        let typical = |span: &[f64]| median(&mut span.to_vec());
        let (before, after) = (typical(&values[begin..change.at])?, typical(&values[change.at..])?);
        let matters = self.measure.matters(before, after);
        let news = (YOUNG + 1..=NEWS).contains(&(values.len() - change.at));
        if !matters || !news || change.evidence < EVIDENCE_MIN {
            return None;
        }
        let earlier: Vec<_> = self.points.drain(..change.at).collect();
        // From here on it is measured by itself: the same change is told once.
        let rows = self.points.iter().cloned().collect();
        Some(Rise { before, after, rows, earlier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::one;
    use std::time::Duration;

    fn slow(series: &mut Amounts, count: u32, ms: u64) -> Vec<Rise> {
        let sighting = |nth| {
            let wall = Duration::from_millis(ms + u64::from(nth % 7));
            Arc::new(Sighting { wall, outcome: Some(true), ..one(nth) })
        };
        (0..count).filter_map(|nth| series.push(&sighting(nth))).collect()
    }

    #[test]
    fn what_takes_longer_is_told_once_and_what_wavers_is_not() {
        let mut series = Amounts::new(Measure::Time);
        assert!(slow(&mut series, 60, 100).is_empty());
        let found = slow(&mut series, 60, 180);
        assert_eq!(found.len(), 1);
        assert!((found[0].after / found[0].before - 1.8).abs() < 0.15, "{:?}", found[0]);
        assert!(!found[0].rows.is_empty() && !found[0].earlier.is_empty());
        assert!(slow(&mut series, 60, 180).is_empty());
        let mut faster = Amounts::new(Measure::Time);
        slow(&mut faster, 60, 180);
        assert!(slow(&mut faster, 60, 100).is_empty(), "faster is no alarm");
    }

    #[test]
    fn one_machine_of_four_that_is_busy_makes_nothing_slower() {
        let mut series = Amounts::new(Measure::Time);
        assert!(slow(&mut series, 60, 100).is_empty());
        for nth in 0..80 {
            let wall = Duration::from_millis(if nth % 4 == 0 { 400 } else { 100 } + u64::from(nth % 7));
            let one = Sighting { wall, outcome: Some(true), ..one(nth) };
            assert!(series.push(&Arc::new(one)).is_none());
        }
    }

    #[test]
    fn failures_and_what_was_not_measured_are_no_points() {
        let mut series = Amounts::new(Measure::Time);
        for nth in 0..500 {
            let failed = Sighting { outcome: Some(false), wall: Duration::from_secs(9), ..one(nth) };
            let unknown = Sighting { outcome: Some(true), wall: Duration::ZERO, ..one(nth) };
            assert!(series.push(&Arc::new(failed)).is_none() && series.push(&Arc::new(unknown)).is_none());
        }
        assert!(series.points.is_empty());
    }
}
