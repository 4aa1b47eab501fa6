mod amounts;

use super::*;
use crate::watch::testing::one;
use evalfleet_analytics::alarm::Settings;
use evalfleet_proto::alert::{Dismissal, Means, Outcome, State};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

fn watcher(reruns_max: u32) -> Watcher {
    Watcher::new(Bounds { reruns_max, life: Settings::default() })
}

/// A run of rounds over three cases, with the deeds that came of them.
struct Stage {
    watcher: Watcher,
    nth: u32,
    deeds: Vec<Deed>,
}

impl Stage {
    fn new(reruns_max: u32) -> Self {
        Self { watcher: watcher(reruns_max), nth: 0, deeds: Vec::new() }
    }

    fn now(&self) -> Timestamp {
        one(self.nth).at
    }

    fn see(&mut self, sighting: Sighting) -> Vec<Deed> {
        let sighting = Sighting { at: self.now(), ..sighting };
        let deeds = self.watcher.see(&Arc::new(sighting), self.now());
        self.deeds.extend(deeds.clone());
        self.nth += 1;
        deeds
    }

    fn round(&mut self, version: &str, broken: bool) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for case in ["s/c1", "s/c2", "s/c3"] {
            let worker = if self.nth.is_multiple_of(2) { "w1" } else { "w2" };
            deeds.extend(self.see(Sighting {
                case: Some(case.into()),
                outcome: Some(!(broken && case == "s/c2")),
                version: Some(version.into()),
                worker: Some(worker.into()),
                ..one(self.nth)
            }));
        }
        deeds
    }

    /// Answers what is to be run again, until nothing more is.
    fn answer(&mut self, deeds: Vec<Deed>, mut outcome: impl FnMut(JobId) -> (Option<bool>, &'static str)) {
        let mut open = deeds;
        while !open.is_empty() {
            let mut next = Vec::new();
            for deed in open {
                let Deed::Rerun { of, id, .. } = deed else { continue };
                let (outcome, worker) = outcome(of);
                let rerun =
                    Sighting { id, rerun: true, outcome, worker: Some(worker.into()), ..one(self.nth) };
                next.extend(self.see(rerun));
            }
            open = next;
        }
    }

    fn told(&self) -> Vec<&Alert> {
        self.deeds.iter().filter(|deed| matches!(deed, Deed::Tell(_))).filter_map(alert).collect()
    }

    fn last(&self) -> &Alert {
        self.deeds.iter().rev().find_map(alert).expect("there is an alert")
    }
}

fn alert(deed: &Deed) -> Option<&Alert> {
    match deed {
        Deed::Record(alert) | Deed::Tell(alert) => Some(alert),
        Deed::Rerun { .. } => None,
    }
}

/// Rounds of the broken version until something is suspected.
fn until_suspected(stage: &mut Stage) -> Vec<Deed> {
    (0..10).for_each(|_| assert!(stage.round("old", false).is_empty()));
    (0..10).map(|_| stage.round("new", true)).find(|deeds| !deeds.is_empty()).expect("it is suspected")
}

#[test]
fn a_version_that_breaks_one_case_is_told_of_once_reruns_bear_it_out_and_closed_when_it_is_well() {
    let mut stage = Stage::new(12);
    let deeds = until_suspected(&mut stage);
    assert!(stage.told().is_empty(), "nobody is told of a suspicion");
    let old: Vec<JobId> = (0..30).map(|nth| one(nth).id).collect();
    stage.answer(deeds, |of| (Some(old.contains(&of)), "w2"));
    let [raised] = stage.told()[..] else { panic!("{:?}", stage.told()) };
    assert_eq!((raised.state, raised.confirmed_by), (State::Raised, Some(Means::Reruns)));
    assert_eq!((raised.subject.as_str(), raised.cases.as_slice()), ("tool=read", &["s/c2".to_owned()][..]));
    let culprit = raised.culprit.as_ref().expect("it is named");
    assert_eq!(
        (culprit.attribute.as_str(), culprit.value.as_str(), culprit.before.as_str()),
        ("version", "new", "old")
    );
    assert!(raised.message.contains("version new"), "{}", raised.message);
    assert!(raised.cost.reruns >= 2 && !raised.cost.worker.is_zero(), "{:?}", raised.cost);
    assert!(raised.reruns.iter().any(|rerun| rerun.before && rerun.outcome == Some(Outcome::Fine)));
    // More of the same is the same alarm.
    (0..10).for_each(|_| drop(stage.round("new", true)));
    assert_eq!(stage.told().len(), 1);
    (0..10).for_each(|_| drop(stage.round("fixed", false)));
    let told = stage.told();
    assert_eq!(told.len(), 2);
    assert_eq!((told[1].state, told[1].id), (State::Closed, told[0].id));
    assert!(told[1].revision > told[0].revision);
}

