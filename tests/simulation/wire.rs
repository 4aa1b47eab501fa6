//! How the broker in memory is reached: connections that take their time, break and fall silent.

use crate::broker::Broker;
use crate::channel::Opened;
use crate::network::{Network, Plug};
use crate::script::{Deed, Fault};
use evalfleet_broker::Error;
use evalfleet_broker::transport::{Answer, Channel, Reply, Transport};
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::topology;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How long a connection may be silent.
const HEARTBEATS: Duration = Duration::from_secs(60);
/// What an inbox has on its way to its client at most.
const CLIENT_HOLDS_MAX: usize = 100;
/// Two batches of results and two of letters, by the defaults.
const RECORDER_HOLDS_MAX: usize = 4 * 100;
/// What a client publishes at one moment: the window of `submit_many`, and words beside it.
pub(crate) const CLIENT_PUBLISHES_MAX: usize = 512 + 8;

/// One connection.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) plug: Plug,
    pub(crate) number: u64,
    pub(crate) broken: CancellationToken,
    /// The broker reads nothing of it any more, as long as publishers are blocked.
    unread: Arc<AtomicBool>,
    /// Publishes whose answers are awaited.
    publishing: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) fn new(plug: Plug, number: u64, broken: CancellationToken) -> Self {
        Self { plug, number, broken, unread: Arc::default(), publishing: Arc::default() }
    }

    pub(crate) fn network(&self) -> &Network {
        &self.plug.network
    }

    pub(crate) fn gone() -> Error {
        Error::Broken("the connection broke".to_owned())
    }

    pub(crate) fn break_off(&self) {
        self.network().break_off(self.number);
    }

    fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed) && self.network().is_blocked()
    }

    /// Asks the broker for `what`; the connection may break before that is done, or after, or say nothing.
    pub(crate) async fn ask<T>(
        &self,
        deed: Deed,
        name: &str,
        act: impl FnOnce(&Broker) -> T,
    ) -> Result<T, Error> {
        let Network { broker, chance, script, .. } = self.network();
        let asked = async {
            chance.latency().await;
            if self.is_unread() {
                self.network().unblocked().await;
            }
            let fault = script.strikes(&self.plug.owner, deed, name);
            if fault == Some(Fault::CrashBefore) {
                self.plug.die::<()>().await;
            }
            if let Some(fault) = fault {
                self.network().befall(fault);
            }
            if fault == Some(Fault::BreakBefore) || chance.strikes(|rates| rates.broken_before) {
                self.break_off();
            }
            if self.broken.is_cancelled() {
                return Err(Self::gone());
            }
            let done = act(broker);
            if fault == Some(Fault::CrashAfter) {
                self.plug.die::<()>().await;
            }
            if fault == Some(Fault::Unanswered) || chance.strikes(|rates| rates.silent) {
                // Nobody answers until the missing heartbeats are noticed.
                tokio::time::sleep(HEARTBEATS).await;
                self.break_off();
            }
            chance.latency().await;
            if fault == Some(Fault::BreakAfter) || chance.strikes(|rates| rates.broken_after) {
                self.break_off();
            }
            if self.broken.is_cancelled() { Err(Self::gone()) } else { Ok(done) }
        };
        let answer = tokio::select! {
            biased;
            () = self.broken.cancelled() => Err(Self::gone()),
            done = asked => done,
        };
        if self.plug.is_dead() {
            // Whatever of it still runs hears of nothing.
            std::future::pending::<()>().await;
        }
        answer
    }

    /// It was handed a message of `queue`: looks at how much it holds now, and at what the script has in store.
    pub(crate) async fn took(&self, queue: &str) -> Result<(), Error> {
        let (Network { broker, script, .. }, owner) = (self.network(), self.plug.owner.as_str());
        let bounded = match owner.split('-').next() {
            // A second job would wait for as long as the first one runs.
            Some("worker") => Some(("jobs that a worker holds", "eval.jobs.", 1)),
            Some("recorder") => Some(("messages that a recorder holds", "eval.", RECORDER_HOLDS_MAX)),
            Some("client") => {
                Some(("messages that a client holds", topology::INBOX_PREFIX, CLIENT_HOLDS_MAX))
            }
            // An operator holds all letters that are not meant until the others are done.
            _ => None,
        };
        if let Some((what, of, bound)) = bounded {
            broker.journal.level(what, broker.held_by(self.number, of), bound);
        }
        match script.strikes(owner, Deed::Take, queue) {
            None => Ok(()),
            Some(fault) if fault.kills() => self.plug.die().await,
            Some(_) => {
                self.break_off();
                Err(Self::gone())
            }
        }
    }

    /// Sends a message to a broker that reads nothing: it waits in a socket, whatever becomes of its sender.
    async fn publish_blind(
        &self,
        exchange: &str,
        key: &str,
        envelope: &Envelope,
        body: &[u8],
    ) -> Result<bool, Error> {
        self.unread.store(true, Ordering::Relaxed);
        self.network().broker.journal.count("unread", envelope.id);
        let (reply, replied) = oneshot::channel();
        let (wire, exchange, key) = (self.clone(), exchange.to_owned(), key.to_owned());
        let (envelope, body) = (envelope.clone(), body.to_vec());
        tokio::spawn(async move {
            let Network { broker, chance, .. } = wire.network();
            wire.network().unblocked().await;
            // Of a connection that is closed, the broker may read what was sent before, or not.
            if !wire.broken.is_cancelled() || chance.number(0..2) == 0 {
                let accepted = broker.accept(&exchange, &key, &envelope, &body);
                broker.journal.note(format!("{exchange} {key}, sent while blocked: {accepted}"));
                let _ = reply.send(accepted);
            }
        });
        let answer = tokio::select! {
            biased;
            () = self.broken.cancelled() => Err(Self::gone()),
            accepted = replied => accepted.map_err(|_| Self::gone()),
        };
        if self.plug.is_dead() {
            std::future::pending::<()>().await;
        }
        answer
    }
}

