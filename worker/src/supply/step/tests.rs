use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn kind(number: u8) -> Kind {
    Kind { image: format!("image-{number}"), scenario: "default".to_owned() }
}

/// Where a VM is, as the world outside sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Making,
    Ready,
    /// It shall be put away once it is made.
    Abandoned,
    Ending,
    Active,
}

/// The world that carries the actions out: it has a QEMU for every VM that is anywhere.
struct World {
    state: State,
    vms: BTreeMap<VmId, Place>,
    used: Vec<VmId>,
    now: Instant,
    waits: bool,
    able: bool,
}

impl World {
    fn new() -> Self {
        let (state, now) = (State::default(), Instant::now());
        let mut world = Self { state, vms: BTreeMap::new(), used: Vec::new(), now, waits: false, able: true };
        world.tell(Event::Wanted(kind(0)));
        world
    }

    fn tell(&mut self, event: Event) {
        let (state, actions) = step(self.state.clone(), event, self.now);
        self.state = state;
        for action in actions {
            self.carry_out(action);
        }
        self.check();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Make(vm, _) => assert_eq!(self.vms.insert(vm, Place::Making), None, "{vm:?} again"),
            Action::Destroy(vm) => {
                let next = match self.vms.get(&vm) {
                    Some(Place::Making) => Place::Abandoned,
                    Some(Place::Ready) => Place::Ending,
                    place => panic!("{vm:?} is to be put away and is {place:?}"),
                };
                self.vms.insert(vm, next);
            }
            Action::Rush(vm) => {
                assert!(self.waits, "nobody waits for {vm:?}");
                assert_eq!(self.vms.get(&vm), Some(&Place::Making));
            }
            Action::HandOver(vm, _) => {
                assert!(self.waits, "nobody waits for {vm:?}");
                assert!(!self.used.contains(&vm), "{vm:?} ran a job and is offered again");
                assert_eq!(self.vms.insert(vm, Place::Active), Some(Place::Ready));
                self.used.push(vm);
                self.waits = false;
            }
            Action::Refuse(_) => {
                assert!(self.waits, "nobody waits");
                self.waits = false;
            }
            Action::Suspend => assert!(std::mem::replace(&mut self.able, false)),
            Action::Resume => assert!(!std::mem::replace(&mut self.able, true)),
        }
    }

    fn check(&self) {
        assert!(self.vms.len() <= 2, "more than two QEMUs: {:?}", self.vms);
        assert_eq!(self.able, self.state.able());
        let spare = match self.state.spare() {
            Spare::Absent => None,
            Spare::Making(vm, _) => Some((*vm, vec![Place::Making])),
            Spare::Ready(vm, _) => Some((*vm, vec![Place::Ready])),
            Spare::Ending(vm) => Some((*vm, vec![Place::Ending, Place::Abandoned])),
        };
        let active = self.state.active().map(|vm| (vm, vec![Place::Active]));
        let known: Vec<_> = spare.into_iter().chain(active).collect();
        assert_eq!(known.len(), self.vms.len(), "a VM is lost: {:?}, {:?}", self.vms, self.state);
        for (vm, places) in known {
            assert!(self.vms.get(&vm).is_some_and(|place| places.contains(place)), "{vm:?}: {:?}", self.vms);
        }
    }

    fn first(&self, places: &[Place]) -> Option<VmId> {
        self.vms.iter().find(|(_, place)| places.contains(place)).map(|(vm, _)| *vm)
    }

    /// Lets the world do one thing, if it can.
    fn happens(&mut self, what: u8, number: u8) {
        match what {
            0 if !self.waits && self.first(&[Place::Active]).is_none() => {
                self.waits = true;
                self.tell(Event::Claimed(kind(number % 3)));
            }
            1 => {
                self.waits = false;
                self.tell(Event::GaveUp);
            }
            2 => self.made(),
            3 => {
                if let Some(vm) = self.first(&[Place::Making, Place::Abandoned]) {
                    self.vms.remove(&vm);
                    self.tell(Event::Failed(vm));
                }
            }
            4 => {
                if let Some(vm) = self.first(&[Place::Ready]) {
                    self.tell(Event::Died(vm));
                }
            }
            5 => self.gone(),
            6 => {
                if let Some(vm) = self.first(&[Place::Active]) {
                    self.vms.remove(&vm);
                    self.tell(Event::Ended(vm));
                }
            }
            7 => {
                self.now += Duration::from_secs(u64::from(number));
                self.tell(Event::Tick);
            }
            8 => self.tell(Event::Working),
            9 => self.tell(Event::Wanted(kind(number % 3))),
            10 => self.tell(Event::Discard),
            _ => {
                // Somebody tells something that is long over, or was never so.
                let vm = VmId(1000 + u64::from(number));
                let before = self.state.clone();
                for event in
                    [Event::Made(vm), Event::Failed(vm), Event::Died(vm), Event::Gone(vm), Event::Ended(vm)]
                {
                    self.tell(event);
                }
                assert_eq!(before.spare(), self.state.spare());
            }
        }
    }

    fn made(&mut self) {
        if let Some(vm) = self.first(&[Place::Making]) {
            self.vms.insert(vm, Place::Ready);
            self.tell(Event::Made(vm));
        }
    }

    fn gone(&mut self) {
        if let Some(vm) = self.first(&[Place::Ending, Place::Abandoned]) {
            self.vms.remove(&vm);
            self.tell(Event::Gone(vm));
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_events_makes_a_third_qemu_loses_one_or_uses_one_twice(
        events in prop::collection::vec((0_u8..12, any::<u8>()), 1..200)
    ) {
        let mut world = World::new();
        for (what, number) in events {
            world.happens(what, number);
        }
        // From wherever that led: when all goes well from now on, a job gets its VM.
        if let Some(vm) = world.first(&[Place::Active]) {
            world.vms.remove(&vm);
            world.tell(Event::Ended(vm));
        }
        if !world.waits {
            world.waits = true;
            world.tell(Event::Claimed(kind(1)));
        }
        for _ in 0..8 {
            world.gone();
            world.made();
        }
        prop_assert!(!world.waits, "a job waits for ever: {:?}", world.state);
        prop_assert!(world.able, "a worker that can make VMs takes no jobs: {:?}", world.state);
    }
}

#[test]
fn a_spare_is_there_at_once_and_its_successor_waits_for_the_job_to_begin() {
    let mut world = World::new();
    world.made();
    world.waits = true;
    world.tell(Event::Claimed(kind(0)));
    assert!(!world.waits && world.vms.len() == 1, "the successor does not compete with the claim");
    world.tell(Event::Working);
    assert_eq!(world.vms.len(), 2);
    assert_eq!((world.state.counts().claims, world.state.counts().waits), (1, 0));
}

#[test]
fn waiting_is_counted() {
    let mut world = World::new();
    world.waits = true;
    world.tell(Event::Claimed(kind(0)));
    world.now += Duration::from_secs(3);
    world.made();
    let counts = world.state.counts();
    assert_eq!((counts.claims, counts.waits, counts.waited), (1, 1, Duration::from_secs(3)));
}

#[test]
fn a_spare_of_another_kind_gives_way_first() {
    let mut world = World::new();
    world.made();
    world.waits = true;
    world.tell(Event::Claimed(kind(1)));
    assert_eq!(world.first(&[Place::Making]), None, "not before the other is gone");
    world.gone();
    assert!(world.first(&[Place::Making]).is_some());
}

#[test]
fn a_spare_that_dies_is_replaced_though_no_job_comes() {
    let mut world = World::new();
    world.made();
    let died = world.first(&[Place::Ready]).unwrap();
    world.tell(Event::Died(died));
    world.gone();
    world.now += BACKOFF;
    world.tell(Event::Tick);
    assert_eq!(world.state.counts().died, 1);
    assert!(world.first(&[Place::Making]).is_some_and(|vm| vm != died));
}

#[test]
fn a_worker_that_can_make_no_vm_takes_no_jobs_until_it_can() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.happens(3, 0);
        let at = world.state.retry_at().unwrap();
        waits.push(at - world.now);
        world.tell(Event::Tick);
        assert_eq!(world.first(&[Place::Making]), None, "not before its time");
        world.now = at;
        world.tell(Event::Tick);
    }
    assert_eq!(waits, [1, 2, 4, 8].map(Duration::from_secs));
    assert!(!world.able);
    world.made();
    assert!(world.able);
}

#[test]
fn a_job_of_the_home_kind_is_given_back_and_one_of_a_broken_kind_spends_its_try() {
    for (of, ours) in [(0, true), (1, false)] {
        let state = State { home: Some(kind(0)), ..State::default() };
        let now = Instant::now();
        let (mut state, mut actions) = step(state, Event::Claimed(kind(of)), now);
        let mut seen = Vec::new();
        for _ in 0..TRIES {
            let Some(Action::Make(vm, _)) = actions.first().cloned() else { panic!("{actions:?}") };
            (state, actions) = step(state, Event::Failed(vm), now);
            seen.extend(actions.clone());
        }
        assert!(seen.contains(&Action::Refuse(ours)), "{seen:?}");
        assert_eq!(seen.contains(&Action::Suspend), ours, "{seen:?}");
    }
}
