//! A broker in memory: exchanges, queues, bindings, and who holds which message. No faults and no time in
//! here but for what a queue's own arguments say; see `wire` for how it is reached.

use crate::journal::{Answer, Journal};
use evalfleet_proto::dead::{DeadLetter, Reason};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology::{self, Argument, ExchangeKind, Topology};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

#[derive(Debug, Default)]
struct Queue {
    ready: VecDeque<Message>,
    unacked: BTreeMap<u64, (Message, Reader)>,
    readers: Vec<Reader>,
    /// Only the first reader is fed.
    single: bool,
    ttl: Option<Duration>,
    dead_to: Option<(String, String)>,
    deliveries_max: Option<i64>,
    length_max: usize,
    /// A log: its entries stay.
    log: bool,
}

#[derive(Debug, Default)]
struct State {
    kinds: BTreeMap<&'static str, (Option<ExchangeKind>, Option<&'static str>)>,
    queues: BTreeMap<String, Queue>,
    bindings: Vec<(String, String, String)>,
    serial: u64,
}

/// The broker. Its clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    state: Arc<Mutex<State>>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) journal: Journal,
    /// Tells whether the history holds a job's record.
    kept: Arc<dyn Kept>,
}

/// Whether the history holds the record of a job.
pub(crate) trait Kept: std::fmt::Debug + Send + Sync {
    fn holds(&self, id: JobId) -> bool;
}

impl Broker {
    pub(crate) fn new(topology: &Topology, journal: Journal, kept: Arc<dyn Kept>) -> Self {
        let mut state = State::default();
        for exchange in &topology.exchanges {
            state.kinds.insert(exchange.name, (Some(exchange.kind), exchange.alternate));
        }
        for queue in &topology.queues {
            state.queues.insert(queue.name.clone(), Queue::new(&queue.arguments));
        }
        for binding in &topology.bindings {
            state.bindings.push((binding.exchange.to_owned(), binding.queue.clone(), binding.key.clone()));
        }
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::default(), journal, kept }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in: whether all queues that it belongs to had room for it.
    pub(crate) fn accept(&self, exchange: &str, key: &str, envelope: &Envelope, body: &[u8]) -> bool {
        let accepted = self.route(exchange, key, envelope, body);
        if accepted {
            let answer = match exchange {
                topology::RESULTS => Some(Answer::Result),
                topology::RETRY => Some(Answer::Retry),
                topology::DEAD => Some(Answer::Dead),
                _ => None,
            };
            if let Some(answer) = answer {
                self.journal.answered(envelope.id, answer);
            }
        }
        accepted
    }

