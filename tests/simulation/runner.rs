//! A worker's hands: a job is given a VM, takes its time and ends as its label, the script or chance will.

use crate::network::Plug;
use crate::script::{Deed, Fault};
use crate::vms::{Told, Vms};
use evalfleet_proto::Timestamp;
use evalfleet_proto::guest::Exited;
use evalfleet_proto::ids::WorkerId;
use evalfleet_proto::job::Job;
use evalfleet_worker::job::{Fate, Run};
use evalfleet_worker::supply::Status;
use evalfleet_worker::supply::step::{self, Kind, VmId};
use evalfleet_worker::verdict::{Seen, judge};
use evalfleet_worker::vm::{Ending, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The label of jobs whose every try ends in a fault of ours, but for those of a replay.
pub(crate) const HOPELESS: &str = "hopeless";

/// A worker's hands.
#[derive(Debug)]
pub(crate) struct Hands {
    worker: WorkerId,
    plug: Plug,
    vms: Vms,
    /// How long a job takes, in milliseconds.
    takes: std::ops::Range<u64>,
    /// Whether the VM of one job is given to the next: what must be found.
    reuses: bool,
    used: Option<VmId>,
}

impl Hands {
    /// Of a worker that stands behind `plug`, and whose own image is `image`.
    pub(crate) fn new(plug: Plug, image: &str, takes: std::ops::Range<u64>, reuses: bool) -> Self {
        let worker = plug.owner.parse().expect("a name");
        let vms = Vms::new(plug.clone(), kind(image));
        Self { worker, plug, vms, takes, reuses, used: None }
    }

    async fn vm(&mut self, image: &str) -> Told {
        match self.used.take().filter(|_| self.reuses) {
            Some(used) => Told::Vm(used),
            None => self.vms.claim(kind(image)).await,
        }
    }

    /// What the script has in store for a job: it may be the worker's death.
    async fn fault(&self, deed: Deed, job: &Job) -> Option<Fault> {
        let fault = self.plug.network.script.strikes(&self.plug.owner, deed, &job.id.to_string());
        if fault.is_some_and(Fault::kills) {
            self.plug.die::<()>().await;
        }
        fault
    }
}

fn kind(image: &str) -> Kind {
    Kind { image: image.to_owned(), scenario: "usual".to_owned() }
}

impl Run for Hands {
    async fn run(
        &mut self,
        job: &Job,
        taken: Timestamp,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Fate {
        let image = job.image.to_string();
        let told = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            told = self.vm(&image) => Some(told),
        };
        let vm = match told {
            Some(Told::Vm(vm)) => vm,
            Some(Told::Refused(true)) => return Fate::Unable("no VM can be made".to_owned()),
            Some(Told::Refused(false)) => return Fate::Fault("no VM of this kind can be made".to_owned()),
            None => {
                self.vms.give_up();
                let verdict = judge(&Ending::Cancelled, &job.limits, Seen::default());
                return Fate::Done(Box::new(self.blank(job, taken, verdict)));
            }
        };
        let network = &self.plug.network;
        network.broker.journal.vm_used(&format!("{} {}", self.worker, self.vms.birth()), vm.0, job.id);
        network.broker.journal.count("run", job.id);
        self.vms.happen(step::Event::Working);
        tell(Event::Started);
        self.fault(Deed::Work, job).await;
        let ending = tokio::select! {
            biased;
            () = cancel.cancelled() => Ending::Cancelled,
            () = tokio::time::sleep(network.chance.time(self.takes.clone())) => {
                let code = i32::from(network.chance.number(0..4) == 0);
                Ending::Exited(Exited { code: Some(code), ..Exited::default() })
            }
        };
        let fault = self.fault(Deed::Worked, job).await;
        if self.reuses {
            self.used = Some(vm);
        } else {
            self.vms.happen(step::Event::Ended(vm));
        }
        let hopeless = job.labels.contains_key(HOPELESS) && job.replay_of.is_none();
        let broken = fault == Some(Fault::Fail) || network.chance.strikes(|rates| rates.fault);
        if !matches!(ending, Ending::Cancelled) && (hopeless || broken) {
            return Fate::Fault("by chance".to_owned());
        }
        let verdict = judge(&ending, &job.limits, Seen::default());
        Fate::Done(Box::new(self.blank(job, taken, verdict)))
    }

    fn supply(&self) -> watch::Receiver<Status> {
        self.vms.status()
    }

    async fn put_away(&mut self) {}

    fn place(&self) -> (&WorkerId, &str) {
        (&self.worker, "memory")
    }
}
