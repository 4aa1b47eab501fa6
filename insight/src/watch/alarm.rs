//! One alarm, from its suspicion to its end. Pure: what is to be done comes out as [`Deed`]s.
//!
//! Its life is `evalfleet_analytics::alarm`, what decides it is [`Evidence`]. First what is bad is run again, in rounds,
//! and something that was as it should be; where all that is bad came from one worker and there are others, only
//! what others ran counts. Where nothing can be run again, or it decided nothing, or what was as it should be is bad
//! now as well, new evaluations of the same decide; but where it is an amount of which there is more now even in what was
//! as it should be, it is the machines, and comes to nothing.
//! Amounts are held against those of the same case on the same accelerator. How fast one worker makes clean VMs, only its
//! own new ones tell. Once it is confirmed, several versions between well and bad are narrowed down to one (`narrow`).

mod narrow;

use super::bisect::Bisect;
use super::culprit::culprit;
use super::detect::Suspicion;
use super::evidence::Evidence;
use super::lineage::Run;
use super::measure::Measure;
use super::sighting::Sighting;
use super::words;
use evalfleet_analytics::alarm::{self, Action, Event};
use evalfleet_analytics::sequential::Decision;
use evalfleet_proto::alert::{
    Alert, CASES_MAX, Cost, Dismissal, EVALUATIONS_MAX, Kind, Means, Outcome, Rerun, State,
};
use evalfleet_proto::ids::{AlertId, JobId};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Jobs that are run again at once.
const ROUND: u32 = 3;
/// How many from before are run again at the most: more than one only where the first is bad, too.
const CONTROLS: usize = 3;
/// How long a decision waits for what was run again from before.
const HOLD: Duration = Duration::from_secs(600);

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
    /// What may be run again, the newest last; and some that were as they should be.
    bad: Vec<JobId>,
    good: Vec<JobId>,
    /// For finding what changed.
    witnesses: (Vec<Arc<Sighting>>, Vec<Arc<Sighting>>),
    decided: Option<(Decision, Timestamp)>,
    /// Whether nothing more can be run again to confirm it.
    spent: bool,
    /// The origins of what was evaluated, one after the other, and the search among them.
    lineage: Vec<Run>,
    bisect: Option<Bisect>,
    /// Whether it was well again in the version and image that it was found in.
    passed_unchanged: bool,
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
        let is_amount = Measure::of_kind(of.kind).is_some();
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
            accelerator: first.accelerator.as_deref().filter(|_| is_amount).map(str::to_owned),
            evaluations: newest(&of.bad),
            suspect: suspect.as_deref().map(str::to_owned),
            reruns: Vec::new(),
            culprit: culprit(of.kind, &of.bad, &of.good),
            cost: Cost::default(),
            judgement: None,
        };
        alert.message = words::message(&alert);
        let (bad, good) = (may_run_again(&alert), controls(&of));
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
            lineage: of.lineage,
            bisect: None,
            passed_unchanged: false,
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
        let heeded = |one: &&Rerun| decides(one) && !is_suspect(&alert, one.worker.as_deref());
        for rerun in alert.reruns.iter().filter(heeded) {
            let worker: Option<Arc<str>> = rerun.worker.as_deref().map(Arc::from);
            let said = match rerun.outcome {
                Some(Outcome::Fine) => evidence.rerun(true, worker.as_ref()),
                Some(Outcome::Bad) => evidence.rerun(false, worker.as_ref()),
                Some(Outcome::Spoiled | Outcome::Unknown) | None => None,
            };
            decided = decided.or(said.map(|said| (said, alert.suspected)));
        }
        let (bad, spent) = (may_run_again(&alert), bounds.reruns_max == 0);
        let (witnesses, good) = ((Vec::new(), Vec::new()), Vec::new());
        let (lineage, bisect, passed_unchanged) = (Vec::new(), None, false);
        Some(Self {
            alert,
            state,
            evidence,
            bounds,
            bad,
            good,
            witnesses,
            decided,
            spent,
            lineage,
            bisect,
            passed_unchanged,
        })
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

    /// Once it has ended: whether what it was about is how its subject is. So it is where it came to nothing, and where it
    /// passed in the very version and image that it was found in.
    pub(super) fn belongs(&self) -> Option<bool> {
        self.ended().map(|came_to_nothing| came_to_nothing || self.passed_unchanged)
    }

    /// Whether a new suspicion may take its place: nothing can be run again for this one, nothing decides it, and the new
    /// one is about more.
    pub(super) fn yields_to(&self, of: &Suspicion) -> bool {
        let is_more = of.cases.iter().any(|case| !self.alert.cases.iter().any(|known| **known == **case));
        let waits = self.decided.is_some() || self.pending().next().is_some();
        self.is_undecided() && self.spent && !waits && is_more
    }

    /// It comes to nothing, for a new suspicion.
    pub(super) fn give_way(&mut self, now: Timestamp) -> Vec<Deed> {
        self.step(Event::RerunsFine, now);
        self.dismissed(Dismissal::OutOfTime, now)
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
        let (subject, cases, case) = (self.alert.subject.as_str(), &self.alert.cases, one.case.as_deref());
        let is_named = |name: &str, of: Option<&str>| subject.split_once('=') == of.map(|of| (name, of));
        match self.alert.kind {
            // Of a worker it is about the image that it was suspected in: others take what they take.
            Kind::Reset => {
                let image = self.witnesses.0.last().map(|last| &last.image);
                is_named("image", one.image.as_deref())
                    || is_named("worker", one.worker.as_deref()) && image.is_none_or(|of| *of == one.image)
            }
            // A case takes what it takes: the two levels are those of the first one.
            Kind::Slower | Kind::Memory | Kind::Disk => {
                let is_first = !subject.starts_with("tool=") || case == cases.first().map(String::as_str);
                *subject == *one.subject && is_first
            }
            Kind::Failing | Kind::Unknown => {
                let is_one = case.is_some_and(|case| cases.iter().any(|known| known == case));
                *subject == *one.subject && (cases.is_empty() || is_one)
            }
        }
    }

    /// Whether people were told that this fails, and it goes on.
    pub(super) fn is_raised_for(&self, one: &Sighting) -> bool {
        matches!(self.state, alarm::State::Raised { .. }) && one.at >= self.alert.since && self.concerns(one)
    }

    /// Whether it is as it was before; none where it says nothing of that.
    fn fine(&self, one: &Sighting) -> Option<bool> {
        let Some(measure) = Measure::of_kind(self.alert.kind) else { return one.outcome };
        if self.alert.accelerator.as_deref() != one.accelerator.as_deref() {
            return None;
        }
        let middle = f64::midpoint(measure.at(&self.alert.before)?, measure.at(&self.alert.after)?);
        measure.of(one).map(|amount| amount < middle)
    }

    /// A new evaluation.
    pub(super) fn see(&mut self, one: &Arc<Sighting>, now: Timestamp) -> Vec<Deed> {
        if !self.concerns(one) {
            return Vec::new();
        }
        let Some(fine) = self.fine(one) else { return Vec::new() };
        match self.state {
            alarm::State::Confirming { .. } => {
                self.evidence.news(fine, one.worker.as_ref());
                if !fine && self.witnesses.0.len() < EVALUATIONS_MAX {
                    self.witnesses.0.push(one.clone());
                }
                self.conclude(now)
            }
            alarm::State::Raised { .. } if self.evidence.recovered(fine) => {
                let is_same = |bad: &Arc<Sighting>| bad.origin() == one.origin();
                self.passed_unchanged = self.witnesses.0.last().is_some_and(is_same);
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
        let (counts, of) = (decides(rerun), rerun.of);
        let is_between = rerun.between.is_some();
        self.alert.cost.reruns += 1;
        self.alert.cost.worker = self.alert.cost.worker.saturating_add(one.spent);
        let is_heeded = !is_suspect(&self.alert, one.worker.as_deref());
        if let Some(bisect) = self.bisect.as_mut().filter(|_| is_between) {
            bisect.heard(of, fine.filter(|_| is_heeded));
        }
        if let Some(fine) = fine.filter(|_| counts && is_heeded) {
            let said = self.evidence.rerun(fine, one.worker.as_ref());
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
            match self.bisect.as_mut().filter(|_| rerun.between.is_some()) {
                Some(bisect) => bisect.refused(rerun.of),
                // What cannot be run again now will not be in the next round.
                None => self.spent = true,
            }
        }
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
                if decision == Decision::Confirmed
                    && let Some(deeds) = self.narrow(at, now)
                {
                    return deeds;
                }
                return self.decide(decision, Means::Reruns, now);
            }
            // One may have met a bad machine.
            let more = self.controls();
            if !more.is_empty() {
                self.decided = Some((decision, now));
                return std::iter::once(self.record()).chain(more).collect();
            }
            // Something ails the machines. What takes more than it did takes that with or without the subject's doing;
            // of what fails new evaluations may tell.
            if Measure::of_kind(self.alert.kind).is_some() {
                self.step(Event::RerunsFine, now);
                return self.dismissed(Dismissal::Machines, now);
            }
            self.spent = true;
        }
        if self.pending().next().is_some() {
            return Vec::new();
        }
        let more = self.round();
        if !more.is_empty() {
            return std::iter::once(self.record()).chain(more).collect();
        }
        let is_control_bad = self.is_control_bad();
        if is_control_bad && Measure::of_kind(self.alert.kind).is_some() {
            self.step(Event::RerunsFine, now);
            return self.dismissed(Dismissal::Machines, now);
        }
        // A fleet that is busy makes every VM slowly: of an image only what is run again tells, both of it and of the last.
        if self.alert.kind == Kind::Reset && !self.bad.is_empty() {
            return Vec::new();
        }
        match self.evidence.said(!is_control_bad) {
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
        let of_before = |outcome| {
            self.alert.reruns.iter().filter(|one| one.before && one.outcome == Some(outcome)).count()
        };
        of_before(Outcome::Bad) > of_before(Outcome::Fine)
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

    /// Jobs that were run again for it, or are to be.
    fn asked(&self) -> u32 {
        u32::try_from(self.alert.reruns.len()).unwrap_or(u32::MAX)
    }

    /// How many more may be.
    fn room(&self) -> u32 {
        self.bounds.reruns_max.saturating_sub(self.asked())
    }

    /// The next jobs to be run again; nothing when no more may be.
    fn round(&mut self) -> Vec<Deed> {
        let (asked, room) = (self.asked(), self.room());
        if self.spent || room == 0 || self.bad.is_empty() {
            self.spent = true;
            return Vec::new();
        }
        let is_first = self.alert.reruns.is_empty();
        let good = self.good.pop_if(|_| is_first && room > 1).map(|of| (of, true));
        let count = ROUND.min(room - u32::from(good.is_some())) as usize;
        // The newest first, then the one before it, around and around.
        let bad = self.bad.iter().rev().cycle().skip(asked as usize).take(count).map(|of| (*of, false));
        let chosen: Vec<(JobId, bool)> = bad.chain(good).collect();
        self.ask(chosen)
    }

    /// More that were as they should be, to be run again once the first of them was bad.
    fn controls(&mut self) -> Vec<Deed> {
        let count = self.good.len().min(self.room() as usize);
        let chosen = self.good.split_off(self.good.len() - count);
        self.good.clear();
        self.ask(chosen.into_iter().map(|of| (of, true)).collect())
    }

    fn ask(&mut self, chosen: Vec<(JobId, bool)>) -> Vec<Deed> {
        let asked = self.asked();
        let deed = |(nth, (of, before)): (u32, (JobId, bool))| {
            let id = self.alert.id.rerun(of, nth);
            self.alert.reruns.push(Rerun { id, of, before, between: None, worker: None, outcome: None });
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

/// Whether what came of a rerun decides about what is bad.
fn decides(rerun: &Rerun) -> bool {
    !rerun.before && rerun.between.is_none()
}

/// Some that were as they should be, the best last: of another origin than what is bad now, and new.
fn controls(of: &Suspicion) -> Vec<JobId> {
    let newest = of.bad.last();
    let is_same = |one: &Sighting| newest.is_some_and(|bad| bad.origin() == one.origin());
    let mut good: Vec<&Arc<Sighting>> = of.good.iter().collect();
    good.sort_by_key(|one| (!is_same(one), one.at));
    good[good.len().saturating_sub(CONTROLS)..].iter().map(|one| one.id).collect()
}

/// What is bad and may be run again, the newest last. Of a worker's own resets nothing: others would answer.
fn may_run_again(alert: &Alert) -> Vec<JobId> {
    let is_own = alert.subject.starts_with("worker=");
    if is_own { Vec::new() } else { alert.evaluations.clone() }
}

/// Whether this is the worker that all of it came from.
fn is_suspect(alert: &Alert, worker: Option<&str>) -> bool {
    alert.suspect.is_some() && alert.suspect.as_deref() == worker
}
