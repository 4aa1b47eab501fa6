//! Parts of one's own, a RabbitMQ or more, for as long as something is measured on them.

use crate::host;
use anyhow::{Context as _, bail};
use evalfleet::machine::{Kind, Machine, Order, State, Stop, Upped, run_here};
use evalfleet_service::settings::{ENDPOINTS_FILE, Layers, Settings};
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long they may take to start: Datomic Local reads a long log for minutes.
const START: Duration = Duration::from_secs(45 * 60);

/// The parts' configuration: what is measured asks faster than people do.
const CONFIG: &str = "bench.toml";

/// A state directory of one's own, which goes when it is dropped.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    workers: u32,
}

/// Starts a broker with everything declared, measures, and stops it.
///
/// # Errors
/// When there is no RabbitMQ, it is interrupted, or the measurement fails.
pub(crate) async fn on_broker<T>(
    interrupted: &CancellationToken,
    measure: impl AsyncFnOnce(Settings) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    Stage::new("")?.with(&[Kind::Broker], interrupted, measure).await
}

impl Stage {
    /// An empty one, with these settings more.
    ///
    /// # Errors
    /// When there is no room for temporary files.
    pub(crate) fn new(more: &str) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join(CONFIG), format!("[api]\nrate = 1000000\n{more}"))?;
        Ok(Self { dir, workers: 0 })
    }

    /// The same, with so many workers.
    pub(crate) fn workers(self, workers: u32) -> Self {
        Self { workers, ..self }
    }

    /// Its path.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts parts of these kinds, measures when all are ready, and stops them. What they wrote stays.
    ///
    /// # Errors
    /// When one does not start, it is interrupted, or the measurement fails.
    pub(crate) async fn with<T>(
        &self,
        kinds: &[Kind],
        interrupted: &CancellationToken,
        measure: impl AsyncFnOnce(Settings) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let dir = self.dir.path();
        let stop = Stop::default();
        let order = Order { workers: self.workers, only: kinds.to_vec(), config: Some(dir.join(CONFIG)) };
        let settings = settings_of(dir, None)?;
        let supervised = run_here(&settings, &order, stop.clone(), |news| tracing::info!("{news}"));
        let mut supervised = std::pin::pin!(supervised);
        let measuring = async {
            tokio::time::timeout(START, ready(dir)).await.context("the parts do not start")??;
            let endpoints = std::fs::read_to_string(dir.join(ENDPOINTS_FILE))?;
            measure(settings_of(dir, Some(endpoints))?).await
        };
        let measured = tokio::select! {
            ended = &mut supervised => return Err(early(ended)),
            () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
            measured = Box::pin(measuring) => measured,
        };
        stop.drain.cancel();
        supervised.await?;
        measured
    }
}

/// The bytes in memory of the running parts of a kind.
///
/// # Errors
/// When they are gone.
pub(crate) fn resident(settings: &Settings, kind: Kind) -> anyhow::Result<u64> {
    let machine = Machine::read(&settings.state_dir()).context("the machine's own file")?;
    let parts = machine.parts.iter().filter(|part| part.kind == kind);
    parts.filter_map(|part| u32::try_from(part.pid?).ok()).map(|pid| host::resident(Some(pid))).sum()
}

/// Why the parts are gone before they were told to go.
fn early(ended: Result<Upped, evalfleet::machine::Error>) -> anyhow::Error {
    ended.map_or_else(anyhow::Error::from, |_| anyhow::anyhow!("their supervisor ended early"))
}

fn settings_of(dir: &Path, endpoints: Option<String>) -> anyhow::Result<Settings> {
    let environment = vec![("EVALFLEET_STATE__DIR".to_owned(), dir.display().to_string())];
    // What starts the parts reads their file, too: it is what tells the gateway its store.
    let file = Some(std::fs::read_to_string(dir.join(CONFIG))?);
    Ok(Settings::from_layers(&Layers { endpoints, file, environment })?)
}

async fn ready(dir: &Path) -> anyhow::Result<()> {
    loop {
        let parts = Machine::read(dir).map(|machine| machine.parts).unwrap_or_default();
        if let Some(part) = parts.iter().find(|part| part.state == State::Failed) {
            bail!("{} does not start", part.name);
        }
        if !parts.is_empty() && parts.iter().all(|part| part.state == State::Ready) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
