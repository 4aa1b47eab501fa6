//! Memory, resets, and what ails machines; and the first of several versions that is worse.

use super::*;

const MIB: u64 = 1 << 20;

impl Stage {
    /// Answers what is to be run again as `like` says of each, until nothing more is.
    fn answer_like(&mut self, deeds: Vec<Deed>, like: impl Fn(JobId) -> Sighting) -> usize {
        let (mut open, mut asked) = (deeds, 0);
        while !open.is_empty() {
            let mut next = Vec::new();
            for deed in open {
                let Deed::Rerun { of, id, .. } = deed else { continue };
                asked += 1;
                next.extend(self.see(Sighting { id, rerun: true, ..like(of) }));
            }
            open = next;
        }
        asked
    }

    fn until(&mut self, count: u32, next: impl Fn(u32) -> Sighting) -> Vec<Deed> {
        let found = (0..count).map(|_| self.see(next(self.nth))).find(|deeds| !deeds.is_empty());
        found.unwrap_or_default()
    }
}

/// A little noise, as all that is measured has.
fn noisy(nth: u32, usual: u64) -> u64 {
    usual + usual * u64::from(nth * 7919 % 977) / 9770
}

fn is_rerun(deed: &Deed) -> bool {
    matches!(deed, Deed::Rerun { .. })
}

#[test]
fn more_memory_is_an_alert_of_its_own_once_it_is_confirmed() {
    let mut stage = Stage::new(12);
    let of = |nth, mib: u64, version: &str| Sighting {
        memory: noisy(nth, mib * MIB),
        case: Some("s/c1".into()),
        version: Some(version.into()),
        accelerator: Some("kvm".into()),
        ..one(nth)
    };
    assert!(stage.until(60, |nth| of(nth, 64, "old")).is_empty());
    let old: Vec<JobId> = (0..60).map(|nth| one(nth).id).collect();
    let deeds = stage.until(60, |nth| of(nth, 200, "new"));
    stage.answer_like(deeds, |job| if old.contains(&job) { of(1, 64, "old") } else { of(1, 200, "new") });
    let [raised] = stage.told()[..] else { panic!("{:?}", stage.told()) };
    assert_eq!((raised.kind, raised.accelerator.as_deref()), (Kind::Memory, Some("kvm")));
    let mean = raised.after.memory_bytes.unwrap_or_default() / MIB as f64;
    assert!((200.0..220.0).contains(&mean) && raised.before.wall_ms.is_none(), "{raised:?}");
    assert!(
        raised.message.contains("takes more memory") && raised.message.contains(" MiB"),
        "{}",
        raised.message
    );
    assert_eq!(raised.culprit.as_ref().map(|culprit| culprit.value.as_str()), Some("new"));
}

fn reset(nth: u32, ms: u64, image: &str, worker: &str) -> Sighting {
    Sighting {
        reset: Duration::from_millis(noisy(nth, ms)),
        image: Some(image.into()),
        worker: Some(worker.into()),
        accelerator: Some("kvm".into()),
        ..one(nth)
    }
}

fn worker(nth: u32) -> &'static str {
    ["w1", "w2", "w3"][nth as usize % 3]
}

#[test]
fn an_image_whose_vms_take_longer_to_make_is_told_as_the_images() {
    let mut stage = Stage::new(12);
    assert!(stage.until(60, |nth| reset(nth, 200, "old", worker(nth))).is_empty());
    let old: Vec<JobId> = (0..60).map(|nth| one(nth).id).collect();
    let deeds = stage.until(60, |nth| reset(nth, 500, "new", worker(nth)));
    stage.answer_like(deeds, |job| {
        if old.contains(&job) { reset(1, 200, "old", "w2") } else { reset(1, 500, "new", "w2") }
    });
    let [raised] = stage.told()[..] else { panic!("{:?}", stage.told()) };
    assert_eq!((raised.kind, raised.subject.as_str()), (Kind::Reset, "image=new"));
    assert!(raised.cases.is_empty() && raised.message.contains("takes longer to make clean VMs"));
    assert_eq!(raised.confirmed_by, Some(Means::Reruns));
}

#[test]
fn a_worker_that_makes_vms_slowly_is_told_by_what_it_does_itself() {
    let mut stage = Stage::new(12);
    let of = |nth: u32, ms| reset(nth, if worker(nth) == "w2" { ms } else { 200 }, "same", worker(nth));
    assert!(stage.until(150, |nth| of(nth, 200)).is_empty());
    for _ in 0..150 {
        stage.see(of(stage.nth, 600));
    }
    let [raised] = stage.told()[..] else { panic!("{:?}", stage.told()) };
    assert_eq!((raised.kind, raised.subject.as_str()), (Kind::Reset, "worker=w2"));
    assert_eq!(raised.confirmed_by, Some(Means::Evaluations));
    assert!(!stage.deeds.iter().any(is_rerun), "others would answer");
}

fn slow(nth: u32, ms: u64) -> Sighting {
    let wall = Duration::from_millis(noisy(nth, ms));
    Sighting { wall, case: Some("s/c1".into()), version: Some("same".into()), ..one(nth) }
}

