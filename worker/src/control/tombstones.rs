//! Which jobs are called off: pure, bounded in number and in age.
//!
//! A tombstone stands for a job that is queued, waits for its next try, runs, or was never heard of; or
//! for all jobs of a batch that were submitted until a moment. Beyond the bound the oldest go first:
//! their jobs, if they are still queued, run as if nobody had called them off.

use evalfleet_proto::Timestamp;
use evalfleet_proto::control::{Control, REASON_CHARS_MAX};
use evalfleet_proto::ids::{BatchId, JobId};
use evalfleet_proto::job::Job;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Why a job is called off, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalledOff(String);

impl CalledOff {
    fn new(what: &str, reason: Option<&str>) -> Self {
        let reason: Option<String> = reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
        Self(reason.map_or_else(|| what.to_owned(), |reason| format!("{what}: {reason}")))
    }

    /// The sentence.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose tombstone it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whose {
    Job(JobId),
    Batch(BatchId),
}

#[derive(Debug, Clone)]
struct Stone {
    said: Timestamp,
    /// For a batch: which of its jobs.
    until: Timestamp,
    why: CalledOff,
}

/// The tombstones that stand.
#[derive(Debug)]
pub struct Tombstones {
    max: usize,
    age: Duration,
    jobs: HashMap<JobId, Stone>,
    batches: HashMap<BatchId, Stone>,
    /// Oldest first; of a batch that was called off again, the older entry means nothing.
    order: VecDeque<(Timestamp, Whose)>,
    forgotten: u64,
}

impl Tombstones {
    /// None yet; at most `max` at one moment, none older than `age`.
    pub fn new(max: usize, age: Duration) -> Self {
        let (jobs, batches) = (HashMap::new(), HashMap::new());
        Self { max, age, jobs, batches, order: VecDeque::new(), forgotten: 0 }
    }

    /// Takes note of what was `said` then.
    pub fn note(&mut self, control: &Control, said: Timestamp, now: Timestamp) {
        match control {
            Control::Cancel { job, reason } => {
                // Said twice, or read again after a lost connection: the first word stands.
                if self.jobs.contains_key(job) {
                    return;
                }
                let why = CalledOff::new("called off", reason.as_deref());
                self.jobs.insert(*job, Stone { said, until: said, why });
                self.order.push_back((said, Whose::Job(*job)));
            }
            Control::CancelBatch { batch, until, reason } => {
                if self.batches.get(batch).is_some_and(|stone| stone.until >= *until) {
                    return;
                }
                let why = CalledOff::new(&format!("called off with its batch {batch}"), reason.as_deref());
                self.batches.insert(batch.clone(), Stone { said, until: *until, why });
                self.order.push_back((said, Whose::Batch(batch.clone())));
            }
            Control::Mark { .. } | Control::Drain { .. } | Control::Resume { .. } | Control::Unknown => {}
        }
        self.bound(now);
    }

    /// Whether `job` is called off, and why.
    pub fn of(&self, job: &Job, now: Timestamp) -> Option<&CalledOff> {
        let of_batch = job.batch.as_ref().and_then(|batch| self.batches.get(batch));
        let stone = self
            .jobs
            .get(&job.id)
            .or_else(|| of_batch.filter(|stone| job.submitted <= stone.until))
            .filter(|stone| !self.is_old(stone.said, now))?;
        Some(&stone.why)
    }

    /// How many stand.
    pub fn count(&self) -> usize {
        self.jobs.len() + self.batches.len()
    }

