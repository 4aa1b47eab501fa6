//! The one task that owns every part: it starts them in order, keeps them, and stops them in the
//! reverse order. What is to be done is decided by [`super::part`]; here it is done.

use super::child;
use super::files::{log_path, tail};
use super::part::{Action, Event, FAILURES, Kind, Life, Phase, State};
use super::plan::{Part, Plan};
use super::process::{self, Process};
use super::record::{Machine, PartRecord};
use evalfleet_proto::Timestamp;
use evalfleet_service::retry::Delays;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The longest rest between two tries of a part.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Events that wait; whoever has more to tell waits too.
const EVENTS: usize = 256;
/// Lines of a failed part's log that its record shows.
const TAIL_LINES: usize = 8;

/// How a supervisor is told to end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// In order, with grace.
    pub drain: CancellationToken,
    /// At once.
    pub hurry: CancellationToken,
}

struct Kept {
    part: Part,
    life: Life,
    began: Option<u64>,
    delays: Delays,
}

/// Owns the parts of one machine.
pub struct Supervisor {
    state_dir: PathBuf,
    api: Option<String>,
    boot: String,
    own: Process,
    since: Timestamp,
    kept: Vec<Kept>,
    events: mpsc::Receiver<(usize, Event)>,
    tell: mpsc::Sender<(usize, Event)>,
    shown: watch::Sender<Machine>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// A supervisor of `plan` that has not begun, and what shows its progress.
    pub fn new(plan: Plan) -> (Self, watch::Receiver<Machine>) {
        let now = Timestamp::now();
        let own = Process::own().unwrap_or(Process { pid: 0, began: 0 });
        let kept = plan.parts.into_iter().map(|part| Kept {
            part,
            life: Life::new(now),
            began: None,
            delays: Delays::up_to(LONGEST_REST),
        });
        let (tell, events) = mpsc::channel(EVENTS);
        let nothing = Machine {
            state_dir: plan.state_dir.clone(),
            boot: process::boot_id(),
            supervisor: own,
            since: now,
            parts: Vec::new(),
            api: plan.api.clone(),
        };
        let (shown, show) = watch::channel(nothing);
        let supervisor = Self {
            state_dir: plan.state_dir,
            api: plan.api,
            boot: process::boot_id(),
            own,
            since: now,
            kept: kept.collect(),
            events,
            tell,
            shown,
        };
        (supervisor, show)
    }

    /// Runs the parts until `stop`, and returns when all are gone.
    pub async fn run(mut self, stop: Stop) {
        let (mut draining, mut hurried) = (false, false);
        loop {
            if draining {
                self.stop_next()
            } else {
                self.start_next()
            }
            self.record();
            if draining && self.kept.iter().all(|kept| kept.life.phase == Phase::Stopped) {
                return;
            }
            tokio::select! {
                event = self.events.recv() => {
                    // Our own sender lives as long as we do: there is always a next event.
                    if let Some((index, event)) = event {
                        self.happen(index, event);
                    }
                }
                () = stop.drain.cancelled(), if !draining => draining = true,
                () = stop.hurry.cancelled(), if !hurried => {
                    (draining, hurried) = (true, true);
                    self.stop_all_at_once();
                }
            }
        }
    }

    /// Starts whatever has what it needs.
    fn start_next(&mut self) {
        for index in 0..self.kept.len() {
            let kept = &self.kept[index];
            let ready = |name: &String| {
                self.kept.iter().any(|other| other.part.name == *name && other.life.phase == Phase::Running)
            };
            if kept.life.phase == Phase::Waiting && kept.part.needs.iter().all(ready) {
                self.happen(index, Event::Start);
            }
        }
    }

    /// Stops whatever no living part needs.
    fn stop_next(&mut self) {
        loop {
            let gone = |kept: &Kept| kept.life.phase == Phase::Stopped;
            let needed =
                |name: &String| self.kept.iter().any(|other| !gone(other) && other.part.needs.contains(name));
            let next = self.kept.iter().position(|kept| {
                !matches!(kept.life.phase, Phase::Stopped | Phase::Draining) && !needed(&kept.part.name)
            });
            let Some(index) = next else { return };
            self.happen(index, Event::Stop);
        }
    }

    fn stop_all_at_once(&mut self) {
        for index in 0..self.kept.len() {
            self.happen(index, Event::Stop);
            if let Some(pid) = self.kept[index].life.pid {
                process::kill_group(pid);
            }
        }
    }

