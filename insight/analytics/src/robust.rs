//! Middle and spread that a few wild values do not move.

/// What turns a median absolute deviation into a standard deviation, for normal values.
pub(crate) const MAD_TO_DEVIATION: f64 = 1.482_602_218_505_602;

/// The median, sorting the values in place; none without values. Values must not be NaN.
pub fn median(values: &mut [f64]) -> Option<f64> {
    let count = values.len();
    if count == 0 {
        return None;
    }
    let (below, middle, _) = values.select_nth_unstable_by(count / 2, f64::total_cmp);
    let middle = *middle;
    if count % 2 == 1 {
        return Some(middle);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(f64::midpoint(lower, middle))
}

/// Median, and standard deviation by the median absolute deviation.
pub(crate) fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = values.to_vec();
    let centre = median(&mut sorted)?;
    sorted.iter_mut().for_each(|value| *value = (*value - centre).abs());
    Some((centre, median(&mut sorted)? * MAD_TO_DEVIATION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn one_wild_value_does_not_move_the_spread() {
        let (centre, deviation) = spread(&[1.0, 2.0, 3.0, 4.0, 1e9]).unwrap();
        assert_eq!(centre, 3.0);
        assert!((deviation - MAD_TO_DEVIATION).abs() < 1e-12);
    }
}
