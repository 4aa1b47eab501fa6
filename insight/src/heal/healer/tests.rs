use super::*;
use crate::heal::seen::{Death, List, Tag, Try};
use evalfleet_proto::ids::JobId;
use proptest::prelude::*;

const WINDOW: Duration = Duration::from_secs(900);

fn settings(mode: Set, actions_max: u32) -> Settings {
    Settings { mode, rules: BTreeMap::new(), window: WINDOW, actions_max }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_750_000_000 + second).unwrap()
}

fn job(nth: u32) -> JobId {
    "0198c1c2-0000-7000-8000-000000000000".parse::<JobId>().unwrap().derived("job", nth)
}

fn one(nth: u32, worker: &str, second: i64, fault: bool) -> Try {
    let fault = fault.then(|| "no VM could be made".into());
    Try { worker: worker.into(), at: at(second), fault, ..Try::blank(job(nth)) }
}

/// Each worker tries one job a second, from `begin` on: those that are `bad` always break.
fn course(seen: &mut Seen, workers: &[&str], bad: &[&str], begin: i64, count: i64) {
    for second in begin..begin + count {
        for (nth, worker) in (0..).zip(workers) {
            let number = second as u32 * 10 + nth;
            seen.add(one(number, worker, second, bad.contains(worker)));
        }
    }
}

/// Does all that is to be done, as if it could be.
fn carry_out(healer: &mut Healer, deeds: Vec<Deed>, now: Timestamp) -> (Vec<Healing>, Vec<Deed>) {
    let (mut recorded, mut did) = (Vec::new(), Vec::new());
    let mut queue = VecDeque::from(deeds);
    while let Some(deed) = queue.pop_front() {
        match &deed {
            Deed::Record(healing) => recorded.push((**healing).clone()),
            Deed::Apply(id) | Deed::Undo(id) => {
                assert!(healer.wants(&deed));
                queue.extend(healer.done(*id, now));
                did.push(deed);
            }
        }
    }
    (recorded, did)
}

fn drained(healer: &Healer) -> Vec<String> {
    let applied = healer.open().filter(|healing| healing.state == State::Applied);
    applied.map(|healing| healing.subject.clone()).collect()
}

fn decided(wanted: Wanted, second: i64) -> Decided {
    Decided { wanted, by: "me@here".to_owned(), at: at(second) }
}

#[test]
fn one_bad_worker_among_three_is_found_drained_seen_to_be_well_and_put_back() {
    let (mut healer, mut seen) = (Healer::new(&settings(Set::Act, 3)), Seen::default());
    course(&mut seen, &["a", "b", "c"], &["b"], 0, 10);
    let deeds = healer.look(&seen, at(10));
    let (recorded, did) = carry_out(&mut healer, deeds, at(11));
    assert_eq!(did.len(), 1);
    let [proposed, applied] = &recorded[..] else { panic!("{recorded:?}") };
    assert_eq!((proposed.state, proposed.revision, &*proposed.subject), (State::Proposed, 1, "worker=b"));
    assert_eq!((applied.state, applied.by.as_deref()), (State::Applied, Some(OURSELVES)));
    assert_eq!((applied.took, applied.since), (Some(Duration::from_secs(1)), at(0)));
    assert!(applied.message.contains("10 of 10 tries of b"), "{}", applied.message);
    assert_eq!(applied.evidence[0].evaluations.len(), 10);
    assert!(applied.evidence.iter().any(|one| one.text.contains("no VM")), "{:?}", applied.evidence);
    // It is looked at again and again, and is done once.
    assert_eq!(healer.look(&seen, at(12)), []);
    course(&mut seen, &["a", "c"], &[], 12, 4);
    let deeds = healer.look(&seen, at(17));
    let (recorded, _) = carry_out(&mut healer, deeds, at(17));
    let well = &recorded[0];
    assert_eq!((well.state, well.well, well.revision), (State::Applied, Some(at(14)), 3));
    assert_eq!(well.well_after, Some(Duration::from_secs(4)));

    let id = well.id;
    let deeds = healer.decide(id, &decided(Wanted::Undo, 20), at(20));
    let (recorded, did) = carry_out(&mut healer, deeds, at(21));
    assert_eq!(did, [Deed::Undo(id)]);
    let undone = &recorded[0];
    assert_eq!((undone.state, undone.undone_by.as_deref()), (State::Undone, Some("me@here")));
    // What was before a person let it in again is not held against it.
    assert_eq!(healer.look(&seen, at(22)), []);
    course(&mut seen, &["a", "b", "c"], &["b"], 30, 10);
    let deeds = healer.look(&seen, at(40));
    let (recorded, _) = carry_out(&mut healer, deeds, at(40));
    assert_eq!((recorded.len(), recorded[0].since), (2, at(30)));
    assert_ne!(recorded[0].id, id);
}

