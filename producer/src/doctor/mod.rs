//! What this machine needs to run the fleet: each thing looked at, with its fix.
//!
//! A check is `ok`, a `warning` (it works, with a loss that is named), or `missing` (`evalfleet up` or
//! the first job would fail). Nothing is changed by looking.

mod host;
mod nodes;
mod programs;
mod worker;

use evalfleet_service::settings::Settings;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is as it should be.
    Ok,
    /// It works, with a loss.
    Warning,
    /// It is needed and not there.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; null when it is ok.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), fix: Some(fix.into()) }
    }

    fn missing(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Missing, found: found.into(), fix: Some(fix.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Missing => "MISSING",
        };
        write!(f, "{verdict:<8} {:<14} {}", self.name, self.found)?;
        if let Some(fix) = &self.fix {
            write!(f, "\n                        fix: {fix}")?;
        }
        Ok(())
    }
}

/// Looks at everything.
pub async fn examine(settings: &Settings) -> Vec<Check> {
    let image = programs::image(settings);
    let built = image.verdict == Verdict::Ok;
    let mut checks = vec![
        host::state_dir(settings),
        host::disk(settings),
        host::memory(settings),
        host::clock(),
        host::ports(settings),
        programs::qemu(settings).await,
        programs::rabbitmq(),
        programs::erlang(),
        programs::java().await,
        programs::git(),
        programs::gateway(),
        programs::our_own(),
    ];
    checks.extend(nodes::nodes(settings).await);
    checks.extend(worker::probe(settings).await);
    checks.extend(programs::builders(built));
    checks.push(image);
    checks
}

/// Finds a program on the path, and in the folders of system programs, which users' paths lack.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut found = std::env::split_paths(&path).chain(system).map(|dir| dir.join(program));
    found.find(|path| path.is_file())
}

/// What a program says of itself, on either stream.
async fn says(program: &Path, args: &[&str], patience: Duration) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(patience, command.output()).await.ok()?.ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The first version number in a text: its major number, and all of it.
fn version_in(text: &str) -> Option<(u32, String)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let number: String = text[start..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let number = number.trim_end_matches('.').to_owned();
    let mut parts = number.split('.').filter_map(|part| part.parse::<u32>().ok());
    let major = match (parts.next()?, parts.next()) {
        // Java's old way: 1.8 is 8.
        (1, Some(minor)) if text.contains("version \"1.") => minor,
        (major, _) => major,
    };
    Some((major, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_out_of_what_programs_say() {
        for (text, major, number) in [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2)", 10, "10.0.2"),
            ("openjdk version \"17.0.12\" 2024-07-16", 17, "17.0.12"),
            ("java version \"1.8.0_202\"", 8, "1.8.0"),
        ] {
            assert_eq!(version_in(text), Some((major, number.to_owned())), "{text}");
        }
        assert_eq!(version_in("no number"), None);
    }

    #[test]
    fn a_check_that_is_not_ok_shows_its_fix() {
        let check = Check::missing("java", "not found", "apt-get install default-jre-headless");
        let text = check.to_string();
        assert!(text.contains("MISSING") && text.contains("fix: apt-get install"), "{text}");
    }
}
