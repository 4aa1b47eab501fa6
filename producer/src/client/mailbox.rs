//! The task that owns the client's inbox.
//!
//! ```text
//!            ┌────────────── connection lost ──────────────┐
//!            ▼                                             │
//!   wait for a session ─▶ open the inbox by its name ─▶ bind it ─▶ read, bind on demand
//! ```
//!
//! One task has the inbox. Jobs of our own are named by it in their envelope and need nothing of the broker, so they
//! are heard of at once, as long as the inbox stands; for all others that task is asked for a binding, through a
//! bounded channel.

use super::Error;
use evalfleet_broker::{Delivery, Inbox, Link};
use evalfleet_proto::control::Event;
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::{topology, wire};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Results waited for at one moment.
const OUTSTANDING_MAX: usize = 10_000;
/// Notices a reader may be behind; further events are lost to it, never the result, for which there is one place more.
const NOTICES: usize = 64;
/// How long a submission waits for room among the results that are waited for, and how often it looks.
const ROOM_PATIENCE: Duration = Duration::from_secs(60);
const ROOM_GLANCE: Duration = Duration::from_millis(100);
/// How often those are looked for, meanwhile, whom nobody waits for any more.
const SWEEP: Duration = Duration::from_millis(250);
/// Requests to the task that wait.
const REQUESTS: usize = 64;
/// What is heard of each job.
const EXCHANGES: [&str; 2] = [topology::RESULTS, topology::EVENTS];

/// What a waiting client hears.
#[derive(Debug, Clone)]
pub(super) enum Notice {
    Event(Arc<Event>),
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

pub(super) type Slot = mpsc::Receiver<Notice>;
type Answer = oneshot::Sender<()>;

#[derive(Debug)]
enum Request {
    Bind(JobId, Answer),
    Close(oneshot::Sender<()>),
}

/// Who waits for what; shared between the task and those who ask.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    of: BTreeMap<JobId, Vec<mpsc::Sender<Notice>>>,
    swept: Option<Instant>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for what is said of `id`; `None` when as many are waited for as may be.
    fn place(&self, id: JobId) -> Option<Slot> {
        let mut open = self.lock();
        let is_due = open.swept.is_none_or(|swept| swept.elapsed() >= SWEEP);
        if open.of.len() >= OUTSTANDING_MAX && is_due {
            open.of.retain(|_, readers| readers.iter().any(|reader| !reader.is_closed()));
            open.swept = Some(Instant::now());
        }
        if open.of.len() >= OUTSTANDING_MAX && !open.of.contains_key(&id) {
            return None;
        }
        let (reader, heard) = mpsc::channel(NOTICES + 1);
        let readers = open.of.entry(id).or_default();
        readers.retain(|reader| !reader.is_closed());
        readers.push(reader);
        Some(heard)
    }
}

#[derive(Debug)]
pub(super) struct Mailbox {
    name: String,
    open: Open,
    standing: watch::Receiver<bool>,
    requests: mpsc::Sender<Request>,
}

impl Mailbox {
    pub(super) fn start(link: Arc<Link>, stop: CancellationToken) -> Self {
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (stands, standing) = watch::channel(false);
        let name = format!("{}{}", topology::INBOX_PREFIX, JobId::fresh());
        let open = Open::default();
        let owner = Owner {
            link,
            name: name.clone(),
            open: open.clone(),
            stands,
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
        Self { name, open, standing, requests }
    }

    /// The inbox, for the envelopes of our jobs.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Hears of `id` from now on; when this returns, the broker has bound all that it takes. Where too many results
    /// are waited for, it waits for room.
    pub(super) async fn hear_of(&self, id: JobId, whose: Whose) -> Result<Slot, Error> {
        let closed = |()| Error::Closed { id };
        let mut standing = self.standing.clone();
        standing.wait_for(|stands| *stands).await.map_err(|_| closed(()))?;
        let slot = self.room(id).await?;
        if whose == Whose::Anybodys {
            let (answer, answered) = oneshot::channel();
            self.requests.send(Request::Bind(id, answer)).await.map_err(|_| closed(()))?;
            answered.await.map_err(|_| closed(()))?;
        }
        Ok(slot)
    }

    async fn room(&self, id: JobId) -> Result<Slot, Error> {
        if let Some(slot) = self.open.place(id) {
            return Ok(slot);
        }
        let found = async {
            loop {
                tokio::time::sleep(ROOM_GLANCE).await;
                if let Some(slot) = self.open.place(id) {
                    return slot;
                }
            }
        };
        let found = tokio::time::timeout(ROOM_PATIENCE, found).await;
        found.map_err(|_| Error::TooMany { max: OUTSTANDING_MAX, waited: ROOM_PATIENCE })
    }

    pub(super) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request::Close(answer)).await.is_ok() {
            // When the broker is gone the task is, too, or waits for it: the queue expires by itself.
            let _ = tokio::time::timeout(Duration::from_secs(2), answered).await;
        }
    }
}

