//! One connection: publish with confirm, consume, look into a queue. When it breaks it stays broken.

use crate::amqp::Amqp;
use crate::delivery::{Consumer, Delivery};
use crate::options::without_password;
use crate::transport::{Channel, Dial, Reply, Transport};
use crate::{Error, Options};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::wire::BODY_BYTES_MAX;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// Proof that the broker holds a message: only a confirmed publish makes one.
#[derive(Debug)]
pub struct Confirmed {
    id: JobId,
    kind: MessageType,
}

impl Confirmed {
    /// The job that the message is about.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// What the message is.
    pub fn kind(&self) -> MessageType {
        self.kind
    }
}

/// A queue that is looked through. What it gave and nobody settled goes back when that is dropped.
#[derive(Debug)]
pub struct Browser<P> {
    channel: Arc<dyn Channel>,
    queue: String,
    proof: PhantomData<fn(P)>,
}

impl<P> Browser<P> {
    /// The next message, if there is one that nobody holds.
    ///
    /// # Errors
    /// When the queue is missing or the connection broke.
    pub async fn next(&self) -> Result<Option<Delivery<P>>, Error> {
        Ok(self.channel.get(&self.queue).await?.map(Delivery::new))
    }
}

/// One connection to one node.
#[derive(Debug)]
pub struct Session {
    transport: Arc<dyn Transport>,
    node: String,
    confirm_timeout: Duration,
    /// The channel on which messages are taken one by one, while nobody waits for an answer on it.
    taker: Mutex<Option<Arc<dyn Channel>>>,
}

impl Session {
    /// Connects to the first node that answers.
    ///
    /// # Errors
    /// When none does, or one refuses the login.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        Self::connect_over(&Amqp, options).await
    }

    /// The same, over connections that `dial` makes.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub async fn connect_over(dial: &dyn Dial, options: &Options) -> Result<Self, Error> {
        let mut reason = "no node is named".to_owned();
        for url in &options.urls {
            match timeout(options.connect_timeout, dial.connect(url, options)).await {
                Ok(Ok(transport)) => {
                    let node = without_password(url);
                    let confirm_timeout = options.confirm_timeout;
                    return Ok(Self { transport, node, confirm_timeout, taker: Mutex::default() });
                }
                Ok(Err(error @ (Error::Denied { .. } | Error::File { .. }))) => return Err(error),
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => reason = format!("no answer within {} s", options.connect_timeout.as_secs()),
            }
        }
        Err(Error::Unreachable { nodes: options.nodes(), reason })
    }

    /// Whether the connection and its publishing channel still stand.
    pub fn is_alive(&self) -> bool {
        self.transport.is_alive()
    }

    /// Whether the broker has blocked its publishers.
    pub fn is_blocked(&self) -> bool {
        self.transport.is_blocked()
    }

    /// The node, without user and password.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Publishes one message and waits until the broker holds it.
    ///
    /// # Errors
    /// [`Error::Broken`] and [`Error::Unconfirmed`] leave open whether the broker holds it: publish the
    /// same message again, on a new session.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        envelope: &Envelope,
        body: &[u8],
    ) -> Result<Confirmed, Error> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLarge { bytes: body.len(), max: BODY_BYTES_MAX });
        }
        let what = || format!("{} {}", envelope.kind.as_str(), envelope.id);
        let publish = self.transport.publish(exchange, key, envelope, body);
        match timeout(self.confirm_timeout, publish).await {
            Ok(Ok(Reply::Ack)) => Ok(Confirmed { id: envelope.id, kind: envelope.kind }),
            Ok(Ok(Reply::Nack)) => Err(Error::Refused { what: what() }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Unconfirmed {
                what: what(),
                seconds: self.confirm_timeout.as_secs(),
                blocked: self.transport.is_blocked(),
            }),
        }
    }

    /// Consumes `queue`, holding at most `prefetch` unsettled deliveries, each to be settled with a
    /// proof of type `P`.
    ///
    /// # Errors
    /// When the queue is missing or the connection broke.
    pub async fn consume<P>(&self, queue: &str, prefetch: u16) -> Result<Consumer<P>, Error> {
        let source = self.open_channel().await?.consume(queue, prefetch).await?;
        Ok(Consumer::new(source))
    }

    /// Takes up to `max` messages out of `queue` at once, to be settled or, when dropped, given back.
    ///
    /// # Errors
    /// When the queue is missing or the connection broke; what was taken is given back.
    pub async fn take<P>(&self, queue: &str, max: usize) -> Result<Vec<Delivery<P>>, Error> {
        let browser = self.browse(queue).await?;
        let mut taken = Vec::new();
        while taken.len() < max {
            match browser.next().await? {
                Some(message) => taken.push(message),
                None => break,
            }
        }
        Ok(taken)
    }

    /// Looks through `queue`, message by message, each to be settled or, when dropped, given back.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn browse<P>(&self, queue: &str) -> Result<Browser<P>, Error> {
        let channel = self.open_channel().await?;
        Ok(Browser { channel, queue: queue.to_owned(), proof: PhantomData })
    }

    /// Waits for one message out of `queues`, those named first before the others.
    ///
    /// As long as there is work a message is fetched; only when all are empty consumers wait on them,
    /// and they are gone again when one has delivered. So nobody ever holds a second message that
    /// another worker could be at.
    ///
    /// # Errors
    /// When a queue is missing or the connection broke.
    pub async fn next_of<P>(&self, queues: &[String]) -> Result<Delivery<P>, Error> {
        if let Some(delivery) = self.first_of(queues).await? {
            return Ok(delivery);
        }
        let consumers = queues.iter().map(|queue| self.consume::<P>(queue, 1));
        let mut consumers = futures::future::try_join_all(consumers).await?;
        let waits = consumers.iter_mut().map(|consumer| Box::pin(consumer.next()));
        let (first, _, _) = futures::future::select_all(waits).await;
        first
    }

    /// Takes one message out of the first of `queues` that has one.
    async fn first_of<P>(&self, queues: &[String]) -> Result<Option<Delivery<P>>, Error> {
        // Put back only when all its answers are in: when this is given up on the way, the channel closes, and
        // what it was handed goes back.
        let kept = self.taker.lock().unwrap_or_else(PoisonError::into_inner).take();
        let channel = match kept {
            Some(channel) => channel,
            None => self.open_channel().await?,
        };
        let mut taken = None;
        for queue in queues {
            taken = channel.get(queue).await?;
            if taken.is_some() {
                break;
            }
        }
        *self.taker.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel);
        Ok(taken.map(Delivery::new))
    }

    /// Counts the messages of `queue` that wait, and its consumers.
    ///
    /// # Errors
    /// When the queue is missing or the connection broke.
    pub async fn depth(&self, queue: &str) -> Result<(u32, u32), Error> {
        // A passive declare of a missing queue closes its channel: never ask on the publishing one.
        self.open_channel().await?.depth(queue).await
    }

    pub(crate) async fn open_channel(&self) -> Result<Arc<dyn Channel>, Error> {
        self.transport.open().await
    }

    /// Says goodbye, so that the broker does not have to notice.
    pub async fn close(&self) {
        let goodbye = self.transport.close();
        if !matches!(timeout(Duration::from_secs(2), goodbye).await, Ok(Ok(()))) {
            tracing::debug!(node = self.node, "the connection did not close in order");
        }
    }
}
