//! A fleet under the real watch: evaluations go in one after the other, what is to be run again is run by the fleet.

use super::fleet::{By, CASES, Fleet, Job, ROUNDS, Regression, Seen, TOOLS, WORKERS};
use crate::noise::Noise;
use anyhow::{Context, Result};
use evalfleet_analytics::alarm;
use evalfleet_insight::watch::alarm::{Bounds, Deed};
use evalfleet_insight::watch::sighting::Sighting;
use evalfleet_insight::watch::watcher::Watcher;
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::{Alert, State};
use evalfleet_proto::ids::{AlertId, JobId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From one evaluation of the fleet to the next.
const STEP: Duration = Duration::from_secs(20);
/// How soon what is run again is recorded.
const AGAIN: (f64, f64) = (60.0, 240.0);
/// How often it cannot be run again, since its job is not kept any more.
const GONE: f64 = 0.01;
/// How long after a regression ended an alert about it is still right, in rounds.
const LATE: u32 = 10;
/// As many jobs for each alert as the API has run again by default.
const RERUNS_MAX: u32 = 12;

/// One alert that people were told of.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) alert: Alert,
    /// Which of the injected ones it tells of; none: it is wrong.
    pub(super) of: Option<usize>,
    /// Evaluations of the cases concerned since that began, and how long that was.
    pub(super) evaluations: u32,
    pub(super) after: Duration,
    /// Whether it is about how one worker makes VMs, and that one was busy.
    pub(super) is_of_busy_worker: bool,
    /// What ailed machines when it was raised.
    pub(super) ails: String,
}

/// What came of watching one fleet.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) regressions: Vec<Regression>,
    pub(super) raised: Vec<Raised>,
    pub(super) closed: usize,
    /// Suspicions that came to nothing, and jobs that were run again for them.
    pub(super) dismissed: usize,
    pub(super) dismissed_reruns: u32,
    pub(super) evaluations: usize,
    /// What taking them in took, and the longest of them.
    pub(super) took: Duration,
    pub(super) longest: Duration,
}

struct Course {
    fleet: Fleet,
    watcher: Watcher,
    noise: Noise,
    first: JobId,
    nth: u32,
    now: Timestamp,
    round: u32,
    jobs: HashMap<JobId, Job>,
    /// What is run again, by when it is recorded.
    due: BTreeMap<(Timestamp, JobId), (AlertId, JobId)>,
    /// Evaluations that had each regression so far, and the first of them.
    had: Vec<(u32, Option<Timestamp>)>,
    outcome: Outcome,
}

/// Watches the fleet of this number.
pub(super) fn course(run: u64) -> Result<Outcome> {
    let mut noise = Noise::of(301, run);
    let fleet = Fleet::new(&mut noise);
    let hour = Duration::from_secs(3600);
    let life = alarm::Settings { confirm_within: 24 * hour, ..alarm::Settings::default() };
    let mut course = Course {
        had: vec![(0, None); fleet.regressions.len()],
        outcome: Outcome { regressions: fleet.regressions.clone(), ..Outcome::default() },
        fleet,
        watcher: Watcher::new(Bounds { reruns_max: RERUNS_MAX, life }),
        noise,
        first: "0198c1c2-0000-7000-8000-000000000000".parse().context("an id")?,
        nth: 0,
        now: Timestamp::from_second(1_750_000_000)?,
        round: 0,
        jobs: HashMap::new(),
        due: BTreeMap::new(),
    };
    for round in 0..ROUNDS {
        course.round = round;
        course.round();
    }
    Ok(course.outcome)
}

impl Course {
    fn round(&mut self) {
        for tool in 0..TOOLS {
            for case in 0..CASES {
                if self.noise.chance(0.85) {
                    self.pass(STEP);
                    let job = self.fleet.job(tool, case, self.round);
                    self.evaluate(job);
                }
            }
        }
        let deeds = self.watcher.tick(self.now);
        self.carry_out(deeds);
    }

