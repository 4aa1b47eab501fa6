//! A job whose evaluation is yet to come.

use super::Error;
use super::mailbox::{Notice, Slot};
use evalfleet_proto::control::Event;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use std::sync::Arc;
use std::time::Duration;

/// A job that was submitted.
#[derive(Debug)]
#[must_use = "a pending job that is dropped is not heard of"]
pub struct Pending {
    id: JobId,
    slot: Slot,
    patience: Duration,
    done: Option<Arc<Evaluation>>,
}

impl Pending {
    pub(super) fn new(id: JobId, slot: Slot, patience: Duration) -> Self {
        Self { id, slot, patience, done: None }
    }

    /// The job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Waits for at most `patience` instead of the job's own limit and the configured patience.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Waits for the evaluation.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn wait(self) -> Result<Evaluation, Error> {
        self.watch(|_| ()).await
    }

    /// Waits for the evaluation, and tells `tell` what happens on the way. Events are lossy: the
    /// evaluation has all of it.
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub async fn watch(mut self, tell: impl FnMut(Event)) -> Result<Evaluation, Error> {
        let (id, waited) = (self.id, self.patience);
        match tokio::time::timeout(waited, self.until_done(tell)).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::Patience { id, waited }),
        }
    }

    /// Waits for the next event; `None` when the job is done, and [`Pending::wait`] has its evaluation at
    /// once. Cancel-safe: may be dropped and asked again, and then misses nothing but what a reader that is
    /// too slow misses anyway.
    ///
    /// # Errors
    /// When the client was closed. There is no limit on the wait: put one around it.
    pub async fn event(&mut self) -> Result<Option<Event>, Error> {
        if self.done.is_some() {
            return Ok(None);
        }
        match self.slot.recv().await {
            Some(Notice::Event(event)) => Ok(Some(Arc::unwrap_or_clone(event))),
            Some(Notice::Done(evaluation)) => {
                self.done = Some(evaluation);
                Ok(None)
            }
            None => Err(Error::Closed { id: self.id }),
        }
    }

    async fn until_done(&mut self, mut tell: impl FnMut(Event)) -> Result<Evaluation, Error> {
        loop {
            match (self.event().await?, &self.done) {
                (Some(event), _) => tell(event),
                (None, Some(evaluation)) => return Ok((**evaluation).clone()),
                (None, None) => return Err(Error::Closed { id: self.id }),
            }
        }
    }
}