#[test]
fn what_is_only_proposed_waits_for_a_person_and_is_over_when_it_does_not_last() {
    let (mut healer, mut seen) = (Healer::new(&settings(Set::Propose, 3)), Seen::default());
    course(&mut seen, &["a", "b", "c"], &["b"], 0, 10);
    let deeds = healer.look(&seen, at(10));
    let (recorded, did) = carry_out(&mut healer, deeds, at(10));
    assert_eq!((did.len(), recorded[0].mode, recorded[0].state), (0, Mode::Propose, State::Proposed));
    let id = recorded[0].id;
    let deeds = healer.decide(id, &decided(Wanted::Apply, 11), at(11));
    let (recorded, did) = carry_out(&mut healer, deeds, at(12));
    assert_eq!(did, [Deed::Apply(id)]);
    assert_eq!((recorded[0].state, recorded[0].by.as_deref()), (State::Applied, Some("me@here")));
    // Said again, and taken in once.
    assert_eq!(healer.decide(id, &decided(Wanted::Apply, 11), at(13)), []);

    let mut healer = Healer::new(&settings(Set::Propose, 3));
    assert_eq!(healer.look(&seen, at(10)).len(), 1);
    assert_eq!(healer.look(&seen, at(500)), []);
    let past = WINDOW.as_secs() as i64 + 1;
    let over = healer.look(&seen, at(500 + past));
    let [Deed::Record(over)] = &over[..] else { panic!("{over:?}") };
    assert_eq!((over.state, over.ended), (State::Over, Some(at(500 + past))));

    let mut healer = Healer::new(&settings(Set::Off, 3));
    assert_eq!(healer.look(&seen, at(10)), []);
}

#[test]
fn a_proposal_is_declined_without_anything_being_done() {
    let (mut healer, mut seen) = (Healer::new(&settings(Set::Propose, 3)), Seen::default());
    course(&mut seen, &["a", "b", "c"], &["b"], 0, 10);
    healer.look(&seen, at(10));
    let id = healer.open().next().unwrap().id;
    let deeds = healer.decide(id, &decided(Wanted::Undo, 11), at(11));
    let (recorded, did) = carry_out(&mut healer, deeds, at(11));
    assert_eq!((did.len(), recorded[0].state, recorded[0].applied), (0, State::Undone, None));
}

#[test]
fn whoever_starts_anew_does_what_was_about_to_be_done_and_finds_nothing_twice() {
    let mut seen = Seen::default();
    course(&mut seen, &["a", "b", "c"], &["b"], 0, 10);
    let mut healer = Healer::new(&settings(Set::Act, 3));
    let deeds = healer.look(&seen, at(10));
    let Deed::Record(proposed) = &deeds[0] else { panic!("{deeds:?}") };

    // It ended before it was recorded: the same is found, under the same name.
    let mut next = Healer::new(&settings(Set::Act, 3));
    assert!(matches!(&next.look(&seen, at(12))[0], Deed::Record(again) if again.id == proposed.id));
    // It ended before it was done.
    let mut next = Healer::new(&settings(Set::Act, 3));
    let due = next.restore((**proposed).clone(), at(12));
    assert_eq!(due, [Deed::Apply(proposed.id)]);
    let (recorded, _) = carry_out(&mut next, due, at(13));
    assert_eq!((recorded[0].revision, recorded[0].state), (2, State::Applied));
    assert_eq!(next.look(&seen, at(13)), []);
    // It ended after.
    let mut next = Healer::new(&settings(Set::Act, 3));
    assert_eq!(next.restore(recorded[0].clone(), at(14)), []);
    assert_eq!(next.look(&seen, at(14)), []);
}

