//! A VM's only way out: a gateway in the worker, that sees every frame the guest sends.
//!
//! ```text
//!  guest ── virtio-net ── QEMU ── unix socket ──▶ Gateway ──▶ Relay (frames in, frames out, no I/O)
//!                                                    │           ├─ Ether      addresses of the link
//!                                                    │           ├─ packet     what a packet wants
//!                                                    │           ├─ Policy     may it?
//!                                                    │           ├─ smoltcp    TCP, refusals
//!                                                    │           └─ dns        names
//!                                                    ├─ Dial     a host socket, made after the yes
//!                                                    └─ Flow     bytes between the two
//! ```
//!
//! Nothing of the guest's reaches a real network by itself: its TCP ends here, and a socket of the host's
//! own goes on where the policy says yes. Everything else is refused at once (RST, ICMP unreachable, DNS
//! REFUSED), so that programs fail fast, and is recorded. Names get addresses of ours, one each: so a
//! connection is known by the name it was asked under, and is resolved and checked again when it is made.
//!
//! What comes out of the guest is hostile: frames, queues, connections, names and records are bounded,
//! and if the gateway should end, the guest loses its network and nobody else anything.

mod dial;
mod dns;
mod ether;
mod flow;
mod gateway;
mod ledger;
mod names;
mod packet;
mod policy;
mod queue;
mod refusal;
mod relay;

pub use ledger::Tally;
pub use policy::{Bounds, Policy};
pub use relay::swallow;

use super::Error;
use super::qapi::qmp::Qmp;
use futures::task::AtomicWaker;
use ledger::Ledger;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// How long QEMU may take to listen.
const LISTEN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const GLANCE: Duration = Duration::from_micros(500);

/// What a VM's owner and its gateway share.
#[derive(Debug, Default)]
struct Shared {
    policy: Mutex<Arc<Policy>>,
    ledger: Mutex<Ledger>,
    /// Grows with every job: what belongs to an earlier one is cut off.
    epoch: AtomicU64,
    woken: AtomicWaker,
}

impl Shared {
    fn policy(&self) -> Arc<Policy> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A VM's link to its gateway. The gateway ends with it.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    gateway: JoinHandle<()>,
}

impl Link {
    /// Attaches a gateway that lets nothing through to the QEMU that serves `socket`.
    ///
    /// # Errors
    /// When QEMU does not serve it, or does not take it up in time.
    pub(super) async fn attach(socket: &Path, qmp: &Qmp) -> Result<Self, Error> {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                // QEMU begins to listen in a thread of its own, which may be later than its first word.
                Err(_) if begun.elapsed() < LISTEN => tokio::time::sleep(GLANCE).await,
                Err(error) => return Err(Error::host("attaching to the VM's network")(error)),
            }
        };
        let late =
            Error::TimedOut { what: "QEMU's taking up of its network link", seconds: LISTEN.as_secs() };
        tokio::time::timeout(LISTEN, qmp.linked()).await.unwrap_or(Err(late))?;
        let shared = Arc::new(Shared::default());
        let gateway = tokio::spawn(gateway::serve(stream, shared.clone(), dial::Resolver::of_host()));
        Ok(Self { shared, gateway })
    }

    /// Begins a job: cuts off and forgets what was before it, and lets through what `policy` does.
    pub(super) fn begin(&self, policy: Policy) {
        *self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        *self.shared.ledger() = Ledger::default();
        self.shared.epoch.fetch_add(1, Ordering::Relaxed);
        self.shared.woken.wake();
    }

    /// Cuts the VM off for good and says what it tried.
    pub(super) fn end(self) -> Tally {
        self.gateway.abort();
        self.shared.ledger().tally()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.gateway.abort();
    }
}
