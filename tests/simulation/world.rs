//! The whole fleet in one thread and virtual time: parts that live, are killed and start anew.

use crate::broker::Broker;
use crate::chance::Chance;
use crate::client::{Customer, Shared};
use crate::flaws::{self, Flaw};
use crate::journal::Journal;
use crate::network::{Network, Plug};
use crate::plan::{BATCH, Plan, job};
use crate::runner::{HOPELESS, Hands};
use crate::script::Script;
use crate::store::{Door, History};
use evalfleet::dead::{Ledger, Office, Which, replay_id};
use evalfleet_broker::{Link, Options};
use evalfleet_proto::ids::{JobId, WorkerId};
use evalfleet_proto::job::Job;
use evalfleet_proto::topology::{self, Topology};
use evalfleet_recorder::service::{Letters, Service as Recorder};
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_worker::control::Control;
use evalfleet_worker::service::Service as Worker;
use std::collections::BTreeSet;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long everything may take once nothing breaks any more: retries wait for minutes.
const PEACE: Duration = Duration::from_secs(6 * 60 * 60);
/// A process that is started takes a while, in milliseconds.
const START: Range<u64> = 0..3_000;

/// A part that lives.
struct Part {
    name: String,
    plug: Plug,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Part {
    /// As `kill -9`: nothing of it goes on, and its connections break.
    async fn kill(self) {
        self.stop.cancel();
        self.task.abort();
        // It ends at once, by its abort.
        let _ = self.task.await;
        self.plug.pull();
    }
}

type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One schedule.
pub(crate) struct World {
    plan: Plan,
    pub(crate) network: Network,
    /// Parts that died of themselves.
    died: mpsc::Receiver<String>,
    pub(crate) history: History,
    chance: Chance,
    pub(crate) journal: Journal,
    pub(crate) script: Script,
    settings: Arc<Settings>,
    blobs: Blobs,
    pub(crate) jobs: Arc<[Job]>,
    pub(crate) desk: Shared,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let journal = Journal::default();
        let (chance, script) = match plan.script.clone() {
            Some(rules) => (Chance::calm(plan.seed, plan.impatience), Script::new(rules)),
            None => (Chance::new(plan.seed), Script::default()),
        };
        let settings = Settings::from_layers(&Layers::default()).expect("the defaults are sound");
        let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
        let history = History::new(chance.clone(), journal.clone());
        let kept = Arc::new(history.clone());
        let broker = Broker::new(&topology, journal.clone(), kept, chance.clone(), script.clone());
        let (network, died) = Network::new(broker, chance.clone(), script.clone());
        let jobs = (0..plan.jobs as usize).map(|number| job(&plan, number, &settings)).collect();
        Self {
            plan,
            network,
            died,
            history,
            chance,
            journal,
            script,
            settings: Arc::new(settings),
            blobs: Blobs::in_memory(),
            jobs,
            desk: Shared::default(),
        }
    }

    /// Lets everything happen, and then looks whether it came out right.
    pub(crate) async fn run(&mut self) {
        let mut parts: Vec<Part> = self.names().into_iter().map(|name| self.start(name)).collect();
        if self.plan.script.is_none() {
            for _ in 0..self.chance.number(4..24) {
                tokio::time::sleep(self.chance.time(200..12_000)).await;
                self.harm(&mut parts).await;
            }
            self.chance.calm_down();
            self.journal.note("peace");
        }
        if tokio::time::timeout(PEACE, self.settle(&mut parts)).await.is_err() {
            self.journal.breach(format!("it never comes to rest: {}", self.left()));
        }
        for part in parts {
            part.kill().await;
        }
        self.check();
    }

