//! `evalfleet-worker`: takes jobs and runs each in a clean VM.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use evalfleet_broker::{Link, Options};
use evalfleet_proto::ids::{ImageRef, WorkerId};
use evalfleet_proto::status::Exit;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use evalfleet_service::{VERSION, part, ready, shutdown};
use evalfleet_worker::control::Control;
use evalfleet_worker::job::Runner;
use evalfleet_worker::keep::Keeper;
use evalfleet_worker::probe::probe;
use evalfleet_worker::service::Service;
use evalfleet_worker::supply::Supply;
use evalfleet_worker::visit;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
#[command(name = "evalfleet-worker", version = VERSION, about = "Takes jobs and runs each in a clean VM")]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "EVALFLEET_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes one clean VM, says with which accelerator, and puts it away.
    Probe {
        /// One document, which is all there is; accepted so that every command has it.
        #[arg(long)]
        json: bool,
    },
    /// Opens a shell in a throw-away VM of an imported image, or runs a command there; `evalfleet image ssh`
    /// calls it.
    Ssh {
        /// The image.
        image: ImageRef,
        /// The command.
        #[arg(last = true)]
        argv: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let body = async |settings| match arguments.command {
        Some(Command::Probe { .. }) => report_probe(&settings).await,
        Some(Command::Ssh { image, argv }) => Box::pin(visit::visit(&settings, &image, &argv)).await,
        None => work(Arc::new(settings)).await,
    };
    part::run(arguments.config.as_deref(), body).await
}

async fn report_probe(settings: &Settings) -> anyhow::Result<Exit> {
    let found = Box::pin(probe(settings)).await;
    println!("{}", serde_json::to_string(&found)?);
    Ok(if found.works { Exit::Passed } else { Exit::Infrastructure })
}

async fn work(settings: Arc<Settings>) -> anyhow::Result<Exit> {
    let worker = name(&settings)?;
    tracing::info!(version = VERSION, worker = worker.as_str(), "starting");
    let drain = shutdown::on_signal()?;
    let blobs = Blobs::open(&settings).await?;
    let mut supply = Supply::new(&settings, &worker)?;
    let template = Box::pin(supply.warm_up(&settings.client.image))
        .await
        .map_err(|refusal| anyhow::anyhow!("no VM can be made: {refusal}"))?;
    let accelerator = template.machine().accelerator.as_str();
    // A worker that drains still has to publish the result of its last job: only `give_up` ends the link.
    let give_up = CancellationToken::new();
    let link = Arc::new(Link::new(Options::new(&settings.broker, worker.as_str()), give_up.clone()));
    tokio::select! {
        session = link.session() => drop(session.context("no broker, no jobs")?),
        () = drain.cancelled() => return Ok(Exit::Passed),
    }
    let control = Control::listen(link.clone(), worker.clone(), give_up.clone());
    tokio::spawn(end_after_grace(drain.clone(), settings.worker.grace, give_up.clone()));
    ready::announce(&settings)?;
    tracing::info!(worker = worker.as_str(), accelerator, qemu = template.qemu_version(), "ready for jobs");

    let keeper = Keeper::new(blobs.clone(), &settings);
    let runner = Runner::new(settings.clone(), worker.clone(), supply, blobs);
    let mut service = Service::new(link.clone(), runner, worker, settings).heeding(control).keeping(keeper);
    service.serve(&drain, &give_up).await?;
    link.close().await;
    tracing::info!("stopped");
    Ok(Exit::Passed)
}

/// Ends even the last job when the time to finish it is over.
async fn end_after_grace(drain: CancellationToken, grace: Duration, give_up: CancellationToken) {
    drain.cancelled().await;
    tokio::time::sleep(grace).await;
    tracing::warn!("the job under way goes back to its queue: the time to finish it is over");
    give_up.cancel();
}

/// The configured name, or one out of the host and the process.
fn name(settings: &Settings) -> anyhow::Result<WorkerId> {
    if !settings.worker.name.is_empty() {
        return settings.worker.name.parse().context("worker.name");
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(*letter))
        .take(40)
        .collect();
    format!("{host}-{}", std::process::id()).parse().context("the worker's name")
}