struct Owner {
    link: Arc<Link>,
    name: String,
    open: Open,
    /// Whether the inbox stands: what is published with its name now is heard of.
    stands: watch::Sender<bool>,
    /// Those that are heard of by a binding of their own.
    bound: BTreeSet<JobId>,
    asked: mpsc::Receiver<Request>,
    /// Whom the broken connection could not serve.
    unanswered: Vec<Answer>,
}

impl Drop for Owner {
    /// Those who wait are told that nobody listens any more.
    fn drop(&mut self) {
        self.open.lock().of.clear();
    }
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
                    let left = self.serve(inbox).await;
                    self.stands.send_replace(false);
                    if matches!(left, Left::Closed) {
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
        for answer in self.unanswered.drain(..) {
            let _ = answer.send(());
        }
        self.stands.send_replace(true);
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
                    Some(Request::Bind(id, answer)) => {
                        if self.bind(&inbox, id, answer).await.is_err() {
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

    async fn bind(
        &mut self,
        inbox: &Inbox,
        id: JobId,
        answer: Answer,
    ) -> Result<(), evalfleet_broker::Error> {
        if self.bound.len() >= OUTSTANDING_MAX {
            let open = self.open.lock();
            self.bound.retain(|id| open.of.contains_key(id));
        }
        if self.bound.insert(id)
            && let Err(error) = bind(inbox, id).await
        {
            // It is bound as soon as the inbox stands again: only then is it answered.
            self.unanswered.push(answer);
            return Err(error);
        }
        // Whoever asked may have given up meanwhile.
        let _ = answer.send(());
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
    fn hand_on(&self, delivery: &Delivery<()>) -> Option<JobId> {
        let envelope = delivery.envelope.as_ref()?;
        if !self.open.lock().of.contains_key(&envelope.id) {
            return None;
        }
        match envelope.kind {
            MessageType::Result => match wire::decode::<Evaluation>(&delivery.body) {
                Ok(evaluation) => {
                    let (done, readers) = (Arc::new(evaluation), self.open.lock().of.remove(&envelope.id));
                    for reader in readers.into_iter().flatten() {
                        let _ = reader.try_send(Notice::Done(done.clone()));
                    }
                    return Some(envelope.id);
                }
                Err(error) => tracing::warn!(%error, id = %envelope.id, "a result does not decode"),
            },
            MessageType::Event => match wire::decode::<Event>(&delivery.body) {
                Ok(event) => {
                    let event = Arc::new(event);
                    let open = self.open.lock();
                    let readers = open.of.get(&envelope.id).into_iter().flatten();
                    for reader in readers.filter(|reader| reader.capacity() > 1) {
                        let _ = reader.try_send(Notice::Event(event.clone()));
                    }
                }
                Err(error) => tracing::debug!(%error, id = %envelope.id, "an event does not decode"),
            },
            MessageType::Job
            | MessageType::Dead
            | MessageType::Handled
            | MessageType::Amendment
            | MessageType::Alert
            | MessageType::Judgement
            | MessageType::Healing
            | MessageType::Decision
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
