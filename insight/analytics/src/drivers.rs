//! Which attribute explains failures best: tool version, image, worker, model, shape of arguments.
//!
//! Each value of each attribute is compared with all other evaluations: risk difference (Newcombe's
//! interval), odds ratio (with Haldane and Anscombe's half added to each cell; Woolf's interval), Fisher's
//! exact test; each attribute by its mutual information with failing, in bits. So many comparisons find
//! something by chance: the probabilities are corrected by Benjamini & Hochberg, J. R. Statist. Soc. B 57
//! (1995), which bounds the share of false finds among all finds. An association is no proof of a cause.
//!
//! At most [`VALUES_MAX`] values of an attribute are looked at, the most frequent. Time is linear in the
//! evaluations for counting, then in values times evaluations for the exact tests.

use crate::rate::{Confidence, Interval, Tally, unpaired};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many values of an attribute are looked at.
pub const VALUES_MAX: usize = 200;

/// One evaluation.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// Whether it failed.
    pub failed: bool,
    /// Attribute and value; an attribute at most once.
    pub attributes: &'a [(&'a str, &'a str)],
}

/// What one value of one attribute has to do with failing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Driver {
    /// For example `worker`.
    pub attribute: String,
    /// For example `worker-2`.
    pub value: String,
    /// Evaluations with this value, and how many of them passed.
    pub with: Tally,
    /// All others.
    pub without: Tally,
    /// Failure rate with it less that without, from -1 to 1.
    pub risk_difference: f64,
    /// Where the true difference lies.
    pub interval: Interval,
    /// Odds of failing with it over those without.
    pub odds_ratio: f64,
    /// Where the true ratio lies.
    pub odds_interval: Interval,
    /// The probability of as much by chance, of this comparison alone.
    pub p: f64,
    /// The same, corrected for all comparisons: the false discovery rate at which it is a find.
    pub q: f64,
    /// Mutual information of the whole attribute with failing, in bits (0 to 1).
    pub information: f64,
}

