//! Messages in, transactions out.
//!
//! Results come out of one queue, dead letters out of another ([`Kind`]); each is served alike. A batch is one
//! transaction, named by the hash of what is in it: whatever became of a transaction that was not answered, sending
//! the same batch again asks rather than writes twice. A batch that the store refuses for good is halved until the
//! culprit is alone, which becomes a dead letter; the others are recorded.
//!
//! The next batch is on its way while one is committed (`under_way`). Each is acknowledged after
//! its own commit, whichever comes first.

use crate::batch::{Batch, Bounds};
use crate::letters::{Noted, What};
use crate::proof::Recorded;
use crate::store::{self, Store};
use crate::under_way::UnderWay;
use evalfleet_broker::{Delivery, Error, Link};
use evalfleet_datomic::Transacted;
use evalfleet_proto::dead::{DeadLetter, Reason};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::{JobId, Lane};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp, topology, wire};
use evalfleet_service::retry::Delays;
use evalfleet_service::settings;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest wait between two tries to reach the store.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is recorded.
pub trait Kind: std::fmt::Debug + Send + Sync {
    /// One of them.
    type Item: Send + Sync;
    /// Their name, for logs.
    const WHAT: &'static str;
    /// The queue that they come out of.
    const QUEUE: &'static str;
    /// Batches on their way into the history at one moment.
    const AT_ONCE: usize;

    /// What one is about, where another may be about the same and there may be several batches at once.
    fn subject(_: &Self::Item) -> Option<JobId> {
        None
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Says why it is none.
    fn read(delivery: &Delivery<Recorded>) -> Result<Self::Item, String>;

    /// Writes some in one transaction.
    fn write(
        store: &Store,
        items: &[&Self::Item],
    ) -> impl Future<Output = Result<Transacted, store::Error>> + Send;

    /// The result that is to be published about one, when it is recorded: nobody else will.
    fn result(_: &Self::Item) -> Option<Evaluation> {
        None
    }

    /// The dead letter for one that cannot be recorded; `None` for what lies among the dead already.
    fn letter(delivery: &Delivery<Recorded>, error: &str, recorder: &str) -> Option<DeadLetter>;
}

/// Results of jobs.
#[derive(Debug)]
pub struct Results;

/// Dead letters, and what is done with them.
#[derive(Debug)]
pub struct Letters;

impl Kind for Results {
    type Item = Evaluation;
    const WHAT: &'static str = "results";
    const QUEUE: &'static str = topology::RESULTS_QUEUE;
    /// The store commits one transaction after the other: a second one hides the way there, a third would only wait.
    const AT_ONCE: usize = 2;

    fn subject(evaluation: &Evaluation) -> Option<JobId> {
        Some(evaluation.id)
    }

    fn read(delivery: &Delivery<Recorded>) -> Result<Evaluation, String> {
        let evaluation = wire::decode::<Evaluation>(&delivery.body).map_err(|error| error.to_string())?;
        match evaluation.broken_rule() {
            None => Ok(evaluation),
            Some(rule) => Err(format!("it breaks a rule: {rule}")),
        }
    }

    async fn write(store: &Store, items: &[&Evaluation]) -> Result<Transacted, store::Error> {
        store.record(items).await
    }

    fn letter(delivery: &Delivery<Recorded>, error: &str, recorder: &str) -> Option<DeadLetter> {
        Some(DeadLetter {
            schema: SCHEMA_VERSION,
            id: delivery.envelope.as_ref().map_or_else(JobId::fresh, |envelope| envelope.id),
            reason: Reason::Poison,
            error: error.to_owned(),
            lane: Lane::results(),
            attempts: Vec::new(),
            worker: recorder.to_owned(),
            died: Timestamp::now(),
            body: delivery.body.clone(),
        })
    }
}

impl Kind for Letters {
    type Item = Noted;
    const WHAT: &'static str = "dead letters";
    const QUEUE: &'static str = topology::DEAD_RECORD_QUEUE;
    /// What is done with a letter, and said of a verdict, rests on all that was before.
    const AT_ONCE: usize = 1;

