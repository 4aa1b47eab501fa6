//! The life of one part, as a pure function: what happens to it, and what is to be done about it.
//!
//! ```text
//!            Start            Ready
//! Waiting ─────────▶ Starting ─────▶ Running
//!    │                │  ▲   │           │
//!    │         exited │  │   │ late: killed, so exited
//!    │                ▼  │ RetryDue      │ exited
//!    │              Resting ◀────────────┘
//!    │ Stop           │ Stop     Starting, Running ── Stop ──▶ Draining ── exited ──▶ Stopped
//!    └────────────────┴───────────────────────────────────────────────────────────────▶ Stopped
//! ```
//!
//! A part is given up never: it rests longer and longer. After [`FAILURES`] ends in a row without a
//! stable run between, it shows as failed, until it is ready again.

use evalfleet_proto::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Ends in a row after which a part shows as failed.
pub const FAILURES: u32 = 3;
/// A run of this length ends a row of failures.
pub const STABLE: Duration = Duration::from_secs(30);

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The process that owns the others.
    Supervisor,
    /// RabbitMQ and its port mapper.
    Broker,
    /// The gateway to Datomic.
    Gateway,
    /// What writes results.
    Recorder,
    /// What takes backups on schedule.
    Keeper,
    /// What reads them out.
    Api,
    /// What runs jobs.
    Worker,
    /// A worker's VM.
    Qemu,
}

/// How a part is, in the words of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its process is there, or about to be, and is not ready.
    Starting,
    /// It does its work.
    Ready,
    /// It finishes what it has.
    Draining,
    /// It is not there: not yet, or no more.
    Stopped,
    /// It ended several times at once; it is still tried.
    Failed,
}

impl State {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// Where a part is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// For the parts that it needs.
    Waiting,
    /// Its process exists, or is being made.
    Starting,
    /// It is ready.
    Running,
    /// Between an end and the next try.
    Resting,
    /// It was asked to stop.
    Draining,
    /// It is gone for good.
    Stopped,
}

/// What happens to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What it needs is ready.
    Start,
    /// Its process exists.
    Spawned(i32),
    /// Its process cannot be made.
    NotSpawned(String),
    /// The process of this pid is ready.
    Ready(i32),
    /// The process of this pid was not ready in time.
    Late(i32),
    /// The process of this pid ended so.
    Exited(i32, String),
    /// It has rested.
    RetryDue,
    /// It is to end.
    Stop,
    /// It had time enough to end.
    GraceOver(i32),
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make its process.
    Spawn,
    /// Find out when it is ready.
    Probe(i32),
    /// Ask it to end, and say when its grace is over.
    Terminate(i32),
    /// End it and all that it started.
    Kill(i32),
    /// End what it left behind.
    Sweep(i32),
    /// Say when it has rested.
    Rest,
    /// Rest only shortly next time: the trouble is over.
    Recovered,
}

/// The life of one part so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub phase: Phase,
    /// Since when.
    pub since: Timestamp,
    /// Its process.
    pub pid: Option<i32>,
    /// How often it was started again.
    pub restarts: u32,
    /// How many ends in a row.
    pub failures: u32,
    /// How it ended last, or why it cannot begin.
    pub last_end: Option<String>,
}

impl Life {
    /// A life that has not begun.
    pub fn new(now: Timestamp) -> Self {
        Self { phase: Phase::Waiting, since: now, pid: None, restarts: 0, failures: 0, last_end: None }
    }