#[test]
fn where_even_what_was_fast_takes_longer_now_it_is_the_machines() {
    let mut stage = Stage::new(12);
    assert!(stage.until(60, |nth| slow(nth, 100)).is_empty());
    let deeds = stage.until(60, |nth| slow(nth, 200));
    stage.answer_like(deeds, |_| slow(1, 200));
    let last = stage.last();
    assert_eq!((last.state, last.dismissed), (State::Dismissed, Some(Dismissal::Machines)), "{last:?}");
    assert!(last.reruns.iter().filter(|rerun| rerun.before).count() > 1, "one may have met a bad machine");
    assert!(stage.told().is_empty());
}

/// What of a sighting has the versions.
type Versioned = fn(&mut Sighting, &str);

/// Versions 0, 1, … of which each is evaluated twice, and from `first` on fails; until it is suspected.
fn until_one_fails(stage: &mut Stage, first: u32, versioned: Versioned) -> Vec<Deed> {
    let of = |nth: u32| {
        let version = nth / 2;
        let mut one = one(nth);
        versioned(&mut one, &version.to_string());
        Sighting {
            case: Some("s/c1".into()),
            // It does not fail at once, so that the first evaluation of the first that is worse is no proof.
            outcome: Some(version < first || nth == 2 * first),
            worker: Some(worker(nth).into()),
            ..one
        }
    };
    let deeds = stage.until(2 * first + 12, of);
    assert!(!deeds.is_empty(), "it is suspected");
    deeds
}

#[test]
fn of_several_versions_or_agents_the_first_that_is_worse_is_named_after_some_were_run_again() {
    the_first_is_named("version", |one, version| one.version = Some(version.into()));
    the_first_is_named("agent", |one, agent| one.agent = Some(agent.into()));
}

fn the_first_is_named(attribute: &str, versioned: Versioned) {
    let first = 20;
    let mut stage = Stage::new(12);
    let deeds = until_one_fails(&mut stage, first, versioned);
    let ids: BTreeMap<JobId, u32> = (0..100).map(|nth| (one(nth).id, nth / 2)).collect();
    let asked = stage.answer_like(deeds, |of| {
        let version = ids[&of];
        Sighting { outcome: Some(version < first), worker: Some("w9".into()), ..one(99) }
    });
    let [raised] = stage.told()[..] else { panic!("{:?}", stage.told()) };
    let culprit = raised.culprit.as_ref().expect("it is named");
    assert_eq!(
        (culprit.attribute.as_str(), culprit.value.as_str(), culprit.before.as_str()),
        (attribute, "20", "19")
    );
    assert!(asked <= 12 && raised.reruns.iter().any(|rerun| rerun.between.is_some()), "{raised:?}");
    assert!(raised.message.contains("in between"), "{}", raised.message);
}

#[test]
fn people_are_told_in_time_even_where_the_first_one_is_not_found() {
    let mut stage = Stage::new(12);
    let mut open = until_one_fails(&mut stage, 20, |one, version| one.version = Some(version.into()));
    // What is run again to find it never comes back.
    while !open.is_empty() {
        let mut next = Vec::new();
        for deed in open {
            let Deed::Rerun { of, id, .. } = deed else { continue };
            let alert = stage.last();
            if alert.reruns.iter().any(|rerun| rerun.id == id && rerun.between.is_some()) {
                continue;
            }
            let outcome = Some(alert.reruns.iter().any(|rerun| rerun.of == of && rerun.before));
            next.extend(stage.see(Sighting {
                id,
                rerun: true,
                outcome,
                worker: Some("w9".into()),
                ..one(99)
            }));
        }
        open = next;
    }
    assert!(stage.told().is_empty());
    let later = stage.now() + Duration::from_secs(1000);
    let deeds = stage.watcher.tick(later);
    let told = deeds.iter().find_map(alert).expect("they are told");
    assert_eq!((told.state, &told.culprit), (State::Raised, &None));
}

/// Six tools, a case each, by two workers; `slower` says how many times as long each takes.
fn of_six(nth: u32, slower: impl Fn(u32) -> f64) -> Sighting {
    let tool = nth % 6;
    let wall = Duration::from_millis(noisy(nth, 100 * u64::from(tool + 1))).mul_f64(slower(tool));
    Sighting {
        subject: format!("tool={tool}").into(),
        case: Some("s/c1".into()),
        worker: Some(worker(nth / 6).into()),
        wall,
        ..one(nth)
    }
}

#[test]
fn a_busy_day_makes_no_tool_slower_and_hides_none_that_is() {
    let mut stage = Stage::new(12);
    assert!(stage.until(6 * 50, |nth| of_six(nth, |_| 1.0)).is_empty());
    for _ in 0..6 * 40 {
        stage.see(of_six(stage.nth, |_| 1.8));
    }
    assert_eq!(stage.deeds, [], "it is the machines, which is not even suspicious");
    let deeds = stage.until(6 * 60, |nth| of_six(nth, |tool| if tool == 3 { 3.6 } else { 1.8 }));
    assert!(deeds.iter().any(is_rerun));
    assert!(deeds.iter().filter_map(alert).all(|alert| alert.subject == "tool=3"), "{deeds:?}");
}
