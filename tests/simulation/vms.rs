//! A worker's VMs in memory: what decides is the real [`step`]; what it asks for takes its time and may fail.

use crate::chance::Chance;
use crate::journal::Journal;
use crate::network::Plug;
use crate::script::{Deed, Fault};
use evalfleet_worker::supply::Status;
use evalfleet_worker::supply::step::{Action, Event, Kind, Spare, State, VmId, step};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// VMs that a worker has at one moment.
const VMS_MAX: usize = 2;

/// What a job that wants a VM is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It has this one.
    Vm(VmId),
    /// There is none for it; whether this worker can make none at all.
    Refused(bool),
}

#[derive(Debug, Default)]
struct Books {
    state: State,
    told: Option<Told>,
    tick: Option<std::time::Instant>,
}

/// The VMs of one worker, until it is dead. Its clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Vms {
    books: Arc<Mutex<Books>>,
    changed: Arc<Notify>,
    status: watch::Sender<Status>,
    plug: Plug,
    /// Tells them from those of a predecessor of the same name.
    birth: u64,
}

impl Vms {
    /// Begins to make the first.
    pub(crate) fn new(plug: Plug, kind: Kind) -> Self {
        let (status, _) = watch::channel(Status::default());
        let birth = plug.network.next();
        let vms = Self { books: Arc::default(), changed: Arc::default(), status, plug, birth };
        vms.happen(Event::Wanted(kind));
        vms
    }

    /// Tells them from those of a predecessor of the same name.
    pub(crate) fn birth(&self) -> u64 {
        self.birth
    }

    /// How they are, whenever that changes.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Waits for a VM. Dropping the future gives up, if [`Vms::give_up`] is called then.
    pub(crate) async fn claim(&self, kind: Kind) -> Told {
        self.happen(Event::Claimed(kind));
        loop {
            let changed = self.changed.notified();
            if let Some(told) = self.books().told.take() {
                return told;
            }
            changed.await;
        }
    }

    /// Nobody waits for a VM any more: one that was given in the meantime ends.
    pub(crate) fn give_up(&self) {
        self.happen(Event::GaveUp);
        let told = self.books().told.take();
        if let Some(Told::Vm(vm)) = told {
            self.happen(Event::Ended(vm));
        }
    }

    /// Lets something happen, and does what follows.
    pub(crate) fn happen(&self, event: Event) {
        if self.plug.is_dead() {
            return;
        }
        let now = Instant::now().into_std();
        let mut books = self.books();
        let (state, actions) = step(std::mem::take(&mut books.state), event, now);
        let spare = !matches!(state.spare(), Spare::Absent);
        let count = usize::from(state.active().is_some()) + usize::from(spare);
        self.journal().level("VMs of a worker", count, VMS_MAX);
        let due = state.retry_at().filter(|at| books.tick != Some(*at));
        books.tick = due.or(books.tick);
        books.state = state;
        for action in actions {
            self.carry_out(action, &mut books);
        }
        drop(books);
        if let Some(at) = due {
            self.later(at.saturating_duration_since(now), Event::Tick);
        }
    }

    fn carry_out(&self, action: Action, books: &mut Books) {
        match action {
            Action::Make(vm, _) => {
                let time = self.chance().time(100..5_000);
                let fault = self.plug.network.script.strikes(&self.plug.owner, Deed::Make, "");
                let dies = self.chance().strikes(|rates| rates.spare_dies);
                if fault == Some(Fault::Fail) || self.chance().strikes(|rates| rates.unmade) {
                    self.later(time, Event::Failed(vm));
                } else {
                    self.later(time, Event::Made(vm));
                    if dies {
                        // Only if no job has it by then.
                        self.later(time + self.chance().time(10..20_000), Event::Died(vm));
                    }
                }
            }
            Action::Destroy(vm) => self.later(self.chance().time(10..1_000), Event::Gone(vm)),
            Action::Rush(_) => {}
            Action::HandOver(vm, _) => {
                books.told = Some(Told::Vm(vm));
                self.changed.notify_waiters();
            }
            Action::Refuse(unable) => {
                books.told = Some(Told::Refused(unable));
                self.changed.notify_waiters();
            }
            Action::Suspend => self.status.send_modify(|status| status.able = false),
            Action::Resume => self.status.send_modify(|status| status.able = true),
        }
    }

    fn later(&self, time: Duration, event: Event) {
        let vms = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            vms.happen(event);
        });
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&self) -> &Chance {
        &self.plug.network.chance
    }

    fn journal(&self) -> &Journal {
        &self.plug.network.broker.journal
    }
}
