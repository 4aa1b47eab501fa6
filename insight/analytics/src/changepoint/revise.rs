//! Looks at a cut once more, for what the cost of stretches alone gets wrong: tails and the end.

use super::segment::{Cut, Sums};
use std::ops::Range;

/// The longest stretch at the end that is still fresh, in shortest stretches.
const FRESH: usize = 2;
/// By how much what is before a fresh stretch is longer than it, at least: it says how much the series scatters.
const BEFORE_FRESH: usize = 3;
/// The kurtosis of normal values.
const NORMAL: f64 = 3.0;

/// Takes off what tails explain, and adds what is new at the end.
pub(super) fn revise(cut: &mut Cut, values: &[f64], shortest: usize) {
    heed_tails(cut, values);
    freshen(cut, values, shortest);
}

/// Joins neighbours that differ in spread by no more than the series' tails explain, the weakest change first.
///
/// Among values of kurtosis `K` the log-likelihood ratio of two variances, made for normal ones, is about
/// `(K - 1) / 2` times as large as it should be.
fn heed_tails(cut: &mut Cut, values: &[f64]) {
    loop {
        cut.tails = ((kurtosis(cut, values) - 1.0) / (NORMAL - 1.0)).max(1.0);
        let spans = cut.spans();
        let evidence = |pair: &[Range<usize>]| cut.evidence(values, pair[0].clone(), pair[1].clone());
        let weakest = spans.windows(2).map(evidence).enumerate();
        let weakest = weakest.min_by(|one, other| one.1.total_cmp(&other.1));
        match weakest {
            Some((at, evidence)) if evidence <= 0.0 => drop(cut.ends.remove(at)),
            Some(_) | None => return,
        }
    }
}

/// The kurtosis of what all stretches leave, each measured by its own spread.
fn kurtosis(cut: &Cut, values: &[f64]) -> f64 {
    let fourth: f64 = cut
        .spans()
        .into_iter()
        .map(|span| {
            let mut sums = Sums::default();
            span.clone().for_each(|at| sums.push(values, at));
            let count = span.len() as f64;
            let left = sums.leftovers(values, span, cut.model);
            let variance = (left.iter().map(|rest| rest * rest).sum::<f64>() / count).max(cut.rules.floor);
            left.iter().map(|rest| (rest * rest / variance).powi(2)).sum::<f64>()
        })
        .sum();
    fourth / values.len() as f64
}

/// Looks at the last points for a change that is too young to show a spread of its own: its stretch has the variance of
/// the one that it leaves, and pays for its coefficients and its place alone.
fn freshen(cut: &mut Cut, values: &[f64], shortest: usize) {
    let stop = values.len();
    let start = cut.spans().last().map_or(0, |last| last.start);
    let whole = stop - start;
    let joined = cut.rules.likelihood(cut.residuals(values, start..stop), whole);
    let parameters = (cut.model.coefficients() + 1) as f64;
    let evidence = |at: usize| {
        let split = cut.residuals(values, start..at) + cut.residuals(values, at..stop);
        joined - cut.rules.likelihood(split, whole) - cut.rules.per_parameter * parameters
    };
    let longest = (FRESH * shortest).min(whole / (BEFORE_FRESH + 1));
    let places = (shortest..=longest).map(|fresh| stop - fresh).map(|at| (at, evidence(at)));
    let best = places.max_by(|one, other| one.1.total_cmp(&other.1));
    if let Some((at, evidence)) = best.filter(|(_, evidence)| *evidence > 0.0) {
        cut.ends.insert(cut.ends.len() - 1, at);
        cut.fresh = Some(evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::segment::cut;
    use super::*;
    use crate::testing::Noise;

    fn revised(values: &[f64]) -> Cut {
        let settings = Settings::default();
        let mut cut = cut(values, &settings);
        revise(&mut cut, values, settings.shortest);
        cut
    }

    #[test]
    fn a_step_of_ten_points_at_the_end_is_found_more_often_than_one_that_pays_for_its_spread() {
        let found = |fresh: bool| {
            let runs = (0..300).filter(|seed| {
                let mut noise = Noise::new(1000 + *seed);
                let values: Vec<f64> =
                    (0..200).map(|at| noise.normal() + if at < 190 { 0.0 } else { 2.0 }).collect();
                let cut = revised(&values);
                cut.ends.len() > 1 && (fresh || cut.fresh.is_none())
            });
            runs.count()
        };
        let (with, without) = (found(true), found(false));
        assert!(with >= 285 && without < with, "{with} and {without} of 300");
    }

    #[test]
    fn the_end_of_noise_alone_is_nothing_new() {
        let found = (0..300).filter(|seed| {
            let mut noise = Noise::new(5000 + *seed);
            let values: Vec<f64> = (0..200).map(|_| noise.normal()).collect();
            revised(&values).fresh.is_some()
        });
        assert!(found.count() <= 2);
    }

    #[test]
    fn a_spread_that_tails_explain_is_no_change_and_one_that_they_do_not_is() {
        let count = |after: f64, heavy: bool| {
            let runs = (0..200).filter(|seed| {
                let mut noise = Noise::new(9000 + *seed);
                let mut one = |at: u32| {
                    let squares: f64 = (0..4).map(|_| noise.normal().powi(2)).sum();
                    let heavy = if heavy { (squares / 4.0).sqrt() } else { 1.0 };
                    noise.normal() / heavy * if at < 100 { 1.0 } else { after }
                };
                let values: Vec<f64> = (0..200).map(&mut one).collect();
                revised(&values).ends.len() > 1
            });
            runs.count()
        };
        let unheeded = (0..200).filter(|seed| {
            let mut noise = Noise::new(9000 + *seed);
            let values: Vec<f64> = (0..200)
                .map(|_| noise.normal() / ((0..4).map(|_| noise.normal().powi(2)).sum::<f64>() / 4.0).sqrt())
                .collect();
            cut(&values, &Settings::default()).ends.len() > 1
        });
        let (calm, wild) = (count(1.0, true), unheeded.count());
        assert!(4 * calm < wild, "{calm} of {wild}");
        assert!(count(3.0, false) >= 195);
    }
}
