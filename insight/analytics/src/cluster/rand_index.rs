//! How well two ways of grouping the same things agree.

use std::collections::HashMap;

/// The adjusted Rand index of two labellings: 1 for the same groups, about 0 for chance.
///
/// None if they differ in length. Fewer than two things, or one group (or only single things) in both, is
/// full agreement.
pub fn adjusted_rand_index(one: &[usize], other: &[usize]) -> Option<f64> {
    if one.len() != other.len() {
        return None;
    }
    let pairs = |count: u64| count as f64 * (count as f64 - 1.0) / 2.0;
    let mut cells: HashMap<(usize, usize), u64> = HashMap::new();
    let (mut rows, mut columns) = (HashMap::<usize, u64>::new(), HashMap::<usize, u64>::new());
    for (row, column) in one.iter().zip(other) {
        *cells.entry((*row, *column)).or_default() += 1;
        *rows.entry(*row).or_default() += 1;
        *columns.entry(*column).or_default() += 1;
    }
    let together: f64 = cells.values().map(|count| pairs(*count)).sum();
    let first: f64 = rows.values().map(|count| pairs(*count)).sum();
    let second: f64 = columns.values().map(|count| pairs(*count)).sum();
    let all = pairs(one.len() as u64);
    if all == 0.0 {
        return Some(1.0);
    }
    let chance = first * second / all;
    let most = f64::midpoint(first, second);
    Some(if most == chance { 1.0 } else { (together - chance) / (most - chance) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(adjusted_rand_index(&[0, 0, 1, 1], &[5, 5, 2, 2]), Some(1.0));
        // As scikit-learn's documentation has it.
        let found = adjusted_rand_index(&[0, 0, 1, 2], &[0, 0, 1, 1]).unwrap();
        assert!((found - 0.571_428_571).abs() < 1e-8);
        assert_eq!(adjusted_rand_index(&[0, 0, 0, 0], &[0, 1, 2, 3]), Some(0.0));
        assert_eq!(adjusted_rand_index(&[0], &[0, 1]), None);
        assert_eq!(adjusted_rand_index(&[], &[]), Some(1.0));
    }
}
