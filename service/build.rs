//! Puts the commit into the version that every part reports.

use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit =
        git(&["rev-parse", "--short=12", "HEAD"]).map_or(String::new(), |commit| format!("+{commit}"));
    println!("cargo::rustc-env=EVALFLEET_COMMIT={commit}");
    if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={head}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
