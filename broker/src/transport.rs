//! What a session stands on: the connection itself, without any of our rules.
//!
//! [`crate::amqp`] is RabbitMQ. The simulation in `tests/` brings one of its own that lives in memory,
//! keeps virtual time and breaks on purpose: all that is above this line, from [`crate::Session`] to the
//! parts' own services, is the same code there and here.

use crate::{Error, Options};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::topology::Topology;
use futures::future::BoxFuture;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Where reading a log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest entry that is kept.
    First,
    /// With what was said at that time, or somewhat before: the broker finds a chunk, not an entry.
    At(Timestamp),
}

/// What comes of asking a broker.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// How connections are made.
pub trait Dial: Debug + Send + Sync {
    /// Connects to one node, named by its URL.
    fn connect<'a>(&'a self, url: &'a str, options: &'a Options) -> Answer<'a, Arc<dyn Transport>>;
}

/// What the broker says to a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It holds the message.
    Ack,
    /// It does not, and says so: a queue is full, or has no leader.
    Nack,
}

/// One connection, with a channel for publishing.
pub trait Transport: Debug + Send + Sync {
    /// Whether the connection and its publishing channel still stand.
    fn is_alive(&self) -> bool;
    /// Whether the broker has blocked its publishers.
    fn is_blocked(&self) -> bool;
    /// Publishes, and waits for the broker's word. There is no limit on the wait here.
    fn publish<'a>(
        &'a self,
        exchange: &'a str,
        key: &'a str,
        envelope: &'a Envelope,
        body: &'a [u8],
    ) -> Answer<'a, Reply>;
    /// Opens a channel; it closes when it and all that came out of it are dropped.
    fn open(&self) -> Answer<'_, Arc<dyn Channel>>;
    /// Ends the connection in order.
    fn close(&self) -> Answer<'_, ()>;
}

/// A channel: an error on one kills no other.
pub trait Channel: Debug + Send + Sync {
    /// Declares every exchange, queue and binding.
    fn declare<'a>(&'a self, topology: &'a Topology) -> Answer<'a, ()>;
    /// Takes one message out of a queue, if there is one.
    fn get<'a>(&'a self, queue: &'a str) -> Answer<'a, Option<Incoming>>;
    /// Consumes a queue, with at most `prefetch` unsettled messages.
    fn consume<'a>(&'a self, queue: &'a str, prefetch: u16) -> Answer<'a, Box<dyn Source>>;
    /// Reads a log from `from` on, with at most `prefetch` entries on their way: to acknowledge one asks
    /// for another, and takes nothing out of the log. A broker without logs has none to read.
    fn follow<'a>(&'a self, log: &'a str, _from: Start, _prefetch: u16) -> Answer<'a, Box<dyn Source>> {
        let missing = Error::Missing { what: format!("the log {log}") };
        Box::pin(std::future::ready(Err(missing)))
    }
    /// Counts the messages that wait, and the consumers.
    fn depth<'a>(&'a self, queue: &'a str) -> Answer<'a, (u32, u32)>;
    /// Declares a durable queue that goes away when it was not used for `expires`.
    fn declare_inbox<'a>(&'a self, queue: &'a str, expires: Duration, bytes_max: u64) -> Answer<'a, ()>;
    /// Binds a queue.
    fn bind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()>;
    /// Undoes a binding.
    fn unbind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()>;
    /// Deletes a queue.
    fn delete<'a>(&'a self, queue: &'a str) -> Answer<'a, ()>;
}

/// What a consumer is fed from.
pub trait Source: Debug + Send + Sync {
    /// Waits for the next message. Dropping the future loses none.
    fn next(&mut self) -> Answer<'_, Incoming>;
}

/// A message that the broker keeps until it is settled.
#[derive(Debug)]
pub struct Incoming {
    /// What the envelope says; `None` when it names no job.
    pub envelope: Option<Envelope>,
    /// The body, as it came.
    pub body: Vec<u8>,
    /// Whether the broker handed it out before.
    pub redelivered: bool,
    /// The key it was published with.
    pub key: String,
    /// What settles it.
    pub handle: Box<dyn Handle>,
}

/// What settles one message.
pub trait Handle: Debug + Send + Sync {
    /// Tells the broker to forget it.
    fn ack(self: Box<Self>) -> Answer<'static, ()>;
    /// Gives it back to its queue, without waiting for that.
    fn give_back(self: Box<Self>);
}
