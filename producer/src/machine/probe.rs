//! Finding out when a part is ready: it answers as its clients will ask it.

use evalfleet_broker::{Options, Session};
use evalfleet_proto::topology::Topology;
use evalfleet_service::settings;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// How one knows that a part is ready.
#[derive(Debug, Clone)]
pub enum Probe {
    /// A loopback port answers.
    Port(u16),
    /// The broker takes the login and has the topology, which this declares.
    Broker(Box<settings::Broker>),
    /// This address answers 200.
    Http(String),
    /// The part wrote its own pid into this file: `{"pid": 123}`.
    File(PathBuf),
}

/// One try may take this long.
const TRY: Duration = Duration::from_secs(10);
/// The wait between two tries.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Deserialize)]
struct Ready {
    pid: i32,
}

impl Probe {
    /// Takes back what an earlier process left that says it is ready.
    pub(super) fn reset(&self) {
        if let Self::File(path) = self {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Waits until the process `pid` is ready.
    pub(super) async fn until_ready(&self, pid: i32) {
        loop {
            if timeout(TRY, self.is_ready(pid)).await == Ok(true) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn is_ready(&self, pid: i32) -> bool {
        match self {
            Self::Port(port) => answers(*port).await,
            Self::Broker(settings) => broker(settings).await,
            Self::Http(url) => http(url).await,
            Self::File(path) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                serde_json::from_str::<Ready>(&text).is_ok_and(|ready| ready.pid == pid)
            }
        }
    }
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
            tracing::warn!(%error, "declaring the topology");
            false
        }
    }
}

/// An HTTP part answers 200, and does not say of itself that it is still on its way.
async fn http(url: &str) -> bool {
    let Ok(client) = reqwest::Client::builder().no_proxy().build() else { return false };
    let Ok(response) = client.get(url).send().await else { return false };
    if !response.status().is_success() {
        return false;
    }
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    body.get("status")
        .and_then(|status| status.as_str())
        .is_none_or(|status| matches!(status, "ready" | "ok"))
}
