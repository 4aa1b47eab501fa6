//! The one owner of a worker's VMs: it tells [`step`] what happens and does what follows.

use super::status::Board;
use super::step::{Action, Event, Kind, Spare, State, VmId, step};
use super::templates::Templates;
use super::{Refusal, Supplied};
use crate::vm::{Clean, Error};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often a spare that waits is looked at.
const GLANCE: Duration = Duration::from_millis(500);
/// Where "never" lies for a timer.
const FAR: Duration = Duration::from_secs(3600);

/// What is asked of the task.
#[derive(Debug)]
pub(super) enum Request {
    Wanted(Kind),
    Claim(Kind, oneshot::Sender<Result<Supplied, Refusal>>),
    Working,
    Discard(oneshot::Sender<()>),
    Drained(Option<String>),
}

/// What a piece of work came to.
enum Done {
    Made(VmId, Result<Box<Clean>, Error>),
    Gone(VmId),
}

/// The task.
pub(super) struct Task {
    templates: Arc<Templates>,
    vms_dir: PathBuf,
    limit: Duration,
    board: Board,
    state: State,
    /// The spare, while it waits.
    ready: Option<(VmId, Box<Clean>)>,
    /// Cancelled when a job waits for what is being made.
    wanted: CancellationToken,
    /// Resolves when the active VM's QEMU is gone.
    active: Option<(VmId, oneshot::Receiver<()>)>,
    /// A spare that is to be put away as soon as it is made.
    abandoned: Option<VmId>,
    work: JoinSet<Done>,
    claim: Option<oneshot::Sender<Result<Supplied, Refusal>>>,
    discards: Vec<oneshot::Sender<()>>,
    last_error: String,
    /// Why the worker takes no jobs, if it was told so.
    drained: Option<String>,
}

impl Task {
    pub(super) fn new(templates: Arc<Templates>, vms_dir: PathBuf, limit: Duration, board: Board) -> Self {
        Self {
            templates,
            vms_dir,
            limit,
            board,
            state: State::default(),
            ready: None,
            wanted: CancellationToken::new(),
            active: None,
            abandoned: None,
            work: JoinSet::new(),
            claim: None,
            discards: Vec::new(),
            last_error: String::new(),
            drained: None,
        }
    }