    /// Until there is nothing left to be done, or something was done that must not; who dies starts anew.
    async fn settle(&mut self, parts: &mut [Part]) {
        while !self.is_settled() && self.journal.breaches().is_empty() {
            tokio::select! {
                biased;
                Some(name) = self.died.recv() => {
                    if let Some(at) = parts.iter().position(|part| part.name == name) {
                        self.restart(parts, at).await;
                    }
                }
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let workers = (0..self.plan.workers).map(|number| format!("worker-{number}"));
        let recorders = (0..self.plan.recorders).map(|number| format!("recorder-{number}"));
        let operator = self.plan.operated.then(|| "operator".to_owned());
        workers.chain(recorders).chain(["client".to_owned()]).chain(operator).collect()
    }

    /// Something breaks.
    async fn harm(&self, parts: &mut [Part]) {
        let at = self.chance.number(0..parts.len() as u64) as usize;
        match self.chance.number(0..12) {
            0..=5 => self.restart(parts, at).await,
            6 | 7 => self.network.hang_up(|owner| owner == parts[at].name),
            8 => self.network.outage(self.chance.time(10..20_000)).await,
            9 => self.history.outage(self.chance.time(10..40_000)).await,
            10 => self.network.shortage(self.chance.time(10..60_000)).await,
            _ => self.network.full(self.chance.time(10..60_000)).await,
        }
    }

    async fn restart(&self, parts: &mut [Part], at: usize) {
        let name = parts[at].name.clone();
        self.journal.note(format!("{name} is killed"));
        let next = self.start(name);
        std::mem::replace(&mut parts[at], next).kill().await;
    }

    fn start(&self, name: String) -> Part {
        let (plug, stop) = (self.network.of(&name), CancellationToken::new());
        let life: Life = match name.split('-').next() {
            Some("client") => Box::pin(self.client(plug.clone())),
            Some("operator") => Box::pin(self.operator(plug.clone())),
            Some("recorder") => self.recorder(plug.clone(), stop.clone()),
            _ => self.worker(plug.clone(), stop.clone()),
        };
        let delay = self.chance.time(START);
        let task = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            life.await;
        });
        Part { name, plug, stop, task }
    }

    fn link(&self, plug: &Plug, stop: &CancellationToken) -> Arc<Link> {
        let options = Options::new(&self.settings.broker, plug.owner.as_str());
        Arc::new(Link::over(Arc::new(plug.clone()), options, stop.clone()))
    }

    fn worker(&self, plug: Plug, stop: CancellationToken) -> Life {
        let (link, flaw) = (self.link(&plug, &stop), self.plan.flaw);
        let (journal, settings, takes) =
            (self.journal.clone(), self.settings.clone(), self.plan.takes.clone());
        Box::pin(async move {
            let image = settings.client.image.to_string();
            let hands = Hands::new(plug.clone(), &image, takes, flaw == Flaw::WorkersReuseVms);
            if matches!(flaw, Flaw::WorkersAckFirst | Flaw::WorkersHoard) {
                let queues = settings.broker.lanes.iter().map(topology::jobs_queue).collect();
                return flaws::worker(link, hands, queues, flaw).await;
            }
            let name: WorkerId = plug.owner.parse().expect("a name");
            let control = Control::listen(link.clone(), name.clone(), stop);
            let mut service = Worker::new(link, hands, name, settings).heeding(control);
            let never = CancellationToken::new();
            if let Err(error) = service.serve(&never, &never).await {
                journal.breach(format!("{} gives up: {error}", plug.owner));
            }
        })
    }

    fn recorder(&self, plug: Plug, stop: CancellationToken) -> Life {
        let store = Store::new(Door::new(self.history.clone(), plug.clone()), self.blobs.clone());
        let (link, name, journal) = (self.link(&plug, &stop), plug.owner, self.journal.clone());
        if self.plan.flaw == Flaw::RecordersAckFirst {
            return Box::pin(flaws::recorder(link, store));
        }
        let settings = &self.settings.recorder;
        let results = Recorder::new(link.clone(), store.clone(), settings, name.clone(), stop.clone());
        let letters = Recorder::<Letters>::of(link, store, settings, name.clone(), stop);
        Box::pin(async move {
            if let Err(error) = tokio::try_join!(biased; results.serve(), letters.serve()) {
                journal.breach(format!("{name} gives up: {error}"));
            }
        })
    }

    fn client(&self, plug: Plug) -> impl Future<Output = ()> + Send + use<> {
        let customer = Customer {
            settings: self.settings.clone(),
            desk: self.desk.clone(),
            chance: self.chance.clone(),
            jobs: self.jobs.clone(),
            calls_off: self.plan.calls_off,
        };
        customer.live(plug)
    }

