//! What a worker itself finds out: whether a VM stands, and what it can be locked up in.

use super::Check;
use crate::machine::plan;
use evalfleet_service::settings::{Jail, Settings};
use serde::Deserialize;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// The worker boots a VM to find out.
const PATIENCE: Duration = Duration::from_secs(300);
const ACCELERATOR: &str = "accelerator";
/// The rights of a jail, in the order in which they are shown.
const RIGHTS: [&str; 5] = ["namespaces", "account", "cgroup", "seccomp", "kvm"];

/// What `evalfleet-worker probe` answers, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Probed {
    accelerator: Option<String>,
    strategy: Option<String>,
    reset_ms: Option<u64>,
    error: Option<String>,
    #[serde(default)]
    rights: Vec<Right>,
}

#[derive(Debug, Deserialize)]
struct Right {
    name: String,
    ok: bool,
    found: String,
    fix: Option<String>,
}

/// Asks a worker: a /dev/kvm that opens proves nothing, and a right is there when it was used.
pub(super) async fn probe(settings: &Settings) -> Vec<Check> {
    let Ok(worker) = plan::sibling("evalfleet-worker") else {
        return vec![Check::missing(ACCELERATOR, "no worker to ask", "cargo build --workspace")];
    };
    let mut command = Command::new(worker);
    command.args(["probe", "--json"]).stdin(Stdio::null()).kill_on_drop(true);
    // It answers with a document whether a VM stands or not.
    let output = timeout(PATIENCE, command.output()).await.ok().and_then(Result::ok);
    match output.and_then(|output| serde_json::from_slice::<Probed>(&output.stdout).ok()) {
        Some(probed) => checks(&probed, settings.qemu.jail),
        None => {
            vec![Check::missing(ACCELERATOR, "the worker's probe does not answer", "evalfleet-worker probe")]
        }
    }
}

fn checks(probed: &Probed, jail: Jail) -> Vec<Check> {
    let slow = "every result is labelled; for speed, run where /dev/kvm is, with access to it (group kvm)";
    let strategy = probed.strategy.as_deref().unwrap_or("?");
    let how =
        format!("proved by a boot; a clean VM by {strategy} in {} ms", probed.reset_ms.unwrap_or_default());
    let accelerator = match probed.accelerator.as_deref() {
        Some("kvm") => Check::ok(ACCELERATOR, format!("KVM, {how}")),
        Some("tcg") => Check::warning(ACCELERATOR, format!("emulation (TCG), {how}"), slow),
        Some(_) | None => {
            let error = probed.error.as_deref().unwrap_or_default();
            Check::missing(ACCELERATOR, format!("no VM stands: {error}"), "see the fix that it names")
        }
    };
    let rights = RIGHTS.into_iter().filter_map(|name| {
        let right = probed.rights.iter().find(|right| right.name == name)?;
        let (found, fix) = (right.found.clone(), right.fix.clone().unwrap_or_default());
        Some(match (right.ok, jail) {
            (true, Jail::Auto | Jail::Required) => Check::ok(name, found),
            (false, Jail::Auto) => Check::warning(name, found, fix),
            (false, Jail::Required) => Check::missing(name, found, fix),
        })
    });
    [accelerator].into_iter().chain(rights).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_right_that_is_missing_is_shown_with_its_fix() {
        let answer = r#"{"works": true, "accelerator": "tcg", "reset_ms": 7, "error": null, "rights": [
            {"name": "cgroup", "ok": false, "found": "none can be made: no", "fix": "Delegate=yes"},
            {"name": "namespaces", "ok": true, "found": "mount, network", "fix": null}]}"#;
        let probed: Probed = serde_json::from_str(answer).unwrap();
        let found = |jail| {
            checks(&probed, jail).into_iter().map(|check| (check.name, check.verdict)).collect::<Vec<_>>()
        };
        let expected =
            [("accelerator", Verdict::Warning), ("namespaces", Verdict::Ok), ("cgroup", Verdict::Warning)];
        assert_eq!(found(Jail::Auto), expected);
        assert_eq!(found(Jail::Required)[2], ("cgroup", Verdict::Missing));
        assert_eq!(checks(&probed, Jail::Auto)[2].fix.as_deref(), Some("Delegate=yes"));
    }

    #[test]
    fn a_worker_of_another_build_is_understood() {
        let probed: Probed = serde_json::from_str(r#"{"works": false, "error": "no image"}"#).unwrap();
        let checks = checks(&probed, Jail::Auto);
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Missing));
        assert!(checks[0].found.contains("no image"));
    }
}