    /// Serves until nobody can ask any more; its VMs go with it.
    pub(super) async fn serve(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let retry = self.state.retry_at().unwrap_or_else(|| Instant::now() + FAR);
            let event = tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.request(request),
                    None => break,
                },
                Some(done) = self.work.join_next() => self.done(done),
                vm = gone(&mut self.active) => Some(Event::Ended(vm)),
                () = tokio::time::sleep_until(retry.into()) => Some(Event::Tick),
                _ = glance.tick(), if self.ready.is_some() => self.look(),
                () = given_up(&mut self.claim) => Some(Event::GaveUp),
            };
            if let Some(event) = event {
                self.tell(event);
            }
        }
    }

    fn tell(&mut self, event: Event) {
        let (state, actions) = step(std::mem::take(&mut self.state), event, Instant::now());
        self.state = state;
        for action in actions {
            self.carry_out(action);
        }
        if *self.state.spare() == Spare::Absent {
            for waiting in self.discards.drain(..) {
                let _ = waiting.send(());
            }
        }
        let spare = self.ready.as_ref().map(|(_, clean)| clean.pid());
        self.board.show(&self.state, spare, &self.last_error, self.drained.as_deref());
    }

    fn request(&mut self, request: Request) -> Option<Event> {
        match request {
            Request::Wanted(kind) => Some(Event::Wanted(kind)),
            Request::Working => Some(Event::Working),
            Request::Drained(why) => {
                self.drained = why;
                Some(Event::Tick)
            }
            Request::Claim(kind, answer) => {
                // It may have died since it was last looked at.
                if let Some(died) = self.look() {
                    self.tell(died);
                }
                self.claim = Some(answer);
                Some(Event::Claimed(kind))
            }
            Request::Discard(answer) => {
                self.discards.push(answer);
                Some(Event::Discard)
            }
        }
    }

    /// Sees whether the spare is alive and its template what it was.
    fn look(&mut self) -> Option<Event> {
        let (vm, clean) = self.ready.as_mut()?;
        let why = clean.spoiled()?;
        tracing::warn!(vm = vm.0, why, "a spare VM is no good any more: making another");
        self.last_error = why;
        Some(Event::Died(*vm))
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) -> Option<Event> {
        match done {
            Ok(Done::Made(vm, made)) if self.abandoned == Some(vm) => {
                self.abandoned = None;
                match made {
                    Ok(clean) => {
                        self.put_away(vm, clean);
                        None
                    }
                    Err(_) => Some(Event::Failed(vm)),
                }
            }
            Ok(Done::Made(vm, Ok(clean))) => {
                self.ready = Some((vm, clean));
                Some(Event::Made(vm))
            }
            Ok(Done::Made(vm, Err(error))) => {
                tracing::warn!(vm = vm.0, %error, "a VM could not be made");
                self.last_error = error.to_string();
                Some(Event::Failed(vm))
            }
            Ok(Done::Gone(vm)) => Some(Event::Gone(vm)),
            Err(error) => {
                // Work is wrapped so that a panic in it comes out as its error: this is the runtime's end.
                tracing::error!(%error, "making VMs was called off");
                None
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Make(vm, kind) => {
                let (templates, limit) = (self.templates.clone(), self.limit);
                self.wanted = CancellationToken::new();
                let wanted = self.wanted.clone();
                let run_dir = self.vms_dir.join(vm.0.to_string());
                self.work.spawn(async move {
                    let making = tokio::spawn(async move {
                        Box::pin(templates.clone_of(&kind, &run_dir, limit, wanted)).await
                    });
                    let made = making.await.unwrap_or_else(|error| Err(Error::Qemu(error.to_string())));
                    Done::Made(vm, made.map(Box::new))
                });
            }
            // There is one at most that is being made.
            Action::Rush(_) => self.wanted.cancel(),
            Action::Destroy(vm) => match self.ready.take() {
                Some((_, clean)) => self.put_away(vm, clean),
                None => self.abandoned = Some(vm),
            },
            Action::HandOver(vm, waited) => self.hand_over(vm, waited),
            Action::Refuse(ours) => {
                if let Some(claim) = self.claim.take() {
                    let why = self.last_error.clone();
                    // Whoever does not wait any more need not be told.
                    let _ = claim.send(Err(if ours { Refusal::Unable(why) } else { Refusal::Fault(why) }));
                }
            }
            Action::Suspend => tracing::error!(
                error = self.last_error,
                "no VM can be made: this worker takes no jobs until one can; it keeps trying"
            ),
            Action::Resume => tracing::info!("VMs can be made again: taking jobs"),
        }
    }

    fn hand_over(&mut self, vm: VmId, waited: Duration) {
        let Some((_, mut clean)) = self.ready.take() else { return };
        self.active = Some((vm, clean.until_gone()));
        if waited > Duration::from_millis(5) {
            let counts = self.state.counts();
            tracing::info!(
                ms = waited.as_millis() as u64,
                waits = counts.waits,
                claims = counts.claims,
                "a job waited for its VM"
            );
        }
        if let Some(claim) = self.claim.take() {
            // Where nobody takes it, it is dropped here, and its end is heard like any other's.
            let _ = claim.send(Ok(Supplied { clean: *clean, waited }));
        }
    }

    fn put_away(&mut self, vm: VmId, clean: Box<Clean>) {
        self.work.spawn(async move {
            if let Err(error) = clean.destroy().await {
                tracing::warn!(%error, "a spare VM was not put away");
            }
            Done::Gone(vm)
        });
    }
}

/// Waits until the active VM is gone; for ever if there is none.
async fn gone(active: &mut Option<(VmId, oneshot::Receiver<()>)>) -> VmId {
    let Some((vm, gone)) = active.as_mut() else { return std::future::pending().await };
    // Its sender is dropped when QEMU is dead, and never sends.
    let _ = gone.await;
    let vm = *vm;
    *active = None;
    vm
}

/// Waits until nobody waits for a VM any more; for ever if nobody ever did.
async fn given_up(claim: &mut Option<oneshot::Sender<Result<Supplied, Refusal>>>) {
    let Some(waiting) = claim.as_mut() else { return std::future::pending().await };
    waiting.closed().await;
    *claim = None;
}
