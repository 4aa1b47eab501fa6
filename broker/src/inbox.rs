//! A queue of one's own: a client that waits hears of its jobs here, and polls nothing.
//!
//! The queue is durable and outlives a lost connection and a restart of the broker; it goes away when
//! nobody has used it for half an hour.

use crate::delivery::Consumer;
use crate::transport::Channel;
use crate::{Delivery, Error, Session};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology::job_key;
use std::sync::Arc;
use std::time::Duration;

/// How long the broker keeps the queue of a client that is gone.
const EXPIRES: Duration = Duration::from_secs(30 * 60);
/// What it may hold: a bound, far above what a client leaves unread.
const BYTES_MAX: u64 = 1 << 30;

/// A client's own queue.
#[derive(Debug)]
pub struct Inbox {
    name: String,
    channel: Arc<dyn Channel>,
    consumer: Consumer<()>,
}

impl Inbox {
    /// Opens the inbox `name`, as new or as it was left when the last connection broke.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn open(session: &Session, name: &str) -> Result<Self, Error> {
        let channel = session.open_channel().await?;
        channel.declare_inbox(name, EXPIRES, BYTES_MAX).await?;
        let consumer = session.consume(name, 100).await?;
        Ok(Self { name: name.to_owned(), channel, consumer })
    }

    /// Hears on `exchange`, from now on, of every job that was published with this inbox in its envelope.
    ///
    /// # Errors
    /// When the exchange is missing or the connection breaks.
    pub async fn hear_answers(&self, exchange: &str) -> Result<(), Error> {
        self.channel.bind(&self.name, exchange, &self.name).await
    }

    /// Hears of job `id` on `exchange` from now on: ask before the job is published.
    ///
    /// # Errors
    /// When the exchange is missing or the connection breaks.
    pub async fn hear_of(&self, exchange: &str, id: JobId) -> Result<(), Error> {
        self.channel.bind(&self.name, exchange, &job_key(id)).await
    }

    /// Hears of everything on `exchange` from now on: for those who watch and wait for nothing.
    ///
    /// # Errors
    /// When the exchange is missing or the connection breaks.
    pub async fn hear_all(&self, exchange: &str) -> Result<(), Error> {
        self.channel.bind(&self.name, exchange, "#").await
    }

    /// Hears no more of job `id` on `exchange`.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn forget(&self, exchange: &str, id: JobId) -> Result<(), Error> {
        self.channel.unbind(&self.name, exchange, &job_key(id)).await
    }

    /// Waits for the next message; settle it with `()`.
    ///
    /// # Errors
    /// When the connection broke: open the inbox again on a new session.
    pub async fn next(&mut self) -> Result<Delivery<()>, Error> {
        self.consumer.next().await
    }

    /// Gives the queue up.
    pub async fn close(self) {
        if let Err(error) = self.channel.delete(&self.name).await {
            tracing::debug!(%error, "the inbox is left to expire");
        }
    }
}
