//! What a connection is fed from, queue or log, and what settles what came.

use crate::broker::Broker;
use crate::chance::Chance;
use crate::channel::Line;
use crate::network::Network;
use crate::queue::Message;
use crate::script::Deed;
use crate::wire::Wire;
use evalfleet_broker::transport::{Answer, Handle, Incoming, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A message as it is handed on, with what settles it.
pub(crate) fn incoming(line: &Arc<Line>, queue: &str, message: Message) -> Incoming {
    let handle = Held { line: line.clone(), queue: queue.to_owned(), serial: message.serial };
    Incoming {
        envelope: Some(message.envelope),
        body: message.body.to_vec(),
        redelivered: message.deliveries > 1,
        key: message.key,
        handle: Box::new(handle),
    }
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Feed {
    line: Arc<Line>,
    queue: String,
    prefetch: u16,
    /// What it has handed on and is not settled.
    held: Arc<AtomicU64>,
}

impl Feed {
    pub(crate) fn new(line: Arc<Line>, queue: String, prefetch: u16) -> Self {
        Self { line, queue, prefetch, held: Arc::default() }
    }
}

impl Source for Feed {
    fn next(&mut self) -> Answer<'_, Incoming> {
        Box::pin(async {
            let wire = &self.line.wire;
            let broken = &wire.broken;
            let Network { broker, chance, .. } = wire.network();
            let changes = broker.changes(&self.queue);
            loop {
                let changed = changes.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if broken.is_cancelled() {
                    return Err(Wire::gone());
                }
                // Taking and giving are one step, but for those who die of it: whoever drops this future loses
                // nothing.
                if self.held.load(Ordering::Relaxed) < u64::from(self.prefetch)
                    && let Some(message) = broker.hand_out(&self.queue, self.line.reader)
                {
                    wire.took(&self.queue).await?;
                    let inner = incoming(&self.line, &self.queue, message);
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
        self.line.wire.network().broker.leave(&self.queue, self.line.reader);
    }
}

/// A reader of a log.
#[derive(Debug)]
pub(crate) struct Follower {
    line: Arc<Line>,
    log: String,
    at: usize,
}

impl Follower {
    pub(crate) fn new(line: Arc<Line>, log: String) -> Self {
        Self { line, log, at: 0 }
    }
}

impl Source for Follower {
    fn next(&mut self) -> Answer<'_, Incoming> {
        Box::pin(async {
            let (Network { broker, chance, .. }, broken) = (self.line.wire.network(), &self.line.wire.broken);
            let changes = broker.changes(&self.log);
            loop {
                let changed = changes.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if broken.is_cancelled() {
                    return Err(Wire::gone());
                }
                if let Some(message) = broker.entry(&self.log, self.at) {
                    self.at += 1;
                    let inner = incoming(&self.line, &self.log, message);
                    return Ok(Incoming { handle: Box::new(Entry(chance.clone())), ..inner });
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

/// What a reader of a log settles: nothing, but it takes a moment.
#[derive(Debug)]
struct Entry(Chance);

impl Handle for Entry {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            self.0.latency().await;
            Ok(())
        })
    }

    fn give_back(self: Box<Self>) {}
}

/// A message that is held.
#[derive(Debug)]
pub(crate) struct Held {
    line: Arc<Line>,
    queue: String,
    serial: u64,
}

impl Handle for Held {
    fn ack(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async move {
            let Line { wire, reader } = &*self.line;
            let forget = |broker: &Broker| broker.acknowledge(&self.queue, self.serial, *reader);
            let held = wire.ask(Deed::Ack, &self.queue, forget).await?;
            if held { Ok(()) } else { Err(Wire::gone()) }
        })
    }

    fn give_back(self: Box<Self>) {
        self.line.wire.network().broker.give_back(&self.queue, self.serial, self.line.reader);
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
