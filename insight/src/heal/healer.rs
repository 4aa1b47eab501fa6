//! What is to be done about what is found: findings and decisions in, deeds out. Pure.
//!
//! Of one subject there is one open healing of a rule: what is found of it again is the same. At most [`OPEN_MAX`] are
//! open; beyond that, further findings are let go, and come again if they last. By itself the healer keeps the bounds of
//! its rules; a person's word goes beyond them.

use super::detect::{self, Course, Finding, Known};
use super::rules::{Bound, RULES, Rule};
use super::seen::Seen;
use evalfleet_proto::healing::{Detector, EVIDENCE_MAX, Healing, Mode, OURSELVES, Remedy, State, Wanted};
use evalfleet_proto::ids::HealingId;
use evalfleet_proto::{SCHEMA_VERSION, Timestamp};
use evalfleet_service::settings::healing::{Healing as Settings, Mode as Set};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The most open healings.
const OPEN_MAX: usize = 200;
/// How often something is tried that cannot be done.
const TRIES_MAX: u32 = 5;
/// How long a bound on how much is done counts.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// The most ends of healings that are remembered of a rule: of the oldest, what was before may be found again.
const ENDS_MAX: usize = 10_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// The recorder is to be told how a healing stands.
    Record(Box<Healing>),
    /// Its remedy is to be applied.
    Apply(HealingId),
    /// Its remedy is to be taken back.
    Undo(HealingId),
}

/// What a person wants of a healing, as the history has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What.
    pub wanted: Wanted,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A healing under way.
#[derive(Debug)]
struct Open {
    healing: Healing,
    /// When a detector found it last.
    seen: Timestamp,
    /// What is being done, and for whom.
    doing: Option<Doing>,
    /// How often that failed.
    tries: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Apply(String),
    Undo(String),
}

/// All healings of a fleet.
#[derive(Debug)]
pub struct Healer {
    settings: Settings,
    open: BTreeMap<HealingId, Open>,
    /// When the last healing of each subject ended.
    ended: BTreeMap<Detector, BTreeMap<String, Timestamp>>,
    /// What was done by ourselves, and when.
    done: VecDeque<(Detector, Timestamp)>,
}

