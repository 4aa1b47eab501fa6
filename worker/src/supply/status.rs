//! How a worker's supply is, for its service and for `evalfleet status`.

use super::step::{Counts, Spare, State};
use evalfleet_proto::ids::WorkerId;
use evalfleet_service::settings::Settings;
use serde_json::json;
use std::path::PathBuf;
use tokio::sync::watch;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether VMs can be made; a worker that cannot takes no jobs.
    pub able: bool,
    /// Why not.
    pub why: Option<String>,
    /// Why it takes no jobs, where it was told so.
    pub drained: Option<String>,
    /// Where the spare is.
    pub spare: &'static str,
    /// The process of the spare while it waits.
    pub spare_pid: Option<u32>,
    /// What waiting cost.
    pub counts: Counts,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            able: true,
            why: None,
            drained: None,
            spare: "absent",
            spare_pid: None,
            counts: Counts::default(),
        }
    }
}

/// Where it is told: a channel, and the file `workers/<name>.json` of the state directory.
pub(super) struct Board {
    file: PathBuf,
    tell: watch::Sender<Status>,
}

impl Board {
    pub(super) fn new(settings: &Settings, name: &WorkerId, tell: watch::Sender<Status>) -> Self {
        Self { file: settings.state_dir().join("workers").join(format!("{}.json", name.as_str())), tell }
    }

    /// Tells what has changed.
    pub(super) fn show(
        &self,
        state: &State,
        spare_pid: Option<u32>,
        last_error: &str,
        drained: Option<&str>,
    ) {
        let spare = match state.spare() {
            Spare::Absent => "absent",
            Spare::Making(..) => "making",
            Spare::Ready(..) => "ready",
            Spare::Ending(_) => "ending",
        };
        let why = (!state.able()).then(|| last_error.to_owned());
        let (drained, counts) = (drained.map(str::to_owned), state.counts());
        let status = Status { able: state.able(), why, drained, spare, spare_pid, counts };
        let changed = self.tell.send_if_modified(|shown| {
            let changed = *shown != status;
            shown.clone_from(&status);
            changed
        });
        if changed && let Err(error) = self.write(&status) {
            tracing::debug!(file = %self.file.display(), %error, "the worker's status is not on its file");
        }
    }

    fn write(&self, status: &Status) -> std::io::Result<()> {
        let vms: Vec<_> =
            status.spare_pid.map(|pid| json!({"pid": pid, "state": "spare"})).into_iter().collect();
        let counts = &status.counts;
        let document = json!({
            "vms": vms,
            "supply": {
                "able": status.able, "why": status.why, "drained": status.drained, "spare": status.spare, "claims": counts.claims, "waits": counts.waits,
                "waited_ms": counts.waited.as_millis() as u64, "failures": counts.failures, "died": counts.died,
            },
        });
        if let Some(dir) = self.file.parent() {
            std::fs::create_dir_all(dir)?;
        }
        // Readers see the old or the new, never half.
        let fresh = self.file.with_extension("json.new");
        std::fs::write(&fresh, document.to_string())?;
        std::fs::rename(&fresh, &self.file)
    }
}
