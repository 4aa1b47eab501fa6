//! What a consumer is handed, and how it settles it.
//!
//! The type parameter is the proof that settling takes: `Delivery<Confirmed>` for a job, whose result
//! the broker must hold first; for a result, whatever the store gives for a committed transaction.

use crate::Error;
use crate::transport::{Handle, Incoming, Source};
use evalfleet_proto::envelope::Envelope;
use std::marker::PhantomData;

/// A message that the broker keeps for us until we settle it. Dropping it gives it back to its queue.
#[must_use = "a delivery that is dropped goes back to its queue"]
pub struct Delivery<P> {
    /// What the envelope says; `None` when it names no job.
    pub envelope: Option<Envelope>,
    /// The body, as it came.
    pub body: Vec<u8>,
    /// Whether the broker handed it out before.
    pub redelivered: bool,
    /// The key it was published with.
    pub key: String,
    handle: Option<Box<dyn Handle>>,
    proof: PhantomData<fn(P)>,
}

impl<P> std::fmt::Debug for Delivery<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.envelope.as_ref().map(|envelope| envelope.id);
        f.debug_struct("Delivery").field("id", &id).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl<P> Delivery<P> {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self {
            envelope: incoming.envelope,
            body: incoming.body,
            redelivered: incoming.redelivered,
            key: incoming.key,
            handle: Some(incoming.handle),
            proof: PhantomData,
        }
    }

    /// The inbox of the client that waits for what this message is about.
    pub fn inbox(&self) -> Option<&str> {
        self.envelope.as_ref()?.inbox.as_deref()
    }

    /// Tells the broker to forget the message, on the strength of `proof`.
    ///
    /// For a job that is the word of the broker that it holds what became of it:
    ///
    /// ```
    /// use evalfleet_broker::{Confirmed, Delivery, Error};
    ///
    /// async fn done(job: Delivery<Confirmed>, proof: Confirmed) -> Result<(), Error> {
    ///     job.settle(&proof).await
    /// }
    /// ```
    ///
    /// Nothing else is taken for it:
    ///
    /// ```compile_fail,E0308
    /// use evalfleet_broker::{Confirmed, Delivery, Error};
    ///
    /// async fn done(job: Delivery<Confirmed>) -> Result<(), Error> {
    ///     job.settle(&()).await
    /// }
    /// ```
    ///
    /// And only a publish that was confirmed makes one:
    ///
    /// ```compile_fail,E0451
    /// use evalfleet_broker::{Confirmed, Delivery, Error};
    /// use evalfleet_proto::envelope::MessageType;
    /// use evalfleet_proto::ids::JobId;
    ///
    /// async fn done(job: Delivery<Confirmed>, id: JobId) -> Result<(), Error> {
    ///     job.settle(&Confirmed { id, kind: MessageType::Result }).await
    /// }
    /// ```
    ///
    /// # Errors
    /// When the connection broke: the message will be delivered again, and whoever gets it finds the
    /// work done.
    pub async fn settle(mut self, _proof: &P) -> Result<(), Error> {
        match self.handle.take() {
            Some(handle) => handle.ack().await,
            None => Ok(()),
        }
    }
}

impl<P> Drop for Delivery<P> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.give_back();
        }
    }
}

/// A stream of deliveries.
#[derive(Debug)]
pub struct Consumer<P> {
    source: Box<dyn Source>,
    proof: PhantomData<fn(P)>,
}

impl<P> Consumer<P> {
    pub(crate) fn new(source: Box<dyn Source>) -> Self {
        Self { source, proof: PhantomData }
    }

    /// Waits for the next delivery. Dropping the future loses none.
    ///
    /// # Errors
    /// When the connection broke, or the broker ended the consumer (its queue is gone, or a delivery
    /// was held too long): consume again, on a new session.
    pub async fn next(&mut self) -> Result<Delivery<P>, Error> {
        self.source.next().await.map(Delivery::new)
    }
}
