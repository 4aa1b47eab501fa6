//! `status`: what the parts are and how they are, and what waits in the queues.

use super::part::{Kind, State};
use super::process::{Process, boot_id};
use super::record::{Machine, PartRecord};
use super::supervisor::as_part;
use evalfleet_broker::{Options, Session};
use evalfleet_proto::{Timestamp, topology};
use evalfleet_service::settings::Settings;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the broker may take to say what waits.
const BROKER_PATIENCE: Duration = Duration::from_secs(3);

/// The document of `status --json`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The state directory.
    pub state_dir: PathBuf,
    /// Whether a supervisor is there.
    pub up: bool,
    /// The supervisor, its parts, their VMs.
    pub parts: Vec<PartRecord>,
    /// Messages that wait and consumers, by queue; empty when the broker does not answer.
    pub queues: BTreeMap<String, Queue>,
    /// Where the API is.
    pub api: Option<String>,
}

/// One queue.
#[derive(Debug, Serialize)]
pub struct Queue {
    /// Messages that wait.
    pub messages: u32,
    /// Who consumes them.
    pub consumers: u32,
}

/// Looks at the machine that `settings` name.
pub async fn status(settings: &Settings) -> Status {
    let state_dir = settings.state_dir();
    let machine = Machine::read(&state_dir);
    // Not by the lock: to ask for it, even for a moment, would look like a supervisor to an `up`.
    let up = machine.as_ref().is_some_and(|it| it.boot == boot_id() && it.supervisor.is_alive());
    let mut parts = Vec::new();
    if let Some(machine) = &machine {
        parts.push(as_part(machine));
        for part in &machine.parts {
            let mut shown = as_it_is(part, up);
            if let Some(supply) = said_by(&state_dir, part).get("supply") {
                shown.detail["supply"] = supply.clone();
            }
            parts.push(shown);
            parts.extend(vms(&state_dir, part));
        }
    }
    let broker = parts.iter().any(|part| part.name == "broker" && part.state == State::Ready);
    let queues = if broker { queues(settings).await } else { BTreeMap::new() };
    Status { state_dir, up, parts, queues, api: machine.and_then(|machine| machine.api) }
}

/// A part without its supervisor is what its process is.
fn as_it_is(part: &PartRecord, up: bool) -> PartRecord {
    let mut part = part.clone();
    if !up && !part.process().is_some_and(Process::is_alive) {
        part.state = State::Stopped;
    }
    part
}

/// A worker says in `workers/<name>.json` which VMs it has and how its supply of them is:
/// `{"vms": [{"pid": …, "state": …}], "supply": {"able": true, "waits": …, …}}`.
fn said_by(state_dir: &Path, worker: &PartRecord) -> Value {
    let path = state_dir.join("workers").join(format!("{}.json", worker.name));
    if worker.kind != Kind::Worker || worker.pid.is_none() {
        return Value::Null;
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn vms(state_dir: &Path, worker: &PartRecord) -> Vec<PartRecord> {
    let said = said_by(state_dir, worker);
    let vms = said.get("vms").and_then(Value::as_array).cloned().unwrap_or_default();
    vms.into_iter()
        .enumerate()
        .map(|(number, vm)| PartRecord {
            name: format!("{}/qemu-{}", worker.name, number + 1),
            kind: Kind::Qemu,
            pid: vm.get("pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok()),
            began: None,
            state: State::Ready,
            since: vm
                .get("since")
                .and_then(Value::as_str)
                .and_then(|at| at.parse().ok())
                .unwrap_or(worker.since),
            restarts: 0,
            port: None,
            detail: vm,
        })
        .collect()
}

async fn queues(settings: &Settings) -> BTreeMap<String, Queue> {
    let asking = async {
        let session = Session::connect(&Options::new(&settings.broker, "evalfleet status")).await?;
        let mut names: Vec<_> = settings.broker.lanes.iter().map(topology::jobs_queue).collect();
        for lane in &settings.broker.lanes {
            names.extend(settings.broker.retry_tiers().iter().map(|tier| topology::retry_queue(lane, *tier)));
        }
        names
            .extend([topology::RESULTS_QUEUE, topology::DEAD_QUEUE, topology::UNROUTABLE].map(str::to_owned));
        let mut queues = BTreeMap::new();
        for name in names {
            let (messages, consumers) = session.depth(&name).await?;
            queues.insert(name, Queue { messages, consumers });
        }
        session.close().await;
        Ok::<_, evalfleet_broker::Error>(queues)
    };
    match tokio::time::timeout(BROKER_PATIENCE, asking).await {
        Ok(Ok(queues)) => queues,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the broker does not say what waits");
            BTreeMap::new()
        }
        Err(_) => BTreeMap::new(),
    }
}

/// How a worker's supply of VMs is.
fn supply_line(supply: &Value) -> String {
    let number = |key: &str| supply.get(key).and_then(Value::as_u64).unwrap_or(0);
    if supply.get("able").and_then(Value::as_bool) == Some(false) {
        let why = supply.get("why").and_then(Value::as_str).unwrap_or("unknown");
        return format!("    takes no jobs, no VM can be made: {why}\n");
    }
    if let Some(why) = supply.get("drained").and_then(Value::as_str) {
        return format!("    drained, takes no jobs until `evalfleet worker resume`: {why}\n");
    }
    let waited = Duration::from_millis(number("waited_ms"));
    let (spare, claims, waits) =
        (supply.get("spare").and_then(Value::as_str).unwrap_or("?"), number("claims"), number("waits"));
    format!("    spare {spare}, {claims} VMs given, {waits} waited for, {waited:?} in all\n")
}

/// The status as people read it.
pub fn render(status: &Status, now: Timestamp) -> String {
    let mut text = format!("state directory {}\n", status.state_dir.display());
    if !status.up {
        text += "not up: start it with `evalfleet up`\n";
    }
    for part in &status.parts {
        let age = Duration::try_from(now.duration_since(part.since)).unwrap_or_default();
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        let pid = part.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        text += &format!("{:<14} {:<9} pid {:<8} for {age}", part.name, part.state.as_str(), pid);
        if part.restarts > 0 {
            text += &format!(", restarted {} times", part.restarts);
        }
        if let Some(port) = part.port {
            text += &format!(", port {port}");
        }
        text.push('\n');
        if let Some(supply) = part.detail.get("supply") {
            text += &supply_line(supply);
        }
        for line in part.detail.get("log_tail").and_then(Value::as_array).into_iter().flatten() {
            text += &format!("    | {}\n", line.as_str().unwrap_or_default());
        }
    }
    for (name, queue) in &status.queues {
        if queue.messages > 0 || queue.consumers > 0 {
            text += &format!("{name:<28} {} waiting, {} consumers\n", queue.messages, queue.consumers);
        }
    }
    if let Some(api) = &status.api {
        text += &format!("API {api}\n");
    }
    text
}
