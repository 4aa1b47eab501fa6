//! `evalfleet-recorder`: batches evaluations into Datomic.

use clap::Parser;
use evalfleet_broker::{Link, Options};
use evalfleet_datomic::{Client, Config};
use evalfleet_proto::status::Exit;
use evalfleet_recorder::service::{Letters, Service};
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use evalfleet_service::{VERSION, part, ready, shutdown};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long the store may take to open: Datomic Local replays its whole log.
const OPENING: Duration = Duration::from_secs(15 * 60);

#[derive(Debug, Parser)]
#[command(name = "evalfleet-recorder", version = VERSION, about = "Batches evaluations into Datomic")]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "EVALFLEET_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    part::run(Arguments::parse().config.as_deref(), record).await
}

async fn record(settings: Settings) -> anyhow::Result<Exit> {
    let stop = shutdown::on_signal()?;
    let name = format!("recorder-{}", std::process::id());
    tracing::info!(version = VERSION, name, "starting");
    let mut config = Config::new(&settings.datomic.url, settings.datomic.token()?);
    config.request_timeout = settings.datomic.timeout;
    let client = Client::new(config)?;
    let opening = client.wait_ready(OPENING, |waiting| tracing::debug!(?waiting, "waiting for the store"));
    let health = tokio::select! {
        health = opening => health?,
        () = stop.cancelled() => return Ok(Exit::Passed),
    };
    if let Some(note) = &health.note {
        tracing::warn!(uri = health.uri, "{note}");
    }
    let store = Store::new(client, Blobs::open(&settings).await?);
    let link = Arc::new(Link::new(Options::new(&settings.broker, name.as_str()), stop.clone()));
    tokio::select! {
        session = link.session() => drop(session?),
        () = stop.cancelled() => return Ok(Exit::Passed),
    }
    ready::announce(&settings)?;
    tracing::info!(uri = health.uri, "ready for results");
    let results = Service::new(link.clone(), store.clone(), &settings.recorder, name.clone(), stop.clone());
    let letters = Service::<Letters>::of(link.clone(), store, &settings.recorder, name, stop);
    tokio::try_join!(results.serve(), letters.serve())?;
    link.close().await;
    tracing::info!("stopped");
    Ok(Exit::Passed)
}
