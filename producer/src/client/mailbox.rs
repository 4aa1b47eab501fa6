//! The task that owns the client's inbox.
//!
//! ```text
//!            ┌────────────── connection lost ──────────────┐
//!            ▼                                             │
//!   wait for a session ─▶ open the inbox by its name ─▶ bind it ─▶ read, bind on demand
//! ```
//!
//! One task makes every change; the others ask it through a bounded channel and wait.

use super::Error;
use evalfleet_broker::{Delivery, Inbox, Link};
use evalfleet_proto::control::Event;
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::{topology, wire};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Results waited for at one moment.
const OUTSTANDING_MAX: usize = 10_000;
/// Notices a reader may be behind; older events are lost to it, never the result.
const NOTICES: usize = 64;
/// Requests to the task that wait.
const REQUESTS: usize = 64;
/// What is heard of each job.
const EXCHANGES: [&str; 2] = [topology::RESULTS, topology::EVENTS];

/// What a waiting client hears.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    Event(Event),
    Done(Arc<Evaluation>),
}

/// Whose jobs are heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Ours, published with our inbox in their envelope: they need no binding.
    Ours,
    /// Whoever submitted it, and however often.
    Anybodys,
}

pub(super) type Slot = broadcast::Receiver<Notice>;
type Answer = oneshot::Sender<Result<Slot, Error>>;

#[derive(Debug)]
enum Request {
    HearOf(JobId, Whose, Answer),
    Close(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Mailbox {
    name: String,
    requests: mpsc::Sender<Request>,
}

impl Mailbox {
    pub(super) fn start(link: Arc<Link>, stop: CancellationToken) -> Self {
        let (requests, asked) = mpsc::channel(REQUESTS);
        let name = format!("{}{}", topology::INBOX_PREFIX, JobId::fresh());
        let owner = Owner {
            link,
            name: name.clone(),
            open: BTreeMap::new(),
            bound: BTreeSet::new(),
            asked,
            unanswered: Vec::new(),
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = owner.run() => {}
            }
        });
        Self { name, requests }
    }