impl Healer {
    /// A healer that knows of nothing yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            done: VecDeque::new(),
        }
    }

    /// Takes up an open healing as the history has it. What was about to be done is to be done.
    pub fn restore(&mut self, healing: Healing, now: Timestamp) -> Vec<Deed> {
        self.count(healing.detector, healing.applied, healing.by.as_deref());
        let due = healing.state == State::Proposed && healing.mode == Mode::Act && healing.held.is_none();
        let doing = due.then(|| Doing::Apply(OURSELVES.to_owned()));
        let id = healing.id;
        self.open.insert(id, Open { healing, seen: now, doing, tries: 0 });
        if due { vec![Deed::Apply(id)] } else { Vec::new() }
    }

    /// Remembers a healing that has ended: what was before its end is not found again.
    pub fn remember(&mut self, key: (Detector, &str), ended: Timestamp, applied: Option<(Timestamp, &str)>) {
        self.end(key.0, key.1, ended);
        self.count(key.0, applied.map(|(at, _)| at), applied.map(|(_, by)| by));
    }

    /// The healings that are open.
    pub fn open(&self) -> impl Iterator<Item = &Healing> {
        self.open.values().map(|open| &open.healing)
    }

    /// One of them.
    pub fn find(&self, id: HealingId) -> Option<&Healing> {
        self.open.get(&id).map(|open| &open.healing)
    }

    /// Looks at the fleet.
    pub fn look(&mut self, seen: &Seen, now: Timestamp) -> Vec<Deed> {
        let mut deeds = self.follow(seen, now);
        for rule in RULES {
            if self.settings.mode_of(rule.detector) == Set::Off {
                continue;
            }
            for finding in self.found(rule, seen, now) {
                deeds.extend(self.begin(rule, finding, seen, now));
            }
        }
        deeds.extend(self.expire(now));
        deeds
    }

    fn found(&mut self, rule: &Rule, seen: &Seen, now: Timestamp) -> Vec<Finding> {
        let window = rule.window.unwrap_or(self.settings.window);
        let of_rule = |open: &&Open| open.healing.detector == rule.detector;
        let applied: BTreeSet<&str> = self
            .open
            .values()
            .filter(of_rule)
            .filter(|open| open.healing.state == State::Applied)
            .map(|open| open.healing.subject.as_str())
            .collect();
        let none = BTreeMap::new();
        let ended = self.ended.get(&rule.detector).unwrap_or(&none);
        let found = detect::find(rule, seen, &Known { now, window, open: applied, ended });
        let mut fresh = Vec::new();
        for finding in found {
            let known = self.open.values_mut().find(|open| {
                open.healing.detector == rule.detector && open.healing.subject == finding.subject
            });
            match known {
                Some(open) => open.seen = now,
                None => fresh.push(finding),
            }
        }
        fresh
    }

    /// Begins a healing: it is recorded, and then done, if it may be.
    fn begin(&mut self, rule: &Rule, finding: Finding, seen: &Seen, now: Timestamp) -> Vec<Deed> {
        if self.open.len() >= OPEN_MAX {
            tracing::warn!(subject = finding.subject, "{OPEN_MAX} healings are open: this one is not begun");
            return Vec::new();
        }
        let held = self.held(rule, seen, now);
        let acts = self.settings.mode_of(rule.detector) == Set::Act;
        let id = HealingId::of(rule.detector.as_str(), &finding.subject, finding.since, &finding.first);
        let healing = Healing {
            schema: SCHEMA_VERSION,
            id,
            revision: 1,
            detector: rule.detector,
            subject: finding.subject,
            remedy: rule.remedy,
            change: finding.change,
            state: State::Proposed,
            mode: if acts { Mode::Act } else { Mode::Propose },
            message: finding.message,
            evidence: finding.evidence.into_iter().take(EVIDENCE_MAX).collect(),
            since: finding.since,
            found: now,
            applied: None,
            by: None,
            took: None,
            well: None,
            well_after: None,
            ended: None,
            undone_by: None,
            held: held.filter(|_| acts),
            answered: None,
        };
        let due = acts && healing.held.is_none();
        let mut deeds = vec![Deed::Record(Box::new(healing.clone()))];
        deeds.extend(due.then_some(Deed::Apply(id)));
        let doing = due.then(|| Doing::Apply(OURSELVES.to_owned()));
        self.open.insert(id, Open { healing, seen: now, doing, tries: 0 });
        deeds
    }

    /// Why no more may be done by this rule now.
    fn held(&self, rule: &Rule, seen: &Seen, now: Timestamp) -> Option<String> {
        let of_rule = |open: &&Open| open.healing.detector == rule.detector;
        let is_in = |open: &&Open| open.healing.state == State::Applied || open.doing.is_some();
        let subjects: BTreeSet<&str> = self
            .open
            .values()
            .filter(of_rule)
            .filter(is_in)
            .map(|open| open.healing.subject.as_str())
            .collect();
        let doing = self.open.values().filter(of_rule).filter(|open| open.doing.is_some()).count();
        let lately = self
            .done
            .iter()
            .filter(|(detector, at)| *detector == rule.detector && within(*at, now, HOUR))
            .count();
        if !can_undo(rule.remedy) {
            // It changes nothing: a person is told, or told what others do.
            return None;
        }
        let most = self.settings.actions_max;
        if lately + doing >= most as usize {
            return Some(format!(
                "this rule does {most} things an hour at most by itself (insight.healing.actions_max)"
            ));
        }
        match rule.bound {
            Bound::AtOnce(most) if subjects.len() >= most => {
                Some(format!("this rule has {most} things done at one moment at most by itself"))
            }
            Bound::AtOnce(_) => None,
            Bound::HalfOfFleet => {
                let mut fleet: BTreeSet<String> = seen
                    .tries(now, self.settings.window)
                    .map(|one| format!("worker={}", one.worker))
                    .collect();
                fleet.extend(subjects.iter().map(|subject| (*subject).to_owned()));
                let after = subjects.len() + 1;
                (after * 2 > fleet.len()).then(|| {
                    format!(
                        "with it, {after} of {} workers were drained: no more than half are, without a person's word",
                        fleet.len()
                    )
                })
            }
        }
    }

    /// What became of healings that were applied.
    fn follow(&mut self, seen: &Seen, now: Timestamp) -> Vec<Deed> {
        let mut deeds = Vec::new();
        let applied = |open: &&Open| open.healing.state == State::Applied && open.doing.is_none();
        let ids: Vec<HealingId> = self.open.values().filter(applied).map(|open| open.healing.id).collect();
        for id in ids {
            let Some(open) = self.open.get_mut(&id) else { continue };
            match detect::course(&open.healing, seen, now) {
                Course::Open => {}
                Course::Well(at) => {
                    open.healing.well = Some(at);
                    open.healing.well_after = Some(between(open.healing.found, at));
                    deeds.push(record(open));
                }
                Course::Past(at, why) => {
                    open.healing.well = Some(at);
                    open.healing.well_after = Some(between(open.healing.found, at));
                    deeds.extend(self.close(id, State::Over, Some(why), now));
                }
                Course::Over(why) => deeds.extend(self.close(id, State::Over, Some(why), now)),
            }
        }
        deeds
    }

    /// Proposals that nothing speaks for any more are over.
    fn expire(&mut self, now: Timestamp) -> Vec<Deed> {
        let window = self.settings.window;
        let is_past = |open: &&Open| {
            open.healing.state == State::Proposed && open.doing.is_none() && !within(open.seen, now, window)
        };
        let past: Vec<HealingId> = self.open.values().filter(is_past).map(|open| open.healing.id).collect();
        let why = || Some("nothing speaks for it any more".to_owned());
        past.into_iter().filter_map(|id| self.close(id, State::Over, why(), now)).collect()
    }

    /// Takes a decision in; nothing, where it was taken in before.
    pub fn decide(&mut self, id: HealingId, decided: &Decided, now: Timestamp) -> Vec<Deed> {
        let Some(open) = self.open.get_mut(&id) else { return Vec::new() };
        if open.healing.answered.is_some_and(|answered| answered >= decided.at) {
            return Vec::new();
        }
        open.healing.answered = Some(decided.at);
        open.tries = 0;
        match (open.healing.state, decided.wanted) {
            (State::Proposed, Wanted::Apply) => {
                // It may be under way already, by ourselves.
                open.doing = Some(Doing::Apply(decided.by.clone()));
                vec![Deed::Apply(id)]
            }
            (State::Proposed, Wanted::Undo) if open.doing.is_none() => {
                // Declined: there is nothing to take back, and what people did by hand stays.
                open.healing.undone_by = Some(decided.by.clone());
                self.close(id, State::Undone, None, now).into_iter().collect()
            }
            (State::Proposed | State::Applied, Wanted::Undo) => {
                // What was about to be done may be half done.
                open.doing = Some(Doing::Undo(decided.by.clone()));
                vec![Deed::Undo(id)]
            }
            (State::Applied, Wanted::Apply)
            | (State::Failed | State::Undone | State::Over | State::Unknown, _)
            | (_, Wanted::Unknown) => {
                vec![record(open)]
            }
        }
    }

    /// Whether a deed is still to be done: a later decision may have changed that.
    pub fn wants(&self, deed: &Deed) -> bool {
        let doing = |id: &HealingId| self.open.get(id).and_then(|open| open.doing.as_ref());
        match deed {
            Deed::Record(_) => true,
            Deed::Apply(id) => matches!(doing(id), Some(Doing::Apply(_))),
            Deed::Undo(id) => matches!(doing(id), Some(Doing::Undo(_))),
        }
    }

    /// A remedy was applied, or taken back.
    pub fn done(&mut self, id: HealingId, now: Timestamp) -> Vec<Deed> {
        let Some(open) = self.open.get_mut(&id) else { return Vec::new() };
        match open.doing.take() {
            Some(Doing::Apply(by)) => {
                let healing = &mut open.healing;
                healing.state = State::Applied;
                (healing.applied, healing.held) = (Some(now), None);
                healing.took = Some(between(healing.found, now));
                healing.by = Some(by.clone());
                let detector = healing.detector;
                let deeds = vec![record(open)];
                self.count(detector, Some(now), Some(&by));
                deeds
            }
            Some(Doing::Undo(by)) => {
                open.healing.undone_by = Some(by);
                self.close(id, State::Undone, None, now).into_iter().collect()
            }
            None => Vec::new(),
        }
    }

    /// A deed could not be done; `passing` where it may be possible later.
    pub fn failed(&mut self, id: HealingId, why: &str, passing: bool, now: Timestamp) -> Vec<Deed> {
        let Some(open) = self.open.get_mut(&id) else { return Vec::new() };
        open.tries += 1;
        let again = passing && open.tries < TRIES_MAX;
        match (&open.doing, again) {
            (Some(Doing::Apply(_)), true) => vec![Deed::Apply(id)],
            (Some(Doing::Undo(_)), true) => vec![Deed::Undo(id)],
            (Some(Doing::Apply(_)), false) => {
                open.doing = None;
                self.close(id, State::Failed, Some(why.to_owned()), now).into_iter().collect()
            }
            (Some(Doing::Undo(_)), false) => {
                // It stands as it stood, and a person may say so again.
                open.doing = None;
                open.healing.held = Some(format!("it could not be undone: {why}"));
                vec![record(open)]
            }
            (None, _) => Vec::new(),
        }
    }

    fn close(&mut self, id: HealingId, state: State, why: Option<String>, now: Timestamp) -> Option<Deed> {
        let mut open = self.open.remove(&id)?;
        open.healing.state = state;
        open.healing.ended = Some(now);
        open.healing.held = why.or(open.healing.held.take());
        self.end(open.healing.detector, &open.healing.subject, now);
        Some(record(&mut open))
    }

    fn end(&mut self, detector: Detector, subject: &str, at: Timestamp) {
        let of_rule = self.ended.entry(detector).or_default();
        let known = of_rule.entry(subject.to_owned()).or_insert(at);
        *known = at.max(*known);
        if of_rule.len() > ENDS_MAX
            && let Some(oldest) =
                of_rule.iter().min_by_key(|(_, at)| **at).map(|(subject, _)| subject.clone())
        {
            of_rule.remove(&oldest);
        }
    }

    fn count(&mut self, detector: Detector, applied: Option<Timestamp>, by: Option<&str>) {
        if let (Some(at), Some(OURSELVES)) = (applied, by) {
            self.done.push_back((detector, at));
            // Several rules, each with a bound: what goes is older than an hour.
            let most = RULES.len() * (self.settings.actions_max as usize + 1) * 2;
            if self.done.len() > most
                && let Some(oldest) = self.done.iter().map(|(_, at)| *at).min()
            {
                self.done.retain(|(_, at)| *at > oldest);
            }
        }
    }
}

/// The document of how it stands now.
fn record(open: &mut Open) -> Deed {
    open.healing.revision += 1;
    Deed::Record(Box::new(open.healing.clone()))
}

fn within(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    Duration::try_from(now.duration_since(at)).is_ok_and(|passed| passed <= window) || at > now
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or(Duration::ZERO)
}

/// Whether a remedy can be taken back.
pub fn can_undo(remedy: Remedy) -> bool {
    match remedy {
        Remedy::Drain | Remedy::Quarantine | Remedy::RollBack => true,
        Remedy::Rebuild | Remedy::Restart | Remedy::Alert | Remedy::Unknown => false,
    }
}

#[cfg(test)]
mod tests;
