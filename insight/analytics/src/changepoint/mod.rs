//! Where a series changed its ways, looking back: level, trend, spread or the way it follows itself.
//!
//! ```text
//! values ─▶ gaps bridged ─▶ season taken off ─▶ spikes clipped ─▶ four models, each optimally cut ─▶ the cheapest
//!        ─▶ what tails explain taken off ─▶ what is new at the end added
//! ```
//!
//! **Method.** A series is cut into stretches, each described by one least-squares model with normal errors
//! and a variance of its own. Four kinds of model compete: a level, a trend, a level that follows its last
//! value (AR(1)), a trend that follows its last value. For each kind the cut that costs least is found
//! exactly by optimal partitioning; then the kind whose best cut costs least is taken. A series that only
//! wanders or grows is thereby explained by its own model, and not chopped into levels.
//!
//! A stretch of `m` points with residual sum of squares `RSS` costs
//! `m ln max(RSS/m, floor) + k (p + 2) ln n`: twice the negative log-likelihood, and for each stretch a
//! penalty for its `p` coefficients, its variance and its place ([`Settings::penalty`] is `k`; 1 is
//! Schwarz's criterion). The floor keeps runs of equal values from being infinitely good. A change of
//! spread alone is then moved to where a cost that forgives nothing below the floor puts it.
//!
//! **The end.** A change that is as yet as long as one or two shortest stretches has hardly a spread to pay for. So the
//! last stretch is looked at once more: its last points against those before them, with one variance for both, by
//! `n ln(RSS/RSS')` against `k (p + 1) ln n`. That is the same criterion with a parameter fewer: Schwarz's penalty counts
//! what is estimated, and here no variance is. With it a step of 2 deviations is found by its tenth point in 96 of 100
//! series.
//!
//! **Tails.** The ratio of two variances is made for normal values; among values of kurtosis `K` it is about `(K - 1) / 2`
//! times as large as it should be. So what speaks for a change of spread is divided by that, with the kurtosis of what
//! the stretches of the series leave, and changes that are not worth their penalty then are taken off.
//!
//! **Sources.** Optimal partitioning: Jackson et al., *An algorithm for optimal partitioning of data on an
//! interval*, IEEE Signal Processing Letters 12 (2005). The number of changes by Schwarz's criterion: Yao,
//! Statistics & Probability Letters 6 (1988); that a change of mean under one variance pays for one parameter fewer:
//! Yao & Au, Sankhyā A 51 (1989), and Chen & Gupta, *Parametric Statistical Change Point Analysis* (2012), ch. 2. Variances
//! and kurtosis: Box, *Non-normality and tests on variances*, Biometrika 40 (1953). An envelope of models with and without trend and
//! autocorrelation: Killick, Beaulieu, Taylor & Hullait, R package EnvCpt (2018). Spikes: Hampel, *The
//! influence curve and its role in robust estimation*, JASA 69 (1974).
//!
//! **Bounds.** At most [`POINTS_MAX`] points; time O(n²) with about 0.1 µs a pair, memory O(n).
//! Deterministic. `bench/analytics` measures how often it is right.

mod agreement;
mod prepare;
mod revise;
mod segment;

pub use agreement::f1;

use serde::Serialize;

/// The longest series that is analysed, in points: some seconds of one core.
pub const POINTS_MAX: usize = 10_000;

/// How eager the search is. One default serves every series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// What a stretch must save for each of its parameters, in units of `ln n`. Higher is more reluctant.
    pub penalty: f64,
    /// The least variance a stretch is credited with, as a share of the whole series' innovations.
    pub floor: f64,
    /// The shortest stretch, in points.
    pub shortest: usize,
    /// How far from its neighbours' median a point is clipped, in robust standard deviations.
    pub spike: f64,
}

impl Default for Settings {
    /// Chosen on synthetic series for at most 1 % of false alarms; `bench/analytics` prints
    /// what other values would give on real ones.
    fn default() -> Self {
        Self { penalty: 1.5, floor: 0.2, shortest: 8, spike: 4.0 }
    }
}

/// What can be wrong with a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is longer than is analysed.
    #[error(
        "a series of {0} points is longer than the {POINTS_MAX} that are analysed: thin it out or cut it"
    )]
    TooLong(usize),
}

/// What describes a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Around one level.
    Level,
    /// Along a line.
    Trend,
    /// Around one level, each value leaning on the last.
    LevelFollowing,
    /// Along a line, each value leaning on the last.
    TrendFollowing,
}

impl Model {
    /// All of them, the simplest first.
    pub const ALL: [Self; 4] = [Self::Level, Self::Trend, Self::LevelFollowing, Self::TrendFollowing];

    /// Coefficients of its mean.
    fn coefficients(self) -> usize {
        match self {
            Self::Level => 1,
            Self::Trend | Self::LevelFollowing => 2,
            Self::TrendFollowing => 3,
        }
    }
}

/// One place where a series changed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Change {
    /// The first point of the new stretch, from 0.
    pub at: usize,
    /// The stretch before: its mean in the series' own unit.
    pub mean_before: f64,
    /// The stretch after: its mean.
    pub mean_after: f64,
    /// Standard deviation around the mean before.
    pub deviation_before: f64,
    /// Standard deviation around the mean after.
    pub deviation_after: f64,
    /// How much better two stretches describe the points than one does, beyond the penalty, as twice a
    /// log-likelihood ratio. Above 0; 10 is much.
    pub evidence: f64,
}

/// What was found in a series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// Where it changed, in order.
    pub changes: Vec<Change>,
    /// What describes its stretches best.
    pub model: Model,
    /// Its season in points, if it has one.
    pub period: Option<usize>,
}