#[test]
fn what_cannot_be_done_is_tried_again_and_then_given_up() {
    let (mut healer, mut seen) = (Healer::new(&settings(Set::Act, 3)), Seen::default());
    course(&mut seen, &["a", "b", "c"], &["b"], 0, 10);
    healer.look(&seen, at(10));
    let id = healer.open().next().unwrap().id;
    for _ in 1..TRIES_MAX {
        assert_eq!(healer.failed(id, "no broker", true, at(11)), [Deed::Apply(id)]);
    }
    let given_up = healer.failed(id, "no broker", true, at(12));
    let [Deed::Record(failed)] = &given_up[..] else { panic!("{given_up:?}") };
    assert_eq!((failed.state, failed.held.as_deref()), (State::Failed, Some("no broker")));
    assert_eq!(healer.open().count(), 0);
}

#[test]
fn a_drained_worker_that_somebody_lets_in_is_healed_no_more() {
    let (mut healer, mut seen) = (Healer::new(&settings(Set::Act, 3)), Seen::default());
    course(&mut seen, &["a", "b", "c"], &["b"], 0, 10);
    let deeds = healer.look(&seen, at(10));
    carry_out(&mut healer, deeds, at(10));
    // What it had in hand when it heard of it says nothing.
    course(&mut seen, &["b"], &["b"], 11, 9);
    assert_eq!(healer.look(&seen, at(20)), []);
    course(&mut seen, &["a", "b", "c"], &[], 21, 3);
    let deeds = healer.look(&seen, at(25));
    let (recorded, _) = carry_out(&mut healer, deeds, at(25));
    assert!(recorded.iter().any(|healing| healing.state == State::Over), "{recorded:?}");
}

#[test]
fn two_workers_of_three_are_not_drained_and_the_second_is_proposed() {
    let (mut healer, mut seen) = (Healer::new(&settings(Set::Act, 10)), Seen::default());
    course(&mut seen, &["a", "b", "c"], &["b"], 0, 10);
    let deeds = healer.look(&seen, at(10));
    carry_out(&mut healer, deeds, at(10));
    course(&mut seen, &["a", "c"], &["c"], 12, 12);
    let deeds = healer.look(&seen, at(30));
    let (recorded, did) = carry_out(&mut healer, deeds, at(30));
    assert_eq!(did, []);
    let held = recorded.iter().find(|healing| healing.subject == "worker=c").expect("it is found");
    assert!(held.held.as_deref().is_some_and(|why| why.contains("2 of 3 workers")), "{held:?}");
    assert_eq!(drained(&healer), ["worker=b"]);
    // A person may.
    let deeds = healer.decide(held.id, &decided(Wanted::Apply, 31), at(31));
    assert_eq!(carry_out(&mut healer, deeds, at(31)).1.len(), 1);
}

#[test]
fn a_job_that_breaks_everywhere_is_no_workers_fault() {
    let (mut healer, mut seen) = (Healer::new(&settings(Set::Act, 3)), Seen::default());
    course(&mut seen, &["a", "b", "c"], &[], 0, 20);
    // Each of these breaks on b several times, and once on another.
    for nth in 0..20 {
        for (number, worker) in (1..).zip(["b", "b", "b", "a"]) {
            seen.add(Try { number, ..one(10_000 + nth, worker, 5, true) });
        }
    }
    assert_eq!(healer.look(&seen, at(21)), []);
}

/// A result of a tool in an image.
fn result(nth: u32, (worker, tool, image): (&str, &str, &str), second: i64, passed: bool) -> Try {
    let (tool, image) = (Some(tool.into()), Some(image.into()));
    Try { passed: Some(passed), tool, image, ..one(nth, worker, second, false) }
}

