//! RabbitMQ: the one module that opens a connection of the client library.
//!
//! Every option is spelled out, since the library's defaults lose messages: its queues are not durable,
//! and its `nack` does not requeue.

use crate::options::{Tls, without_password};
use crate::transport::{Answer, Channel, Dial, Handle, Incoming, Reply, Source, Start, Transport};
use crate::{Error, Options, convert};
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::topology::{Argument, ExchangeKind, Topology};
use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Confirmation, Connection, ConnectionProperties};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Connects to RabbitMQ.
#[derive(Debug)]
pub struct Amqp;

impl Dial for Amqp {
    fn connect<'a>(&'a self, url: &'a str, options: &'a Options) -> Answer<'a, Arc<dyn Transport>> {
        Box::pin(async move {
            let tls = tls(&options.tls)?;
            match connect(url, options, tls).await {
                Ok(connected) => Ok(Arc::new(connected) as Arc<dyn Transport>),
                Err(error) if is_refusal(&error) => Err(Error::Denied { node: without_password(url) }),
                Err(error) => Err(failed(error)),
            }
        })
    }
}

/// Reads what TLS needs; nothing is read that is not named.
fn tls(files: &Tls) -> Result<OwnedTLSConfig, Error> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| Error::File { path: path.display().to_string(), reason: error.to_string() })
    };
    let cert_chain = files.ca.as_deref().map(read).transpose()?;
    let identity = match &files.identity {
        Some((pem, key)) => Some(OwnedIdentity::PKCS8 { pem: read(pem)?, key: read(key)? }),
        None => None,
    };
    Ok(OwnedTLSConfig {
        identity,
        cert_chain: cert_chain.map(|pem| String::from_utf8_lossy(&pem).into_owned()),
    })
}

async fn connect(url: &str, options: &Options, tls: OwnedTLSConfig) -> lapin::Result<Connected> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}heartbeat={}", options.heartbeat.as_secs().max(1));
    let properties = ConnectionProperties::default().with_connection_name(options.name.as_str().into());
    let runtime = lapin::runtime::default_runtime()?;
    let connection = Connection::connect_with_config(&url, properties, tls, runtime).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
    Ok(Connected { connection, channel })
}

fn is_refusal(error: &lapin::Error) -> bool {
    let text = error.to_string();
    text.contains("ACCESS_REFUSED") || text.contains("ACCESS-REFUSED")
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: lapin::Error) -> Error {
    Error::of(&error)
}

/// A publish that the broker does not take closes the channel, and all whose confirms were under way on it are told
/// why. With those whose own exchange it is not nothing is wrong: they are to be published again.
fn of_publish(error: Error, exchange: &str) -> Error {
    let of_another = match &error {
        Error::Missing { what } => *what != format!("{exchange:?}"),
        Error::Forbidden(why) => !why.contains(&format!("'{exchange}'")),
        Error::Unreachable { .. }
        | Error::Denied { .. }
        | Error::File { .. }
        | Error::Broken(_)
        | Error::Unconfirmed { .. }
        | Error::Unlike { .. }
        | Error::Refused { .. }
        | Error::TooLarge { .. } => false,
    };
    if of_another { Error::Broken(format!("another message was refused: {error}")) } else { error }
}

#[derive(Debug)]
struct Connected {
    connection: Connection,
    /// For publishing; consumers have channels of their own, so that an error on one kills no other.
    channel: lapin::Channel,
}

impl Transport for Connected {
    fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    fn publish<'a>(
        &'a self,
        exchange: &'a str,
        key: &'a str,
        envelope: &'a Envelope,
        body: &'a [u8],
    ) -> Answer<'a, Reply> {
        Box::pin(async move {
            let options = BasicPublishOptions { mandatory: false, immediate: false };
            let properties = convert::properties(envelope);
            let sent = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties);
            let failed = |error| of_publish(failed(error), exchange);
            match sent.await.map_err(failed)?.await.map_err(failed)? {
                Confirmation::Ack(_) => Ok(Reply::Ack),
                Confirmation::Nack(_) => Ok(Reply::Nack),
                Confirmation::NotRequested => Err(Error::Broken("the channel does not confirm".to_owned())),
            }
        })
    }

    fn open(&self) -> Answer<'_, Arc<dyn Channel>> {
        Box::pin(async {
            let channel = self.connection.create_channel().await.map_err(failed)?;
            Ok(Arc::new(Opened(channel)) as Arc<dyn Channel>)
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async { self.connection.close(200, "goodbye".into()).await.map_err(failed) })
    }
}

#[derive(Debug)]
struct Opened(lapin::Channel);

impl Opened {
    async fn feed(
        &self,
        queue: &str,
        prefetch: u16,
        arguments: FieldTable,
    ) -> Result<Box<dyn Source>, Error> {
        self.0.basic_qos(prefetch, BasicQosOptions { global: false }).await.map_err(failed)?;
        let options = BasicConsumeOptions { no_local: false, no_ack: false, exclusive: false, nowait: false };
        let consumer = self.0.basic_consume(queue.into(), "".into(), options, arguments);
        let consumer = consumer.await.map_err(failed)?;
        Ok(Box::new(Feed { queue: queue.to_owned(), channel: self.0.clone(), consumer }))
    }
}

impl Channel for Opened {
    fn declare<'a>(&'a self, topology: &'a Topology) -> Answer<'a, ()> {
        Box::pin(declare(&self.0, topology))
    }

