//! Cuts a series where that describes it best: optimal partitioning, once for each kind of model.

use super::{Model, Settings};
use std::ops::Range;

/// Variances below this (of a series scaled to variance 1) are rounding.
const VARIANCE_MIN: f64 = 1e-12;

/// By how much two neighbours' variances differ at least for a change of spread.
const SPREAD_MIN: f64 = 4.0;

/// The best cut.
pub(super) struct Cut {
    pub(super) model: Model,
    /// The ends of its stretches, in order; the last is the series' length.
    pub(super) ends: Vec<usize>,
    pub(super) rules: Rules,
    /// What a change of spread counts for less than among normal values, from 1.
    pub(super) tails: f64,
    /// What speaks for the last change, where it is a fresh one.
    pub(super) fresh: Option<f64>,
}

impl Cut {
    /// Its stretches.
    pub(super) fn spans(&self) -> Vec<Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied()).map(|(start, end)| start..end).collect()
    }

    /// Puts each change of spread where it describes its two neighbours best, now that their number is
    /// known: from left to right, once. A stretch below the floor takes residuals in for nothing, so that a
    /// calm one reaches into a wild one; here every residual is paid. Changes of level stay: theirs are
    /// clear without, and clipped spikes would draw them about.
    fn sharpen(&mut self, values: &[f64], shortest: usize) {
        for index in 1..self.ends.len() {
            let (start, stop) = (if index == 1 { 0 } else { self.ends[index - 2] }, self.ends[index]);
            let before = self.growing(values, start..stop);
            let mut after = self.growing(values, (start..stop).rev());
            after.reverse();
            if !self.of_spread(values, start..self.ends[index - 1], self.ends[index - 1]..stop) {
                continue;
            }
            let cost = |at: usize| before[at - start - 1] + after[at - start];
            let places = start + shortest..=stop.saturating_sub(shortest);
            if let Some(best) = places.min_by(|one, other| cost(*one).total_cmp(&cost(*other))) {
                self.ends[index - 1] = best;
            }
        }
    }

    /// What a stretch leaves unexplained.
    pub(super) fn residuals(&self, values: &[f64], span: Range<usize>) -> f64 {
        let mut sums = Sums::default();
        span.for_each(|at| sums.push(values, at));
        sums.residuals(self.model)
    }

    /// Whether two neighbours differ in spread alone.
    fn of_spread(&self, values: &[f64], left: Range<usize>, right: Range<usize>) -> bool {
        let level = |span: Range<usize>| {
            let mut sums = Sums::default();
            span.clone().for_each(|at| sums.push(values, at));
            let residuals = sums.residuals(self.model);
            (sums.mean[0], residuals / span.len() as f64)
        };
        let ((one, before), (other, after)) = (level(left), level(right));
        (before / after).max(after / before) > SPREAD_MIN && (one - other).powi(2) < before.max(after)
    }

    /// What a stretch costs as it grows by these points; the order of time is of no matter.
    fn growing(&self, values: &[f64], points: impl Iterator<Item = usize>) -> Vec<f64> {
        let mut sums = Sums::default();
        let costs = points.enumerate().map(|(count, at)| {
            sums.push(values, at);
            self.rules.sharp(sums.residuals(self.model), count + 1)
        });
        costs.collect()
    }

    /// What joining two neighbours would cost: what speaks for two levels under one variance, and for two variances.
    pub(super) fn evidence(&self, values: &[f64], left: Range<usize>, right: Range<usize>) -> f64 {
        if let Some(fresh) = self.fresh.filter(|_| right.end == values.len()) {
            return fresh;
        }
        let cost = |residuals: f64, span: &Range<usize>| self.rules.likelihood(residuals, span.len());
        let (before, after) = (self.residuals(values, left.clone()), self.residuals(values, right.clone()));
        let whole = left.start..right.end;
        let joined = cost(self.residuals(values, whole.clone()), &whole);
        let of_level = joined - cost(before + after, &whole);
        let of_spread = cost(before + after, &whole) - cost(before, &left) - cost(after, &right);
        of_level + of_spread / self.tails - self.rules.penalty(self.model)
    }
}

/// What a stretch costs.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) floor: f64,
    pub(super) per_parameter: f64,
}