    fn read(delivery: &Delivery<Recorded>) -> Result<Noted, String> {
        Noted::read(delivery)
    }

    async fn write(store: &Store, items: &[&Noted]) -> Result<Transacted, store::Error> {
        store.record_dead(items).await
    }

    fn result(noted: &Noted) -> Option<Evaluation> {
        match &noted.what {
            What::Letter(letter) => letter.result(Timestamp::now()),
            What::Handled(_)
            | What::Amended(_)
            | What::Alert(_)
            | What::Judged(_)
            | What::Healing(_)
            | What::Decided(_) => None,
        }
    }

    fn letter(_: &Delivery<Recorded>, _: &str, _: &str) -> Option<DeadLetter> {
        None
    }
}

/// One of them on its way into the history.
struct Item<T> {
    delivery: Delivery<Recorded>,
    read: T,
}

/// A recorder at its broker and its store.
#[derive(Debug)]
pub struct Service<K = Results> {
    link: Arc<Link>,
    store: Store,
    bounds: Bounds,
    name: String,
    stop: CancellationToken,
    kind: PhantomData<fn(K)>,
}

impl Service {
    /// A recorder that takes results over `link` into `store` until `stop`.
    pub fn new(
        link: Arc<Link>,
        store: Store,
        settings: &settings::Recorder,
        name: String,
        stop: CancellationToken,
    ) -> Self {
        Self::of(link, store, settings, name, stop)
    }
}

impl<K: Kind> Service<K> {
    /// The same for things of any kind.
    pub fn of(
        link: Arc<Link>,
        store: Store,
        settings: &settings::Recorder,
        name: String,
        stop: CancellationToken,
    ) -> Self {
        let bounds = Bounds {
            count: settings.batch_count,
            bytes: settings.batch_bytes.bytes(),
            age: settings.batch_age,
        };
        Self { link, store, bounds, name, stop, kind: PhantomData }
    }

    /// Records until it is stopped; what is not recorded by then goes back to its queue.
    ///
    /// # Errors
    /// When the broker or the store says what no waiting mends.
    pub async fn serve(&self) -> anyhow::Result<()> {
        while !self.stop.is_cancelled() {
            let session = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                session = self.link.session() => session?,
            };
            match Box::pin(self.consume(&session)).await {
                Ok(()) => {}
                Err(Failure::Broker(error)) if error.is_transient() => {
                    tracing::warn!(%error, "starting over with a new connection");
                    self.link.forget(&session).await;
                }
                Err(Failure::Broker(error)) => return Err(error.into()),
                Err(Failure::Store(error)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn consume(&self, session: &evalfleet_broker::Session) -> Result<(), Failure> {
        // Twice a batch: one is filled while the other is written, or both are.
        let prefetch = u16::try_from(self.bounds.count * 2).unwrap_or(u16::MAX);
        let mut messages = session.consume::<Recorded>(K::QUEUE, prefetch).await?;
        let mut batch: Batch<Item<K::Item>> = Batch::new(self.bounds);
        let mut under_way = UnderWay::new(K::AT_ONCE);
        loop {
            let due = batch.due().map(Instant::from_std);
            let admitted = under_way.admits(subjects::<K>(&batch));
            // Biased, as in the worker: a simulated run can be played again.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    while let Some(done) = under_way.next().await {
                        done?;
                    }
                    return self.record(batch.take()).await;
                }
                Some(done) = under_way.next(), if !under_way.is_empty() => done?,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() && admitted => {
                    under_way.begin(subjects::<K>(&batch).collect(), self.record(batch.take()));
                }
                next = messages.next(), if !batch.is_full() => self.take(next?, &mut batch).await?,
            }
            if batch.is_full() && under_way.admits(subjects::<K>(&batch)) {
                under_way.begin(subjects::<K>(&batch).collect(), self.record(batch.take()));
            }
        }
    }

    async fn take(
        &self,
        delivery: Delivery<Recorded>,
        batch: &mut Batch<Item<K::Item>>,
    ) -> Result<(), Failure> {
        let bytes = delivery.body.len() as u64;
        match K::read(&delivery) {
            Ok(read) => batch.push(Item { delivery, read }, bytes, Instant::now().into_std()),
            Err(error) => self.give_up(delivery, &error).await?,
        }
        Ok(())
    }

