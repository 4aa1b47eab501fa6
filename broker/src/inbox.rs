//! A queue of one's own: a client that waits hears of its jobs here, and polls nothing.
//!
//! The queue is durable and outlives a lost connection and a restart of the broker; it goes away when
//! nobody has used it for half an hour.

use crate::delivery::Consumer;
use crate::{Delivery, Error, Session};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology::job_key;
use lapin::Channel;
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

/// How long the broker keeps the queue of a client that is gone.
const EXPIRES_MS: i32 = 30 * 60 * 1000;
/// What it may hold: a bound, far above what a client leaves unread.
const BYTES_MAX: i64 = 1 << 30;

/// A client's own queue.
#[derive(Debug)]
pub struct Inbox {
    name: String,
    channel: Channel,
    consumer: Consumer<()>,
}

impl Inbox {
    /// Opens the inbox `name`, as new or as it was left when the last connection broke.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn open(session: &Session, name: &str) -> Result<Self, Error> {
        let channel = session.open_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(BYTES_MAX));
        let options = QueueDeclareOptions {
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
        };
        channel.queue_declare(name.into(), options, arguments).await.map_err(|error| Error::of(&error))?;
        let consumer = session.consume(name, 100).await?;
        Ok(Self { name: name.to_owned(), channel, consumer })
    }

    /// Hears of job `id` on `exchange` from now on: ask before the job is published.
    ///
    /// # Errors
    /// When the exchange is missing or the connection breaks.
    pub async fn hear_of(&self, exchange: &str, id: JobId) -> Result<(), Error> {
        let options = QueueBindOptions { nowait: false };
        let key = job_key(id).into();
        let bound = self.channel.queue_bind(
            self.name.as_str().into(),
            exchange.into(),
            key,
            options,
            FieldTable::default(),
        );
        bound.await.map_err(|error| Error::of(&error))
    }

    /// Hears no more of job `id` on `exchange`.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn forget(&self, exchange: &str, id: JobId) -> Result<(), Error> {
        let key = job_key(id).into();
        let unbound =
            self.channel.queue_unbind(self.name.as_str().into(), exchange.into(), key, FieldTable::default());
        unbound.await.map_err(|error| Error::of(&error))
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
        let options = QueueDeleteOptions { if_unused: false, if_empty: false, nowait: false };
        if let Err(error) = self.channel.queue_delete(self.name.as_str().into(), options).await {
            tracing::debug!(%error, "the inbox is left to expire");
        }
    }
}
