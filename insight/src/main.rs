//! `evalfleet-api`: serves the REST API.

use anyhow::{Context as _, bail};
use clap::Parser;
use evalfleet_datomic::{Client, Config};
use evalfleet_insight::access::Token;
use evalfleet_insight::history::History;
use evalfleet_insight::server::serve;
use evalfleet_proto::status::Exit;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use evalfleet_service::{VERSION, part, ready, shutdown};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::net::TcpListener;

#[derive(Debug, Parser)]
#[command(name = "evalfleet-api", version = VERSION, about = "Serves the REST API")]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "EVALFLEET_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    part::run(Arguments::parse().config.as_deref(), serve_api).await
}

async fn serve_api(settings: Settings) -> anyhow::Result<Exit> {
    let stop = shutdown::on_signal()?;
    let token = Token::from_file(&settings.api.token_file)
        .with_context(|| format!("the token {}", settings.api.token_file.display()))?;
    let listener = TcpListener::bind(&settings.api.listen)
        .await
        .with_context(|| format!("cannot listen at {}", settings.api.listen))?;
    let address = listener.local_addr()?;
    if !token.is_set() && !address.ip().is_loopback() {
        bail!(
            "{address} can be reached from other machines, and there is no token: name one in api.token_file"
        );
    }
    let client = Client::new(Config::new(&settings.datomic.url, settings.datomic.token()?))?;
    let history = History::new(client, Blobs::in_dir(&settings.blobs_dir())?);
    ready::announce(&settings)?;
    tracing::info!(version = VERSION, address = %address, "serving");
    serve(listener, history, token, stop).await?;
    tracing::info!("stopped");
    Ok(Exit::Passed)
}
