//! How well marked change points agree with what several people marked.
//!
//! Source: van den Burg & Williams, *An evaluation of change point detection algorithms*,
//! arXiv:2003.06222, section 4.2, with their margin and their convention that 0 is always a change point.

use std::collections::BTreeSet;

/// F1 of `found` against one set of marks for each person, where a mark is met within `margin` points.
///
/// Precision is against the marks of all people together, recall is the mean over people. Each found point
/// meets one mark at most. The result is from 0 to 1; without any person it is 0.
pub fn f1(people: &[Vec<usize>], found: &[usize], margin: usize) -> f64 {
    if people.is_empty() {
        return 0.0;
    }
    let with_start = |marks: &[usize]| marks.iter().copied().chain([0]).collect::<BTreeSet<_>>();
    let found = with_start(found);
    let people: Vec<_> = people.iter().map(|marks| with_start(marks)).collect();
    let all: BTreeSet<usize> = people.iter().flatten().copied().collect();
    let precision = met(&all, &found, margin) as f64 / found.len() as f64;
    let recall =
        people.iter().map(|marks| met(marks, &found, margin) as f64 / marks.len() as f64).sum::<f64>()
            / people.len() as f64;
    // 0 is in every set, so neither is 0.
    2.0 * precision * recall / (precision + recall)
}

/// How many marks are met, each by the nearest found point that met none yet.
fn met(marks: &BTreeSet<usize>, found: &BTreeSet<usize>, margin: usize) -> usize {
    let mut left = found.clone();
    marks
        .iter()
        .filter(|mark| {
            let near = left.iter().copied().filter(|at| at.abs_diff(**mark) <= margin);
            let nearest = near.min_by_key(|at| (at.abs_diff(**mark), *at));
            nearest.is_some_and(|at| left.remove(&at))
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_marked_and_nothing_found_is_full_agreement() {
        assert_eq!(f1(&[vec![], vec![]], &[], 5), 1.0);
    }

    #[test]
    fn precision_is_against_all_and_recall_the_mean_of_each() {
        // Found {0, 30}: both are somebody's marks. One person is met fully, the other half.
        let people = [vec![28], vec![60]];
        let (precision, recall) = (1.0, (1.0 + 0.5) / 2.0);
        assert_eq!(f1(&people, &[30], 5), 2.0 * precision * recall / (precision + recall));
        assert!(f1(&people, &[30, 90], 5) < f1(&people, &[30], 5));
    }

    #[test]
    fn one_point_meets_one_mark_and_only_within_the_margin() {
        assert_eq!(met(&BTreeSet::from([10, 12]), &BTreeSet::from([11]), 5), 1);
        assert_eq!(met(&BTreeSet::from([10]), &BTreeSet::from([16]), 5), 0);
        assert_eq!(met(&BTreeSet::from([10]), &BTreeSet::from([15]), 5), 1);
    }
}