impl Rules {
    /// Twice the negative log-likelihood, up to a constant.
    pub(super) fn likelihood(&self, residuals: f64, points: usize) -> f64 {
        let points = points as f64;
        points * (residuals / points).max(self.floor).ln()
    }

    /// The same where the floor bounds the variance but forgives no residual.
    fn sharp(&self, residuals: f64, points: usize) -> f64 {
        let points = points as f64;
        let variance = (residuals / points).max(self.floor);
        points * (variance.ln() - 1.0) + residuals / variance
    }

    /// For coefficients, variance and place.
    fn penalty(&self, model: Model) -> f64 {
        self.per_parameter * (model.coefficients() + 2) as f64
    }
}

/// Finds the best cut of a scaled series.
pub(super) fn cut(values: &[f64], settings: &Settings) -> Cut {
    let count = values.len();
    let per_parameter = settings.penalty * (count as f64).ln();
    let rules = Rules { floor: (settings.floor * innovations(values)).max(VARIANCE_MIN), per_parameter };
    // A stretch must leave each model something to be wrong about.
    let shortest = settings.shortest.max(5);

    let mut best = Model::ALL.map(|model| {
        let mut cost = vec![f64::INFINITY; count + 1];
        cost[0] = -rules.penalty(model);
        cost
    });
    let mut from = Model::ALL.map(|_| vec![0; count + 1]);
    for start in 0..=count.saturating_sub(shortest) {
        if best[0][start].is_infinite() {
            continue;
        }
        // What all stretches from here have paid already.
        let paid = [0, 1, 2, 3].map(|model| best[model][start] + rules.penalty(Model::ALL[model]));
        let mut sums = Sums::default();
        for end in start + 1..=count {
            sums.push(values, end - 1);
            if end - start < shortest {
                continue;
            }
            let residuals = sums.all_residuals();
            let costs = paid.iter().zip(residuals);
            let costs = costs.map(|(paid, residuals)| paid + rules.likelihood(residuals, end - start));
            for (cost, (best, from)) in costs.zip(best.iter_mut().zip(&mut from)) {
                if cost < best[end] {
                    best[end] = cost;
                    from[end] = start;
                }
            }
        }
    }
    let total = |model: usize| best[model][count] + rules.penalty(Model::ALL[model]);
    let winner = (0..Model::ALL.len()).min_by(|a, b| total(*a).total_cmp(&total(*b))).unwrap_or(0);
    let mut ends = vec![count];
    let mut at = from[winner][count];
    while at > 0 {
        ends.push(at);
        at = from[winner][at];
    }
    ends.reverse();
    let mut cut = Cut { model: Model::ALL[winner], ends, rules, tails: 1.0, fresh: None };
    cut.sharpen(values, shortest);
    cut
}

/// The variance of what the best model of the whole, uncut series cannot foresee.
fn innovations(values: &[f64]) -> f64 {
    let mut sums = Sums::default();
    (0..values.len()).for_each(|at| sums.push(values, at));
    let count = values.len() as f64;
    let variances = sums.all_residuals().map(|residuals| (residuals / count).max(VARIANCE_MIN));
    let score =
        |model: usize| count * variances[model].ln() + Model::ALL[model].coefficients() as f64 * count.ln();
    let best = (0..Model::ALL.len()).min_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(0);
    variances[best]
}

/// Centred second moments of value, last value and time of a growing stretch, updated as in Welford,
/// Technometrics 4 (1962): no cancellation however long the stretch.
#[derive(Default)]
pub(super) struct Sums {
    count: f64,
    mean: [f64; 3],
    /// Value·value, last·last, time·time, value·last, value·time, last·time.
    moment: [f64; 6],
}