    /// How it is, in the words of documents.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Starting | Phase::Resting if self.failures >= FAILURES => State::Failed,
            Phase::Starting | Phase::Resting => State::Starting,
            Phase::Running => State::Ready,
            Phase::Draining => State::Draining,
            Phase::Waiting | Phase::Stopped => State::Stopped,
        }
    }

    /// What becomes of it at `event`, and what is to be done. An event about a process that is not the
    /// current one changes nothing.
    pub fn step(mut self, event: Event, now: Timestamp) -> (Self, Vec<Action>) {
        use Phase::{Draining, Resting, Running, Starting, Stopped, Waiting};
        match (self.phase, event) {
            (Waiting, Event::Start) => {
                self.enter(Starting, now);
                (self, vec![Action::Spawn])
            }
            (Resting, Event::RetryDue) => {
                self.restarts += 1;
                self.enter(Starting, now);
                (self, vec![Action::Spawn])
            }
            (Starting, Event::Spawned(pid)) => {
                self.pid = Some(pid);
                (self, vec![Action::Probe(pid)])
            }
            (Starting, Event::NotSpawned(why)) => (self.failed(why, now), vec![Action::Rest]),
            (Starting, Event::Ready(pid)) if self.pid == Some(pid) => {
                self.enter(Running, now);
                (self, vec![])
            }
            (Starting, Event::Late(pid)) if self.pid == Some(pid) => (self, vec![Action::Kill(pid)]),
            (Starting | Running, Event::Exited(pid, how)) if self.pid == Some(pid) => {
                let mut actions = vec![Action::Sweep(pid)];
                if self.phase == Running && elapsed(self.since, now) >= STABLE {
                    self.failures = 0;
                    actions.push(Action::Recovered);
                }
                actions.push(Action::Rest);
                (self.failed(how, now), actions)
            }
            (Draining, Event::Exited(pid, how)) if self.pid == Some(pid) => {
                self.last_end = Some(how);
                self.enter(Stopped, now);
                self.pid = None;
                (self, vec![Action::Sweep(pid)])
            }
            (Waiting | Resting, Event::Stop) => {
                self.enter(Stopped, now);
                (self, vec![])
            }
            (Starting | Running, Event::Stop) => match self.pid {
                Some(pid) => {
                    self.enter(Draining, now);
                    (self, vec![Action::Terminate(pid)])
                }
                None => {
                    self.enter(Stopped, now);
                    (self, vec![])
                }
            },
            (Draining, Event::GraceOver(pid)) if self.pid == Some(pid) => (self, vec![Action::Kill(pid)]),
            (
                _,
                Event::Start
                | Event::Spawned(_)
                | Event::NotSpawned(_)
                | Event::Ready(_)
                | Event::Late(_)
                | Event::Exited(..)
                | Event::RetryDue
                | Event::Stop
                | Event::GraceOver(_),
            ) => (self, vec![]),
        }
    }

    fn failed(mut self, how: String, now: Timestamp) -> Self {
        self.failures += 1;
        self.last_end = Some(how);
        self.pid = None;
        self.enter(Phase::Resting, now);
        self
    }

    fn enter(&mut self, phase: Phase, now: Timestamp) {
        self.phase = phase;
        self.since = now;
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn live(events: impl IntoIterator<Item = (i64, Event)>) -> (Life, Vec<Action>) {
        let mut last = Vec::new();
        let mut life = Life::new(at(0));
        for (second, event) in events {
            (life, last) = life.step(event, at(second));
        }
        (life, last)
    }

    fn exited(pid: i32) -> Event {
        Event::Exited(pid, "exit status 1".to_owned())
    }

    #[test]
    fn a_part_starts_is_probed_runs_and_drains() {
        let (life, actions) = live([(0, Event::Start), (0, Event::Spawned(7))]);
        assert_eq!((life.state(), actions), (State::Starting, vec![Action::Probe(7)]));
        let (life, actions) = life.step(Event::Ready(7), at(3));
        assert_eq!((life.state(), life.since, actions), (State::Ready, at(3), vec![]));
        let (life, actions) = life.step(Event::Stop, at(9));
        assert_eq!((life.state(), actions), (State::Draining, vec![Action::Terminate(7)]));
        let (life, actions) = life.step(Event::GraceOver(7), at(20));
        assert_eq!(actions, vec![Action::Kill(7)]);
        let (life, actions) = life.step(exited(7), at(20));
        assert_eq!((life.state(), life.pid, actions), (State::Stopped, None, vec![Action::Sweep(7)]));
    }

    #[test]
    fn an_unexpected_end_is_swept_and_tried_again() {
        let (life, actions) =
            live([(0, Event::Start), (0, Event::Spawned(7)), (1, Event::Ready(7)), (2, exited(7))]);
        assert_eq!(actions, vec![Action::Sweep(7), Action::Rest]);
        let (life, actions) = life.step(Event::RetryDue, at(3));
        assert_eq!((life.restarts, actions), (1, vec![Action::Spawn]));
    }

    #[test]
    fn three_ends_at_once_show_as_failed_and_a_ready_one_as_ready() {
        let mut life = Life::new(at(0)).step(Event::Start, at(0)).0;
        for pid in 1..=3 {
            life = life.step(Event::Spawned(pid), at(0)).0.step(exited(pid), at(0)).0;
            assert_eq!(life.state() == State::Failed, pid == 3);
            life = life.step(Event::RetryDue, at(1)).0;
        }
        let life = life.step(Event::Spawned(9), at(1)).0.step(Event::Ready(9), at(2)).0;
        assert_eq!(life.state(), State::Ready);
        let (life, actions) = life.step(exited(9), at(60));
        assert_eq!((life.state(), life.failures), (State::Starting, 1));
        assert!(actions.contains(&Action::Recovered));
    }

    #[test]
    fn news_of_an_earlier_process_changes_nothing() {
        let (life, _) = live([
            (0, Event::Start),
            (0, Event::Spawned(7)),
            (1, exited(7)),
            (2, Event::RetryDue),
            (2, Event::Spawned(8)),
        ]);
        for event in [Event::Ready(7), Event::Late(7), exited(7), Event::GraceOver(7)] {
            assert_eq!(life.clone().step(event, at(3)), (life.clone(), vec![]));
        }
    }

    #[test]
    fn a_part_that_is_late_is_killed_and_rests() {
        let (life, actions) = live([(0, Event::Start), (0, Event::Spawned(7)), (90, Event::Late(7))]);
        assert_eq!(actions, vec![Action::Kill(7)]);
        assert_eq!(life.step(exited(7), at(90)).0.phase, Phase::Resting);
    }

    #[test]
    fn nothing_restarts_after_a_stop() {
        for events in [
            vec![(0, Event::Stop)],
            vec![(0, Event::Start), (0, Event::NotSpawned("no such file".to_owned())), (1, Event::Stop)],
        ] {
            let (life, _) = live(events);
            assert_eq!(life.state(), State::Stopped);
            for event in [Event::Start, Event::RetryDue, Event::Spawned(3)] {
                assert_eq!(life.clone().step(event, at(9)).1, vec![]);
            }
        }
    }
}