    fn get<'a>(&'a self, queue: &'a str) -> Answer<'a, Option<Incoming>> {
        Box::pin(async move {
            let next = self.0.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await;
            Ok(next.map_err(failed)?.map(|message| incoming(message.delivery, &self.0)))
        })
    }

    fn consume<'a>(&'a self, queue: &'a str, prefetch: u16) -> Answer<'a, Box<dyn Source>> {
        Box::pin(self.feed(queue, prefetch, FieldTable::default()))
    }

    fn follow<'a>(&'a self, log: &'a str, from: Start, prefetch: u16) -> Answer<'a, Box<dyn Source>> {
        let from = match from {
            Start::First => AMQPValue::LongString("first".into()),
            Start::At(time) => AMQPValue::Timestamp(u64::try_from(time.as_second()).unwrap_or(0)),
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), from);
        Box::pin(self.feed(log, prefetch, arguments))
    }

    fn depth<'a>(&'a self, queue: &'a str) -> Answer<'a, (u32, u32)> {
        Box::pin(async move {
            let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let queue = self.0.queue_declare(queue.into(), options, FieldTable::default()).await;
            let queue = queue.map_err(failed)?;
            Ok((queue.message_count(), queue.consumer_count()))
        })
    }

    fn declare_inbox<'a>(&'a self, queue: &'a str, expires: Duration, bytes_max: u64) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut arguments = FieldTable::default();
            let expires = i32::try_from(expires.as_millis()).unwrap_or(i32::MAX);
            arguments.insert("x-expires".into(), AMQPValue::LongInt(expires));
            let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
            arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes_max));
            self.0.queue_declare(queue.into(), DURABLE, arguments).await.map_err(failed)?;
            Ok(())
        })
    }

    fn bind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let options = QueueBindOptions { nowait: false };
            let bound =
                self.0.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
            bound.await.map_err(failed)
        })
    }

    fn unbind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let unbound =
                self.0.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default());
            unbound.await.map_err(failed)
        })
    }

    fn delete<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let options = QueueDeleteOptions { if_unused: false, if_empty: false, nowait: false };
            self.0.queue_delete(queue.into(), options).await.map_err(failed)?;
            Ok(())
        })
    }
}

const DURABLE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};

async fn declare(channel: &lapin::Channel, topology: &Topology) -> Result<(), Error> {
    for exchange in &topology.exchanges {
        let mut arguments = FieldTable::default();
        if let Some(alternate) = exchange.alternate {
            arguments.insert("alternate-exchange".into(), AMQPValue::LongString(alternate.into()));
        }
        let options = ExchangeDeclareOptions {
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
        };
        let declared =
            channel.exchange_declare(exchange.name.into(), kind(exchange.kind), options, arguments);
        declared.await.map_err(failed)?;
    }
    for queue in &topology.queues {
        let arguments = arguments(&queue.arguments);
        let declared = channel.queue_declare(queue.name.as_str().into(), DURABLE, arguments).await;
        declared.map_err(|error| match error.to_string() {
            reason if reason.contains("PRECONDITION") => Error::Unlike { queue: queue.name.clone(), reason },
            _ => failed(error),
        })?;
    }
    for binding in &topology.bindings {
        let options = QueueBindOptions { nowait: false };
        let (queue, key) = (binding.queue.as_str().into(), binding.key.as_str().into());
        let bound = channel.queue_bind(queue, binding.exchange.into(), key, options, FieldTable::default());
        bound.await.map_err(failed)?;
    }
    Ok(())
}

fn kind(kind: ExchangeKind) -> lapin::ExchangeKind {
    match kind {
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
    }
}

fn arguments(arguments: &[(&'static str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
            Argument::Flag(flag) => AMQPValue::Boolean(*flag),
        };
        table.insert((*name).into(), value);
    }
    table
}

fn incoming(delivery: lapin::message::Delivery, channel: &lapin::Channel) -> Incoming {
    Incoming {
        envelope: convert::envelope(&delivery.properties),
        body: delivery.data,
        redelivered: delivery.redelivered,
        key: delivery.routing_key.as_str().to_owned(),
        handle: Box::new(Acker { inner: delivery.acker, _channel: channel.clone() }),
    }
}

#[derive(Debug)]
struct Feed {
    queue: String,
    channel: lapin::Channel,
    consumer: lapin::Consumer,
}

impl Source for Feed {
    fn next(&mut self) -> Answer<'_, Incoming> {
        Box::pin(async {
            match self.consumer.next().await {
                Some(Ok(delivery)) => Ok(incoming(delivery, &self.channel)),
                Some(Err(error)) => Err(failed(error)),
                None => Err(Error::Broken(format!("the broker ended the consumer of {}", self.queue))),
            }
        })
    }
}

#[derive(Debug)]
struct Acker {
    inner: lapin::Acker,
    /// Kept open as long as deliveries of it are unsettled: their tags die with it.
    _channel: lapin::Channel,
}

impl Handle for Acker {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            match self.inner.ack(BasicAckOptions { multiple: false }).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Error::Broken("the delivery's channel is gone".to_owned())),
                Err(error) => Err(failed(error)),
            }
        })
    }

    fn give_back(self: Box<Self>) {
        // Outside a runtime the connection is gone as well, and the broker takes it back by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let nack = BasicNackOptions { multiple: false, requeue: true };
                if let Err(error) = self.inner.nack(nack).await {
                    tracing::debug!(%error, "a delivery was given back by losing its channel");
                }
            });
        }
    }
}