impl Sums {
    pub(super) fn push(&mut self, values: &[f64], at: usize) {
        let point = [values[at], values[at.saturating_sub(1)], self.count];
        self.count += 1.0;
        let before = [0, 1, 2].map(|axis| point[axis] - self.mean[axis]);
        for (mean, before) in self.mean.iter_mut().zip(before) {
            *mean += before / self.count;
        }
        let after = [0, 1, 2].map(|axis| point[axis] - self.mean[axis]);
        let pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)];
        for (moment, (one, other)) in self.moment.iter_mut().zip(pairs) {
            *moment += before[one] * after[other];
        }
    }

    /// Residual sums of squares, in the order of [`Model::ALL`].
    fn all_residuals(&self) -> [f64; 4] {
        let [vv, ll, tt, vl, vt, lt] = self.moment;
        let off = |by: f64, of: f64| if of > 1e-12 { by * by / of } else { 0.0 };
        let trend = vv - off(vt, tt);
        let following = vv - off(vl, ll);
        // What the last value still says once time has spoken.
        let (both, rest) = if tt > 0.0 { (vl - vt * lt / tt, ll - lt * lt / tt) } else { (vl, ll) };
        let trend_following = if rest > 1e-9 * ll { trend - off(both, rest) } else { trend };
        [vv, trend, following, trend_following].map(|sum| sum.max(0.0))
    }

    /// What the model makes of each point of the stretch that was pushed, and what is left of it.
    pub(super) fn leftovers(&self, values: &[f64], span: Range<usize>, model: Model) -> Vec<f64> {
        let [_, ll, tt, vl, vt, lt] = self.moment;
        let slope = |by: f64, of: f64| if of > 1e-12 { by / of } else { 0.0 };
        let (by_last, by_time) = match model {
            Model::Level => (0.0, 0.0),
            Model::Trend => (0.0, slope(vt, tt)),
            Model::LevelFollowing => (slope(vl, ll), 0.0),
            Model::TrendFollowing => {
                let by_last = slope(vl - slope(vt, tt) * lt, ll - slope(lt, tt) * lt);
                (by_last, slope(vt - by_last * lt, tt))
            }
        };
        let [value, last, time] = self.mean;
        let left = span.enumerate().map(|(nth, at)| {
            let since = values[at.saturating_sub(1)] - last;
            values[at] - value - by_last * since - by_time * (nth as f64 - time)
        });
        left.collect()
    }

    fn residuals(&self, model: Model) -> f64 {
        let [level, trend, level_following, trend_following] = self.all_residuals();
        match model {
            Model::Level => level,
            Model::Trend => trend,
            Model::LevelFollowing => level_following,
            Model::TrendFollowing => trend_following,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;

    #[test]
    fn a_line_leaves_the_trend_nothing_and_the_level_all() {
        let values: Vec<f64> = (0..10).map(f64::from).collect();
        let mut sums = Sums::default();
        (0..10).for_each(|at| sums.push(&values, at));
        assert!((sums.residuals(Model::Level) - 82.5).abs() < 1e-9);
        assert!(sums.residuals(Model::Trend) < 1e-9);
    }

    #[test]
    fn what_is_left_of_the_points_makes_up_the_residuals() {
        let mut noise = Noise::new(3);
        let values: Vec<f64> = (0..60).map(|at| noise.normal() + f64::from(at) * 0.1).collect();
        let mut sums = Sums::default();
        (10..60).for_each(|at| sums.push(&values, at));
        for model in Model::ALL {
            let left: f64 = sums.leftovers(&values, 10..60, model).iter().map(|rest| rest * rest).sum();
            assert!((left - sums.residuals(model)).abs() < 1e-9, "{model:?}");
        }
    }

    #[test]
    fn a_richer_model_never_leaves_more() {
        let mut noise = Noise::new(1);
        let values: Vec<f64> = (0..100).map(|_| noise.normal()).collect();
        let mut sums = Sums::default();
        for at in 0..100 {
            sums.push(&values, at);
            let [level, trend, following, both] = sums.all_residuals();
            assert!(trend <= level && following <= level && both <= trend + 1e-9 && both <= following + 1e-9);
        }
    }

    #[test]
    fn the_cut_is_the_cheapest_of_all() {
        let mut noise = Noise::new(5);
        let values: Vec<f64> = (0..24).map(|at| noise.normal() + if at < 11 { 0.0 } else { 5.0 }).collect();
        let settings = Settings::default();
        let found = cut(&values, &settings);
        let spans = found.spans();
        assert_eq!(spans.len(), 2);
        let evidence = found.evidence(&values, spans[0].clone(), spans[1].clone());
        for other in settings.shortest..=24 - settings.shortest {
            assert!(found.evidence(&values, 0..other, other..24) <= evidence + 1e-9);
        }
        assert!(evidence > 0.0);
    }
}