#[test]
fn reruns_that_pass_dismiss_it_and_nobody_hears() {
    let mut stage = Stage::new(12);
    let deeds = until_suspected(&mut stage);
    stage.answer(deeds, |_| (Some(true), "w1"));
    let last = stage.last();
    assert_eq!((last.state, last.dismissed), (State::Dismissed, Some(Dismissal::Fine)));
    assert!(stage.told().is_empty());
}

#[test]
fn where_what_was_well_is_bad_now_as_well_what_was_run_again_decides_nothing() {
    for lasts in [false, true] {
        let mut stage = Stage::new(12);
        let deeds = until_suspected(&mut stage);
        stage.answer(deeds, |_| (Some(false), "w2"));
        assert!(stage.told().is_empty(), "{:?}", stage.told());
        (0..10).for_each(|_| drop(stage.round("new", lasts)));
        let last = stage.deeds.iter().filter_map(alert).find(|alert| alert.state != State::Confirming);
        let last = last.expect("new evaluations decide");
        assert_eq!(last.state, if lasts { State::Raised } else { State::Dismissed }, "{last:?}");
        assert_eq!(last.confirmed_by, lasts.then_some(Means::Evaluations));
    }
}

#[test]
fn without_reruns_new_evaluations_decide() {
    for refuse in [false, true] {
        let mut stage = Stage::new(if refuse { 12 } else { 0 });
        let deeds = until_suspected(&mut stage);
        for deed in deeds {
            if let Deed::Rerun { alert, id, .. } = deed {
                let now = stage.now();
                stage.watcher.refused(alert, id, now);
            }
        }
        (0..6).for_each(|_| drop(stage.round("new", true)));
        let raised = stage.told()[0];
        assert_eq!((raised.state, raised.confirmed_by), (State::Raised, Some(Means::Evaluations)));
        assert!(raised.reruns.iter().all(|rerun| rerun.outcome == Some(Outcome::Spoiled)), "{raised:?}");
        assert!(raised.culprit.is_some() && raised.cost.reruns == 0, "{raised:?}");
    }
}

/// Both workers pass, and then one of them fails, until something is suspected.
fn until_one_worker_is_suspected(stage: &mut Stage) -> Vec<Deed> {
    for nth in 0..40 {
        let worker = if nth % 2 == 0 { "w1" } else { "w2" };
        stage.see(Sighting { worker: Some(worker.into()), ..one(nth) });
    }
    let bad = |nth| Sighting { outcome: Some(false), worker: Some("w1".into()), ..one(nth) };
    (40..50).map(|nth| stage.see(bad(nth))).find(|deeds| !deeds.is_empty()).expect("suspected")
}

#[test]
fn what_only_one_worker_fails_is_not_the_subjects_doing() {
    let mut stage = Stage::new(12);
    let deeds = until_one_worker_is_suspected(&mut stage);
    let mut turn = 0;
    stage.answer(deeds, |_| {
        turn += 1;
        if turn % 2 == 0 { (Some(false), "w1") } else { (Some(true), "w2") }
    });
    assert!(stage.told().is_empty());
    assert_eq!(stage.last().state, State::Dismissed, "{:?}", stage.last());
}

#[test]
fn what_machines_spoiled_decides_nothing_and_ends_in_time() {
    let mut stage = Stage::new(12);
    let deeds = until_suspected(&mut stage);
    stage.answer(deeds, |_| (None, "w1"));
    let last = stage.last().clone();
    assert_eq!((last.state, last.reruns.len()), (State::Confirming, 12));
    let later = stage.now() + Settings::default().confirm_within;
    let deeds = stage.watcher.tick(later);
    let ended = deeds.iter().find_map(alert).expect("it ends");
    assert_eq!((ended.state, ended.dismissed), (State::Dismissed, Some(Dismissal::OutOfTime)));
    assert!(
        stage.watcher.tick(later + Settings::default().rest).is_empty() && stage.watcher.alarms.is_empty()
    );
}

