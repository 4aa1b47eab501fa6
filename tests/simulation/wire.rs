//! How the broker in memory is reached: connections that take their time, break and fall silent.

use crate::broker::{Broker, Message, Reader};
use crate::chance::Chance;
use evalfleet_broker::transport::{Answer, Channel, Dial, Handle, Incoming, Reply, Source, Start, Transport};
use evalfleet_broker::{Error, Options};
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::topology::Topology;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a connection may be silent.
const HEARTBEATS: Duration = Duration::from_secs(60);

/// The network between the parts and their broker. Its clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) broker: Broker,
    pub(crate) chance: Chance,
    numbers: Arc<AtomicU64>,
    /// The connections that stand, with their owners.
    open: Arc<Mutex<BTreeMap<u64, (String, CancellationToken)>>>,
    down: Arc<AtomicBool>,
}

impl Network {
    pub(crate) fn new(broker: Broker, chance: Chance) -> Self {
        let (numbers, open, down) = (Arc::default(), Arc::default(), Arc::default());
        Self { broker, chance, numbers, open, down }
    }

    /// What a part called `owner` connects with, until it is dead.
    pub(crate) fn of(&self, owner: &str) -> Plug {
        Plug { network: self.clone(), owner: owner.to_owned(), dead: CancellationToken::new() }
    }

    /// The broker dies and stays so for `time`: all connections with it.
    pub(crate) async fn outage(&self, time: Duration) {
        self.broker.journal.note("the broker is down");
        self.down.store(true, Ordering::Relaxed);
        self.hang_up(|_| true);
        tokio::time::sleep(time).await;
        self.down.store(false, Ordering::Relaxed);
        self.broker.journal.note("the broker is up");
    }

    /// Breaks the connections of those whose name `of` says.
    pub(crate) fn hang_up(&self, of: impl Fn(&str) -> bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let broken: Vec<_> =
            open.iter().filter(|(_, (owner, _))| of(owner)).map(|(number, _)| *number).collect();
        drop(open);
        broken.into_iter().for_each(|number| self.break_off(number));
    }

    fn break_off(&self, number: u64) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        if let Some((owner, alive)) = open {
            self.broker.journal.note(format!("{owner}: connection {number} breaks"));
            alive.cancel();
            self.broker.hang_up(number);
        }
    }

    fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// One part's way to the broker.
#[derive(Debug, Clone)]
pub(crate) struct Plug {
    network: Network,
    owner: String,
    /// It was killed: whatever of it still runs reaches nobody.
    dead: CancellationToken,
}

impl Plug {
    /// The part was killed.
    pub(crate) fn pull(&self) {
        self.dead.cancel();
        self.network.hang_up(|owner| owner == self.owner);
    }
}

impl Dial for Plug {
    fn connect<'a>(&'a self, _: &'a str, _: &'a Options) -> Answer<'a, Arc<dyn Transport>> {
        Box::pin(async {
            self.network.chance.latency().await;
            if self.network.down.load(Ordering::Relaxed) || self.dead.is_cancelled() {
                return Err(Error::Broken("nobody answers".to_owned()));
            }
            let (number, broken) = (self.network.next(), CancellationToken::new());
            let entry = (self.owner.clone(), broken.clone());
            self.network.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, entry);
            let wire = Wire { network: self.network.clone(), number, broken };
            Ok(Arc::new(wire) as Arc<dyn Transport>)
        })
    }
}

/// One connection.
#[derive(Debug, Clone)]
struct Wire {
    network: Network,
    number: u64,
    broken: CancellationToken,
}

impl Wire {
    fn gone() -> Error {
        Error::Broken("the connection broke".to_owned())
    }

