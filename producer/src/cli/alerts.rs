//! `alerts`: what became worse, and whether it was right to say so.

use super::args::{AlertsArgs, AlertsCommand};
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::api::{Api, Asked};
use evalfleet_proto::alert::Said;
use evalfleet_proto::ids::AlertId;
use evalfleet_proto::status::Exit;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long it may take until the history shows a judgement.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(100);

pub(crate) async fn alerts(context: &Context, args: AlertsArgs) -> Result<Exit, Failure> {
    match args.command {
        None => list(context, &args).await,
        Some(AlertsCommand::Show { id, as_of }) => {
            let api = Api::new(&context.settings.api)?;
            show(context, &api.alert(id, as_of.as_deref()).await?)
        }
        Some(AlertsCommand::Judge { id, said, reason }) => judge(context, id, said.into(), &reason).await,
    }
}

async fn list(context: &Context, args: &AlertsArgs) -> Result<Exit, Failure> {
    let asked = Asked {
        state: args.state.clone(),
        subject: args.subject.clone(),
        as_of: args.as_of.clone(),
        limit: args.limit,
    };
    let document = Api::new(&context.settings.api)?.alerts(&asked).await?;
    if context.json {
        print_json(&document, true)?;
        return Ok(Exit::Passed);
    }
    let found = document["alerts"].as_array().map_or(&[][..], Vec::as_slice);
    for alert in found {
        emit(&line(alert))?;
    }
    let right = &document["precision"]["right"];
    let judged = match right["tries"].as_u64() {
        None | Some(0) => "none was judged".to_owned(),
        Some(tries) => {
            let percent = |key: &str| right[key].as_f64().unwrap_or_default() * 100.0;
            let (low, high) = (percent("low"), percent("high"));
            format!("{} of {tries} judged were right ({low:.0} to {high:.0} %)", right["passed"])
        }
    };
    eprintln!(
        "{} of {} alerts, {} raised now, {judged}, basis-t {}",
        found.len(),
        document["total"],
        document["raised"],
        document["basis_t"]
    );
    Ok(Exit::Passed)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("-")
}

fn line(alert: &Value) -> String {
    let judged =
        alert["judgement"]["said"].as_str().map(|said| format!("  judged {said}")).unwrap_or_default();
    format!(
        "{}  {:<10} {:<8} {}{judged}\n    {}",
        text(alert, "id"),
        text(alert, "state"),
        text(alert, "severity"),
        text(alert, "subject"),
        text(alert, "message")
    )
}

fn show(context: &Context, alert: &Value) -> Result<Exit, Failure> {
    if context.json {
        print_json(alert, true)?;
        return Ok(Exit::Passed);
    }
    emit(&line(alert))?;
    for key in ["since", "suspected", "confirmed", "closed"] {
        if let Some(at) = alert[key].as_str() {
            emit(&format!("  {key}: {at}"))?;
        }
    }
    let culprit = &alert["culprit"];
    if culprit.is_object() {
        emit(&format!(
            "  new when it began: {} {} (before: {})",
            text(culprit, "attribute"),
            text(culprit, "value"),
            text(culprit, "before")
        ))?;
    }
    if let Some(suspect) = alert["suspect"].as_str() {
        emit(&format!("  all came from {suspect}: what it ran again did not count"))?;
    }
    let reruns = alert["reruns"].as_array().map_or(&[][..], Vec::as_slice);
    for rerun in reruns {
        let before = if rerun["before"] == true { " (from before)" } else { "" };
        emit(&format!(
            "  run again: {} as {}: {}, by {}{before}",
            text(rerun, "of"),
            text(rerun, "id"),
            text(rerun, "outcome"),
            text(rerun, "worker")
        ))?;
    }
    if !reruns.is_empty() {
        emit(&format!(
            "  cost: {} reruns, {} ms of workers' time",
            alert["cost"]["reruns"], alert["cost"]["worker_ms"]
        ))?;
    }
    let judged = &alert["judgement"];
    if judged.is_object() {
        emit(&format!(
            "  judged {}: {}: {}",
            text(judged, "said"),
            text(judged, "by"),
            text(judged, "reason")
        ))?;
    }
    let evaluations = alert["evaluations"].as_array().map_or(&[][..], Vec::as_slice);
    for id in evaluations.iter().filter_map(Value::as_str) {
        emit(&format!("  evalfleet get {id}"))?;
    }
    Ok(Exit::Passed)
}

async fn judge(context: &Context, id: AlertId, said: Said, reason: &str) -> Result<Exit, Failure> {
    let api = Api::new(&context.settings.api)?;
    let before = api.alert(id, None).await?["judgement"].clone();
    api.judge(id, said, reason).await?;
    let shown = async {
        loop {
            let now = api.alert(id, None).await?;
            if now["judgement"] != before && now["judgement"].is_object() {
                return Ok::<_, Failure>(now);
            }
            sleep(GLANCE).await;
        }
    };
    let late = || {
        let waited = SHOWN_WITHIN.as_secs();
        let text =
            format!("it is said, and not recorded within {waited} s: `evalfleet status` shows the recorder");
        Failure::new(Exit::Unreachable, text)
    };
    let now = timeout(SHOWN_WITHIN, shown).await.map_err(|_| late())??;
    show(context, &now)
}
