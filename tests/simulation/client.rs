//! The client's side of a schedule: it submits what is not accepted yet, waits for some, calls some off, and
//! now and then gives up in the middle.

use crate::chance::{Chance, polled};
use crate::network::Plug;
use evalfleet::client::{Client, Error, Pending};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::job::Job;
use evalfleet_service::settings::Settings;
use futures::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Of how many jobs one is waited for.
const WAITED_FOR: usize = 3;
/// The most that are enqueued in one go.
const BURST: u64 = 30;

/// What the client knows, and what it is told. It outlives the client.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) accepted: BTreeSet<JobId>,
    /// The results that a client waits for which is alive. Which result it is says nothing: a client that submits
    /// again, since it does not know whether it did, may hear of the second run alone.
    pub(crate) waiting: BTreeSet<JobId>,
    pub(crate) heard: BTreeSet<JobId>,
    /// Those that were waited for in vain, and why.
    pub(crate) gave_up: BTreeMap<JobId, String>,
    pub(crate) called_off: BTreeSet<JobId>,
}

/// The desk. Its clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Desk>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is at the desk.
#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) settings: Arc<Settings>,
    pub(crate) desk: Shared,
    pub(crate) chance: Chance,
    pub(crate) jobs: Arc<[Job]>,
    /// Which of them are called off, and how long after they were submitted.
    pub(crate) calls_off: fn(usize) -> Option<Duration>,
}

impl Customer {
    /// A process that was started: it lives until it is killed, or all is done.
    pub(crate) async fn live(self, plug: Plug) {
        // What its predecessor waited for, nobody waits for any more.
        self.desk.lock().waiting.clear();
        let client = loop {
            match Client::connect_over(Arc::new(plug.clone()), &self.settings).await {
                Ok(client) => break client,
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        };
        if self.chance.number(0..2) == 0 {
            self.enqueue_some(&client).await;
        }
        let mut waiting = JoinSet::new();
        for (number, job) in self.jobs.iter().enumerate() {
            while !self.desk.lock().accepted.contains(&job.id) {
                if !is_waited_for(number) {
                    if let Some(Ok(id)) = self.chance.patience(client.enqueue_job(job)).await {
                        self.desk.lock().accepted.insert(id);
                    }
                } else if let Some(Ok(pending)) = self.chance.patience(client.submit_job(job)).await {
                    if self.chance.strikes(|rates| rates.impatient) {
                        // Whoever drops the wait has nothing to ask again, but may submit the same job again.
                        let _ = polled(self.chance.number(0..8), pending.wait()).await;
                        continue;
                    }
                    self.desk.lock().accepted.insert(job.id);
                    self.desk.lock().waiting.insert(job.id);
                    waiting.spawn(self.clone().wait(pending));
                }
            }
            if let Some(wait) = (self.calls_off)(number) {
                tokio::time::sleep(wait).await;
                // Before it is known whether the broker heard it.
                self.desk.lock().called_off.insert(job.id);
                let say = || client.cancel(job.id, Some("by chance"));
                while !matches!(self.chance.patience(say()).await, Some(Ok(()))) {}
            }
            tokio::time::sleep(self.chance.time(0..2_000)).await;
        }
        while waiting.join_next().await.is_some() {}
        client.close().await;
    }

    /// Many at once. What is dropped in the middle is enqueued or not, and is submitted again.
    async fn enqueue_some(&self, client: &Client) {
        let some = self.chance.number(0..BURST) as usize;
        let left =
            self.jobs.iter().enumerate().filter(|(number, job)| {
                !is_waited_for(*number) && !self.desk.lock().accepted.contains(&job.id)
            });
        let left: Vec<Job> = left.take(some).map(|(_, job)| job.clone()).collect();
        let mut under_way = std::pin::pin!(client.enqueue_many(left));
        while let Some(Some(done)) = self.chance.patience(under_way.next()).await {
            if let Ok(id) = done {
                self.desk.lock().accepted.insert(id);
            }
        }
    }

    /// Waits for a result; whoever asks for events and gives up may ask again.
    async fn wait(self, mut pending: Pending) {
        let id = pending.id();
        let patience = self.settings.client.patience;
        let events = async {
            loop {
                match self.chance.patience(pending.event()).await {
                    Some(Ok(Some(_))) => {}
                    Some(Ok(None) | Err(_)) => return,
                    // At once, it would be asked for ever: nothing happens in between.
                    None => tokio::task::yield_now().await,
                }
            }
        };
        // What a person would wait for.
        let _ = tokio::time::timeout(patience, events).await;
        let heard: Result<_, Error> = pending.wait().await;
        let mut desk = self.desk.lock();
        desk.waiting.remove(&id);
        match heard {
            Ok(evaluation) if evaluation.id == id => drop(desk.heard.insert(id)),
            Ok(evaluation) => drop(desk.gave_up.insert(id, format!("it heard of {}", evaluation.id))),
            Err(error) => drop(desk.gave_up.insert(id, error.to_string())),
        }
    }
}

fn is_waited_for(number: usize) -> bool {
    number.is_multiple_of(WAITED_FOR)
}