/// Calls of a tool that die, each after a try on two of the workers; other tools are well on all of them.
fn poisoned(tools: &[&str]) -> Seen {
    let mut seen = Seen::default();
    for nth in 0..30 {
        let worker = ["a", "b", "c"][nth as usize % 3];
        seen.add(result(nth, (worker, "steady", "x"), i64::from(nth), true));
    }
    for (nth, tool) in
        (1000..).step_by(100).zip(tools).flat_map(|(from, tool)| (from..from + 5).map(move |nth| (nth, tool)))
    {
        for (number, worker) in [(1, "a"), (2, "b")] {
            seen.add(Try { number, ..one(nth, worker, 10, true) });
        }
        seen.add_death(Death { job: job(nth), tool: Some((*tool).into()), at: at(20) });
    }
    seen
}

#[test]
fn a_poison_tool_goes_into_quarantine_and_no_worker_is_drained_for_it() {
    let mut seen = poisoned(&["bomb"]);
    let mut healer = Healer::new(&settings(Set::Act, 3));
    let deeds = healer.look(&seen, at(30));
    let (recorded, did) = carry_out(&mut healer, deeds, at(31));
    assert_eq!(did.len(), 1, "{recorded:?}");
    let applied = &recorded[1];
    assert_eq!((&*applied.subject, applied.remedy), ("tool=bomb", Remedy::Quarantine));
    assert!(applied.message.starts_with("5 of 5 calls of bomb "), "{}", applied.message);
    assert_eq!(applied.evidence[0].evaluations.len(), 5);
    for nth in 0..5 {
        seen.add(result(5000 + nth, ("a", "steady", "x"), 40 + i64::from(nth), true));
    }
    let deeds = healer.look(&seen, at(50));
    let (recorded, _) = carry_out(&mut healer, deeds, at(50));
    assert_eq!(recorded[0].well, Some(at(44)));
    // Somebody lets it out.
    seen.quarantined = Some(List { tools: BTreeSet::new(), at: at(55) });
    let deeds = healer.look(&seen, at(56));
    assert_eq!(carry_out(&mut healer, deeds, at(56)).0[0].state, State::Over);
    assert_eq!(healer.look(&seen, at(57)), [], "what was before is not held against it");
}

#[test]
fn where_all_dies_no_tool_is_poison_and_no_more_are_put_away_at_once_than_may_be() {
    // Nothing else is well.
    let mut seen = Seen::default();
    for nth in 0..20 {
        seen.add(one(nth, ["a", "b"][nth as usize % 2], 10, true));
        seen.add_death(Death { job: job(nth), tool: Some(["x", "y"][nth as usize % 2].into()), at: at(20) });
    }
    let mut healer = Healer::new(&settings(Set::Act, 60));
    let found = healer.look(&seen, at(30));
    assert!(found.iter().all(|deed| !matches!(deed, Deed::Apply(_))), "{found:?}");
    // Of several that break at once each is worse than what is left of the others.
    let mut healer = Healer::new(&settings(Set::Act, 60));
    for tools in [&["t1"][..], &["t1", "t2"], &["t1", "t2", "t3"], &["t1", "t2", "t3", "t4"]] {
        let deeds = healer.look(&poisoned(tools), at(30));
        carry_out(&mut healer, deeds, at(30));
        assert!(drained(&healer).len() <= 3, "{:?}", drained(&healer));
    }
}

fn rebuilt(tools: &[&str], passes_after: impl Fn(&str) -> bool) -> Seen {
    let mut seen = Seen::default();
    let mut nth = 0;
    for (image, begin) in [("old", 0), ("new", 100)] {
        for second in begin..begin + 10 {
            for tool in tools {
                nth += 1;
                let passed = image == "old" || passes_after(tool);
                seen.add(result(nth, ("a", tool, image), second, passed));
            }
        }
    }
    let (name, current, others) =
        ("base".to_owned(), "new".to_owned(), vec!["old".to_owned(), "older".to_owned()]);
    seen.tags = vec![Tag { name, current, others, at: at(110) }];
    seen
}