#[test]
fn one_that_is_taken_up_again_goes_on_where_it_was() {
    let mut stage = Stage::new(12);
    let deeds = until_suspected(&mut stage);
    let [Deed::Record(recorded), Deed::Rerun { id, .. }, ..] = &deeds[..] else { panic!("{deeds:?}") };
    let mut later = watcher(12);
    later.restore((**recorded).clone());
    let past = Sighting { id: *id, rerun: true, outcome: Some(false), ..one(99) };
    later.learn(&Arc::new(past), stage.now());
    let unanswered = later.unanswered();
    let asked = deeds.iter().filter(|deed| matches!(deed, Deed::Rerun { .. })).count();
    assert_eq!(unanswered.len(), asked - 1);
    stage.watcher = later;
    let old: Vec<JobId> = (0..30).map(|nth| one(nth).id).collect();
    stage.answer(unanswered, |of| (Some(old.contains(&of)), "w2"));
    assert_eq!(stage.told().len(), 1);
}

#[test]
fn what_has_ended_is_not_begun_once_more_by_the_same_evaluations() {
    let mut stage = Stage::new(12);
    let deeds = until_suspected(&mut stage);
    let id = deeds.iter().find_map(alert).expect("an alert").id;
    let mut again = Stage::new(12);
    again.watcher.remember([id]);
    (0..10).for_each(|_| assert!(again.round("old", false).is_empty()));
    let first = (0..10).map(|_| again.round("new", true)).find(|deeds| !deeds.is_empty());
    assert!(
        first.as_ref().is_none_or(|deeds| deeds.iter().filter_map(alert).all(|one| one.id != id)),
        "{first:?}"
    );
}

#[test]
fn what_the_only_worker_that_fails_ran_again_counts_no_more_after_a_new_start() {
    let mut stage = Stage::new(12);
    let deeds = until_one_worker_is_suspected(&mut stage);
    stage.answer(deeds, |_| (Some(false), "w1"));
    let last = stage.last().clone();
    assert_eq!((last.state, last.suspect.as_deref()), (State::Confirming, Some("w1")));
    let mut later = watcher(12);
    later.restore(last);
    assert!(later.tick(stage.now()).iter().all(|deed| !matches!(deed, Deed::Tell(_))));
}

#[test]
fn however_much_fails_only_so_much_is_run_again_at_once_and_the_rest_in_its_turn() {
    let mut watcher = watcher(12);
    let (mut nth, mut asked) = (0, Vec::new());
    let mut see = |watcher: &mut Watcher, subject: u32, passed| {
        nth += 1;
        let subject = format!("tool=t{subject}").as_str().into();
        let seen = Sighting { subject, outcome: Some(passed), ..one(nth) };
        watcher.see(&Arc::new(seen), one(nth).at)
    };
    for round in 0..40 {
        for subject in 0..20 {
            asked.extend(
                see(&mut watcher, subject, round < 30)
                    .into_iter()
                    .filter(|deed| matches!(deed, Deed::Rerun { .. })),
            );
        }
    }
    assert_eq!(asked.len(), UNDER_WAY_MAX);
    // Each that comes back makes room for one more, until all had their turn.
    let mut answered = 0;
    while let Some(Deed::Rerun { id, .. }) = asked.pop() {
        answered += 1;
        let rerun = Sighting { id, rerun: true, outcome: Some(true), ..one(9999) };
        let deeds = watcher.see(&Arc::new(rerun), one(9999).at);
        asked.extend(deeds.into_iter().filter(|deed| matches!(deed, Deed::Rerun { .. })));
        assert!(asked.len() < UNDER_WAY_MAX + 1);
    }
    assert!(watcher.waiting.is_empty() && watcher.under_way.is_empty());
    let undecided = watcher.alarms.values().filter(|alarm| alarm.ended().is_none()).count();
    assert!(answered >= 20 * 4 && undecided == 0, "{answered}, {undecided}");
}