    fn route(&self, exchange: &str, key: &str, envelope: &Envelope, body: &[u8]) -> bool {
        let mut state = self.state();
        let Some((kind, alternate)) = state.kinds.get(exchange).copied() else { return false };
        // A job's own message asks for an answer; what is told of it brings one.
        let told = [MessageType::Result, MessageType::Event].contains(&envelope.kind);
        let inbox = envelope.inbox.as_deref().filter(|_| told);
        let matching = |state: &State, exchange: &str, fanout: bool| -> Vec<String> {
            let bound = state.bindings.iter();
            let bound = bound.filter(|(from, _, bound)| {
                from == exchange
                    && (fanout || [Some(key), inbox].into_iter().flatten().any(|key| matches(bound, key)))
            });
            bound.map(|(_, queue, _)| queue.clone()).collect()
        };
        let mut queues = matching(&state, exchange, kind == Some(ExchangeKind::Fanout));
        if queues.is_empty()
            && let Some(alternate) = alternate
        {
            queues = matching(&state, alternate, true);
            self.journal.breach(format!("nobody is bound for {exchange} {key}"));
        }
        queues.sort_unstable();
        queues.dedup();
        if queues.iter().any(|queue| state.queues.get(queue).is_some_and(Queue::is_full)) {
            return false;
        }
        for name in queues {
            state.serial += 1;
            let message = Message {
                serial: state.serial,
                key: key.to_owned(),
                envelope: envelope.clone(),
                body: body.into(),
                deliveries: 0,
            };
            let Some(queue) = state.queues.get_mut(&name) else { continue };
            if let Some(ttl) = queue.ttl {
                let (broker, name, serial) = (self.clone(), name.clone(), message.serial);
                tokio::spawn(async move {
                    tokio::time::sleep(ttl).await;
                    broker.expire(&name, serial);
                });
            }
            queue.ready.push_back(message);
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// A message has waited its time, and goes where its queue sends those.
    fn expire(&self, queue: &str, serial: u64) {
        let taken = {
            let mut state = self.state();
            let Some(queue) = state.queues.get_mut(queue) else { return };
            let at = queue.ready.iter().position(|message| message.serial == serial);
            at.and_then(|at| queue.ready.remove(at)).zip(queue.dead_to.clone())
        };
        if let Some((message, (exchange, key))) = taken {
            self.route(&exchange, &key, &message.envelope, &message.body);
        }
    }

    /// Hands out the next message of `queue` to `reader`, which holds it then.
    pub(crate) fn hand_out(&self, queue: &str, reader: Reader) -> Option<Message> {
        let mut state = self.state();
        let queue = state.queues.get_mut(queue)?;
        if queue.single && queue.readers.first().is_some_and(|first| *first != reader) {
            return None;
        }
        let mut message = queue.ready.pop_front()?;
        message.deliveries += 1;
        queue.unacked.insert(message.serial, (message.clone(), reader));
        Some(message)
    }

    /// The entry of a log at `at`.
    pub(crate) fn entry(&self, log: &str, at: usize) -> Option<Message> {
        self.state().queues.get(log).filter(|queue| queue.log)?.ready.get(at).cloned()
    }

    /// Forgets a message for good; whether it was held.
    pub(crate) fn acknowledge(&self, queue: &str, serial: u64) -> bool {
        let message = {
            let mut state = self.state();
            state.queues.get_mut(queue).and_then(|queue| queue.unacked.remove(&serial))
        };
        let Some((message, _)) = message else { return false };
        let named = (message.envelope.id, message.serial);
        if queue.starts_with("eval.jobs.") {
            self.journal.job_acked(Some(named.0), named.1);
        } else if queue == topology::RESULTS_QUEUE {
            self.journal.result_acked(Some(named.0), named.1, self.kept.holds(named.0));
        }
        self.changed.notify_waiters();
        true
    }

    /// Puts a message back to the head of its queue, or buries it when that was done too often.
    pub(crate) fn give_back(&self, queue: &str, serial: u64) {
        let buried = {
            let mut state = self.state();
            let Some(queue) = state.queues.get_mut(queue) else { return };
            let Some((message, _)) = queue.unacked.remove(&serial) else { return };
            if queue.deliveries_max.is_some_and(|max| message.deliveries > max) {
                queue.dead_to.clone().map(|to| (message, to))
            } else {
                queue.ready.push_front(message);
                None
            }
        };
        if let Some((message, (exchange, key))) = buried {
            self.journal.note(format!("gave up {} of {queue}", message.envelope.id));
            self.accept(&exchange, &key, &message.envelope, &message.body);
        }
        self.changed.notify_waiters();
    }

    /// A reader begins.
    pub(crate) fn join(&self, queue: &str, reader: Reader) -> bool {
        let mut state = self.state();
        state.queues.get_mut(queue).map(|queue| queue.readers.push(reader)).is_some()
    }

    /// A reader ends.
    pub(crate) fn leave(&self, queue: &str, reader: Reader) {
        if let Some(queue) = self.state().queues.get_mut(queue) {
            queue.readers.retain(|other| *other != reader);
        }
        self.changed.notify_waiters();
    }

    /// A connection is gone: what it held goes back, in its order.
    pub(crate) fn hang_up(&self, connection: u64) {
        let held: Vec<(String, u64)> = {
            let mut state = self.state();
            let mut held = Vec::new();
            for (name, queue) in &mut state.queues {
                queue.readers.retain(|reader| reader.connection != connection);
                let of_it = queue.unacked.values().filter(|(_, reader)| reader.connection == connection);
                held.extend(of_it.map(|(message, _)| (name.clone(), message.serial)));
            }
            held
        };
        // The last first: each goes to the head.
        for (queue, serial) in held.into_iter().rev() {
            self.give_back(&queue, serial);
        }
        self.changed.notify_waiters();
    }

    /// Makes a client's own queue, unless it is there.
    pub(crate) fn declare(&self, queue: &str) {
        self.state().queues.entry(queue.to_owned()).or_insert_with(|| Queue::new(&[]));
    }

    pub(crate) fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let binding = (exchange.to_owned(), queue.to_owned(), key.to_owned());
        let mut state = self.state();
        if !state.bindings.contains(&binding) {
            state.bindings.push(binding);
        }
    }

    pub(crate) fn unbind(&self, queue: &str, exchange: &str, key: &str) {
        self.state().bindings.retain(|(from, to, bound)| {
            (from.as_str(), to.as_str(), bound.as_str()) != (exchange, queue, key)
        });
    }

    pub(crate) fn delete(&self, queue: &str) {
        let mut state = self.state();
        state.queues.remove(queue);
        state.bindings.retain(|(_, to, _)| to != queue);
    }

    /// Messages that wait or are held, in queues whose names begin so.
    pub(crate) fn left_in(&self, prefix: &str) -> usize {
        let state = self.state();
        let queues = state.queues.iter().filter(|(name, _)| name.starts_with(prefix));
        queues.filter(|(_, queue)| !queue.log).map(|(_, queue)| queue.ready.len() + queue.unacked.len()).sum()
    }

    /// The dead letters, each as the job that it is about and whether the fleet itself wrote it.
    pub(crate) fn letters(&self) -> Vec<(JobId, Option<Reason>)> {
        let state = self.state();
        let Some(queue) = state.queues.get(topology::DEAD_QUEUE) else { return Vec::new() };
        let read = |message: &Message| {
            let letter = evalfleet_proto::wire::decode::<DeadLetter>(&message.body).ok();
            (message.envelope.id, letter.map(|letter| letter.reason))
        };
        queue.ready.iter().map(read).collect()
    }
}

impl Queue {
    fn new(arguments: &[(&'static str, Argument)]) -> Self {
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
        Self {
            single: arguments.iter().any(|(name, _)| *name == "x-single-active-consumer"),
            ttl: number("x-message-ttl").map(|ms| Duration::from_millis(ms.cast_unsigned())),
            dead_to: text("x-dead-letter-exchange").zip(text("x-dead-letter-routing-key")),
            deliveries_max: number("x-delivery-limit"),
            length_max: number("x-max-length").map_or(usize::MAX, |most| most as usize),
            log: text("x-queue-type").as_deref() == Some("stream"),
            ..Self::default()
        }
    }

    fn is_full(&self) -> bool {
        !self.log && self.ready.len() + self.unacked.len() >= self.length_max
    }
}

/// Whether a key is bound by a pattern: equal, or all that begins as it does.
fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('#') {
        Some(prefix) => key.starts_with(prefix),
        None => pattern == key,
    }
}