/// All drivers, surest and strongest first. A value that all evaluations share explains nothing and is
/// left out.
pub fn drivers(cases: &[Case<'_>], confidence: Confidence) -> Vec<Driver> {
    let mut counts: BTreeMap<&str, BTreeMap<&str, Tally>> = BTreeMap::new();
    let mut all = Tally::default();
    for case in cases {
        let passed = u64::from(!case.failed);
        all = Tally { passed: all.passed + passed, tries: all.tries + 1 };
        for (attribute, value) in case.attributes {
            let tally = counts.entry(attribute).or_default().entry(value).or_default();
            *tally = Tally { passed: tally.passed + passed, tries: tally.tries + 1 };
        }
    }
    let mut found = Vec::new();
    for (attribute, values) in counts {
        let information = information(values.values().copied(), all);
        let mut values: Vec<(&str, Tally)> = values.into_iter().collect();
        values.sort_by_key(|(value, tally)| (std::cmp::Reverse(tally.tries), *value));
        for (value, with) in values.into_iter().take(VALUES_MAX) {
            let without = Tally { passed: all.passed - with.passed, tries: all.tries - with.tries };
            // Success without less success with is failure with less failure without.
            let Some(compared) = unpaired(with, without, confidence) else { continue };
            let (odds_ratio, odds_interval) = odds(with, without, confidence);
            found.push(Driver {
                attribute: attribute.to_owned(),
                value: value.to_owned(),
                with,
                without,
                risk_difference: compared.difference,
                interval: compared.interval,
                odds_ratio,
                odds_interval,
                p: compared.p,
                q: compared.p,
                information,
            });
        }
    }
    let corrected = benjamini_hochberg(&found.iter().map(|driver| driver.p).collect::<Vec<_>>());
    for (driver, q) in found.iter_mut().zip(corrected) {
        driver.q = q;
    }
    found.sort_by(|a, b| {
        let strength = |driver: &Driver| driver.risk_difference.abs();
        a.q.total_cmp(&b.q).then(strength(b).total_cmp(&strength(a))).then(a.value.cmp(&b.value))
    });
    found
}

/// Corrects probabilities for their number: each becomes the false discovery rate at which it is a find.
pub fn benjamini_hochberg(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let mut corrected = vec![1.0; probabilities.len()];
    let (mut least, count) = (1.0_f64, probabilities.len());
    for (from_last, at) in order.into_iter().enumerate() {
        least = least.min(probabilities[at] * count as f64 / (count - from_last) as f64);
        corrected[at] = least;
    }
    corrected
}

fn odds(with: Tally, without: Tally, confidence: Confidence) -> (f64, Interval) {
    let [failed, passed, others_failed, others_passed] =
        [with.failed(), with.passed, without.failed(), without.passed].map(|count| count as f64 + 0.5);
    let log = (failed * others_passed / (passed * others_failed)).ln();
    let error = (1.0 / failed + 1.0 / passed + 1.0 / others_failed + 1.0 / others_passed).sqrt();
    let half = confidence.deviations() * error;
    (log.exp(), Interval { low: (log - half).exp(), high: (log + half).exp() })
}

/// What knowing the value says of failing, in bits. Evaluations without the attribute are one more value.
fn information(values: impl Iterator<Item = Tally>, all: Tally) -> f64 {
    let mut rest = all;
    let mut conditional = 0.0;
    let total = all.tries as f64;
    for tally in values {
        rest = Tally {
            passed: rest.passed.saturating_sub(tally.passed),
            tries: rest.tries.saturating_sub(tally.tries),
        };
        conditional += tally.tries as f64 / total * entropy(tally);
    }
    conditional += rest.tries as f64 / total * entropy(rest);
    (entropy(all) - conditional).max(0.0)
}

fn entropy(tally: Tally) -> f64 {
    let Some(rate) = tally.rate() else { return 0.0 };
    [rate, 1.0 - rate].into_iter().filter(|share| *share > 0.0).map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    #[test]
    fn the_bad_worker_is_found_and_the_innocent_are_not() {
        let mut noise = Noise::new(21);
        let workers = ["worker-1", "worker-2", "worker-3"];
        let models = ["a", "b", "c", "d"];
        let attributes: Vec<[(&str, &str); 2]> = (0..600)
            .map(|at| [("worker", workers[at % 3]), ("model", models[(noise.unit() * 4.0) as usize])])
            .collect();
        let cases: Vec<Case<'_>> = attributes
            .iter()
            .map(|attributes| Case {
                failed: noise.chance(if attributes[0].1 == "worker-2" { 0.4 } else { 0.1 }),
                attributes,
            })
            .collect();
        let found = drivers(&cases, Confidence::default());
        assert_eq!((found[0].attribute.as_str(), found[0].value.as_str()), ("worker", "worker-2"));
        assert!(found[0].q < 1e-6 && found[0].interval.low > 0.15 && found[0].odds_interval.low > 2.0);
        assert!(found.iter().filter(|driver| driver.attribute == "model").all(|driver| driver.q > 0.05));
        assert!(found[0].information > found.iter().find(|d| d.attribute == "model").unwrap().information);
    }

    #[test]
    fn what_all_share_explains_nothing() {
        let cases = [true, false].map(|failed| Case { failed, attributes: &[("image", "base")] });
        assert!(drivers(&cases, Confidence::default()).is_empty());
    }

    #[test]
    fn corrected_as_in_the_paper() {
        // Benjamini & Hochberg 1995, section 3: four of fifteen are finds at 0.05.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
            0.6528, 0.7590, 1.0,
        ];
        assert_eq!(benjamini_hochberg(&p).iter().filter(|q| **q <= 0.05).count(), 4);
    }

    proptest! {
        #[test]
        fn correction_never_helps_and_keeps_the_order(p in prop::collection::vec(0.0_f64..=1.0, 0..40)) {
            let q = benjamini_hochberg(&p);
            for (at, one) in p.iter().enumerate() {
                prop_assert!(q[at] >= one - 1e-12 && q[at] <= 1.0);
                for (other, two) in p.iter().enumerate() {
                    prop_assert!(one > two || q[at] <= q[other] + 1e-12);
                }
            }
        }
    }
}