    /// Asks the broker for `what`; the connection may break before that is done, or after, or say nothing.
    async fn ask<T>(&self, act: impl FnOnce(&Broker) -> T) -> Result<T, Error> {
        let Self { network: Network { broker, chance, .. }, .. } = self;
        let asked = async {
            chance.latency().await;
            if chance.strikes(|rates| rates.broken_before) {
                self.network.break_off(self.number);
            }
            if self.broken.is_cancelled() {
                return Err(Self::gone());
            }
            let done = act(broker);
            if chance.strikes(|rates| rates.silent) {
                // Nobody answers until the missing heartbeats are noticed.
                tokio::time::sleep(HEARTBEATS).await;
                self.network.break_off(self.number);
            }
            chance.latency().await;
            if chance.strikes(|rates| rates.broken_after) {
                self.network.break_off(self.number);
            }
            if self.broken.is_cancelled() { Err(Self::gone()) } else { Ok(done) }
        };
        tokio::select! {
            biased;
            () = self.broken.cancelled() => Err(Self::gone()),
            done = asked => done,
        }
    }

    fn incoming(&self, queue: &str, message: Message) -> Incoming {
        let handle = Held { wire: self.clone(), queue: queue.to_owned(), serial: message.serial };
        Incoming {
            envelope: Some(message.envelope),
            body: message.body.to_vec(),
            redelivered: message.deliveries > 1,
            key: message.key,
            handle: Box::new(handle),
        }
    }
}

impl Transport for Wire {
    fn is_alive(&self) -> bool {
        !self.broken.is_cancelled()
    }

    fn is_blocked(&self) -> bool {
        false
    }

    fn publish<'a>(
        &'a self,
        exchange: &'a str,
        key: &'a str,
        envelope: &'a Envelope,
        body: &'a [u8],
    ) -> Answer<'a, Reply> {
        Box::pin(async move {
            let refused = self.network.chance.strikes(|rates| rates.refused);
            let accept = |broker: &Broker| !refused && broker.accept(exchange, key, envelope, body);
            let accepted = self.ask(accept).await?;
            self.network.broker.journal.note(format!("{exchange} {key}: {accepted}"));
            Ok(if accepted { Reply::Ack } else { Reply::Nack })
        })
    }

    fn open(&self) -> Answer<'_, Arc<dyn Channel>> {
        Box::pin(async {
            self.ask(|_| ()).await?;
            Ok(Arc::new(self.clone()) as Arc<dyn Channel>)
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.network.break_off(self.number);
            Ok(())
        })
    }
}

impl Channel for Wire {
    fn declare<'a>(&'a self, _: &'a Topology) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn get<'a>(&'a self, queue: &'a str) -> Answer<'a, Option<Incoming>> {
        Box::pin(async move {
            let reader = Reader { connection: self.number, number: self.network.next() };
            let message = self.ask(|broker| broker.hand_out(queue, reader)).await?;
            Ok(message.map(|message| self.incoming(queue, message)))
        })
    }

    fn consume<'a>(&'a self, queue: &'a str, prefetch: u16) -> Answer<'a, Box<dyn Source>> {
        Box::pin(async move {
            let reader = Reader { connection: self.number, number: self.network.next() };
            if !self.ask(|broker| broker.join(queue, reader)).await? {
                return Err(Error::Missing { what: queue.to_owned() });
            }
            let held = Arc::new(AtomicU64::new(0));
            let feed = Feed { wire: self.clone(), queue: queue.to_owned(), reader, prefetch, held };
            Ok(Box::new(feed) as Box<dyn Source>)
        })
    }

    fn follow<'a>(&'a self, log: &'a str, _: Start, _: u16) -> Answer<'a, Box<dyn Source>> {
        Box::pin(async move {
            self.ask(|_| ()).await?;
            let follower = Follower { wire: self.clone(), log: log.to_owned(), at: 0 };
            Ok(Box::new(follower) as Box<dyn Source>)
        })
    }

    fn depth<'a>(&'a self, queue: &'a str) -> Answer<'a, (u32, u32)> {
        Box::pin(async move {
            let left = self.ask(|broker| broker.left_in(queue)).await?;
            Ok((u32::try_from(left).unwrap_or(u32::MAX), 0))
        })
    }

    fn declare_inbox<'a>(&'a self, queue: &'a str, _: Duration, _: u64) -> Answer<'a, ()> {
        Box::pin(self.ask(move |broker| broker.declare(queue)))
    }

    fn bind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()> {
        Box::pin(self.ask(move |broker| broker.bind(queue, exchange, key)))
    }

    fn unbind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()> {
        Box::pin(self.ask(move |broker| broker.unbind(queue, exchange, key)))
    }

    fn delete<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        Box::pin(self.ask(move |broker| broker.delete(queue)))
    }
}

