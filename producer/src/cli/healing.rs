//! `healing`: what of the fleet was not well, what was done about it, and a person's word on it.

use super::args::{HealingCommand, HealingDecideArgs, HealingListArgs};
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::api::{Api, Asked};
use evalfleet_proto::healing::Wanted;
use evalfleet_proto::status::Exit;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long it may take until a decision is carried out.
const DONE_WITHIN: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(100);

pub(crate) async fn healing(context: &Context, command: HealingCommand) -> Result<Exit, Failure> {
    match command {
        HealingCommand::List(args) => list(context, args).await,
        HealingCommand::Show { id, as_of } => {
            let api = Api::new(&context.settings.api)?;
            show(context, &api.healing(id, as_of.as_deref()).await?)
        }
        HealingCommand::Apply(args) => decide(context, &args, Wanted::Apply).await,
        HealingCommand::Undo(args) => decide(context, &args, Wanted::Undo).await,
    }
}

async fn list(context: &Context, args: HealingListArgs) -> Result<Exit, Failure> {
    let HealingListArgs { state, subject, as_of, limit } = args;
    let asked = Asked { state, subject, as_of, limit };
    let document = Api::new(&context.settings.api)?.healings(&asked).await?;
    if context.json {
        print_json(&document, true)?;
        return Ok(Exit::Passed);
    }
    let found = document["healings"].as_array().map_or(&[][..], Vec::as_slice);
    for healing in found {
        emit(&line(healing))?;
    }
    eprintln!(
        "{} of {} healings, {} in force, {} proposed, basis-t {}",
        found.len(),
        document["total"],
        document["applied"],
        document["proposed"],
        document["basis_t"]
    );
    Ok(Exit::Passed)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("-")
}

fn line(healing: &Value) -> String {
    let took = healing["took_ms"].as_f64().map(|took| format!("  after {:.1} s", took / 1000.0));
    format!(
        "{}  {:<9} {:<11} {}{}\n    {}",
        text(healing, "id"),
        text(healing, "state"),
        text(healing, "remedy"),
        text(healing, "subject"),
        took.unwrap_or_default(),
        text(healing, "message")
    )
}

fn show(context: &Context, healing: &Value) -> Result<Exit, Failure> {
    if context.json {
        print_json(healing, true)?;
        return Ok(Exit::Passed);
    }
    emit(&line(healing))?;
    emit(&format!("  found by: {}, to be done: {}", text(healing, "detector"), text(healing, "mode")))?;
    for key in ["since", "found", "applied", "well", "ended", "by", "undone_by", "held"] {
        if let Some(said) = healing[key].as_str() {
            emit(&format!("  {}: {said}", key.replace('_', " ")))?;
        }
    }
    let change = &healing["change"];
    if change.is_object() {
        emit(&format!("  from {} to {}", text(change, "from"), text(change, "to")))?;
    }
    if let Some(well) = healing["well_ms"].as_f64() {
        emit(&format!("  all was well {:.1} s after it was found", well / 1000.0))?;
    }
    for one in healing["evidence"].as_array().map_or(&[][..], Vec::as_slice) {
        let counted = match (one["count"].as_u64(), one["of"].as_u64()) {
            (Some(count), Some(of)) => format!("{count} of {of}: "),
            (Some(count), None) => format!("{count}: "),
            (None, _) => String::new(),
        };
        emit(&format!("  seen: {counted}{}", text(one, "text")))?;
    }
    let decision = &healing["decision"];
    if decision.is_object() {
        emit(&format!(
            "  {} wanted by {}: {}",
            text(decision, "wanted"),
            text(decision, "by"),
            text(decision, "reason")
        ))?;
    }
    let named = healing["evidence"].as_array().into_iter().flatten();
    for id in named.filter_map(|one| one["evaluations"].as_array()).flatten().filter_map(Value::as_str) {
        emit(&format!("  evalfleet get {id}"))?;
    }
    Ok(Exit::Passed)
}

async fn decide(context: &Context, args: &HealingDecideArgs, wanted: Wanted) -> Result<Exit, Failure> {
    let api = Api::new(&context.settings.api)?;
    let before = api.healing(args.id, None).await?["decision"].clone();
    api.decide(args.id, wanted, &args.reason).await?;
    let carried_out = async {
        loop {
            let now = api.healing(args.id, None).await?;
            let decided = &now["decision"];
            if *decided != before && decided["at"].is_string() && decided["at"] == now["answered"] {
                return Ok::<_, Failure>(now);
            }
            sleep(GLANCE).await;
        }
    };
    let late = || {
        let waited = DONE_WITHIN.as_secs();
        let text = format!(
            "it is said, and not carried out within {waited} s: `evalfleet status` shows the recorder and the API, \
             which heals; `evalfleet healing show {}` shows how it stands",
            args.id
        );
        Failure::new(Exit::Unreachable, text)
    };
    let now = timeout(DONE_WITHIN, carried_out).await.map_err(|_| late())??;
    let done = match wanted {
        Wanted::Apply => "applied",
        Wanted::Undo | Wanted::Unknown => "undone",
    };
    show(context, &now)?;
    if text(&now, "state") == done {
        return Ok(Exit::Passed);
    }
    let why = now["held"].as_str().unwrap_or("it was something else meanwhile");
    Err(Failure::new(Exit::Infrastructure, format!("it is {}: {why}", text(&now, "state"))))
}