    fn happen(&mut self, index: usize, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let kept = &mut self.kept[index];
            let name = &kept.part.name;
            match &event {
                Event::NotSpawned(why) => tracing::warn!(part = %name, why, "cannot be started"),
                Event::Late(_) => tracing::warn!(part = %name, "was not ready in time"),
                Event::Exited(_, how) if kept.life.phase != Phase::Draining => {
                    tracing::warn!(part = %name, how, "ended unexpectedly");
                }
                Event::Start
                | Event::Spawned(_)
                | Event::Ready(_)
                | Event::Exited(..)
                | Event::RetryDue
                | Event::Stop
                | Event::GraceOver(_) => {}
            }
            let (life, actions) = kept.life.clone().step(event, Timestamp::now());
            kept.life = life;
            for action in actions {
                next = next.or(self.act(index, action));
            }
        }
    }

    /// Does one thing; what comes of it at once is the next event.
    fn act(&mut self, index: usize, action: Action) -> Option<Event> {
        match action {
            Action::Spawn => return Some(self.spawn(index)),
            Action::Probe(pid) => self.probe(index, pid),
            Action::Terminate(pid) => {
                process::terminate(pid);
                self.later(index, self.kept[index].part.grace, Event::GraceOver(pid));
            }
            Action::Kill(pid) => process::kill_group(pid),
            Action::Sweep(pid) => {
                // The leader is reaped; whatever it started and left is in its group.
                let began = self.kept[index].began.unwrap_or(0);
                Process { pid, began }.kill_group();
            }
            Action::Rest => {
                let wait = self.kept[index].delays.next_delay();
                self.later(index, wait, Event::RetryDue);
            }
            Action::Recovered => self.kept[index].delays.reset(),
        }
        None
    }

    fn spawn(&mut self, index: usize) -> Event {
        let kept = &mut self.kept[index];
        let mut child = match child::spawn(&kept.part, &self.state_dir) {
            Ok(child) => child,
            Err(error) => return Event::NotSpawned(format!("{}: {error}", kept.part.program.display())),
        };
        let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return Event::NotSpawned("it ended before it began".to_owned());
        };
        kept.began = Process::of(pid).map(|process| process.began);
        let tell = self.tell.clone();
        tokio::spawn(async move {
            let how = child::describe(child.wait().await);
            let _ = tell.send((index, Event::Exited(pid, how))).await;
        });
        Event::Spawned(pid)
    }

    fn probe(&self, index: usize, pid: i32) {
        let (part, tell) = (self.kept[index].part.clone(), self.tell.clone());
        tokio::spawn(async move {
            // Of a process that ended, the probe runs on until its limit and is then not listened to.
            let ready = part.probe.until_ready(pid, part.ready_within).await;
            let event = if ready { Event::Ready(pid) } else { Event::Late(pid) };
            let _ = tell.send((index, event)).await;
        });
    }

    fn later(&self, index: usize, wait: Duration, event: Event) {
        let tell = self.tell.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let _ = tell.send((index, event)).await;
        });
    }

    fn record(&self) {
        let machine = Machine {
            state_dir: self.state_dir.clone(),
            boot: self.boot.clone(),
            supervisor: self.own,
            since: self.since,
            parts: self.kept.iter().map(|kept| self.show(kept)).collect(),
            api: self.api.clone(),
        };
        if *self.shown.borrow() == machine {
            return;
        }
        if let Err(error) = machine.write() {
            tracing::error!(%error, "the state of the machine cannot be written");
        }
        self.shown.send_replace(machine);
    }

    fn show(&self, kept: &Kept) -> PartRecord {
        let log = log_path(&self.state_dir, &kept.part.name);
        let mut detail = kept.part.detail.clone();
        detail["log"] = json!(log);
        let waits: Vec<_> = if kept.life.phase == Phase::Waiting { kept.part.needs.clone() } else { vec![] };
        if !waits.is_empty() {
            detail["waits_for"] = json!(waits);
        }
        if let Some(end) = &kept.life.last_end {
            detail["last_end"] = json!(end);
        }
        if kept.life.state() == State::Failed || kept.life.failures >= FAILURES {
            detail["log_tail"] = json!(tail(&log, TAIL_LINES));
        }
        PartRecord {
            name: kept.part.name.clone(),
            kind: kept.part.kind,
            pid: kept.life.pid,
            began: kept.life.pid.and(kept.began),
            state: kept.life.state(),
            since: kept.life.since,
            restarts: kept.life.restarts,
            port: kept.part.port,
            detail,
        }
    }
}

/// The supervisor itself, as a part.
pub(super) fn as_part(machine: &Machine) -> PartRecord {
    PartRecord {
        name: "supervisor".to_owned(),
        kind: Kind::Supervisor,
        pid: Some(machine.supervisor.pid),
        began: Some(machine.supervisor.began),
        state: if machine.supervisor.is_alive() { State::Ready } else { State::Stopped },
        since: machine.since,
        restarts: 0,
        port: None,
        detail: json!({}),
    }
}