    /// Replays what is dead, with and without the history at hand.
    fn operator(&self, plug: Plug) -> impl Future<Output = ()> + Send + use<> {
        let (chance, history) = (self.chance.clone(), self.history.clone());
        let (settings, flaw) = (self.settings.clone(), self.plan.flaw);
        let scripted = self.plan.script.is_some();
        async move {
            loop {
                tokio::time::sleep(chance.time(10_000..60_000)).await;
                if flaw == Flaw::OperatorsAckFirst {
                    let _ = flaws::operator(&plug, &Options::new(&settings.broker, "operator")).await;
                    continue;
                }
                let knows = scripted || chance.number(0..4) != 0;
                let ledger = knows.then(|| Box::new(history.clone()) as Box<dyn Ledger>);
                let Ok(office) = Office::over(&plug, &settings, ledger).await else { continue };
                // What it did before its connection broke is done.
                let _ = office.replay(Which::all(), false).await;
                office.close().await;
            }
        }
    }

    fn is_settled(&self) -> bool {
        let mut empty =
            vec!["eval.jobs.", "eval.retry.", topology::RESULTS_QUEUE, topology::DEAD_RECORD_QUEUE];
        if self.plan.operated {
            empty.push(topology::DEAD_QUEUE);
        }
        let desk = self.desk.lock();
        desk.accepted.len() == self.jobs.len()
            && desk.waiting.is_empty()
            && empty.iter().all(|prefix| self.network.broker.left_in(prefix) == 0)
    }

    fn left(&self) -> String {
        let (broker, desk) = (&self.network.broker, self.desk.lock());
        format!(
            "{} of {} jobs accepted, {} jobs, {} retries, {} results and {} dead letters in queues, {} waited for",
            desk.accepted.len(),
            self.jobs.len(),
            broker.left_in("eval.jobs."),
            broker.left_in("eval.retry."),
            broker.left_in(topology::RESULTS_QUEUE),
            broker.left_in(topology::DEAD_QUEUE),
            desk.waiting.len(),
        )
    }

    /// What must be so in the end.
    fn check(&self) {
        let letters: BTreeSet<JobId> = self.network.broker.letters().iter().map(|(id, _)| *id).collect();
        let mut known: Vec<(JobId, Option<&Job>)> = self.jobs.iter().map(|job| (job.id, Some(job))).collect();
        let mut at = 0;
        while let Some((id, job)) = known.get(at).copied() {
            at += 1;
            let Some(record) = self.history.record(id) else {
                if !letters.contains(&id) || self.plan.script.is_none() {
                    self.journal.breach(format!("job {id} is lost: it has no record"));
                }
                continue;
            };
            let is_dead = record.status == "dead";
            let replays = self.journal.counted("job", replay_id(id, 1));
            if is_dead && replays == 0 && !letters.contains(&id) {
                self.journal.breach(format!("job {id} is recorded as dead, and there is no letter"));
            }
            if replays > 0 {
                // It was asked again, and that job is accounted for like any other.
                known.push((replay_id(id, 1), None));
            }
            if self.journal.counted("job", replay_id(id, 2)) > 0 {
                self.journal.breach(format!("job {id} is replayed twice"));
            }
            let called_off = self.desk.lock().called_off.contains(&id);
            let hopeless = job.is_some_and(|job| job.labels.contains_key(HOPELESS));
            if hopeless && !is_dead && !called_off {
                self.journal
                    .breach(format!("job {id} cannot end well, and is recorded as {}", record.status));
            }
            if record.status == "cancelled" && !called_off {
                self.journal.breach(format!("nobody called job {id} off"));
            }
        }
        let known: BTreeSet<String> = known.iter().map(|(id, _)| id.to_string()).collect();
        for id in self.history.jobs().iter().filter(|id| !known.contains(*id)) {
            self.journal.breach(format!("a record of {id}, which nobody submitted"));
        }
        // Where much breaks, patience may end before a job does; that is said, and nothing else.
        let gave_up = self.desk.lock().gave_up.clone();
        for (id, why) in gave_up.iter().filter(|(_, why)| !why.starts_with("no result of")) {
            self.journal.breach(format!("job {id} was waited for in vain: {why}"));
        }
        let (counted, held) = self.history.batch(BATCH);
        if counted != held {
            self.journal.breach(format!("the batch counts {counted} jobs, and has {held}"));
        }
    }
}
