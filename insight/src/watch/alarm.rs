//! One alarm, from its suspicion to its end. Pure: what is to be done comes out as [`Deed`]s.
//!
//! Its life is `evalfleet_analytics::alarm`, what decides it is [`Evidence`]. First what is bad is run again, in rounds,
//! and once something that was as it should be; where all that is bad came from one worker and there are others, only
//! what others ran counts. Where nothing can be run again, or it decided nothing, or what was as it should be is bad
//! now as well, new evaluations of the same decide.
//! Durations are held against those of the same case on the same accelerator.

use super::culprit::culprit;
use super::detect::Suspicion;
use super::evidence::Evidence;
use super::sighting::Sighting;
use super::words;
use evalfleet_analytics::alarm::{self, Action, Event};
use evalfleet_analytics::sequential::Decision;
use evalfleet_proto::alert::{
    Alert, CASES_MAX, Cost, Culprit, Dismissal, EVALUATIONS_MAX, Kind, Means, Outcome, Rerun, State,
};
use evalfleet_proto::ids::{AlertId, JobId};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Jobs that are run again at once.
const ROUND: u32 = 3;
/// How long a decision waits for what was run again from before.
const HOLD: Duration = Duration::from_secs(120);

/// How far the watch may go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Jobs that one suspicion may have run again.
    pub reruns_max: u32,
    /// How patient an alarm is.
    pub life: alarm::Settings,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// Tell the recorder how an alert stands.
    Record(Box<Alert>),
    /// Tell the recorder, and then people: it was raised, or it is well again.
    Tell(Box<Alert>),
    /// Run an evaluation again.
    Rerun {
        /// For which alert.
        alert: AlertId,
        /// Which.
        of: JobId,
        /// As which job.
        id: JobId,
    },
}

/// A time as `evalfleet_analytics::alarm` counts it.
fn clock(now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.as_millisecond()).unwrap_or(0))
}

/// One alarm.
#[derive(Debug)]
pub(super) struct Alarm {
    pub(super) alert: Alert,
    state: alarm::State,
    evidence: Evidence,
    bounds: Bounds,
    /// What may be run again, the newest last; and one that was as it should be.
    bad: Vec<JobId>,
    good: Option<JobId>,
    /// For finding what changed.
    witnesses: (Vec<Arc<Sighting>>, Vec<Arc<Sighting>>),
    decided: Option<(Decision, Timestamp)>,
    /// Whether nothing more can be run again.
    spent: bool,
}

impl Alarm {
    /// A new alarm. None where the two levels cannot be told apart.
    pub(super) fn new(
        of: Suspicion,
        suspect: Option<Arc<str>>,
        bounds: Bounds,
        now: Timestamp,
    ) -> Option<(Self, Vec<Deed>)> {
        let first = of.bad.first()?;
        let evidence = Evidence::new(of.kind, of.before, of.after)?;
        let newest = |rows: &[Arc<Sighting>]| -> Vec<JobId> {
            rows[rows.len().saturating_sub(EVALUATIONS_MAX)..].iter().map(|one| one.id).collect()
        };
        let mut alert = Alert {
            schema: SCHEMA_VERSION,
            id: AlertId::of(first.id, of.kind.as_str(), &of.subject),
            revision: 0,
            kind: of.kind,
            severity: words::severity(of.kind, of.after),
            subject: of.subject.to_string(),
            cases: of.cases.iter().map(ToString::to_string).collect(),
            state: State::Confirming,
            message: String::new(),
            since: first.at,
            suspected: now,
            confirmed: None,
            confirmed_by: None,
            closed: None,
            dismissed: None,
            before: of.before,
            after: of.after,
            accelerator: first.accelerator.as_deref().filter(|_| of.kind == Kind::Slower).map(str::to_owned),
            evaluations: newest(&of.bad),
            suspect: suspect.as_deref().map(str::to_owned),
            reruns: Vec::new(),
            culprit: culprit(&of.bad, &of.good),
            cost: Cost::default(),
            judgement: None,
        };
        alert.message = words::message(&alert);
        let (bad, good) = (newest(&of.bad), of.good.last().map(|one| one.id));
        let mut new = Self {
            alert,
            state: alarm::State::None,
            evidence,
            bounds,
            bad,
            good,
            witnesses: (of.bad, of.good),
            decided: None,
            spent: bounds.reruns_max == 0,
        };
        new.step(Event::Suspect, now);
        new.step(Event::RerunsBegan, now);
        let reruns = new.round();
        let deeds = std::iter::once(new.record()).chain(reruns).collect();
        Some((new, deeds))
    }