    /// Records a batch, or halves it until what cannot be recorded is alone.
    async fn record(&self, batch: Vec<Item<K::Item>>) -> Result<(), Failure> {
        let mut left = vec![batch];
        while let Some(mut part) = left.pop() {
            if part.is_empty() {
                continue;
            }
            match self.commit(&part).await? {
                Ok(proof) => {
                    for item in part {
                        self.report(&item).await?;
                        item.delivery.settle(&proof).await?;
                    }
                }
                Err(refusal) if part.len() == 1 => {
                    if let Some(item) = part.pop() {
                        self.give_up(item.delivery, &refusal).await?;
                    }
                }
                Err(refusal) => {
                    tracing::warn!(
                        refusal,
                        count = part.len(),
                        what = K::WHAT,
                        "the store refuses a batch: halving it"
                    );
                    let half = part.split_off(part.len() / 2);
                    left.extend([half, part]);
                }
            }
        }
        Ok(())
    }

    /// Writes a batch, however long the store takes; `Ok(Err(…))` is a refusal for good.
    async fn commit(&self, batch: &[Item<K::Item>]) -> Result<Result<Recorded, String>, Failure> {
        let items: Vec<&K::Item> = batch.iter().map(|item| &item.read).collect();
        let mut delays = Delays::up_to(LONGEST_WAIT);
        loop {
            match K::write(&self.store, &items).await {
                Ok(transacted) => {
                    tracing::info!(
                        count = batch.len(),
                        what = K::WHAT,
                        datoms = transacted.datoms,
                        duplicate = transacted.duplicate,
                        basis_t = transacted.basis_t,
                        "recorded"
                    );
                    return Ok(Ok(Recorded::committed(&transacted)));
                }
                Err(error) if error.is_refusal() => return Ok(Err(error.to_string())),
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, count = batch.len(), what = K::WHAT, "waiting for the store");
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return Err(Failure::Store(error.into())),
                        () = tokio::time::sleep(delays.next_delay()) => {}
                    }
                }
                Err(error) => return Err(Failure::Store(error.into())),
            }
        }
    }

    /// Publishes what a recorded one says of its job, for the history and for whoever waits. Where the job was
    /// answered after all, the result that came first stands.
    async fn report(&self, item: &Item<K::Item>) -> Result<(), Failure> {
        if let Some(evaluation) = K::result(&item.read) {
            let envelope = Envelope::new(MessageType::Result, evaluation.id, evaluation.finished);
            let (envelope, key) =
                (envelope.for_inbox(item.delivery.inbox()), topology::job_key(evaluation.id));
            self.link.publish(topology::RESULTS, &key, &envelope, &wire::encode(&evaluation)).await?;
        }
        Ok(())
    }

    /// Lets go of what cannot be recorded: it goes to the dead letters, unless it lies there already.
    async fn give_up(&self, delivery: Delivery<Recorded>, error: &str) -> Result<(), Failure> {
        let Some(letter) = K::letter(&delivery, error, &self.name) else {
            tracing::error!(
                ?delivery,
                error,
                "not in the history: a letter is in its queue only, what was done with one, said of a verdict, of an alert or of a healing in none"
            );
            return Ok(delivery.settle(&Recorded::among_the_dead()).await?);
        };
        tracing::error!(job = %letter.id, error, "a result cannot be recorded: it goes to the dead letters");
        let envelope = Envelope::of_dead(&letter);
        let confirmed = self
            .link
            .publish(topology::DEAD, &topology::dead_key(&letter.lane), &envelope, &wire::encode(&letter))
            .await?;
        Ok(delivery.settle(&Recorded::buried(&confirmed)).await?)
    }
}

/// What the items of a batch are about.
fn subjects<K: Kind>(batch: &Batch<Item<K::Item>>) -> impl Iterator<Item = JobId> {
    batch.items().iter().filter_map(|item| K::subject(&item.read))
}

/// Why recording stopped.
#[derive(Debug)]
enum Failure {
    Broker(Error),
    Store(anyhow::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}
