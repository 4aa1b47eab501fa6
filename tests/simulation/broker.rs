//! A broker in memory: exchanges, queues, bindings, and who holds which message. See `wire` for how it is
//! reached, and what breaks on the way. By itself it may hold a message twice, hand out another than the oldest,
//! and have no room for a while.

use crate::chance::Chance;
use crate::journal::{Answer, Journal};
use crate::queue::{Message, Queue, Reader};
use crate::script::{Deed, Fault, Script};
use evalfleet_proto::dead::{Letter, Reason};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology::{self, ExchangeKind, Topology};
use evalfleet_proto::wire;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a queue waits before it tries again to hand on what its target had no room for.
const FULL_TARGET: Duration = Duration::from_secs(5);

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
    pub(crate) journal: Journal,
    chance: Chance,
    script: Script,
    /// Tells whether the history holds a job's record.
    kept: Arc<dyn Kept>,
}

/// Whether the history holds the record of a job.
pub(crate) trait Kept: std::fmt::Debug + Send + Sync {
    fn holds(&self, id: JobId) -> bool;
}

impl Broker {
    pub(crate) fn new(
        topology: &Topology,
        journal: Journal,
        kept: Arc<dyn Kept>,
        chance: Chance,
        script: Script,
    ) -> Self {
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
        let state = Arc::new(Mutex::new(state));
        Self { state, journal, chance, script, kept }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in: whether all queues that it belongs to had room for it.
    pub(crate) fn accept(&self, exchange: &str, key: &str, envelope: &Envelope, body: &[u8]) -> bool {
        let accepted = self.route(exchange, key, envelope, body);
        if accepted {
            match exchange {
                topology::RESULTS => self.journal.answered(envelope.id, Answer::Result),
                topology::RETRY => self.journal.answered(envelope.id, Answer::Retry),
                topology::DEAD if envelope.kind != MessageType::Handled => {
                    self.journal.answered(envelope.id, Answer::Dead);
                }
                topology::JOBS => self.asked(body),
                _ => {}
            }
        }
        accepted
    }

    /// A job was enqueued: perhaps one that repeats a dead one.
    fn asked(&self, body: &[u8]) {
        if let Ok(job) = wire::decode_job(body) {
            self.journal.count("job", job.id);
            if let Some(dead) = job.replay_of {
                self.journal.answered(dead, Answer::Replay);
            }
        }
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
        let body: Arc<[u8]> = body.into();
        for name in queues {
            self.put(&mut state, &name, key, envelope, &body);
            // Brokers promise at least once: a change of leaders, or dead-lettering, may make it two.
            let room = state.queues.get(&name).is_some_and(|queue| !queue.log && !queue.is_full());
            if self.chance.strikes(|rates| rates.doubled) && room {
                self.journal.note("a message is held twice");
                self.put(&mut state, &name, key, envelope, &body);
            }
        }
        true
    }

    fn put(&self, state: &mut State, name: &str, key: &str, envelope: &Envelope, body: &Arc<[u8]>) {
        state.serial += 1;
        let (serial, key, body) = (state.serial, key.to_owned(), body.clone());
        let Some(queue) = state.queues.get_mut(name) else { return };
        if let Some(ttl) = queue.ttl {
            let (broker, name) = (self.clone(), name.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(ttl).await;
                broker.expire(&name, serial).await;
            });
        }
        queue.ready.push_back(Message { serial, key, envelope: envelope.clone(), body, deliveries: 0 });
        queue.changed.notify_waiters();
        if name.starts_with("eval.jobs.") {
            self.journal.level("messages in a lane", queue.length(), queue.room);
        }
    }

    /// A message has waited its time, and goes where its queue sends those: it is held until it is there.
    async fn expire(&self, queue: &str, serial: u64) {
        loop {
            let waiting = {
                let state = self.state();
                let Some(queue) = state.queues.get(queue) else { return };
                let message = queue.ready.iter().find(|message| message.serial == serial);
                message.cloned().zip(queue.dead_to.clone())
            };
            let Some((message, (exchange, key))) = waiting else { return };
            if self.route(&exchange, &key, &message.envelope, &message.body) {
                let mut state = self.state();
                let Some(queue) = state.queues.get_mut(queue) else { return };
                return queue.ready.retain(|message| message.serial != serial);
            }
            tokio::time::sleep(FULL_TARGET).await;
        }
    }

    /// Hands out the next message of `queue` to `reader`, which holds it then.
    pub(crate) fn hand_out(&self, queue: &str, reader: Reader) -> Option<Message> {
        let mut state = self.state();
        let queue = state.queues.get_mut(queue)?;
        if queue.single && queue.readers.first().is_some_and(|first| *first != reader) {
            return None;
        }
        // What was given back, or went through another leader, comes out of turn.
        let out_of_turn = self.chance.strikes(|rates| rates.reordered) && queue.ready.len() > 1;
        let at = if out_of_turn { self.chance.number(0..queue.ready.len() as u64) as usize } else { 0 };
        let mut message = queue.ready.remove(at)?;
        message.deliveries += 1;
        queue.unacked.insert(message.serial, (message.clone(), reader));
        Some(message)
    }

