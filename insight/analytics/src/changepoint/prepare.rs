//! Makes a series fit for cutting: bridges gaps, scales, takes its season off, clips spikes.

use super::Settings;
use crate::robust::{median, spread};
use std::ops::Range;

/// Seasons shorter than this are left to the models, in points.
const PERIOD_MIN: usize = 4;
/// Longer ones are not looked for.
const PERIOD_MAX: usize = 60;
/// A season is seen at least this often.
const SEASONS_MIN: usize = 4;
/// A season that leaves less than this share of the variance is exact.
const VARIANCE_SHARE_MIN: f64 = 1e-9;
/// Taking a season off may make a series rougher by this much, because phases are not known exactly.
const ROUGHER: f64 = 1.25;
/// How many neighbours on each side say what is usual at a point.
const NEIGHBOURS: usize = 5;
/// How many on each side say how far from that is usual.
const SURROUNDINGS: usize = 15;

/// A series ready to be cut.
pub(super) struct Prepared {
    /// Its values with mean 0 and variance 1 (before season and spikes were taken off).
    pub(super) values: Vec<f64>,
    /// Its season.
    pub(super) period: Option<usize>,
    origin: f64,
    scale: f64,
}

impl Prepared {
    /// Mean and standard deviation of a stretch, in the series' own unit.
    pub(super) fn moments(&self, span: Range<usize>) -> (f64, f64) {
        let stretch = &self.values[span];
        let (mean, variance) = moments(stretch);
        (mean * self.scale + self.origin, variance.sqrt() * self.scale)
    }
}

/// None for a series that cannot have a change: too short, constant, or without values.
pub(super) fn prepare(values: &[f64], settings: &Settings) -> Option<Prepared> {
    if values.len() < 2 * settings.shortest {
        return None;
    }
    let bridged = bridge(values)?;
    let (origin, variance) = moments(&bridged);
    let scale = variance.sqrt();
    // What is left of a constant series is rounding.
    if !scale.is_normal() || scale <= origin.abs() * 1e-12 {
        return None;
    }
    let mut values: Vec<f64> = bridged.iter().map(|value| (value - origin) / scale).collect();
    let season = period(&values).map(|period| (period, without_season(&values, period)));
    let season = season.filter(|(_, rest)| roughness(rest) <= ROUGHER * roughness(&values));
    let period = season.as_ref().map(|(period, _)| *period);
    if let Some((_, rest)) = season {
        values = rest;
    }
    let values = clip(&values, settings.spike);
    Some(Prepared { values, period, origin, scale })
}

/// Fills what is missing on a straight line between what is there.
fn bridge(values: &[f64]) -> Option<Vec<f64>> {
    let known: Vec<usize> = (0..values.len()).filter(|at| values[*at].is_finite()).collect();
    let (first, last) = (*known.first()?, *known.last()?);
    let mut filled = values.to_vec();
    filled[..first].fill(values[first]);
    filled[last + 1..].fill(values[last]);
    for pair in known.windows(2) {
        let (left, right) = (pair[0], pair[1]);
        for (gone, value) in filled[left..right].iter_mut().enumerate() {
            let share = gone as f64 / (right - left) as f64;
            *value = values[left] + share * (values[right] - values[left]);
        }
    }
    Some(filled)
}

/// Mean and variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count)
}

/// The season: the one whose phases save more than they cost by Schwarz's criterion, and the most; after the
/// moving average of one season is taken off, so that neither trend nor step looks like one.
fn period(values: &[f64]) -> Option<usize> {
    let count = values.len() as f64;
    let longest = PERIOD_MAX.min(values.len() / SEASONS_MIN);
    let saved = |period: usize| {
        let trend = moving_average(values, period);
        let mut phases = vec![(0.0, 0.0); period];
        let mut total = 0.0;
        for (at, (value, trend)) in values.iter().zip(&trend).enumerate() {
            let rest = value - trend;
            total += rest * rest;
            phases[at % period].0 += rest;
            phases[at % period].1 += 1.0;
        }
        let explained: f64 = phases.iter().map(|(sum, points)| sum * sum / points).sum();
        let left = (total - explained).max(total * VARIANCE_SHARE_MIN);
        if total > 0.0 { count * (total / left).ln() - (period - 1) as f64 * count.ln() } else { 0.0 }
    };
    let seasons = (PERIOD_MIN..=longest).map(|period| (period, saved(period)));
    let best = seasons.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 > 0.0).then_some(best.0)
}

