//! A RabbitMQ of one's own, for as long as something is measured on it.

use anyhow::{Context as _, bail};
use evalfleet::machine::{Kind, Machine, Order, State, Stop, Upped, run_here};
use evalfleet_service::settings::{ENDPOINTS_FILE, Layers, Settings};
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long it may take to start.
const START: Duration = Duration::from_secs(180);

/// Starts a broker with everything declared, measures, and stops it.
///
/// # Errors
/// When there is no RabbitMQ, it is interrupted, or the measurement fails.
pub(crate) async fn on_broker<T>(
    interrupted: &CancellationToken,
    measure: impl AsyncFnOnce(Settings) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let dir = tempfile::tempdir()?;
    let stop = Stop::default();
    let (settings, order) =
        (settings_of(dir.path(), None)?, Order { workers: 0, only: vec![Kind::Broker], config: None });
    let supervised = run_here(&settings, &order, stop.clone(), |news| tracing::info!("{news}"));
    let mut supervised = std::pin::pin!(supervised);
    let measuring = async {
        tokio::time::timeout(START, ready(dir.path())).await.context("the broker does not start")??;
        let endpoints = std::fs::read_to_string(dir.path().join(ENDPOINTS_FILE))?;
        measure(settings_of(dir.path(), Some(endpoints))?).await
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

/// Why the broker is gone before it was told to go.
fn early(ended: Result<Upped, evalfleet::machine::Error>) -> anyhow::Error {
    ended.map_or_else(anyhow::Error::from, |_| anyhow::anyhow!("the broker's supervisor ended early"))
}

fn settings_of(dir: &Path, endpoints: Option<String>) -> anyhow::Result<Settings> {
    let environment = vec![("EVALFLEET_STATE__DIR".to_owned(), dir.display().to_string())];
    Ok(Settings::from_layers(&Layers { endpoints, file: None, environment })?)
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