#[test]
fn an_image_that_turned_bad_when_it_was_built_anew_is_rolled_back() {
    let mut seen = rebuilt(&["one", "two", "three"], |tool| tool == "three");
    let mut healer = Healer::new(&settings(Set::Act, 3));
    let deeds = healer.look(&seen, at(120));
    let (recorded, did) = carry_out(&mut healer, deeds, at(121));
    assert_eq!(did.len(), 1);
    let applied = &recorded[1];
    let change = applied.change.as_ref().map(|change| (change.from.as_str(), change.to.as_str()));
    assert_eq!((&*applied.subject, change, applied.since), ("image=base", Some(("new", "old")), at(100)));
    assert!(applied.message.contains("20 of 30 jobs"), "{}", applied.message);
    seen.tags[0].current = "old".to_owned();
    seen.tags[0].at = at(122);
    for nth in 0..5 {
        seen.add(result(9000 + nth, ("a", "one", "old"), 130 + i64::from(nth), true));
    }
    let deeds = healer.look(&seen, at(140));
    assert_eq!(carry_out(&mut healer, deeds, at(140)).0[0].well, Some(at(134)));
    // Built anew by somebody.
    (seen.tags[0].current, seen.tags[0].at) = ("newest".to_owned(), at(150));
    let deeds = healer.look(&seen, at(151));
    assert_eq!(carry_out(&mut healer, deeds, at(151)).0[0].state, State::Over);
}

#[test]
fn one_tool_that_does_worse_is_not_its_images_fault() {
    let found = |seen: &Seen| Healer::new(&settings(Set::Act, 3)).look(seen, at(120));
    assert_eq!(found(&rebuilt(&["one", "two", "three"], |tool| tool != "one")), []);
    assert_eq!(found(&rebuilt(&["one", "two"], |_| true)), []);
    // Both were in use all the time: nothing turned.
    let mut seen = rebuilt(&["one", "two"], |_| false);
    seen.add(result(9000, ("a", "one", "old"), 105, true));
    assert_eq!(found(&seen), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever happens, no more than half of the fleet is drained, never all, and no more in an hour than may be.
    #[test]
    fn no_bound_is_ever_passed(
        workers in 1_usize..7,
        steps in prop::collection::vec((0_usize..7, any::<bool>(), 0_i64..40, 1_u8..20), 1..120),
        actions_max in 0_u32..5,
    ) {
        let names: Vec<String> = (0..workers).map(|nth| format!("w{nth}")).collect();
        let (mut healer, mut seen) = (Healer::new(&settings(Set::Act, actions_max)), Seen::default());
        let (mut now, mut nth, mut did) = (0, 0, Vec::new());
        for (worker, fault, pause, count) in steps {
            now += pause;
            for _ in 0..count {
                nth += 1;
                seen.add(one(nth, &names[worker % workers], now, fault));
            }
            let deeds = healer.look(&seen, at(now));
            let (_, done) = carry_out(&mut healer, deeds, at(now));
            did.extend(done.iter().map(|_| now));
            let drained = drained(&healer).len();
            prop_assert!(drained * 2 <= workers, "{} of {}", drained, workers);
            prop_assert!(did.iter().filter(|then| now - **then <= 3600).count() <= actions_max as usize);
        }
    }
}

/// Where every worker breaks as often as every other, hardly ever one is drained, however often it is looked at.
#[test]
fn what_strikes_all_alike_is_nobodys_fault() {
    let mut drained_by_chance = 0;
    for seed in 0..200 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let (workers, often) = (chance.usize(1..7), chance.u32(0..=100));
        let names: Vec<String> = (0..workers).map(|nth| format!("w{nth}")).collect();
        let (mut healer, mut seen) = (Healer::new(&settings(Set::Act, 60)), Seen::default());
        for second in 0..200 {
            let worker = chance.usize(..workers);
            seen.add(one(second, &names[worker], i64::from(second), chance.u32(..100) < often));
            if second % 20 == 19 {
                let deeds = healer.look(&seen, at(i64::from(second)));
                carry_out(&mut healer, deeds, at(i64::from(second)));
            }
        }
        drained_by_chance += drained(&healer).len();
    }
    assert!(drained_by_chance <= 1, "{drained_by_chance} of 200 fleets");
}
