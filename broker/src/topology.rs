//! Declaring the topology: a deploy step, and the first start of a single machine.

use crate::{Error, Session};
use evalfleet_proto::topology::{Argument, ExchangeKind, Topology};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

impl Session {
    /// Declares every exchange, queue and binding; what is there already stays as it is.
    ///
    /// # Errors
    /// When something of the same name is there with other arguments, or the connection breaks.
    pub async fn declare(&self, topology: &Topology) -> Result<(), Error> {
        let channel = self.open_channel().await?;
        let failed = |error: lapin::Error| Error::of(&error);
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
            channel
                .exchange_declare(exchange.name.into(), kind(exchange.kind), options, arguments)
                .await
                .map_err(failed)?;
        }
        for queue in &topology.queues {
            let options = QueueDeclareOptions {
                passive: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                nowait: false,
            };
            let arguments = arguments(&queue.arguments);
            channel.queue_declare(queue.name.as_str().into(), options, arguments).await.map_err(failed)?;
        }
        for binding in &topology.bindings {
            let options = QueueBindOptions { nowait: false };
            let (queue, key) = (binding.queue.as_str().into(), binding.key.as_str().into());
            channel
                .queue_bind(queue, binding.exchange.into(), key, options, FieldTable::default())
                .await
                .map_err(failed)?;
        }
        Ok(())
    }
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