/// Finds the changes of a series with one point per step. A value that is not finite is missing.
///
/// A series with fewer than two shortest stretches has no changes.
///
/// # Errors
///
/// A series longer than [`POINTS_MAX`].
pub fn changes(values: &[f64], settings: &Settings) -> Result<Analysis, Error> {
    if values.len() > POINTS_MAX {
        return Err(Error::TooLong(values.len()));
    }
    let quiet = Analysis { changes: Vec::new(), model: Model::Level, period: None };
    let Some(prepared) = prepare::prepare(values, settings) else { return Ok(quiet) };
    let mut cut = segment::cut(&prepared.values, settings);
    revise::revise(&mut cut, &prepared.values, settings.shortest);
    let spans = cut.spans();
    let changes = spans
        .windows(2)
        .map(|pair| {
            let (left, right) = (pair[0].clone(), pair[1].clone());
            let (mean_before, deviation_before) = prepared.moments(left.clone());
            let (mean_after, deviation_after) = prepared.moments(right.clone());
            Change {
                at: right.start,
                mean_before,
                mean_after,
                deviation_before,
                deviation_after,
                evidence: cut.evidence(&prepared.values, left, right),
            }
        })
        .collect();
    Ok(Analysis { changes, model: cut.model, period: prepared.period })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    fn found(values: &[f64]) -> Vec<usize> {
        changes(values, &Settings::default()).unwrap().changes.iter().map(|change| change.at).collect()
    }

    #[test]
    fn a_step_is_found_where_it_is_and_says_by_how_much() {
        let mut noise = Noise::new(7);
        let values: Vec<f64> =
            (0..200).map(|at| noise.normal() + if at < 120 { 10.0 } else { 13.0 }).collect();
        let analysis = changes(&values, &Settings::default()).unwrap();
        assert_eq!(analysis.changes.len(), 1, "{analysis:?}");
        let change = analysis.changes[0];
        assert!(change.at.abs_diff(120) <= 3);
        assert!((change.mean_after - change.mean_before - 3.0).abs() < 0.6);
        assert!(change.evidence > 10.0);
    }

    #[test]
    fn a_change_of_spread_is_found() {
        // Where a spread begins is seen less exactly than that it does: within ten points in most series.
        let near = |seed: u64| {
            let mut noise = Noise::new(seed);
            let values: Vec<f64> =
                (0..200).map(|at| noise.normal() * if at < 100 { 1.0 } else { 4.0 }).collect();
            let at = found(&values);
            at.iter().any(|at| at.abs_diff(100) <= 10)
        };
        let found = (0..40).filter(|seed| near(*seed)).count();
        assert!(found >= 34, "{found} of 40");
    }

    #[test]
    fn neither_trend_nor_season_nor_spikes_nor_wandering_are_changes() {
        let mut noise = Noise::new(11);
        let trend: Vec<f64> = (0..200).map(|at| f64::from(at) * 0.5 + noise.normal()).collect();
        let season: Vec<f64> =
            (0..210).map(|at| [9.0, 9.0, 1.0, 2.0, 9.0, 4.0, 6.0][at % 7] + noise.normal()).collect();
        let spikes: Vec<f64> =
            (0..200).map(|at| noise.normal() + if at % 61 == 20 { 15.0 } else { 0.0 }).collect();
        let mut level = 0.0;
        let wander: Vec<f64> = (0..200)
            .map(|_| {
                level = 0.9 * level + noise.normal();
                level
            })
            .collect();
        for values in [trend, season, spikes, wander] {
            assert_eq!(found(&values), Vec::<usize>::new());
        }
    }

    #[test]
    fn constant_short_missing_and_too_long_series_are_no_trouble() {
        assert_eq!(found(&[5.0; 300]), Vec::<usize>::new());
        assert_eq!(found(&[]), Vec::<usize>::new());
        assert_eq!(found(&[1.0, 9.0, 1.0]), Vec::<usize>::new());
        assert_eq!(found(&[f64::NAN; 50]), Vec::<usize>::new());
        let series = vec![0.0; POINTS_MAX + 1];
        assert_eq!(changes(&series, &Settings::default()), Err(Error::TooLong(POINTS_MAX + 1)));
    }

    #[test]
    fn a_step_without_any_noise_is_found() {
        let values: Vec<f64> = (0..60).map(|at| if at < 30 { 1.0 } else { 2.0 }).collect();
        assert_eq!(found(&values), [30]);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_stretches_are_ordered_and_long_enough(
            values in prop::collection::vec(prop_oneof![
                9 => -1e9_f64..1e9,
                1 => Just(f64::NAN),
                1 => Just(f64::INFINITY),
            ], 0..120),
        ) {
            let settings = Settings::default();
            let analysis = changes(&values, &settings).unwrap();
            let mut last = 0;
            for change in &analysis.changes {
                prop_assert!(change.at >= last + settings.shortest);
                prop_assert!(change.evidence.is_finite());
                last = change.at;
            }
            prop_assert!(analysis.changes.is_empty() || last + settings.shortest <= values.len());
        }

        #[test]
        fn neither_unit_nor_origin_matter(seed in 0_u64..200, scale in 1e-3_f64..1e3, origin in -1e3_f64..1e3) {
            let mut noise = Noise::new(seed);
            let values: Vec<f64> =
                (0..80).map(|at| noise.normal() + if at < 40 { 0.0 } else { 4.0 }).collect();
            let moved: Vec<f64> = values.iter().map(|value| value * scale + origin).collect();
            prop_assert_eq!(found(&values), found(&moved));
        }
    }
}
