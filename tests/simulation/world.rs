//! The whole fleet in one thread and virtual time: parts that live, are killed and start anew.

use crate::broker::Broker;
use crate::chance::Chance;
use crate::journal::Journal;
use crate::runner::{HOPELESS, Hands};
use crate::store::History;
use crate::wire::{Network, Plug};
use evalfleet::client::Client;
use evalfleet_broker::transport::Dial;
use evalfleet_broker::{Error, Link, Options};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::job::Job;
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::topology::{self, Topology};
use evalfleet_proto::wire;
use evalfleet_recorder::service::{Letters, Service as Recorder};
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_worker::control::Control;
use evalfleet_worker::job::{Fate, Run as _};
use evalfleet_worker::service::Service as Worker;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const WORKERS: u64 = 3;
const RECORDERS: u64 = 2;
/// The batch that some jobs are of.
const BATCH: &str = "some";
/// How long everything may take once nothing breaks any more: retries wait for minutes.
const PEACE: Duration = Duration::from_secs(6 * 60 * 60);

/// What is wrong with the parts: what their types forbid, and what must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    Nothing,
    /// Workers acknowledge a job before its result is confirmed.
    WorkersAckFirst,
    /// Recorders acknowledge a result before it is written.
    RecordersAckFirst,
}

/// What the client knows, and what it is told.
#[derive(Debug, Default)]
struct Desk {
    accepted: BTreeSet<JobId>,
    /// Of these it had a result. Which one it was says nothing: a client that submits again, since it does not
    /// know whether it did, may hear of the second run alone.
    heard: BTreeSet<JobId>,
    called_off: BTreeSet<JobId>,
}

/// A part that lives.
struct Part {
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

/// One schedule.
pub(crate) struct World {
    network: Network,
    history: History,
    chance: Chance,
    pub(crate) journal: Journal,
    settings: Arc<Settings>,
    blobs: Blobs,
    jobs: Vec<Job>,
    desk: Arc<Mutex<Desk>>,
    flaw: Flaw,
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(seed: u64, flaw: Flaw) -> Self {
        let (chance, journal) = (Chance::new(seed), Journal::default());
        let settings = Settings::from_layers(&Layers::default()).expect("the defaults are sound");
        let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
        let history = History::new(chance.clone(), journal.clone());
        let broker = Broker::new(&topology, journal.clone(), Arc::new(history.clone()));
        let jobs = (0..chance.number(10..40)).map(|number| job(seed, number, &settings)).collect();
        Self {
            network: Network::new(broker, chance.clone()),
            history,
            chance,
            journal,
            settings: Arc::new(settings),
            blobs: Blobs::in_memory(),
            jobs,
            desk: Arc::default(),
            flaw,
        }
    }

