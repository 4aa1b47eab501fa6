//! Synthetic series whose truth is known: what is found, what is found where nothing is.
//!
//! Every series has [`POINTS`] points of unit noise around 100. *Found* means a change within [`NEAR`]
//! points of the true one; a *false alarm* is a series with any change where there is none.

use crate::noise::Noise;
use anyhow::Result;
use evalfleet_analytics::changepoint::{self, Settings};

/// The length of a series.
pub(crate) const POINTS: usize = 200;
/// How near a change must be to the true one.
pub(crate) const NEAR: usize = 10;

/// How near it must be where a drift sets in, which is slow to show.
pub(crate) const NEAR_DRIFT: usize = 20;

/// A kind of series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Noise alone.
    None,
    /// A season of 7, 12 or 24 points, 1 to 4 deviations high.
    Seasonal,
    /// One point in 40 lies 6 to 12 deviations off.
    Outlier,
    /// Each value leans on the last by 0.5.
    Following,
    /// Student's t with 4 degrees of freedom.
    HeavyTailed,
    /// A step of 2 deviations, at a place from a fifth to four fifths.
    Step,
    /// The same, on a season.
    SeasonalStep,
    /// The same, among outliers.
    OutlierStep,
    /// A step of 2 deviations of which only ten points are seen yet.
    FreshStep,
    /// The level begins to rise by 0.1 deviations a point.
    Drift,
    /// The deviation trebles.
    Variance,
}

impl Kind {
    pub(crate) const CLEAN: [Self; 5] =
        [Self::None, Self::Seasonal, Self::Outlier, Self::Following, Self::HeavyTailed];
    pub(crate) const CHANGED: [Self; 6] =
        [Self::Step, Self::SeasonalStep, Self::OutlierStep, Self::FreshStep, Self::Drift, Self::Variance];

    /// Whether its level steps.
    pub(crate) fn is_step(self) -> bool {
        matches!(self, Self::Step | Self::SeasonalStep | Self::OutlierStep | Self::FreshStep)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Seasonal => "seasonal",
            Self::Outlier => "outliers",
            Self::Following => "following itself (AR 0.5)",
            Self::HeavyTailed => "heavy tails (t, 4)",
            Self::Step => "step of 2 deviations",
            Self::SeasonalStep => "the same, seasonal",
            Self::OutlierStep => "the same, outliers",
            Self::FreshStep => "the same, 10 points old",
            Self::Drift => "drift sets in",
            Self::Variance => "variance: deviation x 3",
        }
    }

    /// A series, and where it changes.
    pub(crate) fn series(self, run: u64) -> (Vec<f64>, Option<usize>) {
        let mut noise = Noise::of(self as u64, run);
        let at = POINTS / 5 + noise.below(3 * POINTS / 5);
        let at = if self == Self::FreshStep { POINTS - 10 } else { at };
        let period = [7, 12, 24][noise.below(3)];
        let high = 1.0 + 3.0 * noise.unit();
        let sign = if noise.chance(0.5) { 1.0 } else { -1.0 };
        let mut last = 0.0;
        let values = (0..POINTS).map(|index| {
            let since = index.saturating_sub(at) as f64;
            let after = index >= at;
            let unit = noise.normal();
            let season = high * (std::f64::consts::TAU * index as f64 / period as f64).sin();
            let step = if after { 2.0 * sign } else { 0.0 };
            let outlier = |noise: &mut Noise| {
                if noise.chance(1.0 / 40.0) {
                    (6.0 + 6.0 * noise.unit()) * if noise.chance(0.5) { 1.0 } else { -1.0 }
                } else {
                    0.0
                }
            };
            100.0
                + match self {
                    Self::None => unit,
                    Self::Seasonal => unit + season,
                    Self::Outlier => unit + outlier(&mut noise),
                    Self::Following => {
                        last = 0.5 * last + unit;
                        last
                    }
                    Self::HeavyTailed => {
                        let squares: f64 = (0..4).map(|_| noise.normal().powi(2)).sum();
                        unit / (squares / 4.0).sqrt()
                    }
                    Self::Step | Self::FreshStep => unit + step,
                    Self::SeasonalStep => unit + season + step,
                    Self::OutlierStep => unit + outlier(&mut noise) + step,
                    Self::Drift => unit + 0.1 * sign * since,
                    Self::Variance => unit * if after { 3.0 } else { 1.0 },
                }
        });
        (values.collect(), (!Self::CLEAN.contains(&self)).then_some(at))
    }
}

/// The share of `runs` series of a kind in which the change was found, or a false alarm raised; and the
/// mean number of changes found that are none.
pub(crate) fn share(kind: Kind, runs: u64, settings: &Settings) -> Result<(f64, f64)> {
    let (mut hits, mut wrong) = (0_u32, 0_usize);
    for run in 0..runs {
        let (values, truth) = kind.series(run);
        let found = changepoint::changes(&values, settings)?.changes;
        let near = |at: usize, truth: usize| {
            at.abs_diff(truth) <= if kind == Kind::Drift { NEAR_DRIFT } else { NEAR }
        };
        let hit = match truth {
            Some(truth) => found.iter().any(|change| near(change.at, truth)),
            None => !found.is_empty(),
        };
        hits += u32::from(hit);
        wrong += found.len() - usize::from(truth.is_some() && hit);
    }
    Ok((f64::from(hits) / runs as f64, wrong as f64 / runs as f64))
}
