//! What becomes of a worker's VMs: pure, so that every order of events can be tried.
//!
//! ```text
//!            Make               Made             HandOver            Ended
//! (absent) ───────▶ (making) ───────▶ (ready) ────────────▶ active ───────▶ gone
//!     ▲                 │ Failed         │ Died, or a job wants another kind
//!     │◀────────────────┘                ▼
//!     └───────────────────── Gone ── (ending)
//! ```
//!
//! There are two places, the active VM's and the spare's, and each holds one QEMU at most: that is how
//! there are never more than two. A VM goes from the second to the first and never back.

use std::time::{Duration, Instant};

/// How often making a VM is tried for one job.
const TRIES: u32 = 2;
/// The wait after the first failure; it doubles with each further one, up to the longest.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What a VM is a VM of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The image's digest.
    pub image: String,
    /// What its template is warmed with.
    pub scenario: String,
}

/// One VM of this worker. Numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmId(pub u64);

/// The spare's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spare {
    /// Nobody.
    Absent,
    /// It is being made.
    Making(VmId, Kind),
    /// It waits, clean and paused.
    Ready(VmId, Kind),
    /// It is being put away: its QEMU may still be there.
    Ending(VmId),
}

/// A job that wants a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    kind: Kind,
    since: Instant,
    failures: u32,
}

/// How often there was a VM at once, and what it cost when there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// VMs handed to jobs.
    pub claims: u64,
    /// How many of these jobs had to wait for one.
    pub waits: u64,
    /// For how long in all.
    pub waited: Duration,
    /// VMs that could not be made.
    pub failures: u64,
    /// Spares that died while they waited.
    pub died: u64,
}

/// All there is to know of a worker's VMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The kind that this worker is there for: what it tries when it can make nothing.
    home: Option<Kind>,
    /// The kind of the next spare.
    wanted: Option<Kind>,
    claim: Option<Claim>,
    active: Option<VmId>,
    spare: Spare,
    /// Whether the next spare has to wait until the job has begun.
    hold: bool,
    /// In a row.
    failures: u32,
    retry_at: Option<Instant>,
    able: bool,
    last: u64,
    counts: Counts,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A spare of this kind is wanted, job or not.
    Wanted(Kind),
    /// A job wants a VM.
    Claimed(Kind),
    /// It wants none any more.
    GaveUp,
    /// The job has begun: its successor may be made.
    Working,
    /// A VM is made, and waits.
    Made(VmId),
    /// It could not be made, and nothing is left of it.
    Failed(VmId),
    /// A spare is dead, or not what it was.
    Died(VmId),
    /// What was put away is gone.
    Gone(VmId),
    /// The active VM is gone.
    Ended(VmId),
    /// Time passed.
    Tick,
    /// No spares any more.
    Discard,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a VM; answer with `Made` or `Failed`.
    Make(VmId, Kind),
    /// A job waits for what is being made: no more of its warming.
    Rush(VmId),
    /// Put a spare away, once it is made if it is being made; answer with `Gone`.
    Destroy(VmId),
    /// Give the spare to the job; when its QEMU is gone, answer with `Ended`.
    HandOver(VmId, Duration),
    /// Tell the job that there is no VM for it. Whether it is this worker's own plight, and no try of the
    /// job's.
    Refuse(bool),
    /// Take no jobs.
    Suspend,
    /// Take jobs again.
    Resume,
}

impl Default for State {
    fn default() -> Self {
        Self {
            home: None,
            wanted: None,
            claim: None,
            active: None,
            spare: Spare::Absent,
            hold: false,
            failures: 0,
            retry_at: None,
            able: true,
            last: 0,
            counts: Counts::default(),
        }
    }
}

impl State {
    /// Whether this worker can take jobs.
    pub fn able(&self) -> bool {
        self.able
    }

    /// The VM that has a job.
    pub fn active(&self) -> Option<VmId> {
        self.active
    }

    /// The spare's place.
    pub fn spare(&self) -> &Spare {
        &self.spare
    }

