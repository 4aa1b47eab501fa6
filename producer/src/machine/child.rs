//! Making a part's process: in a group of its own, with its output in its log.

use super::files::{log_path, make_private_dir, open_log};
use super::plan::Part;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};

/// Makes the process of `part`.
pub(super) fn spawn(part: &Part, state_dir: &Path) -> std::io::Result<Child> {
    part.probe.prepare();
    let log = log_path(state_dir, &part.name);
    make_private_dir(&state_dir.join("logs"))?;
    let log = open_log(&log)?;
    let mut command = Command::new(&part.program);
    command.args(&part.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    for prefix in part.without {
        for (name, _) in std::env::vars_os().filter(|(name, _)| starts_with(name, prefix)) {
            command.env_remove(name);
        }
    }
    command.envs(part.environment.iter().map(|(name, value)| (name, value)));
    // A signal to our terminal's group is ours to pass on, in our order.
    command.process_group(0).kill_on_drop(false).current_dir("/");
    command.spawn()
}

fn starts_with(name: &std::ffi::OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}

/// How a process ended, in words.
pub(super) fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|error| format!("its end was missed: {error}"), |status| status.to_string())
}