    /// One that the history tells of. None of what has ended, or what this build does not know.
    pub(super) fn restore(alert: Alert, bounds: Bounds) -> Option<Self> {
        let state = match alert.state {
            State::Confirming => alarm::State::Confirming { times: 1, since: clock(alert.suspected) },
            State::Raised => {
                let since = clock(alert.confirmed.unwrap_or(alert.suspected));
                alarm::State::Raised { times: 1, since, judged: None }
            }
            State::Closed | State::Dismissed | State::Unknown => return None,
        };
        if alert.kind == Kind::Unknown {
            return None;
        }
        let mut evidence = Evidence::new(alert.kind, alert.before, alert.after)?;
        let mut decided = None;
        let heeded = |one: &&Rerun| !one.before && !is_suspect(&alert, one.worker.as_deref());
        for rerun in alert.reruns.iter().filter(heeded) {
            let said = match rerun.outcome {
                Some(Outcome::Fine) => evidence.rerun(true),
                Some(Outcome::Bad) => evidence.rerun(false),
                Some(Outcome::Spoiled | Outcome::Unknown) | None => None,
            };
            decided = decided.or(said.map(|said| (said, alert.suspected)));
        }
        let (bad, spent) = (alert.evaluations.clone(), bounds.reruns_max == 0);
        let (witnesses, good) = ((Vec::new(), Vec::new()), None);
        Some(Self { alert, state, evidence, bounds, bad, good, witnesses, decided, spent })
    }

    /// What was to be run again and has not come back: asked for twice, it is the same job.
    pub(super) fn unanswered(&self) -> Vec<Deed> {
        let deed = |one: &Rerun| Deed::Rerun { alert: self.alert.id, of: one.of, id: one.id };
        if self.ended().is_some() { Vec::new() } else { self.pending().map(deed).collect() }
    }

    /// Whether it came to an end, and to nothing.
    pub(super) fn ended(&self) -> Option<bool> {
        match self.state {
            alarm::State::Dismissed { .. } => Some(true),
            alarm::State::Closed { .. } => Some(false),
            alarm::State::None
            | alarm::State::Suspected { .. }
            | alarm::State::Confirming { .. }
            | alarm::State::Raised { .. } => None,
        }
    }

