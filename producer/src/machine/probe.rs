//! Finding out when a part is ready: it answers as its clients will ask it.

use super::process::Process;
use evalfleet_broker::{Options, Session};
use evalfleet_datomic::{Client, Health, Status};
use evalfleet_proto::topology::Topology;
use evalfleet_service::settings;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How one knows that a part is ready.
#[derive(Debug, Clone)]
pub enum Probe {
    /// A loopback port answers.
    Port(u16),
    /// The broker takes the login and has the topology, which this declares.
    Broker(Box<settings::Broker>, FirstBoot),
    /// This address answers 200.
    Http(String),
    /// The gateway says that its store is open.
    Gateway(Client),
    /// The part wrote its own pid into this file: `{"pid": 123}`.
    File(PathBuf),
}

/// The first boot of a broker with an empty data folder.
///
/// RabbitMQ writes the names of its quorum members to disk some seconds after it made them: a node that
/// is killed in between comes back with streams that stay down for good. So a node is not called ready
/// before they are on disk, and one that died before it ever was ready begins anew: nobody has used it.
#[derive(Debug, Clone)]
pub struct FirstBoot {
    /// The node's data.
    pub data: PathBuf,
    /// Exists once the node was ready.
    pub settled: PathBuf,
}

/// How long RabbitMQ may take to write down what it declared: half a second idle, three of delayed
/// writes, and again as much.
const SETTLE: Duration = Duration::from_secs(6);

/// One try may take this long.
const TRY: Duration = Duration::from_secs(10);
/// The wait between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest that a history may take to open.
const OPENING_MAX: Duration = Duration::from_secs(6 * 60 * 60);
/// How often one hears how far a history is that takes long to open.
const TELL: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Ready {
    pid: i32,
}

impl Probe {
    /// Takes back what an earlier process left that would mislead.
    pub(super) fn prepare(&self) {
        let removed = match self {
            Self::File(path) => std::fs::remove_file(path),
            Self::Broker(_, first) if !first.settled.exists() => std::fs::remove_dir_all(&first.data),
            Self::Broker(..) | Self::Port(_) | Self::Http(_) | Self::Gateway(_) => Ok(()),
        };
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "what an earlier process left stays");
        }
    }

    /// Waits until the process `pid` is ready; false when it is late. A gateway whose store opens is not late: a
    /// long history takes long.
    pub(super) async fn until_ready(&self, pid: i32, within: Duration) -> bool {
        let (begun, mut sign, mut told) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            match timeout(TRY, self.look(pid)).await {
                Ok(Seen::Ready) => break,
                Ok(Seen::Opening(health)) if begun.elapsed() < OPENING_MAX => {
                    sign = Instant::now();
                    if told.elapsed() > TELL {
                        told = Instant::now();
                        tell_progress(&health);
                    }
                }
                Ok(Seen::Opening(_) | Seen::Nothing) | Err(_) if sign.elapsed() > within => return false,
                Ok(Seen::Opening(_) | Seen::Nothing) | Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
        if let Self::Broker(_, first) = self
            && !first.settled.exists()
        {
            tokio::time::sleep(SETTLE).await;
            // Dead meanwhile: the next one begins anew as well.
            if Process::of(pid).is_some_and(Process::is_alive)
                && let Err(error) = std::fs::write(&first.settled, b"")
            {
                tracing::warn!(%error, "the broker will begin anew at its next start");
            }
        }
        true
    }

    async fn look(&self, pid: i32) -> Seen {
        let ready = match self {
            Self::Port(port) => answers(*port).await,
            Self::Broker(settings, _) => broker(settings).await,
            Self::Http(url) => http(url).await,
            Self::Gateway(client) => return gateway(client).await,
            Self::File(path) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                serde_json::from_str::<Ready>(&text).is_ok_and(|ready| ready.pid == pid)
            }
        };
        if ready { Seen::Ready } else { Seen::Nothing }
    }
}

/// What one look at a part shows.
enum Seen {
    Ready,
    /// It is well, and not ready yet.
    Opening(Box<Health>),
    Nothing,
}

async fn gateway(client: &Client) -> Seen {
    match client.health().await {
        Ok(health) if health.status == Status::Ready => Seen::Ready,
        Ok(health) if health.status == Status::Opening && health.last_error.is_none() => {
            Seen::Opening(Box::new(health))
        }
        Ok(_) | Err(_) => Seen::Nothing,
    }
}

fn tell_progress(health: &Health) {
    let (Some(bytes), Some(elapsed)) = (health.log_bytes, health.elapsed) else { return };
    let of = health.expected.map_or(String::new(), |expected| format!(" of some {} s", expected.as_secs()));
    tracing::info!("opening the history, a log of {} MiB: {} s{of}", bytes >> 20, elapsed.as_secs());
}

async fn answers(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

async fn broker(settings: &settings::Broker) -> bool {
    let Ok(session) = Session::connect(&Options::new(settings, "evalfleet up")).await else { return false };
    let declared = session.declare(&Topology::new(&settings.lanes, &settings.retry_tiers())).await;
    session.close().await;
    match declared {
        Ok(()) => true,
        Err(error) => {
            // After a restart its streams come back a moment after its listener.
            tracing::debug!(%error, "declaring the topology");
            false
        }
    }
}

async fn http(url: &str) -> bool {
    let Ok(client) = evalfleet_service::http::builder().build() else { return false };
    client.get(url).send().await.is_ok_and(|response| response.status().is_success())
}
