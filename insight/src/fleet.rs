//! The parts of this fleet as they are now: what waits at the broker, what workers say of themselves.

use crate::view::queues::Depth;
use evalfleet_broker::{Error, Link};
use evalfleet_proto::Timestamp;
use evalfleet_proto::topology;
use evalfleet_service::settings::Settings;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is known of the queues is new for so long.
const AGE: Duration = Duration::from_secs(1);
/// How old what is shown of them may be.
const AGE_MAX: Duration = Duration::from_secs(5);
/// How long the broker may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that a worker may say of itself, in bytes.
const SAID_MAX: u64 = 64 << 10;

/// The parts of this fleet.
#[derive(Debug)]
pub struct Fleet {
    depths: Arc<Depths>,
    workers: PathBuf,
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
        let (known, empty, asking) = Default::default();
        let depths = Depths { link, names, known, empty, asking };
        Self { depths: Arc::new(depths), workers: settings.state_dir().join("workers") }
    }

    /// The link to its broker.
    pub fn link(&self) -> &Link {
        &self.depths.link
    }

    /// What waits; none when the broker does not answer. May be a second old, and where somebody asked shortly
    /// before as old as that: whoever asks then has the broker asked, and does not wait for it.
    pub async fn queues(&self) -> Option<Vec<Depth>> {
        match self.depths.known() {
            Some((age, queues)) if age < AGE => queues,
            Some((age, queues)) if age < AGE_MAX => {
                let depths = self.depths.clone();
                tokio::spawn(async move { depths.renewed().await });
                queues
            }
            Some(_) | None => self.depths.renewed().await,
        }
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

/// What waits in each queue.
#[derive(Debug)]
struct Depths {
    link: Link,
    names: Vec<String>,
    known: Mutex<Option<(Instant, Option<Vec<Depth>>)>>,
    /// When each was last seen empty.
    empty: Mutex<BTreeMap<String, Timestamp>>,
    /// Held by the one that asks.
    asking: tokio::sync::Mutex<()>,
}

impl Depths {
    /// What is known, and how old it is.
    fn known(&self) -> Option<(Duration, Option<Vec<Depth>>)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map(|(when, queues)| (when.elapsed(), queues.clone()))
    }

    /// Asks the broker, unless another did while this one waited for it.
    async fn renewed(&self) -> Option<Vec<Depth>> {
        let _alone = self.asking.lock().await;
        if let Some((_, queues)) = self.known().filter(|(age, _)| *age < AGE) {
            return queues;
        }
        let queues = match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(Ok(queues)) => Some(queues),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the broker does not say what waits");
                None
            }
            Err(_) => None,
        };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), queues.clone()));
        queues
    }

    /// When it was last seen empty, which may be `now`.
    fn empty(&self, name: &str, now: Option<Timestamp>) -> Option<Timestamp> {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = now {
            empty.insert(name.to_owned(), now);
        }
        empty.get(name).copied()
    }

    async fn ask(&self) -> Result<Vec<Depth>, Error> {
        let session = self.link.try_session().await?;
        let mut queues = Vec::new();
        for name in &self.names {
            // What comes while the broker answers is younger than that.
            let asked = Timestamp::now();
            match session.depth(name).await {
                Ok((messages, consumers)) => {
                    let empty = self.empty(name, (messages == 0).then_some(asked));
                    queues.push(Depth { name: name.clone(), messages, consumers, empty });
                }
                Err(error) if session.is_alive() => tracing::debug!(queue = name, %error, "no depth"),
                Err(error) => {
                    self.link.forget(&session).await;
                    return Err(error);
                }
            }
        }
        Ok(queues)
    }
}
