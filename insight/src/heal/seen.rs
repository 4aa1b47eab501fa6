//! What detectors look at. Pure.

use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::{Cause, Status};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The most tries that are kept, the newest.
pub const TRIES_MAX: usize = 20_000;
/// The most deaths that are kept, the newest.
pub(super) const DEATHS_MAX: usize = 1000;

/// One try at a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// The job.
    pub job: JobId,
    /// Which try at it, from 1.
    pub number: u32,
    /// Who made it.
    pub worker: Arc<str>,
    /// When it ended.
    pub at: Timestamp,
    /// Why it was a fault of ours; none where it led to a result, whatever that says of the subject.
    pub fault: Option<Arc<str>>,
    /// Whether it passed, where it led to a verdict on the subject.
    pub passed: Option<bool>,
    /// The tool that it called, or whose case it tried.
    pub tool: Option<Arc<str>>,
    /// The digest of the image that it ran in.
    pub image: Option<Arc<str>>,
}

/// A job that was given up: each of its tries was a fault of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The job.
    pub job: JobId,
    /// The tool that it called; none where it was no call.
    pub tool: Option<Arc<str>>,
    /// When it was given up.
    pub at: Timestamp,
}

/// The images that one name means and meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The name.
    pub name: String,
    /// The digest that it means now.
    pub current: String,
    /// Those others of its digests that are still here.
    pub others: Vec<String>,
    /// When that was looked at.
    pub at: Timestamp,
}

/// The tools in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Their names.
    pub tools: BTreeSet<String>,
    /// When that was looked at.
    pub at: Timestamp,
}

impl Try {
    /// A try at `job` of which no more is known.
    pub fn blank(job: JobId) -> Self {
        Self {
            job,
            number: 1,
            worker: "".into(),
            at: Timestamp::UNIX_EPOCH,
            fault: None,
            passed: None,
            tool: None,
            image: None,
        }
    }

    /// The tries that an evaluation tells of. One that was never run (called off, expired) has none but its faults.
    pub fn of(evaluation: &Evaluation) -> Vec<Self> {
        let (job, place) = (evaluation.id, &evaluation.provenance);
        let tool = evaluation.labels.get("tool").or(evaluation.calls.first().map(|call| &call.name));
        let tool: Option<Arc<str>> = tool.map(|tool| tool.as_str().into());
        let mut tries: Vec<Self> = evaluation
            .attempts
            .iter()
            .filter(|attempt| attempt.cause == Cause::Infrastructure)
            .map(|attempt| Self {
                job,
                number: attempt.number,
                worker: attempt.worker.as_str().into(),
                at: attempt.ended,
                fault: Some(attempt.error.as_str().into()),
                passed: None,
                tool: tool.clone(),
                image: None,
            })
            .collect();
        let ran = !matches!(evaluation.status, Status::Dead | Status::Cancelled | Status::Expired);
        if ran && !place.worker.is_empty() {
            let is_ours = evaluation.cause == Some(Cause::Infrastructure);
            let why = || evaluation.evidence.first().map_or("", |evidence| evidence.message.as_str());
            tries.push(Self {
                job,
                number: place.attempt.max(1),
                worker: place.worker.as_str().into(),
                at: evaluation.finished,
                fault: is_ours.then(|| why().into()),
                passed: verdict(evaluation.cause),
                image: place.image.as_deref().map(Arc::from),
                tool,
            });
        }
        tries
    }
}

/// What a result says of its subject; nothing, where it was somebody else's doing.
pub fn verdict(cause: Option<Cause>) -> Option<bool> {
    match cause {
        None => Some(true),
        Some(Cause::Subject | Cause::Budget) => Some(false),
        Some(Cause::Infrastructure | Cause::Harness) => None,
    }
}

/// What is known of the fleet.
#[derive(Debug, Default)]
pub struct Seen {
    /// In the order in which they became known.
    pub(super) tries: VecDeque<Try>,
    /// Which they are: workers tell of a fault at once, and the history tells of it again.
    pub(super) known: HashSet<(JobId, u32)>,
    pub(super) deaths: VecDeque<Death>,
    /// What names of images mean, as it was when it was looked at last.
    pub tags: Vec<Tag>,
    /// The tools in quarantine, likewise.
    pub quarantined: Option<List>,
    /// The parts of this machine.
    pub parts: Vec<Part>,
    /// Queues in which something waits.
    pub waiting: BTreeMap<String, Waiting>,
    /// When a worker was last heard to do something.
    pub active: Option<Timestamp>,
    /// When something was last recorded.
    pub recorded: Option<Timestamp>,
    /// Workers of this machine that can make no VM, and why.
    pub unable: BTreeMap<String, String>,
    /// The disks.
    pub disks: Vec<Disk>,
    /// Templates that failed: since when, and why.
    pub failed_templates: BTreeMap<String, (Timestamp, String)>,
}