    /// How many went before their time, for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn is_old(&self, said: Timestamp, now: Timestamp) -> bool {
        now.duration_since(said).unsigned_abs() > self.age && said < now
    }

    fn bound(&mut self, now: Timestamp) {
        // A batch that is called off again and again leaves entries that mean nothing: they go, too.
        while let Some((said, _)) = self.order.front() {
            let old = self.is_old(*said, now);
            if !old && self.count() <= self.max && self.order.len() <= 2 * self.max {
                break;
            }
            let Some((said, whose)) = self.order.pop_front() else { break };
            let gone = match whose {
                Whose::Job(id) => self.jobs.remove(&id).is_some(),
                Whose::Batch(batch) => {
                    let same = self.batches.get(&batch).is_some_and(|stone| stone.said == said);
                    same && self.batches.remove(&batch).is_some()
                }
            };
            self.forgotten += u64::from(gone && !old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::submission::{Defaults, Submission};
    use proptest::prelude::*;

    const AGE: Duration = Duration::from_secs(100);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn job(batch: Option<&str>, submitted: i64) -> Job {
        let mut submission = Submission::command(["true"]);
        submission.batch = batch.map(|name| name.parse().unwrap());
        submission.into_job(&Defaults { image: "base".parse().unwrap(), now: at(submitted) }).unwrap()
    }

    fn cancel(job: &Job, reason: &str) -> Control {
        Control::Cancel { job: job.id, reason: Some(reason.to_owned()) }
    }

    fn cancel_batch(batch: &str, until: i64) -> Control {
        Control::CancelBatch { batch: batch.parse().unwrap(), until: at(until), reason: None }
    }

    #[test]
    fn a_job_is_called_off_for_the_first_reason_that_was_given() {
        let (mut stones, job, other) = (Tombstones::new(10, AGE), job(None, 0), job(None, 0));
        stones.note(&cancel(&job, "superseded"), at(1), at(1));
        stones.note(&cancel(&job, "again"), at(2), at(2));
        assert_eq!(stones.of(&job, at(3)).unwrap().as_str(), "called off: superseded");
        assert_eq!((stones.of(&other, at(3)), stones.count()), (None, 1));
    }

    #[test]
    fn a_batchs_name_may_be_used_again_after_it_was_called_off() {
        let mut stones = Tombstones::new(10, AGE);
        stones.note(&cancel_batch("night", 5), at(5), at(5));
        assert!(stones.of(&job(Some("night"), 5), at(6)).is_some());
        assert_eq!(stones.of(&job(Some("night"), 6), at(6)), None);
        assert_eq!(stones.of(&job(Some("day"), 1), at(6)), None);
        stones.note(&cancel_batch("night", 8), at(8), at(8));
        // The older word, read again, takes nothing back.
        stones.note(&cancel_batch("night", 5), at(5), at(9));
        assert!(stones.of(&job(Some("night"), 6), at(9)).is_some());
    }

    #[test]
    fn a_tombstone_that_is_too_old_stands_no_more() {
        let (mut stones, job) = (Tombstones::new(10, AGE), job(None, 0));
        stones.note(&cancel(&job, "old"), at(0), at(0));
        assert!(stones.of(&job, at(100)).is_some());
        assert_eq!(stones.of(&job, at(101)), None);
        // Another worker's clock may be ahead of ours.
        assert!(stones.of(&job, at(-50)).is_some());
    }

    #[test]
    fn a_reason_is_cut_at_its_bound() {
        let (mut stones, job) = (Tombstones::new(10, AGE), job(None, 0));
        stones.note(&cancel(&job, &"x".repeat(10_000)), at(0), at(0));
        assert_eq!(stones.of(&job, at(0)).unwrap().as_str().len(), "called off: ".len() + REASON_CHARS_MAX);
    }

    proptest! {
        #[test]
        fn the_newest_stand_and_never_more_than_there_may_be(
            said in prop::collection::vec((0_usize..30, any::<bool>()), 0..200),
            max in 1_usize..10,
        ) {
            let jobs: Vec<Job> = (0..30).map(|n| job(Some(&format!("b{n}")), 0)).collect();
            let mut stones = Tombstones::new(max, Duration::from_secs(1000));
            for (second, (which, whole)) in said.iter().enumerate() {
                let second = second as i64;
                let word = if *whole { cancel_batch(&format!("b{which}"), second) } else { cancel(&jobs[*which], "no") };
                stones.note(&word, at(second), at(second));
                prop_assert!(stones.count() <= max);
                prop_assert!(stones.order.len() <= 2 * max);
                // What was said first may have had its turn to go; a batch said anew counts as new.
                let first = said[..second as usize].contains(&(*which, *whole));
                prop_assert!(stones.of(&jobs[*which], at(second)).is_some() || first && !whole);
            }
        }
    }
}
