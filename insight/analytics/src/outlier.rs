//! Costs and times that are out of the ordinary.
//!
//! Durations and costs are skewed, and multiply rather than add: so they are judged on a logarithmic scale,
//! by the modified z-score of Iglewicz & Hoaglin (*How to Detect and Handle Outliers*, 1993): distance from
//! the median in robust standard deviations. Time and memory are linear.

use crate::robust::spread;
use serde::Serialize;

/// Their own recommendation.
pub const USUAL_BOUND: f64 = 3.5;
/// The least spread, on the log scale: below 1 % nothing is out of the ordinary by itself.
const SPREAD_MIN: f64 = 0.01;
/// Fewer values have no ordinary.
const COUNT_MIN: usize = 8;

/// One value out of the ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outlier {
    /// Its place among the values.
    pub at: usize,
    /// The value.
    pub value: f64,
    /// How many times the median it is.
    pub times_usual: f64,
    /// Its distance in robust standard deviations, on the log scale; negative if it is low.
    pub z: f64,
}

/// Finds them among positive values, most extreme first. Others (zero, negative, not finite) are passed
/// over; fewer than eight values have no outliers.
pub fn outliers(values: &[f64], bound: f64) -> Vec<Outlier> {
    let logs: Vec<(usize, f64)> = values
        .iter()
        .enumerate()
        .filter(|(_, value)| value.is_finite() && **value > 0.0)
        .map(|(at, value)| (at, value.ln()))
        .collect();
    if logs.len() < COUNT_MIN {
        return Vec::new();
    }
    let only: Vec<f64> = logs.iter().map(|(_, log)| *log).collect();
    let Some((centre, deviation)) = spread(&only) else { return Vec::new() };
    let deviation = deviation.max(SPREAD_MIN);
    let mut found: Vec<Outlier> = logs
        .into_iter()
        .map(|(at, log)| Outlier {
            at,
            value: values[at],
            times_usual: (log - centre).exp(),
            z: (log - centre) / deviation,
        })
        .filter(|one| one.z.abs() > bound)
        .collect();
    found.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()).then(a.at.cmp(&b.at)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Noise;
    use proptest::prelude::*;

    #[test]
    fn a_job_ten_times_as_long_stands_out_and_skew_alone_does_not() {
        let mut noise = Noise::new(4);
        let mut times: Vec<f64> = (0..200).map(|_| (0.3 * noise.normal()).exp() * 500.0).collect();
        assert!(outliers(&times, 4.5).is_empty());
        times[17] = 5000.0;
        let found = outliers(&times, USUAL_BOUND);
        assert_eq!(found[0].at, 17);
        assert!((8.0..12.0).contains(&found[0].times_usual));
    }

    #[test]
    fn few_values_and_equal_values_have_none() {
        assert!(outliers(&[1.0, 1.0, 900.0], USUAL_BOUND).is_empty());
        assert!(outliers(&[5.0; 50], USUAL_BOUND).is_empty());
    }

    proptest! {
        #[test]
        fn the_unit_does_not_matter(values in prop::collection::vec(1e-3_f64..1e6, 0..60), unit in 1e-3_f64..1e3) {
            let scaled: Vec<f64> = values.iter().map(|value| value * unit).collect();
            let places = |values: &[f64]| {
                let mut places: Vec<usize> = outliers(values, 3.3).iter().map(|one| one.at).collect();
                places.sort_unstable();
                places
            };
            prop_assert_eq!(places(&values), places(&scaled));
        }
    }
}
