//! One connection: publish with confirm, consume, look into a queue. When it breaks it stays broken.

use crate::delivery::Consumer;
use crate::options::without_password;
use crate::{Error, Options, convert};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::wire::BODY_BYTES_MAX;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation, Connection, ConnectionProperties};
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

/// One connection to one node.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    /// For publishing; consumers have channels of their own, so that an error on one kills no other.
    channel: Channel,
    node: String,
    confirm_timeout: Duration,
}

impl Session {
    /// Connects to the first node that answers.
    ///
    /// # Errors
    /// When none does, or one refuses the login.
    pub async fn connect(options: &Options) -> Result<Self, Error> {
        let mut reason = "no node is named".to_owned();
        for url in &options.urls {
            match timeout(options.connect_timeout, Self::connect_to(url, options)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) if is_refusal(&error) => {
                    return Err(Error::Denied { node: without_password(url) });
                }
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => reason = format!("no answer within {} s", options.connect_timeout.as_secs()),
            }
        }
        Err(Error::Unreachable { nodes: options.nodes(), reason })
    }

    async fn connect_to(url: &str, options: &Options) -> lapin::Result<Self> {
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}heartbeat={}", options.heartbeat.as_secs().max(1));
        let properties = ConnectionProperties::default().with_connection_name(options.name.as_str().into());
        let connection = Connection::connect(&url, properties).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
        Ok(Self {
            connection,
            channel,
            node: without_password(&url),
            confirm_timeout: options.confirm_timeout,
        })
    }

    /// Whether the connection and its publishing channel still stand.
    pub fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
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
        let options = BasicPublishOptions { mandatory: false, immediate: false };
        let publish = async {
            let properties = convert::properties(envelope);
            let confirm =
                self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
            confirm.await
        };
        match timeout(self.confirm_timeout, publish).await {
            Ok(Ok(Confirmation::Ack(_))) => Ok(Confirmed { id: envelope.id, kind: envelope.kind }),
            Ok(Ok(Confirmation::Nack(_))) => Err(Error::Refused { what: what() }),
            Ok(Ok(Confirmation::NotRequested)) => {
                Err(Error::Broken("the channel does not confirm".to_owned()))
            }
            Ok(Err(error)) => Err(Error::of(&error)),
            Err(_) => Err(Error::Unconfirmed {
                what: what(),
                seconds: self.confirm_timeout.as_secs(),
                blocked: self.connection.status().blocked(),
            }),
        }
    }

    /// Consumes `queue`, holding at most `prefetch` unsettled deliveries, each to be settled with a
    /// proof of type `P`.
    ///
    /// # Errors
    /// When the queue is missing or the connection broke.
    pub async fn consume<P>(&self, queue: &str, prefetch: u16) -> Result<Consumer<P>, Error> {
        let channel = self.open_channel().await?;
        channel
            .basic_qos(prefetch, BasicQosOptions { global: false })
            .await
            .map_err(|error| Error::of(&error))?;
        let options = BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await;
        let consumer = consumer.map_err(|error| Error::of(&error))?;
        Ok(Consumer::new(queue.to_owned(), channel, consumer))
    }

    /// Takes up to `max` messages out of `queue` at once, to be settled or, when dropped, given back.
    ///
    /// # Errors
    /// When the queue is missing or the connection broke; what was taken is given back.
    pub async fn take<P>(&self, queue: &str, max: usize) -> Result<Vec<crate::Delivery<P>>, Error> {
        let channel = self.open_channel().await?;
        let mut taken = Vec::new();
        while taken.len() < max {
            let next = channel.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await;
            match next.map_err(|error| Error::of(&error))? {
                Some(message) => taken.push(crate::Delivery::new(message.delivery, channel.clone())),
                None => break,
            }
        }
        Ok(taken)
    }

    /// Waits for one message out of `queues`, those named first before the others.
    ///
    /// As long as there is work a message is fetched; only when all are empty consumers wait on them,
    /// and they are gone again when one has delivered. So nobody ever holds a second message that
    /// another worker could be at.
    ///
    /// # Errors
    /// When a queue is missing or the connection broke.
    pub async fn next_of<P>(&self, queues: &[String]) -> Result<crate::Delivery<P>, Error> {
        for queue in queues {
            if let Some(delivery) = self.take(queue, 1).await?.pop() {
                return Ok(delivery);
            }
        }
        let mut consumers = Vec::new();
        for queue in queues {
            consumers.push(self.consume::<P>(queue, 1).await?);
        }
        let waits = consumers.iter_mut().map(|consumer| Box::pin(consumer.next()));
        let (first, _, _) = futures::future::select_all(waits).await;
        first
    }

    /// Counts the messages of `queue` that wait, and its consumers.
    ///
    /// # Errors
    /// When the queue is missing or the connection broke.
    pub async fn depth(&self, queue: &str) -> Result<(u32, u32), Error> {
        // A passive declare of a missing queue closes its channel: never ask on the publishing one.
        let channel = self.open_channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        let queue = queue.map_err(|error| Error::of(&error))?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    pub(crate) async fn open_channel(&self) -> Result<Channel, Error> {
        self.connection.create_channel().await.map_err(|error| Error::of(&error))
    }

    /// Says goodbye, so that the broker does not have to notice.
    pub async fn close(&self) {
        let goodbye = self.connection.close(200, "goodbye".into());
        if !matches!(timeout(Duration::from_secs(2), goodbye).await, Ok(Ok(()))) {
            tracing::debug!(node = self.node, "the connection did not close in order");
        }
    }
}

fn is_refusal(error: &lapin::Error) -> bool {
    let text = error.to_string();
    text.contains("ACCESS_REFUSED") || text.contains("ACCESS-REFUSED")
}
