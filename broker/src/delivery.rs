//! What a consumer is handed, and how it settles it.
//!
//! The type parameter is the proof that settling takes: `Delivery<Confirmed>` for a job, whose result
//! the broker must hold first; for a result, whatever the store gives for a committed transaction.

use crate::{Error, convert};
use evalfleet_proto::envelope::Envelope;
use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicNackOptions};
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
    acker: Option<lapin::Acker>,
    /// Kept open as long as deliveries of it are unsettled: their tags die with it.
    _channel: lapin::Channel,
    proof: PhantomData<fn(P)>,
}

impl<P> std::fmt::Debug for Delivery<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.envelope.as_ref().map(|envelope| envelope.id);
        f.debug_struct("Delivery").field("id", &id).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl<P> Delivery<P> {
    pub(crate) fn new(delivery: lapin::message::Delivery, channel: lapin::Channel) -> Self {
        Self {
            envelope: convert::envelope(&delivery.properties),
            body: delivery.data,
            redelivered: delivery.redelivered,
            key: delivery.routing_key.as_str().to_owned(),
            acker: Some(delivery.acker),
            _channel: channel,
            proof: PhantomData,
        }
    }

    /// Tells the broker to forget the message, on the strength of `proof`.
    ///
    /// # Errors
    /// When the connection broke: the message will be delivered again, and whoever gets it finds the
    /// work done.
    pub async fn settle(mut self, _proof: &P) -> Result<(), Error> {
        let Some(acker) = self.acker.take() else { return Ok(()) };
        match acker.ack(BasicAckOptions { multiple: false }).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Broken("the delivery's channel is gone".to_owned())),
            Err(error) => Err(Error::of(&error)),
        }
    }
}

impl<P> Drop for Delivery<P> {
    fn drop(&mut self) {
        let Some(acker) = self.acker.take() else { return };
        // Outside a runtime the connection is gone as well, and the broker takes it back by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = acker.nack(BasicNackOptions { multiple: false, requeue: true }).await {
                    tracing::debug!(%error, "a delivery was given back by losing its channel");
                }
            });
        }
    }
}

/// A stream of deliveries.
#[derive(Debug)]
pub struct Consumer<P> {
    queue: String,
    channel: lapin::Channel,
    inner: lapin::Consumer,
    proof: PhantomData<fn(P)>,
}

impl<P> Consumer<P> {
    pub(crate) fn new(queue: String, channel: lapin::Channel, inner: lapin::Consumer) -> Self {
        Self { queue, channel, inner, proof: PhantomData }
    }

    /// Waits for the next delivery. Dropping the future loses none.
    ///
    /// # Errors
    /// When the connection broke, or the broker ended the consumer (its queue is gone, or a delivery
    /// was held too long): consume again, on a new session.
    pub async fn next(&mut self) -> Result<Delivery<P>, Error> {
        match self.inner.next().await {
            Some(Ok(delivery)) => Ok(Delivery::new(delivery, self.channel.clone())),
            Some(Err(error)) => Err(Error::of(&error)),
            None => Err(Error::Broken(format!("the broker ended the consumer of {}", self.queue))),
        }
    }
}