    /// Time passes, and what was run again comes back.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        while let Some(((at, id), (alert, of))) = self.due.pop_first() {
            if at > self.now {
                self.due.insert((at, id), (alert, of));
                return;
            }
            let deeds = if self.noise.chance(GONE) {
                self.watcher.refused(alert, id, at)
            } else {
                let again = Sighting { rerun: true, ..self.sighting(id, self.jobs[&of], at) };
                self.watcher.see(&Arc::new(again), at)
            };
            self.carry_out(deeds);
        }
    }

    fn evaluate(&mut self, job: Job) {
        self.nth += 1;
        let id = self.first.derived("evaluation", self.nth);
        self.jobs.insert(id, job);
        for (regression, (count, first)) in self.fleet.regressions.iter().zip(&mut self.had) {
            if regression.has(job) {
                *count += 1;
                first.get_or_insert(self.now);
            }
        }
        let one = Arc::new(self.sighting(id, job, self.now));
        let begun = Instant::now();
        let deeds = self.watcher.see(&one, self.now);
        let took = begun.elapsed();
        self.outcome.evaluations += 1;
        self.outcome.took += took;
        self.outcome.longest = self.outcome.longest.max(took);
        self.carry_out(deeds);
    }

    fn sighting(&mut self, id: JobId, job: Job, at: Timestamp) -> Sighting {
        let worker = self.noise.below(WORKERS);
        let Seen { outcome, wall_ms, memory, disk, reset_ms } =
            self.fleet.run(job, worker, self.round, &mut self.noise);
        let milliseconds = |count: f64| Duration::from_secs_f64(count / 1000.0);
        Sighting {
            id,
            subject: format!("tool=t{}", job.tool).into(),
            case: Some(format!("t{}/c{}", job.tool, job.case).into()),
            outcome,
            at,
            agent: None,
            version: Some(format!("v{}", job.version).into()),
            image: Some(format!("i{}", job.image).into()),
            model: None,
            worker: Some(format!("w{worker}").into()),
            accelerator: Some("kvm".into()),
            wall: milliseconds(wall_ms),
            memory: memory as u64,
            disk: disk as u64,
            reset: reset_ms.map(milliseconds).unwrap_or_default(),
            spent: milliseconds(wall_ms + 200.0),
            rerun: false,
        }
    }

    fn carry_out(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Rerun { alert, of, id } => {
                    let later = AGAIN.0 + (AGAIN.1 - AGAIN.0) * self.noise.unit();
                    self.due.insert((self.now + Duration::from_secs_f64(later), id), (alert, of));
                }
                Deed::Tell(alert) if alert.state == State::Raised => self.raise(*alert),
                Deed::Tell(_) => self.outcome.closed += 1,
                Deed::Record(alert) if alert.state == State::Dismissed => {
                    self.outcome.dismissed += 1;
                    self.outcome.dismissed_reruns += alert.cost.reruns;
                }
                Deed::Record(_) => {}
            }
        }
    }

    fn raise(&mut self, alert: Alert) {
        let of = self.fleet.regressions.iter().position(|one| tells_of(&alert, one, self.round));
        let (evaluations, first) = of.map_or((0, None), |of| self.had[of]);
        let after = first.map(|first| Duration::try_from(self.now.duration_since(first)).unwrap_or_default());
        let worker = alert.subject.strip_prefix("worker=w").and_then(|nth| nth.parse().ok());
        let is_of_busy_worker = worker.is_some_and(|worker| self.fleet.was_busy(worker, self.round));
        let (after, ails) = (after.unwrap_or_default(), self.fleet.ails(self.round));
        self.outcome.raised.push(Raised { alert, of, evaluations, after, is_of_busy_worker, ails });
    }
}

/// Whether an alert that is raised in this round tells of a regression.
fn tells_of(alert: &Alert, regression: &Regression, round: u32) -> bool {
    let subject = match (regression.tool, regression.by) {
        (Some(tool), _) => format!("tool=t{tool}"),
        (None, By::Image(first) | By::Version(first)) => format!("image=i{first}"),
    };
    let names: BTreeSet<String> =
        regression.cases.iter().map(|case| format!("t{}/c{case}", regression.tool.unwrap_or(0))).collect();
    let is_meant = alert.cases.is_empty() || alert.cases.iter().any(|case| names.contains(case));
    let is_then = regression.rounds.start <= round && round < regression.rounds.end + LATE;
    alert.kind.as_str() == regression.what.kind() && alert.subject == subject && is_meant && is_then
}

/// Whether an alert names what a regression came by.
pub(super) fn names(alert: &Alert, regression: &Regression) -> bool {
    let (attribute, value) = match regression.by {
        By::Version(first) => ("version", format!("v{first}")),
        By::Image(first) => ("image", format!("i{first}")),
    };
    alert.culprit.as_ref().is_some_and(|culprit| culprit.attribute == attribute && culprit.value == value)
}
