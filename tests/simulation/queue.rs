//! One queue of the broker in memory: what waits in it, who holds what, and its own arguments.

use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::topology::Argument;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A message, wherever it is.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Tells it from all others.
    pub(crate) serial: u64,
    pub(crate) key: String,
    pub(crate) envelope: Envelope,
    pub(crate) body: Arc<[u8]>,
    /// How often it was handed out.
    pub(crate) deliveries: i64,
}

/// Who reads: a channel of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reader {
    pub(crate) connection: u64,
    pub(crate) number: u64,
}

/// A queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) ready: VecDeque<Message>,
    pub(crate) unacked: BTreeMap<u64, (Message, Reader)>,
    pub(crate) readers: Vec<Reader>,
    /// Only the first reader is fed.
    pub(crate) single: bool,
    pub(crate) ttl: Option<Duration>,
    pub(crate) dead_to: Option<(String, String)>,
    pub(crate) deliveries_max: Option<i64>,
    /// It takes no more than that,
    pub(crate) length_max: usize,
    /// and for a while no more than this.
    pub(crate) room: usize,
    /// A log: its entries stay.
    pub(crate) log: bool,
    pub(crate) changed: Arc<Notify>,
}

impl Queue {
    pub(crate) fn new(arguments: &[(&'static str, Argument)]) -> Self {
        let text = |name: &str| {
            arguments.iter().find_map(|(argument, value)| match value {
                Argument::Text(text) if *argument == name => Some(text.clone()),
                Argument::Text(_) | Argument::Number(_) | Argument::Flag(_) => None,
            })
        };
        let number = |name: &str| {
            arguments.iter().find_map(|(argument, value)| match value {
                Argument::Number(number) if *argument == name => Some(*number),
                Argument::Text(_) | Argument::Number(_) | Argument::Flag(_) => None,
            })
        };
        let length_max = number("x-max-length").map_or(usize::MAX, |most| most as usize);
        Self {
            single: arguments.iter().any(|(name, _)| *name == "x-single-active-consumer"),
            ttl: number("x-message-ttl").map(|ms| Duration::from_millis(ms.cast_unsigned())),
            dead_to: text("x-dead-letter-exchange").zip(text("x-dead-letter-routing-key")),
            deliveries_max: number("x-delivery-limit"),
            length_max,
            room: length_max,
            log: text("x-queue-type").as_deref() == Some("stream"),
            ..Self::default()
        }
    }

    /// Takes a message from `reader`, if it holds it: another may hold it by now.
    pub(crate) fn let_go(&mut self, serial: u64, reader: Reader) -> Option<Message> {
        if self.unacked.get(&serial)?.1 != reader {
            return None;
        }
        self.unacked.remove(&serial).map(|(message, _)| message)
    }

    /// Messages that wait or are held.
    pub(crate) fn length(&self) -> usize {
        self.ready.len() + self.unacked.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        !self.log && self.length() >= self.room
    }
}
