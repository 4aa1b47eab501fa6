//! The parts of this fleet as they are now: what waits at the broker, what workers say of themselves.

use crate::view::overview::Queue;
use evalfleet_broker::{Error, Link};
use evalfleet_proto::topology;
use evalfleet_service::settings::Settings;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How old what is known of the queues may be.
const AGE: Duration = Duration::from_secs(1);
/// How long the broker may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that a worker may say of itself, in bytes.
const SAID_MAX: u64 = 64 << 10;

/// The parts of this fleet.
#[derive(Debug)]
pub struct Fleet {
    link: Link,
    names: Vec<String>,
    workers: PathBuf,
    known: Mutex<Option<(Instant, Option<Vec<Queue>>)>>,
}

impl Fleet {
    /// The fleet that `settings` name, its broker reached over `link`.
    pub fn new(settings: &Settings, link: Link) -> Self {
        let lanes = &settings.broker.lanes;
        let mut names: Vec<String> = lanes.iter().map(topology::jobs_queue).collect();
        for lane in lanes {
            names.extend(settings.broker.retry_tiers().iter().map(|tier| topology::retry_queue(lane, *tier)));
        }
        names
            .extend([topology::RESULTS_QUEUE, topology::DEAD_QUEUE, topology::UNROUTABLE].map(str::to_owned));
        Self { link, names, workers: settings.state_dir().join("workers"), known: Mutex::default() }
    }

    /// The link to its broker.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// What waits; none when the broker does not answer. May be a second old.
    pub async fn queues(&self) -> Option<Vec<Queue>> {
        let mut known = self.known.lock().await;
        if let Some((when, queues)) = known.as_ref().filter(|(when, _)| when.elapsed() < AGE) {
            let _ = when;
            return queues.clone();
        }
        let queues = match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(Ok(queues)) => Some(queues),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the broker does not say what waits");
                None
            }
            Err(_) => None,
        };
        *known = Some((Instant::now(), queues.clone()));
        queues
    }

    async fn ask(&self) -> Result<Vec<Queue>, Error> {
        let session = self.link.try_session().await?;
        let mut queues = Vec::new();
        for name in &self.names {
            match session.depth(name).await {
                Ok((messages, consumers)) => queues.push(Queue { name: name.clone(), messages, consumers }),
                Err(error) if session.is_alive() => tracing::debug!(queue = name, %error, "no depth"),
                Err(error) => {
                    self.link.forget(&session).await;
                    return Err(error);
                }
            }
        }
        Ok(queues)
    }

    /// What a worker of this machine says of itself: how its supply of VMs is.
    pub fn worker(&self, name: &str) -> Option<serde_json::Value> {
        let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        if !plain || name.starts_with('.') || name.is_empty() {
            return None;
        }
        let file = std::fs::File::open(self.workers.join(format!("{name}.json"))).ok()?;
        let mut text = String::new();
        file.take(SAID_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}