    /// What waiting cost so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When to look again if nothing happens.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at.filter(|_| self.spare == Spare::Absent && self.wanted.is_some())
    }

    fn fail(&mut self, kind: &Kind, now: Instant, actions: &mut Vec<Action>) {
        self.counts.failures += 1;
        self.failures += 1;
        self.retry_at = Some(now + backoff(self.failures));
        let at_home = self.home.as_ref().is_none_or(|home| home == kind);
        let spent = self.claim.as_mut().filter(|claim| claim.kind == *kind).is_some_and(|claim| {
            claim.failures += 1;
            claim.failures >= TRIES
        });
        if spent {
            self.claim = None;
            actions.push(Action::Refuse(at_home));
            // Is it this kind, or can nothing be made here? The home kind will tell.
            self.wanted.clone_from(&self.home);
        }
        if at_home && self.able && (spent || self.failures >= TRIES) {
            self.able = false;
            actions.push(Action::Suspend);
        }
    }

    /// Does what the state calls for; called after every event.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(claim) = &self.claim else {
            let due = self.retry_at.is_none_or(|at| at <= now);
            if self.spare == Spare::Absent
                && due
                && !self.hold
                && let Some(kind) = self.wanted.clone()
            {
                self.make(kind, actions);
            }
            return;
        };
        match &self.spare {
            Spare::Absent => {
                let kind = claim.kind.clone();
                let vm = self.make(kind, actions);
                actions.push(Action::Rush(vm));
            }
            Spare::Ready(vm, kind) if *kind == claim.kind => {
                let vm = *vm;
                // Its predecessor's end must be confirmed first.
                if self.active.is_none() {
                    let waited = now.saturating_duration_since(claim.since);
                    self.counts.claims += 1;
                    self.active = Some(vm);
                    self.spare = Spare::Absent;
                    self.claim = None;
                    self.hold = true;
                    actions.push(Action::HandOver(vm, waited));
                }
            }
            Spare::Making(_, kind) if *kind == claim.kind => {}
            Spare::Ready(vm, _) | Spare::Making(vm, _) => {
                let vm = *vm;
                self.spare = Spare::Ending(vm);
                actions.push(Action::Destroy(vm));
            }
            Spare::Ending(_) => {}
        }
    }

    fn make(&mut self, kind: Kind, actions: &mut Vec<Action>) -> VmId {
        self.last += 1;
        let vm = VmId(self.last);
        self.spare = Spare::Making(vm, kind.clone());
        actions.push(Action::Make(vm, kind));
        vm
    }
}

/// What follows from `event`. Events about VMs that are not where they would have to be are stale, and
/// change nothing.
pub fn step(mut state: State, event: Event, now: Instant) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    match event {
        Event::Wanted(kind) => {
            state.home.get_or_insert_with(|| kind.clone());
            state.wanted = Some(kind);
        }
        Event::Claimed(kind) => {
            let ready = matches!(&state.spare, Spare::Ready(_, of) if *of == kind) && state.active.is_none();
            state.counts.waits += u64::from(!ready);
            if let Spare::Making(vm, of) = &state.spare
                && *of == kind
            {
                actions.push(Action::Rush(*vm));
            }
            state.wanted = Some(kind.clone());
            state.claim = Some(Claim { kind, since: now, failures: 0 });
        }
        Event::GaveUp => state.claim = None,
        Event::Working => state.hold = false,
        Event::Made(vm) => {
            if let Spare::Making(at, kind) = &state.spare
                && *at == vm
            {
                state.spare = Spare::Ready(vm, kind.clone());
                (state.failures, state.retry_at) = (0, None);
                if !state.able {
                    state.able = true;
                    actions.push(Action::Resume);
                }
            }
        }
        Event::Failed(vm) => match state.spare.clone() {
            Spare::Making(at, kind) if at == vm => {
                state.spare = Spare::Absent;
                state.fail(&kind, now, &mut actions);
            }
            // It was to be put away anyway.
            Spare::Ending(at) if at == vm => state.spare = Spare::Absent,
            Spare::Absent | Spare::Making(..) | Spare::Ready(..) | Spare::Ending(_) => {}
        },
        Event::Died(vm) => {
            if matches!(&state.spare, Spare::Ready(at, _) if *at == vm) {
                state.spare = Spare::Ending(vm);
                state.counts.died += 1;
                // Were they to die one after the other, nobody shall be busy with that alone.
                state.retry_at = Some(now + BACKOFF);
                actions.push(Action::Destroy(vm));
            }
        }
        Event::Gone(vm) => {
            if state.spare == Spare::Ending(vm) {
                state.spare = Spare::Absent;
            }
        }
        Event::Ended(vm) => {
            if state.active == Some(vm) {
                state.active = None;
                state.hold = false;
            }
        }
        Event::Tick => {}
        Event::Discard => {
            state.wanted = None;
            if let Spare::Ready(vm, _) | Spare::Making(vm, _) = state.spare {
                state.spare = Spare::Ending(vm);
                actions.push(Action::Destroy(vm));
            }
        }
    }
    state.settle(now, &mut actions);
    if let Some(Action::HandOver(_, waited)) =
        actions.iter().find(|action| matches!(action, Action::HandOver(..)))
    {
        state.counts.waited += *waited;
    }
    (state, actions)
}

fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests;