/// How far a value typically is from the last.
fn roughness(values: &[f64]) -> f64 {
    let mut steps: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    median(&mut steps).unwrap_or(0.0)
}

/// Takes off the median of each phase, around a centred moving average of one season.
fn without_season(values: &[f64], period: usize) -> Vec<f64> {
    let trend = moving_average(values, period);
    let mut phases: Vec<f64> = (0..period)
        .map(|phase| {
            let mut rest: Vec<f64> =
                (phase..values.len()).step_by(period).map(|at| values[at] - trend[at]).collect();
            median(&mut rest).unwrap_or(0.0)
        })
        .collect();
    let mean = phases.iter().sum::<f64>() / period as f64;
    phases.iter_mut().for_each(|phase| *phase -= mean);
    values.iter().enumerate().map(|(at, value)| value - phases[at % period]).collect()
}

/// Beyond its ends the series goes on with the mean of its first and last season.
fn moving_average(values: &[f64], period: usize) -> Vec<f64> {
    let half = period / 2;
    let head = values[..period].iter().sum::<f64>() / period as f64;
    let tail = values[values.len() - period..].iter().sum::<f64>() / period as f64;
    let padded: Vec<f64> = std::iter::repeat_n(head, half)
        .chain(values.iter().copied())
        .chain(std::iter::repeat_n(tail, half))
        .collect();
    let mut sums = vec![0.0; padded.len() + 1];
    for (at, value) in padded.iter().enumerate() {
        sums[at + 1] = sums[at] + value;
    }
    (0..values.len())
        .map(|first| {
            let last = first + 2 * half;
            let sum = sums[last + 1] - sums[first];
            // An even season has a half point at each end.
            let ends = if period.is_multiple_of(2) { (padded[first] + padded[last]) / 2.0 } else { 0.0 };
            (sum - ends) / period as f64
        })
        .collect()
}

/// Draws lone points that lie far from their neighbours' median back to where they are unusual, and no more.
fn clip(values: &[f64], far: f64) -> Vec<f64> {
    let around = |at: usize, reach: usize| at.saturating_sub(reach)..(at + reach + 1).min(values.len());
    let centres: Vec<f64> = (0..values.len())
        .map(|at| median(&mut values[around(at, NEIGHBOURS)].to_vec()).unwrap_or(values[at]))
        .collect();
    let off: Vec<f64> = values.iter().zip(&centres).map(|(value, centre)| value - centre).collect();
    let Some((_, usual)) = spread(&off) else { return values.to_vec() };
    (0..values.len())
        .map(|at| {
            let here = spread(&off[around(at, SURROUNDINGS)]).map_or(0.0, |(_, deviation)| deviation);
            let deviation = usual.max(here);
            if deviation > 0.0 && off[at].abs() > far * deviation {
                centres[at] + off[at].signum() * 2.0 * deviation
            } else {
                values[at]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_bridged_and_ends_held() {
        let nan = f64::NAN;
        assert_eq!(bridge(&[nan, 1.0, nan, nan, 4.0, nan]).unwrap(), [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
        assert_eq!(bridge(&[nan, nan]), None);
    }

    #[test]
    fn a_season_is_seen_and_taken_off() {
        let values: Vec<f64> = (0..48).map(|at| [1.0, 5.0, 2.0, 8.0, 3.0, 3.0][at % 6]).collect();
        // Without any noise a season twice as long explains the moving average's ends, too.
        let noisy: Vec<f64> =
            values.iter().enumerate().map(|(at, value)| value + (at * 37 % 11) as f64 * 0.05).collect();
        assert_eq!(period(&noisy), Some(6));
        let rest = without_season(&values, 6);
        assert!(rest.iter().all(|value| (value - rest[0]).abs() < 1e-9), "{rest:?}");
    }

    #[test]
    fn a_lone_spike_is_clipped_and_a_step_is_not() {
        let mut values: Vec<f64> = (0..40).map(|at| f64::from(at % 3)).collect();
        values[20] = 90.0;
        assert!(clip(&values, 5.0)[20] < 10.0);
        let step: Vec<f64> = (0..40).map(|at| f64::from(at % 3) + if at < 20 { 0.0 } else { 50.0 }).collect();
        assert_eq!(clip(&step, 5.0)[26..], step[26..]);
        assert!(clip(&step, 5.0)[21] > 40.0);
    }
}