/// A part of this machine, as its supervisor tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How it is, in the words of `evalfleet status`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// How often it was started again.
    pub restarts: u32,
    /// How it ended last.
    pub last_end: Option<String>,
}

/// What waits in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub messages: u32,
    /// Since when it was never seen empty.
    pub since: Timestamp,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// A folder on it that is ours.
    pub path: String,
    /// Bytes that we may still write.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
    /// Since when hardly anything is free, as far as it was seen.
    pub full_since: Option<Timestamp>,
}

impl Seen {
    /// Takes a try in, unless it is known.
    pub fn add(&mut self, one: Try) {
        if !self.known.insert((one.job, one.number)) {
            return;
        }
        self.tries.push_back(one);
        while self.tries.len() > TRIES_MAX {
            if let Some(gone) = self.tries.pop_front() {
                self.known.remove(&(gone.job, gone.number));
            }
        }
    }

    /// Takes a death in, unless it is known.
    pub fn add_death(&mut self, death: Death) {
        if self.deaths.iter().rev().any(|known| known.job == death.job) {
            return;
        }
        self.deaths.push_back(death);
        while self.deaths.len() > DEATHS_MAX {
            self.deaths.pop_front();
        }
    }

    /// The deaths in the window.
    pub fn deaths(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = &Death> + Clone {
        let begin = begin(now, window);
        self.deaths.iter().filter(move |one| one.at >= begin)
    }

    /// Lets go what ended before `now - window`.
    pub fn forget(&mut self, now: Timestamp, window: Duration) {
        let begin = begin(now, window);
        self.deaths.retain(|one| one.at >= begin);
        let known = &mut self.known;
        self.tries.retain(|one| {
            let stays = one.at >= begin;
            if !stays {
                known.remove(&(one.job, one.number));
            }
            stays
        });
    }

    /// The tries that ended in the window.
    pub fn tries(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = &Try> + Clone {
        let begin = begin(now, window);
        self.tries.iter().filter(move |one| one.at >= begin)
    }
}

/// When a window ending `now` begins.
fn begin(now: Timestamp, window: Duration) -> Timestamp {
    now.checked_sub(window).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::evaluation::{Evidence, Source};
    use evalfleet_proto::job::Attempt;

    fn evaluation(status: Status, cause: Option<Cause>, faults: &[&str]) -> Evaluation {
        let evidence = cause.map(|_| Evidence::new(Source::Host, "it broke")).into_iter().collect();
        let now = Timestamp::UNIX_EPOCH;
        let mut one = Evaluation::blank(JobId::fresh(), "command", (status, cause), evidence, now);
        one.provenance.worker = "last".to_owned();
        let attempt = |(number, worker): (u32, &&str)| Attempt {
            number,
            worker: (*worker).to_owned(),
            cause: Cause::Infrastructure,
            error: "no VM".to_owned(),
            ended: now,
        };
        one.attempts = (1..).zip(faults).map(attempt).collect();
        one
    }

    #[test]
    fn what_is_told_twice_counts_once_and_what_is_long_ago_counts_no_more() {
        let (mut seen, job, at) = (Seen::default(), JobId::fresh(), Timestamp::UNIX_EPOCH);
        let one =
            |number, at| Try { number, worker: "w".into(), at, fault: Some("x".into()), ..Try::blank(job) };
        let hour = Duration::from_secs(3600);
        seen.add(one(1, at));
        seen.add(one(1, at + hour));
        seen.add(one(2, at + hour));
        assert_eq!(seen.tries(at + hour, hour).count(), 2);
        seen.forget(at + hour, hour / 2);
        assert_eq!((seen.tries.len(), seen.known.len()), (1, 1));
    }

    #[test]
    fn an_evaluation_tells_of_each_try_once_and_whose_it_was() {
        let told = |one: &Evaluation| -> Vec<(String, bool)> {
            Try::of(one).iter().map(|one| (one.worker.to_string(), one.fault.is_some())).collect()
        };
        let is = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
            list.iter().map(|(worker, fault)| ((*worker).to_owned(), *fault)).collect()
        };
        let passed = evaluation(Status::Passed, None, &["bad", "bad"]);
        assert_eq!(told(&passed), is(&[("bad", true), ("bad", true), ("last", false)]));
        // What the subject does is no fault of its worker.
        let failed = evaluation(Status::Failed, Some(Cause::Subject), &[]);
        assert_eq!(told(&failed), is(&[("last", false)]));
        // The last of its tries is among its attempts.
        let dead = evaluation(Status::Dead, Some(Cause::Infrastructure), &["bad", "last"]);
        assert_eq!(told(&dead), is(&[("bad", true), ("last", true)]));
        assert_eq!(told(&evaluation(Status::Cancelled, Some(Cause::Harness), &[])), is(&[]));
    }
}
