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
        });
    }

    /// A job's message was acknowledged: the broker forgets it.
    pub(crate) fn job_acked(&self, id: Option<JobId>, serial: u64) {
        self.with(|state| {
            state.settled_once(serial);
            match id {
                Some(id) if state.answers.contains_key(&id) => {}
                _ => {
                    state.breach(format!("job {id:?} is acknowledged, and the broker holds no answer to it"))
                }
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

    fn settled_once(&mut self, serial: u64) {
        if !self.acked.insert(serial) {
            self.breach(format!("message {serial} is acknowledged twice"));
        }
    }
}