    /// The inbox, for the envelopes of our jobs.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Hears of `id` from now on; when this returns, the broker has bound all that it takes.
    pub(super) async fn hear_of(&self, id: JobId, whose: Whose) -> Result<Slot, Error> {
        let (answer, answered) = oneshot::channel();
        let closed = || Error::Closed { id };
        self.requests.send(Request::HearOf(id, whose, answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    pub(super) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request::Close(answer)).await.is_ok() {
            // When the broker is gone the task is, too, or waits for it: the queue expires by itself.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), answered).await;
        }
    }
}

struct Owner {
    link: Arc<Link>,
    name: String,
    open: BTreeMap<JobId, broadcast::Sender<Notice>>,
    /// Those that are heard of by a binding of their own.
    bound: BTreeSet<JobId>,
    asked: mpsc::Receiver<Request>,
    /// Whom the broken connection could not serve.
    unanswered: Vec<(Answer, Slot)>,
}

/// Why the inbox is left.
enum Left {
    Closed,
    Broken,
}

impl Owner {
    async fn run(mut self) {
        loop {
            let session = match self.link.session().await {
                Ok(session) => session,
                Err(error) => return tracing::error!(%error, "the inbox is lost"),
            };
            match Inbox::open(&session, &self.name).await {
                Ok(inbox) => {
                    if matches!(self.serve(inbox).await, Left::Closed) {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "opening the inbox again"),
            }
            self.link.forget(&session).await;
        }
    }

    async fn serve(&mut self, mut inbox: Inbox) -> Left {
        if self.bind_all(&inbox).await.is_err() {
            return Left::Broken;
        }
        for (answer, slot) in self.unanswered.drain(..) {
            let _ = answer.send(Ok(slot));
        }
        loop {
            // What has come goes before what is asked for.
            tokio::select! {
                biased;
                delivery = inbox.next() => match delivery {
                    Ok(delivery) => {
                        let done = self.hand_on(&delivery);
                        if delivery.settle(&()).await.is_err() {
                            return Left::Broken;
                        }
                        if let Some(id) = done
                            && self.bound.remove(&id)
                        {
                            forget(&inbox, id).await;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the inbox broke");
                        return Left::Broken;
                    }
                },
                request = self.asked.recv() => match request {
                    Some(Request::HearOf(id, whose, answer)) => {
                        if self.hear_of(&inbox, id, whose, answer).await.is_err() {
                            return Left::Broken;
                        }
                    }
                    Some(Request::Close(answer)) => {
                        inbox.close().await;
                        let _ = answer.send(());
                        return Left::Closed;
                    }
                    None => {
                        inbox.close().await;
                        return Left::Closed;
                    }
                },
            }
        }
    }

    async fn hear_of(
        &mut self,
        inbox: &Inbox,
        id: JobId,
        whose: Whose,
        answer: Answer,
    ) -> Result<(), evalfleet_broker::Error> {
        if self.open.len() >= OUTSTANDING_MAX {
            self.open.retain(|_, slot| slot.receiver_count() > 0);
            self.bound.retain(|id| self.open.contains_key(id));
        }
        let full = self.open.len() >= OUTSTANDING_MAX;
        let slot = match self.open.entry(id) {
            Entry::Occupied(slot) => slot.get().subscribe(),
            Entry::Vacant(_) if full => {
                let _ = answer.send(Err(Error::TooMany { max: OUTSTANDING_MAX }));
                return Ok(());
            }
            Entry::Vacant(place) => {
                let (slot, heard) = broadcast::channel(NOTICES);
                place.insert(slot);
                heard
            }
        };
        if whose == Whose::Anybodys
            && self.bound.insert(id)
            && let Err(error) = bind(inbox, id).await
        {
            // It is bound as soon as the inbox stands again: only then is it answered.
            self.unanswered.push((answer, slot));
            return Err(error);
        }
        // Whoever asked may have given up meanwhile.
        let _ = answer.send(Ok(slot));
        Ok(())
    }

    /// After a lost connection the bindings are there, unless the queue expired meanwhile.
    async fn bind_all(&self, inbox: &Inbox) -> Result<(), evalfleet_broker::Error> {
        for exchange in EXCHANGES {
            inbox.hear_answers(exchange).await?;
        }
        for id in &self.bound {
            bind(inbox, *id).await?;
        }
        Ok(())
    }

    /// Hands a message to those who wait for it; tells the job when it is done.
    fn hand_on(&mut self, delivery: &Delivery<()>) -> Option<JobId> {
        let envelope = delivery.envelope.as_ref()?;
        let slot = self.open.get(&envelope.id)?;
        match envelope.kind {
            MessageType::Result => match wire::decode::<Evaluation>(&delivery.body) {
                Ok(evaluation) => {
                    let _ = slot.send(Notice::Done(Arc::new(evaluation)));
                    self.open.remove(&envelope.id);
                    return Some(envelope.id);
                }
                Err(error) => tracing::warn!(%error, id = %envelope.id, "a result does not decode"),
            },
            MessageType::Event => match wire::decode::<Event>(&delivery.body) {
                Ok(event) => drop(slot.send(Notice::Event(event))),
                Err(error) => tracing::debug!(%error, id = %envelope.id, "an event does not decode"),
            },
            MessageType::Job
            | MessageType::Dead
            | MessageType::Handled
            | MessageType::Amendment
            | MessageType::Control => {}
        }
        None
    }
}

async fn bind(inbox: &Inbox, id: JobId) -> Result<(), evalfleet_broker::Error> {
    for exchange in EXCHANGES {
        inbox.hear_of(exchange, id).await?;
    }
    Ok(())
}

async fn forget(inbox: &Inbox, id: JobId) {
    for exchange in EXCHANGES {
        if let Err(error) = inbox.forget(exchange, id).await {
            tracing::debug!(%error, %id, "a binding is left to expire");
        }
    }
}
