//! The network between the parts and their broker: who is connected, whose connection breaks, who is dead, and
//! when nobody may publish.

use crate::broker::Broker;
use crate::chance::Chance;
use crate::script::{Fault, Script};
use crate::wire::Wire;
use evalfleet_broker::transport::{Answer, Dial, Transport};
use evalfleet_broker::{Error, Options};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Deaths that nobody has looked at yet: more than there are parts.
const DEATHS: usize = 64;

/// The network. Its clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) broker: Broker,
    pub(crate) chance: Chance,
    pub(crate) script: Script,
    numbers: Arc<AtomicU64>,
    /// The connections that stand, with their owners.
    open: Arc<Mutex<BTreeMap<u64, (String, CancellationToken)>>>,
    down: Arc<AtomicBool>,
    blocked: Arc<AtomicBool>,
    unblocks: Arc<Notify>,
    deaths: mpsc::Sender<String>,
}

impl Network {
    /// With those parts that die by themselves.
    pub(crate) fn new(broker: Broker, chance: Chance, script: Script) -> (Self, mpsc::Receiver<String>) {
        let (deaths, died) = mpsc::channel(DEATHS);
        let (numbers, open, down) = (Arc::default(), Arc::default(), Arc::default());
        let (blocked, unblocks) = (Arc::default(), Arc::default());
        (Self { broker, chance, script, numbers, open, down, blocked, unblocks, deaths }, died)
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

    /// For `time` the lanes have no room for more than they hold.
    pub(crate) async fn full(&self, time: Duration) {
        self.broker.journal.note("the lanes are full");
        self.broker.narrow(true);
        tokio::time::sleep(time).await;
        self.broker.narrow(false);
        self.broker.journal.note("the lanes have room");
    }

    /// One of these, while everything goes on.
    pub(crate) fn befall(&self, fault: Fault) {
        let (network, time) = (self.clone(), self.chance.time(60_000..90_000));
        match fault {
            Fault::Outage => {
                self.hang_up(|_| true);
                tokio::spawn(async move { network.outage(time).await });
            }
            Fault::Shortage => drop(tokio::spawn(async move { network.shortage(time).await })),
            Fault::Full => drop(tokio::spawn(async move { network.full(time).await })),
            Fault::BreakBefore
            | Fault::BreakAfter
            | Fault::CrashBefore
            | Fault::CrashAfter
            | Fault::Unanswered
            | Fault::Late
            | Fault::Fail
            | Fault::Twice => {}
        }
    }

    /// For `time` the broker reads nothing of those who publish: it lacks memory or disk space.
    pub(crate) async fn shortage(&self, time: Duration) {
        self.broker.journal.note("publishers are blocked");
        self.blocked.store(true, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        self.blocked.store(false, Ordering::Relaxed);
        // A `watch` would wake those who wait in an order that no seed decides.
        self.unblocks.notify_waiters();
        self.broker.journal.note("publishers may publish again");
    }

    /// Whether publishers are blocked.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Waits until publishers are not blocked.
    pub(crate) async fn unblocked(&self) {
        while self.is_blocked() {
            self.unblocks.notified().await;
        }
    }

    /// Breaks the connections of those whose name `of` says.
    pub(crate) fn hang_up(&self, of: impl Fn(&str) -> bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let broken: Vec<_> =
            open.iter().filter(|(_, (owner, _))| of(owner)).map(|(number, _)| *number).collect();
        drop(open);
        broken.into_iter().for_each(|number| self.break_off(number));
    }

    pub(crate) fn break_off(&self, number: u64) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        if let Some((owner, alive)) = open {
            self.broker.journal.note(format!("{owner}: connection {number} breaks"));
            alive.cancel();
            self.broker.hang_up(number);
        }
    }

    pub(crate) fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// One part's way to the broker.
#[derive(Debug, Clone)]
pub(crate) struct Plug {
    pub(crate) network: Network,
    pub(crate) owner: String,
    /// It was killed: whatever of it still runs reaches nobody.
    dead: CancellationToken,
}

impl Plug {
    /// The part was killed.
    pub(crate) fn pull(&self) {
        self.dead.cancel();
        self.network.hang_up(|owner| owner == self.owner);
    }

    /// The part dies of itself, here and now: this never returns.
    pub(crate) async fn die<T>(&self) -> T {
        self.network.broker.journal.note(format!("{} dies", self.owner));
        self.pull();
        // There are never as many as would not fit.
        let _ = self.network.deaths.try_send(self.owner.clone());
        std::future::pending().await
    }

    /// Whether the part is dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }
}

impl Dial for Plug {
    fn connect<'a>(&'a self, _: &'a str, _: &'a Options) -> Answer<'a, Arc<dyn Transport>> {
        Box::pin(async {
            self.network.chance.latency().await;
            if self.network.down.load(Ordering::Relaxed) || self.is_dead() {
                return Err(Error::Broken("nobody answers".to_owned()));
            }
            let (number, broken) = (self.network.next(), CancellationToken::new());
            let entry = (self.owner.clone(), broken.clone());
            self.network.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, entry);
            Ok(Arc::new(Wire::new(self.clone(), number, broken)) as Arc<dyn Transport>)
        })
    }
}
