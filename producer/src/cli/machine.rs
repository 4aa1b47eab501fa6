//! `up`, `down`, `status`, `doctor`: the fleet on this machine.

use super::args::{TopologyCommand, UpArgs};
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::doctor as checks;
use crate::machine::{self, Downed, Kind, Order, Stop, Upped};
use evalfleet_broker::{Options, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::status::Exit;
use evalfleet_proto::topology::Topology;
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn up(context: &Context, args: UpArgs) -> Result<Exit, Failure> {
    let tell = |news: String| eprintln!("{news}");
    if args.detach {
        let upped = machine::up_detached(&context.settings, &again(context, &args), tell).await?;
        return said(context, &upped);
    }
    if args.supervised {
        // A session of its own: the end of the terminal is not its end. Fails only where it has one.
        let _ = rustix::process::setsid();
    }
    let order = Order {
        workers: args.workers.unwrap_or(context.settings.worker.count),
        only: kinds(&args.only),
        config: context.config.clone(),
    };
    let stop = Stop::default();
    listen(&stop).map_err(|error| Failure::new(Exit::Defect, error))?;
    let upped = machine::run_here(&context.settings, &order, stop, tell).await?;
    said(context, &upped)
}

/// Declares the topology at a broker that `up` does not run.
pub(super) async fn topology(context: &Context, command: TopologyCommand) -> Result<Exit, Failure> {
    let TopologyCommand::Declare = command;
    let broker = &context.settings.broker;
    let unreachable = |error: evalfleet_broker::Error| Failure::new(Exit::Unreachable, error);
    let session = Session::connect(&Options::new(broker, "evalfleet-topology")).await.map_err(unreachable)?;
    session.declare(&Topology::new(&broker.lanes, &broker.retry_tiers())).await.map_err(unreachable)?;
    eprintln!("declared at {}", session.node());
    session.close().await;
    Ok(Exit::Passed)
}

/// The arguments of the process that `--detach` leaves behind.
fn again(context: &Context, args: &UpArgs) -> Vec<String> {
    let mut again = Vec::new();
    if let Some(config) = &context.config {
        again.extend(["--config".to_owned(), config.display().to_string()]);
    }
    again.extend(["up".to_owned(), "--supervised".to_owned()]);
    if let Some(workers) = args.workers {
        again.extend(["--workers".to_owned(), workers.to_string()]);
    }
    for kind in &args.only {
        again.extend(["--only".to_owned(), kind.clone()]);
    }
    again
}

fn kinds(names: &[String]) -> Vec<Kind> {
    let kind = |name: &String| match name.as_str() {
        "broker" => Some(Kind::Broker),
        "gateway" => Some(Kind::Gateway),
        "recorder" => Some(Kind::Recorder),
        "keeper" => Some(Kind::Keeper),
        "api" => Some(Kind::Api),
        "worker" => Some(Kind::Worker),
        _ => None,
    };
    names.iter().filter_map(kind).collect()
}

/// The first signal drains, the second hurries.
fn listen(stop: &Stop) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        for (token, word) in [
            (&stop.drain, "stopping in order (ask again to stop at once)"),
            (&stop.hurry, "stopping at once"),
        ] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            eprintln!("{word}");
            token.cancel();
        }
    });
    Ok(())
}

fn said(context: &Context, upped: &Upped) -> Result<Exit, Failure> {
    match upped {
        Upped::Ready(machine) if context.json => print_json(machine, true)?,
        Upped::Ready(machine) => {
            let api = machine.api.as_deref().unwrap_or("none");
            emit(&format!(
                "up: supervisor {}, API and dashboard {api}. `evalfleet down` stops it",
                machine.supervisor.pid
            ))?;
        }
        Upped::Already(holder, machine) => {
            let pid = holder.map_or_else(|| "?".to_owned(), |holder| holder.pid.to_string());
            let api = machine.as_ref().and_then(|machine| machine.api.clone());
            emit(&format!(
                "already running: supervisor {pid}, API and dashboard {}",
                api.as_deref().unwrap_or("none")
            ))?;
        }
        Upped::Ended => {}
    }
    Ok(Exit::Passed)
}

pub(super) async fn down(context: &Context) -> Result<Exit, Failure> {
    let downed = machine::down(&context.settings.state_dir(), |news| eprintln!("{news}")).await?;
    emit(&match downed {
        Downed::Stopped => "stopped".to_owned(),
        Downed::NotUp(0) => "not running".to_owned(),
        Downed::NotUp(orphans) => {
            format!("not running; {orphans} processes of a dead supervisor were stopped")
        }
    })?;
    Ok(Exit::Passed)
}

pub(super) async fn status(context: &Context) -> Result<Exit, Failure> {
    let status = machine::status(&context.settings).await;
    if context.json {
        print_json(&status, true)?;
    } else {
        emit(machine::render(&status, Timestamp::now()).trim_end())?;
    }
    Ok(if status.up { Exit::Passed } else { Exit::Unreachable })
}

pub(super) async fn doctor(context: &Context) -> Result<Exit, Failure> {
    let checks = checks::examine(&context.settings).await;
    if context.json {
        print_json(&serde_json::json!({"checks": checks}), true)?;
    } else {
        for check in &checks {
            emit(&check.to_string())?;
        }
    }
    let missing = checks.iter().any(|check| check.verdict == checks::Verdict::Missing);
    Ok(if missing { Exit::Unreachable } else { Exit::Passed })
}
