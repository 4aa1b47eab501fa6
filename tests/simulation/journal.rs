//! What happened, and what must not have: looked at while it happens, so that a breach has its moment.

use evalfleet_proto::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

/// How many of the last happenings are shown with a breach.
const SHOWN: usize = 60;

/// What the broker holds of a job besides its own message, once it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Result,
    Retry,
    Dead,
    /// A job that repeats it.
    Replay,
}

/// The journal of one schedule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    happened: u64,
    last: std::collections::VecDeque<String>,
    digest: DefaultHasher,
    breaches: Vec<String>,
    answers: BTreeMap<JobId, BTreeSet<Answer>>,
    acked: BTreeSet<u64>,
    counts: BTreeMap<(&'static str, JobId), u64>,
    levels: BTreeMap<&'static str, Level>,
    /// Which VM of which worker had which job.
    vms: BTreeMap<(String, u64), JobId>,
}

/// How much there was of something that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) peak: usize,
    pub(crate) bound: usize,
}

impl Journal {
    /// Notes that something happened.
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.with(|state| state.note(what.into()));
    }

    /// Notes that something happened that must not.
    pub(crate) fn breach(&self, what: impl Into<String>) {
        self.with(|state| state.breach(what.into()));
    }

    /// The broker accepted an answer to a job's message.
    pub(crate) fn answered(&self, id: JobId, answer: Answer) {
        self.with(|state| {
            state.answers.entry(id).or_default().insert(answer);
            state.count(
                match answer {
                    Answer::Result => "result",
                    Answer::Retry => "retry",
                    Answer::Dead => "letter",
                    Answer::Replay => "replay",
                },
                id,
            );
        });
    }

    /// Counts something that happened to a job.
    pub(crate) fn count(&self, what: &'static str, id: JobId) {
        self.with(|state| state.count(what, id));
    }

    /// How often that happened to it.
    pub(crate) fn counted(&self, what: &'static str, id: JobId) -> u64 {
        self.with(|state| state.counts.get(&(what, id)).copied().unwrap_or_default())
    }

    /// There is so much of something, of which there may never be more than `bound`.
    pub(crate) fn level(&self, what: &'static str, level: usize, bound: usize) {
        self.with(|state| {
            let seen = state.levels.entry(what).or_insert(Level { peak: 0, bound });
            *seen = Level { peak: seen.peak.max(level), bound: seen.bound.max(bound) };
            if level > bound {
                state.breach(format!("{what}: {level}, and there may be {bound}"));
            }
        });
    }

    /// The most there was of everything that is bounded.
    pub(crate) fn levels(&self) -> BTreeMap<&'static str, Level> {
        self.with(|state| state.levels.clone())
    }

    /// A VM is given a job: its first, or it is dirty.
    pub(crate) fn vm_used(&self, worker: &str, vm: u64, id: JobId) {
        self.with(|state| {
            state.note(format!("{worker}: VM {vm} has {id}"));
            if let Some(before) = state.vms.insert((worker.to_owned(), vm), id) {
                state.breach(format!("{worker}: VM {vm} is dirty of {before}, and is given {id}"));
            }
        });
    }

    /// A dead letter was acknowledged: only the job that repeats it is left.
    pub(crate) fn letter_acked(&self, job: Option<JobId>, serial: u64) {
        self.with(|state| {
            state.settled_once(serial);
            let replayed =
                job.and_then(|id| state.answers.get(&id)).is_some_and(|has| has.contains(&Answer::Replay));
            if !replayed {
                state.breach(format!("the letter of {job:?} is acknowledged, and no job repeats it"));
            }
        });
    }

    /// A job's message was acknowledged: the broker forgets it.
    pub(crate) fn job_acked(&self, id: Option<JobId>, serial: u64) {
        self.with(|state| {
            state.settled_once(serial);
            let answers = id.and_then(|id| state.answers.get(&id));
            if !answers.is_some_and(|has| has.iter().any(|answer| *answer != Answer::Replay)) {
                state.breach(format!("job {id:?} is acknowledged, and the broker holds no answer to it"));
            }
        });
    }

    /// A result was acknowledged; `kept` says whether the history or a dead letter holds it.
    pub(crate) fn result_acked(&self, id: Option<JobId>, serial: u64, kept: bool) {
        self.with(|state| {
            state.settled_once(serial);
            let buried =
                id.and_then(|id| state.answers.get(&id)).is_some_and(|has| has.contains(&Answer::Dead));
            if !kept && !buried {
                state.breach(format!("the result of {id:?} is acknowledged, and nothing holds it"));
            }
        });
    }

    /// What must not have happened, with what came before the first.
    pub(crate) fn breaches(&self) -> Vec<String> {
        self.with(|state| state.breaches.clone())
    }

    /// The last happenings.
    pub(crate) fn tail(&self) -> String {
        self.with(|state| {
            state.last.iter().fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "    {line}");
                text
            })
        })
    }

    /// What all that happened comes to: equal for equal runs.
    pub(crate) fn digest(&self) -> (u64, u64) {
        self.with(|state| (state.happened, state.digest.clone().finish()))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn note(&mut self, what: String) {
        self.happened += 1;
        self.digest.write(what.as_bytes());
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(what);
    }

    fn breach(&mut self, what: String) {
        self.note(format!("BREACH: {what}"));
        if self.breaches.len() < 10 {
            self.breaches.push(what);
        }
    }

    fn count(&mut self, what: &'static str, id: JobId) {
        *self.counts.entry((what, id)).or_default() += 1;
    }

    fn settled_once(&mut self, serial: u64) {
        if !self.acked.insert(serial) {
            self.breach(format!("message {serial} is acknowledged twice"));
        }
    }
}