    /// Whether it may be forgotten: ended, and silent for long enough that the same may be suspected anew.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let ended = match self.state {
            alarm::State::Dismissed { at, .. } | alarm::State::Closed { at, .. } => Some(at),
            alarm::State::None
            | alarm::State::Suspected { .. }
            | alarm::State::Confirming { .. }
            | alarm::State::Raised { .. } => None,
        };
        ended.is_some_and(|at| clock(now) >= at.saturating_add(self.bounds.life.rest))
    }

    /// The same is suspected once more: perhaps in further cases.
    pub(super) fn again(&mut self, of: &Suspicion, now: Timestamp) -> Vec<Deed> {
        if self.ended().is_some() {
            return Vec::new();
        }
        self.step(Event::Suspect, now);
        let (room, known) = (CASES_MAX.saturating_sub(self.alert.cases.len()), self.alert.cases.len());
        // Where it cannot be told by cases, it is about all of them already.
        if known > 0 {
            let new =
                of.cases.iter().map(ToString::to_string).filter(|case| !self.alert.cases.contains(case));
            let new: Vec<String> = new.take(room).collect();
            self.alert.cases.extend(new);
        }
        if self.alert.cases.len() > known { vec![self.record()] } else { Vec::new() }
    }

    /// Whether it is still looked into.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.state, alarm::State::Confirming { .. })
    }

    /// Whether a job that was run again for this has not come back, and is waited for.
    pub(super) fn awaits(&self, id: JobId) -> bool {
        self.ended().is_none() && self.pending().any(|rerun| rerun.id == id)
    }

    /// Whether an evaluation is of what this is about.
    fn concerns(&self, one: &Sighting) -> bool {
        if *self.alert.subject != *one.subject {
            return false;
        }
        let (cases, case) = (&self.alert.cases, one.case.as_deref());
        match self.alert.kind {
            // A case takes as long as it takes: the two levels are those of the first one.
            Kind::Slower => {
                !self.alert.subject.starts_with("tool=") || case == cases.first().map(String::as_str)
            }
            Kind::Failing | Kind::Unknown => {
                cases.is_empty() || case.is_some_and(|case| cases.iter().any(|known| known == case))
            }
        }
    }

    /// Whether it is as it was before; none where it says nothing of that.
    fn fine(&self, one: &Sighting) -> Option<bool> {
        let passed = one.outcome?;
        if self.alert.kind != Kind::Slower {
            return Some(passed);
        }
        if self.alert.accelerator.as_deref() != one.accelerator.as_deref() {
            return None;
        }
        let middle = f64::midpoint(self.alert.before.wall_ms?, self.alert.after.wall_ms?);
        (passed && !one.wall.is_zero()).then_some(one.wall.as_secs_f64() * 1000.0 < middle)
    }

    /// A new evaluation.
    pub(super) fn see(&mut self, one: &Arc<Sighting>, now: Timestamp) -> Vec<Deed> {
        if !self.concerns(one) {
            return Vec::new();
        }
        let Some(fine) = self.fine(one) else { return Vec::new() };
        match self.state {
            alarm::State::Confirming { .. } => {
                self.evidence.news(fine);
                if !fine && self.witnesses.0.len() < EVALUATIONS_MAX {
                    self.witnesses.0.push(one.clone());
                }
                self.conclude(now)
            }
            alarm::State::Raised { .. } if self.evidence.recovered(fine) => {
                self.step(Event::Recovered, now);
                self.alert.state = State::Closed;
                self.alert.closed = Some(now);
                self.told()
            }
            alarm::State::None
            | alarm::State::Suspected { .. }
            | alarm::State::Raised { .. }
            | alarm::State::Dismissed { .. }
            | alarm::State::Closed { .. } => Vec::new(),
        }
    }

    /// What came of a job that was run again for this. None where it is not one of them.
    pub(super) fn reran(&mut self, one: &Sighting, now: Timestamp) -> Option<Vec<Deed>> {
        let at = self.alert.reruns.iter().position(|rerun| rerun.id == one.id && rerun.outcome.is_none())?;
        let fine = self.fine(one);
        let rerun = &mut self.alert.reruns[at];
        rerun.worker = one.worker.as_deref().map(str::to_owned);
        rerun.outcome = Some(match fine {
            Some(true) => Outcome::Fine,
            Some(false) => Outcome::Bad,
            None => Outcome::Spoiled,
        });
        let before = rerun.before;
        self.alert.cost.reruns += 1;
        self.alert.cost.worker = self.alert.cost.worker.saturating_add(one.spent);
        let counts = !before && !is_suspect(&self.alert, one.worker.as_deref());
        if let Some(fine) = fine.filter(|_| counts) {
            let said = self.evidence.rerun(fine);
            self.decided = self.decided.or(said.map(|said| (said, now)));
        }
        let deeds = self.conclude(now);
        // A late one changes the numbers all the same.
        let late = deeds.is_empty() && self.pending().next().is_none();
        Some(if late { vec![self.record()] } else { deeds })
    }

    /// A job could not be run again.
    pub(super) fn refused(&mut self, id: JobId, now: Timestamp) -> Vec<Deed> {
        for rerun in self.alert.reruns.iter_mut().filter(|rerun| rerun.id == id && rerun.outcome.is_none()) {
            rerun.outcome = Some(Outcome::Spoiled);
        }
        // What cannot be run again now will not be in the next round.
        self.spent = true;
        self.conclude(now)
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Timestamp) -> Vec<Deed> {
        let deeds = self.conclude(now);
        if !deeds.is_empty() {
            return deeds;
        }
        self.step(Event::Tick, now);
        self.dismissed(Dismissal::OutOfTime, now)
    }

    fn step(&mut self, event: Event, now: Timestamp) -> Option<Action> {
        let (next, action) = alarm::step(self.state, event, clock(now), &self.bounds.life);
        self.state = next;
        action
    }

    fn pending(&self) -> impl Iterator<Item = &Rerun> {
        self.alert.reruns.iter().filter(|rerun| rerun.outcome.is_none())
    }

    /// What can be concluded by now: raise, dismiss, or run more again.
    fn conclude(&mut self, now: Timestamp) -> Vec<Deed> {
        if !self.is_undecided() {
            return Vec::new();
        }
        if let Some((decision, at)) = self.decided {
            let held = self.pending().any(|rerun| rerun.before) && clock(now) < clock(at) + HOLD;
            if held {
                return Vec::new();
            }
            if decision == Decision::Dismissed || !self.is_control_bad() {
                return self.decide(decision, Means::Reruns, now);
            }
            // Something ails the machines: what was run again decides nothing.
            self.spent = true;
        }
        if self.pending().next().is_some() {
            return Vec::new();
        }
        let more = self.round();
        if !more.is_empty() {
            return std::iter::once(self.record()).chain(more).collect();
        }
        match self.evidence.news_said {
            Some(decision) => self.decide(decision, Means::Evaluations, now),
            None => Vec::new(),
        }
    }

    fn decide(&mut self, decision: Decision, by: Means, now: Timestamp) -> Vec<Deed> {
        match decision {
            Decision::Confirmed => {
                self.step(Event::RerunsBad, now);
                self.alert.state = State::Raised;
                self.alert.confirmed = Some(now);
                self.alert.confirmed_by = Some(by);
                self.alert.culprit = self.culprit();
                self.told()
            }
            Decision::Dismissed => {
                self.step(Event::RerunsFine, now);
                self.dismissed(Dismissal::Fine, now)
            }
        }
    }

    /// Whether what was as it should be before is bad now, unchanged: nothing in the subject explains that.
    fn is_control_bad(&self) -> bool {
        let of_before =
            |outcome| self.alert.reruns.iter().any(|one| one.before && one.outcome == Some(outcome));
        of_before(Outcome::Bad) && !of_before(Outcome::Fine)
    }

    /// What changed when it began, as far as what was run again bears it out.
    fn culprit(&self) -> Option<Culprit> {
        let found = culprit(&self.witnesses.0, &self.witnesses.1).or_else(|| self.alert.culprit.clone())?;
        (!self.is_control_bad() || found.attribute == "worker").then_some(found)
    }

    fn dismissed(&mut self, why: Dismissal, now: Timestamp) -> Vec<Deed> {
        if !matches!(self.state, alarm::State::Dismissed { .. }) {
            return Vec::new();
        }
        self.alert.state = State::Dismissed;
        self.alert.closed = Some(now);
        self.alert.dismissed = Some(why);
        vec![self.record()]
    }

    /// The next jobs to be run again; nothing when no more may be.
    fn round(&mut self) -> Vec<Deed> {
        let asked = u32::try_from(self.alert.reruns.len()).unwrap_or(u32::MAX);
        let room = self.bounds.reruns_max.saturating_sub(asked);
        if self.spent || room == 0 || self.bad.is_empty() {
            self.spent = true;
            return Vec::new();
        }
        let good = self.good.take().filter(|_| room > 1).map(|of| (of, true));
        let count = ROUND.min(room - u32::from(good.is_some())) as usize;
        // The newest first, then the one before it, around and around.
        let bad = self.bad.iter().rev().cycle().skip(asked as usize).take(count).map(|of| (*of, false));
        let chosen: Vec<(JobId, bool)> = bad.chain(good).collect();
        let deed = |(nth, (of, before)): (u32, (JobId, bool))| {
            let id = self.alert.id.rerun(of, nth);
            self.alert.reruns.push(Rerun { id, of, before, worker: None, outcome: None });
            Deed::Rerun { alert: self.alert.id, of, id }
        };
        (asked..).zip(chosen).map(deed).collect()
    }

    fn record(&mut self) -> Deed {
        Deed::Record(self.changed())
    }

    /// The document of how it stands now.
    fn changed(&mut self) -> Box<Alert> {
        self.alert.revision += 1;
        self.alert.message = words::message(&self.alert);
        Box::new(self.alert.clone())
    }

    fn told(&mut self) -> Vec<Deed> {
        vec![Deed::Tell(self.changed())]
    }
}

/// Whether this is the worker that all of it came from.
fn is_suspect(alert: &Alert, worker: Option<&str>) -> bool {
    alert.suspect.is_some() && alert.suspect.as_deref() == worker
}
