//! `worker`: what each does, and who takes no jobs for a while.

use super::args::{Whom, WorkerCommand};
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::api::Api;
use evalfleet_proto::status::Exit;
use serde_json::{Value, json};

pub(super) async fn worker(context: &Context, command: WorkerCommand) -> Result<Exit, Failure> {
    match command {
        WorkerCommand::List { as_of } => list(context, as_of.as_deref()).await,
        WorkerCommand::Drain { whom, reason } => say(context, &whom, Some(reason.as_deref())).await,
        WorkerCommand::Resume { whom } => say(context, &whom, None).await,
    }
}

/// Drains for a reason, or has resumed.
async fn say(context: &Context, whom: &Whom, drain: Option<Option<&str>>) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let said = match drain {
        Some(reason) => client.drain(whom.name.as_ref(), reason).await,
        None => client.resume(whom.name.as_ref()).await,
    };
    client.close().await;
    said?;
    let drained = drain.is_some();
    if context.json {
        print_json(&json!({ "worker": whom.name, "all": whom.all, "drained": drained }), true)?;
        return Ok(Exit::Passed);
    }
    let (what, who) = (
        if drained { "told to finish the job in hand and take no other" } else { "told to take jobs" },
        whom.name.as_ref().map_or_else(|| "all workers".to_owned(), ToString::to_string),
    );
    emit(&format!("{who}: {what}"))?;
    Ok(Exit::Passed)
}

async fn list(context: &Context, as_of: Option<&str>) -> Result<Exit, Failure> {
    let document = Api::new(&context.settings.api)?.workers(as_of).await?;
    if context.json {
        print_json(&document, true)?;
        return Ok(Exit::Passed);
    }
    let workers = document["workers"].as_array().map_or(&[][..], Vec::as_slice);
    for worker in workers {
        emit(&line(worker))?;
    }
    eprintln!("{} workers, basis-t {}", workers.len(), document["basis_t"]);
    Ok(Exit::Passed)
}

fn line(worker: &Value) -> String {
    let supply = &worker["now"]["supply"];
    let state = match (supply["able"].as_bool(), supply["drained"].as_str()) {
        (_, Some(why)) => format!("drained: {why}"),
        (Some(true), None) => "takes jobs".to_owned(),
        (Some(false), None) => format!("no VM can be made: {}", supply["why"].as_str().unwrap_or("unknown")),
        (None, None) => "says nothing here".to_owned(),
    };
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let standing = &worker["standing"];
    format!(
        "{:<20} {:<5} {:>7} evaluations, {:>5} that failed by infrastructure, last {}, {state}",
        text(&worker["name"]),
        text(&worker["accelerator"]),
        standing["evaluations"]["total"],
        standing["evaluations"]["infrastructure"],
        text(&worker["last"]),
    )
}