/// Counts a publish that is under way.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn new(wire: &'a Wire) -> Self {
        let level = wire.publishing.fetch_add(1, Ordering::Relaxed) + 1;
        let (what, bound) = match wire.plug.owner.split('-').next() {
            Some("client") => ("publishes of a client", CLIENT_PUBLISHES_MAX),
            Some("operator") => ("publishes of an operator", evalfleet::dead::AT_ONCE),
            // An answer, an event, and a mark in the log of what is called off.
            Some("worker") => ("publishes of a worker", 3),
            // It serves two queues.
            _ => ("publishes of a recorder", 2),
        };
        wire.network().broker.journal.level(what, level, bound);
        Self(&wire.publishing)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Transport for Wire {
    fn is_alive(&self) -> bool {
        !self.broken.is_cancelled()
    }

    fn is_blocked(&self) -> bool {
        self.is_unread()
    }

    fn publish<'a>(
        &'a self,
        exchange: &'a str,
        key: &'a str,
        envelope: &'a Envelope,
        body: &'a [u8],
    ) -> Answer<'a, Reply> {
        Box::pin(async move {
            let _under_way = UnderWay::new(self);
            let Network { broker, chance, .. } = self.network();
            let accepted = if self.network().is_blocked() {
                self.publish_blind(exchange, key, envelope, body).await?
            } else {
                let refused = chance.strikes(|rates| rates.refused);
                let accept = |broker: &Broker| !refused && broker.accept(exchange, key, envelope, body);
                self.ask(Deed::Publish, exchange, accept).await?
            };
            broker.journal.note(format!("{exchange} {key}: {accepted}"));
            if !accepted {
                broker.journal.count("refused", envelope.id);
            }
            Ok(if accepted { Reply::Ack } else { Reply::Nack })
        })
    }

    fn open(&self) -> Answer<'_, Arc<dyn Channel>> {
        Box::pin(async {
            self.ask(Deed::Other, "", |_| ()).await?;
            Ok(Arc::new(Opened::on(self.clone())) as Arc<dyn Channel>)
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.break_off();
            Ok(())
        })
    }
}