/// A consumer.
#[derive(Debug)]
struct Feed {
    wire: Wire,
    queue: String,
    reader: Reader,
    prefetch: u16,
    /// What it has handed on and is not settled.
    held: Arc<AtomicU64>,
}

impl Source for Feed {
    fn next(&mut self) -> Answer<'_, Incoming> {
        Box::pin(async {
            let Wire { network: Network { broker, chance, .. }, broken, .. } = &self.wire;
            loop {
                let changed = broker.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if broken.is_cancelled() {
                    return Err(Wire::gone());
                }
                // Taking and giving are one step: whoever drops this future loses nothing.
                if self.held.load(Ordering::Relaxed) < u64::from(self.prefetch)
                    && let Some(message) = broker.hand_out(&self.queue, self.reader)
                {
                    let inner = self.wire.incoming(&self.queue, message);
                    self.held.fetch_add(1, Ordering::Relaxed);
                    let handle = Counted { handle: Some(inner.handle), held: self.held.clone() };
                    return Ok(Incoming { handle: Box::new(handle), ..inner });
                }
                tokio::select! {
                    biased;
                    () = broken.cancelled() => return Err(Wire::gone()),
                    () = changed => {}
                }
                chance.latency().await;
            }
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.wire.network.broker.leave(&self.queue, self.reader);
    }
}

/// A reader of a log.
#[derive(Debug)]
struct Follower {
    wire: Wire,
    log: String,
    at: usize,
}

impl Source for Follower {
    fn next(&mut self) -> Answer<'_, Incoming> {
        Box::pin(async {
            let Wire { network: Network { broker, .. }, broken, .. } = &self.wire;
            loop {
                let changed = broker.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if broken.is_cancelled() {
                    return Err(Wire::gone());
                }
                if let Some(message) = broker.entry(&self.log, self.at) {
                    self.at += 1;
                    let inner = self.wire.incoming(&self.log, message);
                    return Ok(Incoming { handle: Box::new(Entry), ..inner });
                }
                tokio::select! {
                    biased;
                    () = broken.cancelled() => return Err(Wire::gone()),
                    () = changed => {}
                }
            }
        })
    }
}

/// What a reader of a log settles: nothing.
#[derive(Debug)]
struct Entry;

impl Handle for Entry {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn give_back(self: Box<Self>) {}
}

/// A message that is held.
#[derive(Debug)]
struct Held {
    wire: Wire,
    queue: String,
    serial: u64,
}

impl Handle for Held {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            let held = self.wire.ask(|broker| broker.acknowledge(&self.queue, self.serial)).await?;
            if held { Ok(()) } else { Err(Wire::gone()) }
        })
    }

    fn give_back(self: Box<Self>) {
        self.wire.network.broker.give_back(&self.queue, self.serial);
    }
}

/// The same, counted against its consumer's prefetch.
#[derive(Debug)]
struct Counted {
    handle: Option<Box<dyn Handle>>,
    held: Arc<AtomicU64>,
}

impl Handle for Counted {
    fn ack(mut self: Box<Self>) -> Answer<'static, ()> {
        match self.handle.take() {
            Some(handle) => {
                let counted = self;
                Box::pin(async move {
                    let done = handle.ack().await;
                    drop(counted);
                    done
                })
            }
            None => Box::pin(std::future::ready(Ok(()))),
        }
    }

    fn give_back(mut self: Box<Self>) {
        if let Some(handle) = self.handle.take() {
            handle.give_back();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }
}