    /// How many messages a connection holds, of queues whose names begin so.
    pub(crate) fn held_by(&self, connection: u64, prefix: &str) -> usize {
        let state = self.state();
        let queues = state.queues.iter().filter(|(name, _)| name.starts_with(prefix));
        let held = queues.flat_map(|(_, queue)| queue.unacked.values());
        held.filter(|(_, reader)| reader.connection == connection).count()
    }

    /// The lanes have no room for more than they hold, or have it again.
    pub(crate) fn narrow(&self, full: bool) {
        let mut state = self.state();
        let lanes = state.queues.iter_mut().filter(|(name, _)| name.starts_with("eval.jobs."));
        lanes.for_each(|(_, queue)| queue.room = if full { queue.length() } else { queue.length_max });
    }

    /// The entry of a log at `at`.
    pub(crate) fn entry(&self, log: &str, at: usize) -> Option<Message> {
        self.state().queues.get(log).filter(|queue| queue.log)?.ready.get(at).cloned()
    }

    /// Forgets a message for good, if `reader` held it.
    pub(crate) fn acknowledge(&self, queue: &str, serial: u64, reader: Reader) -> bool {
        let message = {
            let mut state = self.state();
            let Some(queue) = state.queues.get_mut(queue) else { return false };
            queue.changed.notify_waiters();
            queue.let_go(serial, reader)
        };
        let Some(message) = message else { return false };
        let named = (message.envelope.id, message.serial);
        if queue.starts_with("eval.jobs.") {
            self.journal.job_acked(Some(named.0), named.1);
        } else if queue == topology::RESULTS_QUEUE {
            self.journal.result_acked(Some(named.0), named.1, self.kept.holds(named.0));
        } else if queue == topology::DEAD_QUEUE {
            let letter = Letter::read(Some(&message.envelope), &message.key, &message.body);
            self.journal.letter_acked(letter.job.ok().map(|job| job.id), named.1);
        }
        true
    }

    /// Puts a message that `reader` holds back to the head of its queue, or buries it when that was done too often.
    pub(crate) fn give_back(&self, queue: &str, serial: u64, reader: Reader) {
        let buried = {
            let mut state = self.state();
            let Some(queue) = state.queues.get_mut(queue) else { return };
            let Some(message) = queue.let_go(serial, reader) else { return };
            queue.changed.notify_waiters();
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
            if self.script.strikes("broker", Deed::DeadLetter, queue) == Some(Fault::Twice) {
                self.accept(&exchange, &key, &message.envelope, &message.body);
            }
        }
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
            queue.changed.notify_waiters();
        }
    }

    /// What tells that something changed in a queue.
    pub(crate) fn changes(&self, queue: &str) -> Arc<Notify> {
        self.state().queues.get(queue).map(|queue| queue.changed.clone()).unwrap_or_default()
    }

    /// A connection is gone: what it held goes back, in its order.
    pub(crate) fn hang_up(&self, connection: u64) {
        self.let_go(|reader| reader.connection == connection);
    }

    /// A channel is closed: the same with what was handed out on it.
    pub(crate) fn close(&self, channel: Reader) {
        self.let_go(|reader| *reader == channel);
    }

    fn let_go(&self, of: impl Fn(&Reader) -> bool) {
        let held: Vec<(String, u64, Reader)> = {
            let mut state = self.state();
            let mut held = Vec::new();
            for (name, queue) in &mut state.queues {
                let readers = queue.readers.len();
                queue.readers.retain(|reader| !of(reader));
                if queue.readers.len() < readers {
                    queue.changed.notify_waiters();
                }
                let of_it = queue.unacked.values().filter(|(_, reader)| of(reader));
                held.extend(of_it.map(|(message, reader)| (name.clone(), message.serial, *reader)));
            }
            held
        };
        // The last first: each goes to the head.
        for (queue, serial, reader) in held.into_iter().rev() {
            self.give_back(&queue, serial, reader);
        }
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

    /// Messages that wait in a queue.
    pub(crate) fn waiting_in(&self, queue: &str) -> usize {
        self.state().queues.get(queue).map_or(0, |queue| queue.ready.len())
    }

    /// The dead letters in their queue, each as the job that it is about and why it died.
    pub(crate) fn letters(&self) -> Vec<(JobId, Reason)> {
        let state = self.state();
        let Some(queue) = state.queues.get(topology::DEAD_QUEUE) else { return Vec::new() };
        let held = queue.unacked.values().map(|(message, _)| message);
        let read = |message: &Message| {
            (message.envelope.id, Letter::read(Some(&message.envelope), &message.key, &message.body).reason)
        };
        queue.ready.iter().chain(held).map(read).collect()
    }
}

/// Whether a key is bound by a pattern: equal, or all that begins as it does.
fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('#') {
        Some(prefix) => key.starts_with(prefix),
        None => pattern == key,
    }
}