    /// Lets everything happen, and then looks whether it came out right.
    pub(crate) async fn run(&self) {
        let mut parts: Vec<Part> = self.names().iter().map(|name| self.start(name)).collect();
        for _ in 0..self.chance.number(4..24) {
            tokio::time::sleep(self.chance.time(200..12_000)).await;
            self.harm(&mut parts).await;
        }
        self.chance.calm_down();
        self.journal.note("peace");
        let settled = tokio::time::timeout(PEACE, async {
            while !self.is_settled() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        if settled.await.is_err() {
            self.journal.breach(format!("it never comes to rest: {}", self.left()));
        }
        for part in parts {
            part.kill().await;
        }
        self.check();
    }

    fn names(&self) -> Vec<String> {
        let workers = (0..WORKERS).map(|number| format!("worker-{number}"));
        let recorders = (0..RECORDERS).map(|number| format!("recorder-{number}"));
        workers.chain(recorders).chain(["client".to_owned()]).collect()
    }

    /// Something breaks.
    async fn harm(&self, parts: &mut [Part]) {
        match self.chance.number(0..10) {
            0..=5 => {
                let at = self.chance.number(0..parts.len() as u64) as usize;
                let name = &self.names()[at];
                self.journal.note(format!("{name} is killed"));
                let next = self.start(name);
                let old = std::mem::replace(&mut parts[at], next);
                old.kill().await;
            }
            6 | 7 => {
                let names = self.names();
                let name = &names[self.chance.number(0..names.len() as u64) as usize];
                self.network.hang_up(|owner| owner == name);
            }
            8 => self.network.outage(self.chance.time(10..20_000)).await,
            _ => self.history.outage(self.chance.time(10..40_000)).await,
        }
    }

    fn start(&self, name: &str) -> Part {
        let (plug, stop) = (self.network.of(name), CancellationToken::new());
        let dial: Arc<dyn Dial> = Arc::new(plug.clone());
        let options = Options::new(&self.settings.broker, name);
        let link = Arc::new(Link::over(dial.clone(), options, stop.clone()));
        // A process that is started takes a while.
        let delay = self.chance.time(0..3_000);
        let task = match name {
            "client" => tokio::spawn(self.client(dial, delay)),
            _ if name.starts_with("recorder") && self.flaw == Flaw::RecordersAckFirst => {
                tokio::spawn(self.hasty_recorder(link, delay))
            }
            _ if name.starts_with("recorder") => tokio::spawn(self.recorder(link, name, stop.clone(), delay)),
            _ if self.flaw == Flaw::WorkersAckFirst => tokio::spawn(self.hasty_worker(link, name, delay)),
            _ => tokio::spawn(self.worker(link, name, stop.clone(), delay)),
        };
        Part { plug, stop, task }
    }

    fn worker(
        &self,
        link: Arc<Link>,
        name: &str,
        stop: CancellationToken,
        delay: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (name, journal, settings) = (name.to_owned(), self.journal.clone(), self.settings.clone());
        let hands = Hands::new(name.parse().expect("a name"), self.chance.clone());
        async move {
            tokio::time::sleep(delay).await;
            let control = Control::listen(link.clone(), stop);
            let worker = name.parse().expect("a name");
            let mut service = Worker::new(link, hands, worker, settings).heeding(control);
            let never = CancellationToken::new();
            if let Err(error) = service.serve(&never, &never).await {
                journal.breach(format!("{name} gives up: {error}"));
            }
        }
    }

    fn recorder(
        &self,
        link: Arc<Link>,
        name: &str,
        stop: CancellationToken,
        delay: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let store = Store::new(self.history.clone(), self.blobs.clone());
        let (name, journal) = (name.to_owned(), self.journal.clone());
        let (settings, to_both) = (&self.settings.recorder, (link.clone(), store.clone(), name.clone()));
        let results = Recorder::new(to_both.0, to_both.1, settings, to_both.2, stop.clone());
        let letters = Recorder::<Letters>::of(link, store, settings, name.clone(), stop);
        async move {
            tokio::time::sleep(delay).await;
            if let Err(error) = tokio::try_join!(biased; results.serve(), letters.serve()) {
                journal.breach(format!("{name} gives up: {error}"));
            }
        }
    }

    /// Submits what is not accepted yet, hears of some, calls some off.
    fn client(&self, dial: Arc<dyn Dial>, delay: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (settings, desk, jobs) = (self.settings.clone(), self.desk.clone(), self.jobs.clone());
        let chance = self.chance.clone();
        async move {
            tokio::time::sleep(delay).await;
            let client = loop {
                match Client::connect_over(dial.clone(), &settings).await {
                    Ok(client) => break client,
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            };
            let mut waiting = tokio::task::JoinSet::new();
            for (number, job) in jobs.iter().enumerate() {
                while !lock(&desk).accepted.contains(&job.id) {
                    if number.is_multiple_of(3) {
                        let Ok(pending) = client.submit_job(job).await else { continue };
                        let (desk, id) = (desk.clone(), job.id);
                        lock(&desk).accepted.insert(id);
                        waiting.spawn(async move {
                            if pending.wait().await.is_ok() {
                                lock(&desk).heard.insert(id);
                            }
                        });
                    } else if client.enqueue_job(job).await.is_ok() {
                        lock(&desk).accepted.insert(job.id);
                    }
                }
                if number % 5 == 4 {
                    // Before it is known whether the broker heard it.
                    lock(&desk).called_off.insert(job.id);
                    let _ = client.cancel(job.id, Some("by chance")).await;
                }
                tokio::time::sleep(chance.time(0..2_000)).await;
            }
            while waiting.join_next().await.is_some() {}
            client.close().await;
        }
    }

    /// A worker that lets go of a job before it has answered.
    fn hasty_worker(
        &self,
        link: Arc<Link>,
        name: &str,
        delay: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let mut hands = Hands::new(name.parse().expect("a name"), self.chance.clone());
        let queues: Vec<String> = self.settings.broker.lanes.iter().map(topology::jobs_queue).collect();
        async move {
            tokio::time::sleep(delay).await;
            loop {
                let round = async {
                    let session = link.session().await?;
                    let delivery = session.next_of::<()>(&queues).await;
                    let Ok(delivery) = delivery else {
                        link.forget(&session).await;
                        return Ok(());
                    };
                    let job = wire::decode_job(&delivery.body).map_err(|_| Error::Broken(String::new()))?;
                    let inbox = delivery.inbox().map(str::to_owned);
                    delivery.settle(&()).await?;
                    let never = CancellationToken::new();
                    let now = Timestamp::now();
                    if let Fate::Done(evaluation) = hands.run(&job, now, &never, &mut |_| ()).await {
                        let envelope =
                            Envelope::new(MessageType::Result, job.id, now).for_inbox(inbox.as_deref());
                        let (key, body) = (topology::job_key(job.id), wire::encode(&*evaluation));
                        link.publish(topology::RESULTS, &key, &envelope, &body).await?;
                    }
                    Ok::<(), Error>(())
                };
                if round.await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// A recorder that lets go of a result before it is written.
    fn hasty_recorder(&self, link: Arc<Link>, delay: Duration) -> impl Future<Output = ()> + Send + use<> {
        let store = Store::new(self.history.clone(), self.blobs.clone());
        async move {
            tokio::time::sleep(delay).await;
            loop {
                let round = async {
                    let session = link.session().await?;
                    let mut results = session.consume::<()>(topology::RESULTS_QUEUE, 1).await?;
                    while let Ok(delivery) = results.next().await {
                        let Ok(evaluation) = wire::decode::<Evaluation>(&delivery.body) else { continue };
                        delivery.settle(&()).await?;
                        let _ = store.record(&[&evaluation]).await;
                    }
                    link.forget(&session).await;
                    Ok::<(), Error>(())
                };
                if round.await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        let broker = &self.network.broker;
        let empty = ["eval.jobs.", "eval.retry.", topology::RESULTS_QUEUE, topology::DEAD_RECORD_QUEUE];
        lock(&self.desk).accepted.len() == self.jobs.len()
            && empty.iter().all(|prefix| broker.left_in(prefix) == 0)
    }

    fn left(&self) -> String {
        let broker = &self.network.broker;
        format!(
            "{} of {} jobs accepted, {} jobs, {} retries and {} results in queues",
            lock(&self.desk).accepted.len(),
            self.jobs.len(),
            broker.left_in("eval.jobs."),
            broker.left_in("eval.retry."),
            broker.left_in(topology::RESULTS_QUEUE)
        )
    }

    /// What must be so in the end.
    fn check(&self) {
        let (desk, letters) = (lock(&self.desk), self.network.broker.letters());
        let dead: BTreeSet<JobId> = letters.iter().map(|(id, _)| *id).collect();
        for job in &self.jobs {
            let (id, record) = (job.id, self.history.record(job.id));
            let Some(record) = record else {
                self.journal.breach(format!("job {id} is lost: it has no record"));
                continue;
            };
            let is_dead = record.status == "dead";
            if is_dead && !dead.contains(&id) {
                self.journal.breach(format!("job {id} is recorded as dead, and there is no letter"));
            }
            if job.labels.contains_key(HOPELESS) && !is_dead && !desk.called_off.contains(&id) {
                self.journal
                    .breach(format!("job {id} cannot end well, and is recorded as {}", record.status));
            }
            if record.status == "cancelled" && !desk.called_off.contains(&id) {
                self.journal.breach(format!("nobody called job {id} off"));
            }
        }
        let known: BTreeSet<String> = self.jobs.iter().map(|job| job.id.to_string()).collect();
        for id in self.history.jobs().iter().filter(|id| !known.contains(*id)) {
            self.journal.breach(format!("a record of {id}, which nobody submitted"));
        }
        let (counted, held) = self.history.batch(BATCH);
        if counted != held {
            self.journal.breach(format!("the batch counts {counted} jobs, and has {held}"));
        }
    }
}

/// The jobs of a schedule, the same for the same seed.
fn job(seed: u64, number: u64, settings: &Settings) -> Job {
    let mut submission = Submission::command(["true"]);
    submission.urgent = number % 7 == 6;
    submission.batch = number.is_multiple_of(2).then(|| BATCH.parse().expect("a name"));
    if number % 9 == 8 {
        submission.labels.insert(HOPELESS.to_owned(), "yes".to_owned());
    }
    let defaults = Defaults { image: settings.client.image.clone(), now: Timestamp::now() };
    let mut job = submission.into_job(&defaults).expect("a job");
    // By a key one hears of a job otherwise than by an id that was made for it.
    let key = format!("simulation/{seed}/{number}");
    job.id = if number.is_multiple_of(2) { JobId::from_key(&key) } else { some_day().derived(&key, 0) };
    job
}

/// An id that was made at a time, and always at the same.
fn some_day() -> JobId {
    "01900000-0000-7000-8000-000000000000".parse().expect("a UUIDv7")
}
