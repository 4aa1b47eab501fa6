//! `evalfleet-api`: serves the REST API and the dashboard.

use anyhow::{Context as _, bail};
use clap::Parser;
use evalfleet_broker::{Link, Options};
use evalfleet_datomic::{Client, Config};
use evalfleet_insight::access::Access;
use evalfleet_insight::api::App;
use evalfleet_insight::desk::Desk;
use evalfleet_insight::fleet::Fleet;
use evalfleet_insight::heal::hands::OfFleet;
use evalfleet_insight::heal::task::heal;
use evalfleet_insight::history::History;
use evalfleet_insight::live::Live;
use evalfleet_insight::projection::follow::Projection;
use evalfleet_insight::server::serve;
use evalfleet_insight::tell::channels::Channels;
use evalfleet_insight::watch::rerun::Kept;
use evalfleet_insight::watch::task::watch;
use evalfleet_proto::status::Exit;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use evalfleet_service::{VERSION, part, ready, shutdown};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;

#[derive(Debug, Parser)]
#[command(name = "evalfleet-api", version = VERSION, about = "Serves the REST API and the dashboard")]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "EVALFLEET_CONFIG")]
    config: Option<PathBuf>,
    /// Print the OpenAPI document and end.
    #[arg(long)]
    openapi: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.openapi {
        let document = evalfleet_insight::api::document().to_pretty_json().unwrap_or_default();
        println!("{document}");
        return ExitCode::SUCCESS;
    }
    part::run(arguments.config.as_deref(), serve_api).await
}

async fn serve_api(settings: Settings) -> anyhow::Result<Exit> {
    let stop = shutdown::on_signal()?;
    let access = Access::new(&settings.api).context("a token of the API")?;
    let listener = TcpListener::bind(&settings.api.listen)
        .await
        .with_context(|| format!("cannot listen at {}", settings.api.listen))?;
    let address = listener.local_addr()?;
    if !access.is_guarded() && !address.ip().is_loopback() {
        bail!(
            "{address} can be reached from other machines, and there is no token: name one in api.token_file"
        );
    }
    let client = Client::new(Config::new(&settings.datomic.url, settings.datomic.token()?))?;
    let history = History::new(client.clone(), Blobs::open(&settings).await?);
    let link = Link::new(Options::new(&settings.broker, "evalfleet api"), stop.clone());
    let app = App::new(
        history,
        Projection::new(settings.api.evaluations_max),
        Live::default(),
        Fleet::new(&settings, link),
        Desk::new(&settings),
        stop.clone(),
    );
    let alerts = &settings.insight.alerts;
    let channels = Channels::new(alerts)?;
    let app = Arc::new(app);
    ready::announce(&settings)?;
    tracing::info!(version = VERSION, address = %address, "serving at http://{address}");
    let place = settings.state_dir();
    let rerun = Kept::new(&app);
    let watched = async {
        if alerts.watch {
            Box::pin(watch(&app, alerts, &place, (&rerun, &channels), &stop)).await;
        }
    };
    let hands = OfFleet::new(&app.desk, &settings);
    let healed = Box::pin(heal(&app, &settings, (&hands, &channels), &stop));
    let serving = serve(listener, app.clone(), client, access, stop.clone());
    let (served, (), ()) = tokio::join!(serving, watched, healed);
    served?;
    tracing::info!("stopped");
    Ok(Exit::Passed)
}