#[test]
fn durations_are_held_against_the_same_case_on_the_same_accelerator() {
    let mut stage = Stage::new(0);
    let see = |stage: &mut Stage, case: &str, accelerator: &str, ms: u64| {
        // A little noise, as clocks have.
        let wall = Duration::from_micros(ms * 1000 + u64::from(stage.nth * 7919 % 977));
        let (case, accelerator) = (Some(case.into()), Some(accelerator.into()));
        stage.see(Sighting { case, accelerator, wall, ..one(stage.nth) })
    };
    (0..60).for_each(|_| assert!(see(&mut stage, "s/c1", "kvm", 100).is_empty()));
    let deeds = (0..60).map(|_| see(&mut stage, "s/c1", "kvm", 200)).find(|deeds| !deeds.is_empty());
    let suspected = deeds.iter().flatten().find_map(alert).expect("it is suspected").clone();
    assert_eq!((suspected.kind, suspected.accelerator.as_deref()), (Kind::Slower, Some("kvm")));
    for _ in 0..30 {
        assert!(see(&mut stage, "s/c1", "tcg", 900).is_empty(), "another accelerator is no news");
        assert!(see(&mut stage, "s/c2", "kvm", 10).is_empty(), "nor is another case");
    }
    (0..30).for_each(|_| drop(see(&mut stage, "s/c1", "kvm", 200)));
    let raised = stage.told()[0];
    assert_eq!((raised.id, raised.state), (suspected.id, State::Raised));
    (0..60).for_each(|_| drop(see(&mut stage, "s/c1", "kvm", 100)));
    assert_eq!(stage.told().last().map(|alert| alert.state), Some(State::Closed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is recorded, in whatever order reruns come back: one open alarm for each kind and subject, people hear
    /// only of what was confirmed, each once, revisions grow, and no more is run again than may be.
    #[test]
    fn people_hear_of_each_once_and_only_when_it_is_confirmed(
        events in prop::collection::vec((0_u8..4, prop::option::weighted(0.9, any::<bool>()), 0_u8..10), 0..400),
    ) {
        let mut watcher = watcher(12);
        let mut asked: Vec<Deed> = Vec::new();
        let mut known: BTreeMap<AlertId, (u32, State)> = BTreeMap::new();
        let mut reruns: BTreeMap<AlertId, u32> = BTreeMap::new();
        let subjects = ["tool=a", "tool=b", "tool=c", "tool=d"];
        // Better times first.
        for nth in 0..80 {
            let subject = subjects[nth as usize % 4].into();
            let deeds = watcher.see(&Arc::new(Sighting { subject, ..one(nth) }), one(nth).at);
            prop_assert!(deeds.is_empty());
        }
        for (nth, (subject, outcome, what)) in (80..).zip(events) {
            let now = one(nth).at;
            let deeds = match asked.pop() {
                Some(Deed::Rerun { id, .. }) if what < 4 => {
                    let rerun = Sighting { id, rerun: true, outcome, ..one(nth) };
                    watcher.see(&Arc::new(rerun), now)
                }
                Some(Deed::Rerun { alert, id, .. }) if what == 4 => watcher.refused(alert, id, now),
                other => {
                    asked.extend(other);
                    let subject = subjects[subject as usize].into();
                    let mut deeds = watcher.see(&Arc::new(Sighting { subject, outcome, ..one(nth) }), now);
                    deeds.extend(watcher.tick(now));
                    deeds
                }
            };
            for deed in deeds {
                match &deed {
                    Deed::Record(alert) | Deed::Tell(alert) => {
                        let before = known.insert(alert.id, (alert.revision, alert.state));
                        prop_assert!(before.is_none_or(|(revision, _)| revision < alert.revision));
                        let ended = before.is_some_and(|(_, state)| matches!(state, State::Closed | State::Dismissed));
                        prop_assert!(!ended || before.is_some_and(|(_, state)| state == alert.state));
                        if matches!(deed, Deed::Tell(_)) {
                            prop_assert!(matches!(alert.state, State::Raised | State::Closed));
                            prop_assert!(before.is_none_or(|(_, state)| state != alert.state), "it is told once");
                            prop_assert!(alert.confirmed_by.is_some());
                        }
                    }
                    Deed::Rerun { alert, .. } => {
                        let count = reruns.entry(*alert).or_default();
                        *count += 1;
                        prop_assert!(*count <= 12);
                        asked.push(deed);
                    }
                }
            }
            let mut open: Vec<_> = watcher.alarms.values().filter(|alarm| alarm.ended().is_none()).map(|alarm| (&alarm.alert.subject, alarm.alert.kind)).collect();
            let all = open.len();
            open.sort_unstable();
            open.dedup();
            prop_assert_eq!(open.len(), all);
        }
    }
}
