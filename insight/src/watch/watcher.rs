//! All alarms over what is recorded: evaluations in, deeds out. Pure.
//!
//! Of one subject there is one alarm of a kind: what is suspected of it again is the same alarm. At most [`ALARMS_MAX`]
//! are open; beyond that, further suspicions are let go, and come again if they last. Whatever they want run again,
//! [`UNDER_WAY_MAX`] of it are under way at one moment, and the rest waits: a bad day must not take people's workers.

use super::alarm::{Alarm, Bounds, Deed};
use super::detect::{Detector, Suspicion};
use super::measure::Measure;
use super::pace::Pace;
use super::sighting::Sighting;
use super::workers::Workers;
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::{Alert, Kind};
use evalfleet_proto::ids::{AlertId, JobId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The most alarms at one moment, those included that ended lately.
const ALARMS_MAX: usize = 500;
/// The most jobs that are run again at one moment, for all alarms together.
const UNDER_WAY_MAX: usize = 16;

/// A machine that is so many times faster or slower than it usually is says nothing of resets.
const UNUSUAL: f64 = 1.15;

type AlarmKey = (Kind, Arc<str>);

/// The watch over a history.
#[derive(Debug)]
pub struct Watcher {
    detector: Detector,
    alarms: BTreeMap<AlarmKey, Alarm>,
    workers: Workers,
    pace: Pace,
    /// Alerts of the history that have ended: what led to them leads to no other.
    ended: BTreeSet<AlertId>,
    under_way: BTreeMap<JobId, AlarmKey>,
    waiting: VecDeque<(AlarmKey, Deed)>,
    bounds: Bounds,
}

impl Watcher {
    /// One that has seen nothing yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            detector: Detector::default(),
            alarms: BTreeMap::new(),
            workers: Workers::default(),
            pace: Pace::default(),
            ended: BTreeSet::new(),
            under_way: BTreeMap::new(),
            waiting: VecDeque::new(),
            bounds,
        }
    }

    /// Takes note of alerts that have ended: nothing begins them once more.
    pub fn remember(&mut self, ended: impl IntoIterator<Item = AlertId>) {
        self.ended.extend(ended);
    }

    /// Takes an alert up that the history tells of, unless it has ended.
    pub fn restore(&mut self, alert: Alert) {
        let key = (alert.kind, Arc::from(alert.subject.as_str()));
        if let Some(alarm) = Alarm::restore(alert, self.bounds)
            && self.alarms.len() < ALARMS_MAX
        {
            self.alarms.insert(key, alarm);
        }
    }

    /// An evaluation of the past: it is learned from, and raises nothing. What was run again for an alarm that is still
    /// open is heeded.
    pub fn learn(&mut self, one: &Arc<Sighting>, now: Timestamp) -> Vec<Deed> {
        let one = &self.heeded(one);
        if one.rerun {
            return self.reran(one, now);
        }
        let is_known = self.alarms.contains_key(&(Kind::Failing, one.subject.clone()));
        let is_raised = self.is_raised(one);
        self.detector.learn(one, is_known, is_raised);
        Vec::new()
    }

    /// What was to be run again and has not come back, once the past was learned.
    pub fn unanswered(&mut self) -> Vec<Deed> {
        let deeds = self.alarms.values().flat_map(Alarm::unanswered).collect();
        self.paced(deeds)
    }

    /// An evaluation that was just recorded.
    pub fn see(&mut self, one: &Arc<Sighting>, now: Timestamp) -> Vec<Deed> {
        let one = &self.heeded(one);
        if one.rerun {
            return self.reran(one, now);
        }
        let mut deeds = Vec::new();
        for (kind, subject) in about(one) {
            if let Some(alarm) = self.alarms.get_mut(&(kind, subject.clone())) {
                let open = alarm.ended().is_none();
                deeds.extend(alarm.see(one, now));
                if open {
                    self.settle(kind, &subject);
                }
            }
        }
        let is_raised = self.is_raised(one);
        for suspicion in self.detector.see(one, is_raised) {
            deeds.extend(self.suspect(suspicion, now));
        }
        self.paced(deeds)
    }

    /// A job could not be run again.
    pub fn refused(&mut self, alert: AlertId, id: JobId, now: Timestamp) -> Vec<Deed> {
        self.with(|alarm| alarm.alert.id == alert, |alarm| alarm.refused(id, now))
    }

    /// Time passes.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Deed> {
        self.alarms.retain(|_, alarm| !alarm.is_over(now));
        self.with(|_| true, |alarm| alarm.tick(now))
    }

    fn reran(&mut self, one: &Sighting, now: Timestamp) -> Vec<Deed> {
        self.with(|_| true, |alarm| alarm.reran(one, now).unwrap_or_default())
    }

    /// Does something to the open alarms that are meant, and settles those that end by it.
    fn with(
        &mut self,
        meant: impl Fn(&Alarm) -> bool,
        mut act: impl FnMut(&mut Alarm) -> Vec<Deed>,
    ) -> Vec<Deed> {
        let (mut deeds, mut changed) = (Vec::new(), Vec::new());
        for (key, alarm) in self.alarms.iter_mut().filter(|(_, alarm)| meant(alarm)) {
            let open = alarm.ended().is_none();
            deeds.extend(act(alarm));
            if open && alarm.ended().is_some() {
                changed.push(key.clone());
            }
        }
        for (kind, subject) in changed {
            self.settle(kind, &subject);
        }
        self.paced(deeds)
    }

    /// Keeps back what would be run again beyond the bound, and lets go what there is room for by now.
    fn paced(&mut self, deeds: Vec<Deed>) -> Vec<Deed> {
        let mut now = Vec::with_capacity(deeds.len());
        for deed in deeds {
            let Deed::Rerun { alert, id, .. } = deed else {
                now.push(deed);
                continue;
            };
            let asked = self.under_way.contains_key(&id)
                || self
                    .waiting
                    .iter()
                    .any(|(_, other)| matches!(other, Deed::Rerun { id: of, .. } if *of == id));
            let whose = self.alarms.iter().find(|(_, alarm)| alarm.alert.id == alert);
            if let Some((key, _)) = whose.filter(|_| !asked) {
                self.waiting.push_back((key.clone(), deed));
            }
        }
        // What is decided waits for nothing: one that was lost on its way takes nobody's place for ever.
        let holds = |alarm: &Alarm, id| alarm.is_undecided() && alarm.awaits(id);
        self.under_way.retain(|id, key| self.alarms.get(key).is_some_and(|alarm| holds(alarm, *id)));
        while self.under_way.len() < UNDER_WAY_MAX
            && let Some((key, deed)) = self.waiting.pop_front()
        {
            // Its alarm may have ended without it.
            if let Deed::Rerun { id, .. } = deed
                && self.alarms.get(&key).is_some_and(|alarm| alarm.awaits(id))
            {
                self.under_way.insert(id, key);
                now.push(deed);
            }
        }
        now
    }

    /// Where an alarm has ended, so has its suspicion.
    fn settle(&mut self, kind: Kind, subject: &Arc<str>) {
        let belongs = self.alarms.get(&(kind, subject.clone())).and_then(Alarm::belongs);
        if let (Kind::Failing, Some(belongs)) = (kind, belongs) {
            self.detector.settle(subject, belongs);
        }
    }

    fn suspect(&mut self, of: Suspicion, now: Timestamp) -> Vec<Deed> {
        let mut deeds = Vec::new();
        let key = (of.kind, of.subject.clone());
        if let Some(alarm) = self.alarms.get_mut(&key) {
            let yields = alarm.yields_to(&of);
            if !alarm.is_over(now) && !yields {
                return alarm.again(&of, now);
            }
            if yields {
                deeds.extend(alarm.give_way(now));
            }
            self.alarms.remove(&key);
        }
        let known = of.bad.first().map(|first| AlertId::of(first.id, of.kind.as_str(), &of.subject));
        let is_known = known.is_some_and(|id| self.ended.contains(&id));
        let suspect = self.suspect_worker(&of);
        let (kind, subject) = key.clone();
        let fits = self.alarms.len() < ALARMS_MAX && !is_known;
        let Some((alarm, begun)) = fits.then(|| Alarm::new(of, suspect, self.bounds, now)).flatten() else {
            // Nobody looks into it: it is how it is.
            if kind == Kind::Failing {
                self.detector.settle(&subject, true);
            }
            return deeds;
        };
        self.alarms.insert(key, alarm);
        deeds.extend(begun);
        deeds
    }

    /// The worker that all bad ones came from, if others are there and it is not about that worker anyway.
    fn suspect_worker(&self, of: &Suspicion) -> Option<Arc<str>> {
        if of.subject.starts_with("worker=") {
            return None;
        }
        let last = of.bad.last()?;
        let worker = last.worker.as_ref()?;
        let alone = of.bad.iter().all(|one| one.worker.as_ref() == Some(worker));
        (alone && self.workers.has_others(worker, last.at)).then(|| worker.clone())
    }

    /// Whether people were told that this fails, and it goes on.
    fn is_raised(&self, one: &Sighting) -> bool {
        let alarm = self.alarms.get(&(Kind::Failing, one.subject.clone()));
        alarm.is_some_and(|alarm| alarm.is_raised_for(one))
    }

    /// An evaluation as it is to be taken: what a worker that ails says of outcomes is as if our machines had spoiled it,
    /// times are what they were at the usual pace, and at another one nobody's resets say anything.
    fn heeded(&mut self, one: &Arc<Sighting>) -> Arc<Sighting> {
        // What is run again was chosen because it is bad, and what is known to fail does so anywhere: neither says anything
        // of who ran it.
        let rate = self.detector.rate(one).filter(|_| !one.rerun && !self.is_raised(one));
        self.workers.note(one, rate);
        let ails = one.worker.as_ref().is_some_and(|worker| self.workers.ails(worker));
        let pace = self.pace.of(one);
        let usual = self.detector.usual(one).filter(|_| !one.rerun);
        if let (Some(wall), Some(usual)) = (Measure::Time.of(one), usual) {
            self.pace.note(one, wall, usual);
        }
        let outcome = one.outcome.filter(|_| !ails);
        let is_usual = (1.0 / UNUSUAL..UNUSUAL).contains(&pace);
        let (wall, reset) = (one.wall.div_f64(pace), if is_usual { one.reset } else { Duration::ZERO });
        Arc::new(Sighting { outcome, wall, reset, ..(**one).clone() })
    }
}

/// The alarms that an evaluation may concern.
fn about(one: &Sighting) -> impl Iterator<Item = AlarmKey> {
    let own = [Kind::Failing, Kind::Slower, Kind::Memory, Kind::Disk].map(|kind| (kind, one.subject.clone()));
    let named = |name: &str, of: &Option<Arc<str>>| of.as_ref().map(|of| Arc::from(format!("{name}={of}")));
    let resets = [named("image", &one.image), named("worker", &one.worker)].into_iter().flatten();
    own.into_iter().chain(resets.map(|subject| (Kind::Reset, subject)))
}

#[cfg(test)]
mod tests;
