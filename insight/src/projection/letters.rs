//! The dead letters of the history, found by their jobs. Pure.

use super::row::DeadLetter;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The newest dead letters; each has a number that is never used again.
#[derive(Debug, Default)]
pub(super) struct Letters {
    kept: VecDeque<DeadLetter>,
    first: u64,
    by_job: HashMap<Arc<str>, Vec<u64>>,
    /// The transactions that told of each that is kept, in order.
    told: VecDeque<u64>,
}

impl Letters {
    /// Room for one that is not told yet: a job's evaluation may name it before that. Until then it is none.
    pub(super) fn begin(&mut self) -> u64 {
        self.kept.push_back(DeadLetter { since: u64::MAX, ..DeadLetter::default() });
        self.first + self.kept.len() as u64 - 1
    }

    /// One that is kept.
    pub(super) fn get(&self, number: u64) -> Option<&DeadLetter> {
        self.kept.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Puts what is known now in its place.
    pub(super) fn set(&mut self, number: u64, letter: DeadLetter) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(place) = index.and_then(|index| self.kept.get_mut(index)) else { return };
        let before = std::mem::replace(place, letter);
        let (job, since) = (place.job.clone(), place.since);
        if before.since == u64::MAX && since != u64::MAX {
            let end = self.told.partition_point(|told| *told <= since);
            self.told.insert(end, since);
        }
        if before.job != job {
            self.forget(&before.job, number);
            self.by_job.entry(job).or_default().push(number);
        }
    }

    /// Lets the oldest go, until `max` of them are left.
    pub(super) fn bound(&mut self, max: usize) {
        while self.kept.len() > max {
            let Some(gone) = self.kept.pop_front() else { break };
            self.forget(&gone.job, self.first);
            if let Ok(index) = self.told.binary_search(&gone.since) {
                self.told.remove(index);
            }
            self.first += 1;
        }
    }

    fn forget(&mut self, job: &str, number: u64) {
        if let Some(numbers) = self.by_job.get_mut(job) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_job.remove(job);
            }
        }
    }

    /// Those that were known at transaction `t`, the newest first.
    pub(super) fn known(&self, t: u64) -> impl Iterator<Item = &DeadLetter> {
        self.kept.iter().rev().filter(move |letter| letter.since <= t)
    }

    /// How many these are.
    pub(super) fn count(&self, t: u64) -> usize {
        self.told.partition_point(|told| *told <= t)
    }

    /// Those of them that are about `job`, the newest first.
    pub(super) fn of_job(&self, job: &str, t: u64) -> impl Iterator<Item = &DeadLetter> {
        let numbers = self.by_job.get(job).into_iter().flatten().rev();
        numbers.filter_map(|number| self.get(*number)).filter(move |letter| letter.since <= t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(job: &str, since: u64) -> DeadLetter {
        DeadLetter { job: job.into(), since, ..DeadLetter::default() }
    }

    fn jobs<'l>(letters: impl Iterator<Item = &'l DeadLetter>) -> Vec<&'l str> {
        letters.map(|letter| &*letter.job).collect()
    }

    #[test]
    fn they_are_known_from_when_they_are_told_and_beyond_the_bound_the_oldest_go() {
        let mut letters = Letters::default();
        let numbers: Vec<u64> = (0..3).map(|_| letters.begin()).collect();
        letters.set(numbers[1], letter("b", 4));
        letters.set(numbers[0], letter("a", 6));
        assert_eq!((letters.count(3), letters.count(4), letters.count(6)), (0, 1, 2));
        assert_eq!(jobs(letters.known(9)), ["b", "a"]);
        assert_eq!(jobs(letters.of_job("a", 5)), Vec::<&str>::new());
        letters.set(numbers[2], letter("b", 8));
        assert_eq!(letters.of_job("b", 9).map(|letter| letter.since).collect::<Vec<_>>(), [8, 4]);
        letters.bound(1);
        assert_eq!((jobs(letters.known(9)), letters.count(9)), (vec!["b"], 1));
        assert_eq!(jobs(letters.of_job("a", 9)), Vec::<&str>::new());
        // What is learned of one that has gone changes no other.
        letters.set(numbers[1], letter("c", 4));
        let number = letters.begin();
        letters.set(number, letter("d", 10));
        assert_eq!(jobs(letters.known(10)), ["d", "b"]);
    }
}
