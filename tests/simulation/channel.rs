//! A channel of a connection: what was handed out on it goes back when it and all that came out of it are gone.

use crate::broker::Broker;
use crate::feed::{Feed, Follower, incoming};
use crate::queue::Reader;
use crate::script::Deed;
use crate::wire::Wire;
use evalfleet_broker::Error;
use evalfleet_broker::transport::{Answer, Channel, Incoming, Source, Start};
use evalfleet_proto::topology::Topology;
use std::sync::Arc;
use std::time::Duration;

/// What keeps a channel open.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) wire: Wire,
    pub(crate) reader: Reader,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.wire.network().broker.close(self.reader);
    }
}

/// A channel.
#[derive(Debug)]
pub(crate) struct Opened(Arc<Line>);

impl Opened {
    pub(crate) fn on(wire: Wire) -> Self {
        let reader = Reader { connection: wire.number, number: wire.network().next() };
        Self(Arc::new(Line { wire, reader }))
    }
}

impl Channel for Opened {
    fn declare<'a>(&'a self, _: &'a Topology) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn get<'a>(&'a self, queue: &'a str) -> Answer<'a, Option<Incoming>> {
        Box::pin(async move {
            let reader = self.0.reader;
            let take = |broker: &Broker| broker.hand_out(queue, reader);
            let Some(message) = self.0.wire.ask(Deed::Other, queue, take).await? else { return Ok(None) };
            self.0.wire.took(queue).await?;
            Ok(Some(incoming(&self.0, queue, message)))
        })
    }

    fn consume<'a>(&'a self, queue: &'a str, prefetch: u16) -> Answer<'a, Box<dyn Source>> {
        Box::pin(async move {
            let reader = self.0.reader;
            if !self.0.wire.ask(Deed::Other, queue, |broker| broker.join(queue, reader)).await? {
                return Err(Error::Missing { what: queue.to_owned() });
            }
            Ok(Box::new(Feed::new(self.0.clone(), queue.to_owned(), prefetch)) as Box<dyn Source>)
        })
    }

    fn follow<'a>(&'a self, log: &'a str, _: Start, _: u16) -> Answer<'a, Box<dyn Source>> {
        Box::pin(async move {
            self.0.wire.ask(Deed::Other, "", |_| ()).await?;
            Ok(Box::new(Follower::new(self.0.clone(), log.to_owned())) as Box<dyn Source>)
        })
    }

    fn depth<'a>(&'a self, queue: &'a str) -> Answer<'a, (u32, u32)> {
        Box::pin(async move {
            let left = self.0.wire.ask(Deed::Other, queue, |broker| broker.waiting_in(queue)).await?;
            Ok((u32::try_from(left).unwrap_or(u32::MAX), 0))
        })
    }

    fn declare_inbox<'a>(&'a self, queue: &'a str, _: Duration, _: u64) -> Answer<'a, ()> {
        Box::pin(self.0.wire.ask(Deed::Other, queue, move |broker| broker.declare(queue)))
    }

    fn bind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()> {
        Box::pin(self.0.wire.ask(Deed::Other, queue, move |broker| broker.bind(queue, exchange, key)))
    }

    fn unbind<'a>(&'a self, queue: &'a str, exchange: &'a str, key: &'a str) -> Answer<'a, ()> {
        Box::pin(self.0.wire.ask(Deed::Other, queue, move |broker| broker.unbind(queue, exchange, key)))
    }

    fn delete<'a>(&'a self, queue: &'a str) -> Answer<'a, ()> {
        Box::pin(self.0.wire.ask(Deed::Other, queue, move |broker| broker.delete(queue)))
    }
}
