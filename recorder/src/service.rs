//! Results in, transactions out.
//!
//! A batch is one transaction, named by the hash of what is in it: whatever became of a transaction
//! that was not answered, sending the same batch again asks rather than writes twice. A batch that the
//! store refuses for good is halved until the culprit is alone, which becomes a dead letter; the others
//! are recorded.

use crate::batch::{Batch, Bounds};
use crate::proof::Recorded;
use crate::store::Store;
use evalfleet_broker::{Delivery, Error, Link};
use evalfleet_proto::dead::{DeadLetter, Reason};
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::{SCHEMA_VERSION, Timestamp, topology, wire};
use evalfleet_service::retry::Delays;
use evalfleet_service::settings;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest wait between two tries to reach the store.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A result on its way into the history.
struct Item {
    delivery: Delivery<Recorded>,
    evaluation: Evaluation,
}

/// A recorder at its broker and its store.
#[derive(Debug)]
pub struct Service {
    link: Arc<Link>,
    store: Store,
    bounds: Bounds,
    name: String,
    stop: CancellationToken,
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
        let bounds = Bounds {
            count: settings.batch_count,
            bytes: settings.batch_bytes.bytes(),
            age: settings.batch_age,
        };
        Self { link, store, bounds, name, stop }
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
        // Twice a batch: one is filled while the other is written.
        let prefetch = u16::try_from(self.bounds.count * 2).unwrap_or(u16::MAX);
        let mut results = session.consume::<Recorded>(topology::RESULTS_QUEUE, prefetch).await?;
        let mut batch: Batch<Item> = Batch::new(self.bounds);
        loop {
            let due = batch.due().map(tokio::time::Instant::from_std);
            // Biased, as in the worker: a simulated run can be played again.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    return self.record(batch.take()).await;
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                    self.record(batch.take()).await?;
                }
                next = results.next() => self.take(next?, &mut batch).await?,
            }
            if batch.is_full() {
                self.record(batch.take()).await?;
            }
        }
    }

    async fn take(&self, delivery: Delivery<Recorded>, batch: &mut Batch<Item>) -> Result<(), Failure> {
        let bytes = delivery.body.len() as u64;
        let decoded = wire::decode::<Evaluation>(&delivery.body).map_err(|error| error.to_string());
        let sound = decoded.and_then(|evaluation| match evaluation.broken_rule() {
            None => Ok(evaluation),
            Some(rule) => Err(format!("it breaks a rule: {rule}")),
        });
        match sound {
            Ok(evaluation) => batch.push(Item { delivery, evaluation }, bytes, Instant::now().into_std()),
            Err(error) => self.bury(delivery, &error).await?,
        }
        Ok(())
    }

    /// Records a batch, or halves it until what cannot be recorded is alone.
    async fn record(&self, batch: Vec<Item>) -> Result<(), Failure> {
        let mut left = vec![batch];
        while let Some(mut part) = left.pop() {
            if part.is_empty() {
                continue;
            }
            match self.commit(&part).await? {
                Ok(proof) => {
                    for item in part {
                        item.delivery.settle(&proof).await?;
                    }
                }
                Err(refusal) if part.len() == 1 => {
                    if let Some(item) = part.pop() {
                        self.bury(item.delivery, &refusal).await?;
                    }
                }
                Err(refusal) => {
                    tracing::warn!(refusal, results = part.len(), "the store refuses a batch: halving it");
                    let half = part.split_off(part.len() / 2);
                    left.extend([half, part]);
                }
            }
        }
        Ok(())
    }

    /// Writes a batch, however long the store takes; `Ok(Err(…))` is a refusal for good.
    async fn commit(&self, batch: &[Item]) -> Result<Result<Recorded, String>, Failure> {
        let evaluations: Vec<&Evaluation> = batch.iter().map(|item| &item.evaluation).collect();
        let mut delays = Delays::up_to(LONGEST_WAIT);
        loop {
            match self.store.record(&evaluations).await {
                Ok(transacted) => {
                    tracing::info!(
                        results = batch.len(),
                        datoms = transacted.datoms,
                        duplicate = transacted.duplicate,
                        basis_t = transacted.basis_t,
                        "recorded"
                    );
                    return Ok(Ok(Recorded::committed(&transacted)));
                }
                Err(error) if error.is_refusal() => return Ok(Err(error.to_string())),
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, results = batch.len(), "waiting for the store");
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

    async fn bury(&self, delivery: Delivery<Recorded>, error: &str) -> Result<(), Failure> {
        let id = delivery.envelope.as_ref().map_or_else(JobId::fresh, |envelope| envelope.id);
        tracing::error!(job = %id, error, "a result cannot be recorded: it goes to the dead letters");
        let lane = "results"
            .parse()
            .map_err(|error| Failure::Store(anyhow::Error::new::<evalfleet_proto::ids::ParseError>(error)))?;
        let letter = DeadLetter {
            schema: SCHEMA_VERSION,
            id,
            reason: Reason::Poison,
            error: error.to_owned(),
            lane,
            attempts: Vec::new(),
            worker: self.name.clone(),
            died: Timestamp::now(),
            body: delivery.body.clone(),
        };
        let envelope = Envelope::of_dead(&letter);
        let confirmed = self
            .link
            .publish(topology::DEAD, &topology::dead_key(&letter.lane), &envelope, &wire::encode(&letter))
            .await?;
        Ok(delivery.settle(&Recorded::buried(&confirmed)).await?)
    }
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
