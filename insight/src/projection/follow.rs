//! Follows the log into a [`World`], as long as the process lives.
//!
//! The log may become another one: a store in memory that began anew, a restored backup. A log that ends
//! before what was read already shows that at once; one that goes on beyond it shows it when, now and then,
//! the newest known transaction is asked for again. One out of which the oldest went, by retention, says so
//! itself. Then everything is read from the beginning.

use super::world::World;
use evalfleet_datomic::{Client, Error, Log, Transaction};
use evalfleet_service::retry::Delays;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Transactions asked for at once.
const CHUNK: u32 = 1000;
/// The longest wait between two tries to reach the store.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Every so many steps the newest known transaction is compared with the log's.
const COMPARE_EVERY: u32 = 25;

/// How far the projection is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether it holds all that the store held when it was last asked.
    pub ready: bool,
    /// The newest transaction in it.
    pub basis_t: u64,
    /// Why it does not go on.
    pub error: Option<String>,
}

/// A projection that keeps itself up to date.
#[derive(Debug)]
pub struct Projection {
    world: RwLock<World>,
    progress: watch::Sender<Progress>,
    wake: Notify,
    anew: AtomicBool,
    /// Where the next stretch of the log begins.
    next_t: AtomicU64,
    /// The newest transaction when reading began: what went later was read before it went.
    began_at: AtomicU64,
    steps: AtomicU32,
    versions_max: usize,
}

impl Projection {
    /// One that knows nothing yet.
    pub fn new(versions_max: usize) -> Self {
        Self {
            world: RwLock::new(World::new(versions_max)),
            progress: watch::Sender::default(),
            wake: Notify::new(),
            anew: AtomicBool::new(false),
            next_t: AtomicU64::new(0),
            began_at: AtomicU64::new(0),
            steps: AtomicU32::new(0),
            versions_max,
        }
    }

    /// What is known now. Hold it for a moment only: the log waits meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is, and every change of that.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Something was probably recorded: look now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Throws everything away and reads the log again from its beginning.
    pub fn rebuild(&self) {
        self.anew.store(true, Relaxed);
        self.wake();
    }

    /// Follows the log of `client` until `stop`, looking every `pause` when nobody wakes it.
    pub async fn follow(&self, client: &Client, pause: Duration, stop: &CancellationToken) {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        while !stop.is_cancelled() {
            let wait = match self.step(client).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => {
                    delays = Delays::up_to(LONGEST_WAIT);
                    pause
                }
                Err(error) => {
                    tracing::debug!(%error, "the log cannot be followed now");
                    let error = Some(error.to_string());
                    self.progress.send_modify(|progress| progress.error = error);
                    delays.next_delay()
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Takes one stretch of the log in. Tells whether there is more.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn step(&self, client: &Client) -> Result<bool, Error> {
        if self.anew.swap(false, Relaxed) {
            self.forget();
        }
        if self.steps.fetch_add(1, Relaxed) % COMPARE_EVERY == COMPARE_EVERY - 1
            && !self.is_same(client).await?
        {
            return Ok(self.begin_anew());
        }
        let next_t = self.next_t.load(Relaxed);
        let log = client.tx_range(next_t, CHUNK).await?;
        if log.basis_t.saturating_add(1) < next_t {
            return Ok(self.begin_anew());
        }
        if next_t == 0 {
            self.began_at.store(log.basis_t, Relaxed);
        }
        if went_since(&log, self.began_at.load(Relaxed)) {
            return Ok(self.begin_anew());
        }
        self.next_t.store(log.next_t, Relaxed);
        Ok(self.take(&log))
    }

    async fn is_same(&self, client: &Client) -> Result<bool, Error> {
        let Some((t, instant)) = self.read().newest() else { return Ok(true) };
        let log = client.tx_range(t, 1).await?;
        Ok(log
            .transactions
            .first()
            .is_some_and(|one| (one.t, one.tx_instant.as_millisecond()) == (t, instant)))
    }

    fn begin_anew(&self) -> bool {
        tracing::warn!("the store holds another log: reading it from the beginning");
        self.forget();
        true
    }

    fn take(&self, log: &Log) -> bool {
        let mut world = self.write();
        log.transactions.iter().for_each(|transaction| world.apply(transaction));
        let more = log.next_t <= log.basis_t;
        let basis_t = world.basis_t();
        drop(world);
        self.progress.send_if_modified(|shown| {
            // Once it was complete it stays usable while it catches up.
            let next = Progress { ready: !more || shown.ready, basis_t, error: None };
            let changed = *shown != next;
            *shown = next;
            changed
        });
        more
    }

    fn forget(&self) {
        *self.write() = World::new(self.versions_max);
        self.next_t.store(0, Relaxed);
        self.progress.send_replace(Progress::default());
    }
}

/// Whether the oldest went after transaction `began`: with it, all entities have other numbers.
fn went_since(log: &Log, began: u64) -> bool {
    let went = |transaction: &Transaction| {
        transaction.t > began && transaction.datoms.iter().any(|datom| datom.attribute == "retention/before")
    };
    log.transactions.iter().any(went)
}
