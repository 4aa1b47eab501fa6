//! The job that marks, and what it says.

use anyhow::{Context as _, ensure};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use std::time::Duration;

const SCRIPT: &str = include_str!("marks.sh");
/// Every kind of mark, by the words that its finding begins with.
const KINDS: [&str; 8] = [
    "found file /workspace/",
    "found a file that is gone",
    "found shared memory",
    "found a tmpfs",
    "found kernel setting domainname",
    "found kernel setting overcommit_ratio",
    "found modules",
    "found memory of",
];
/// What a look through all memory must at least have seen of a guest.
const SCANNED_MIN: u64 = 128 << 20;

/// How closely a job looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Files, mounts, settings, modules, processes.
    Plain,
    /// All memory, too.
    Deep,
}

/// What a job said.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) found: Vec<String>,
    pub(super) modules: String,
}

/// The job with this number.
pub(super) fn job(number: u64, look: Look, modules: &str) -> anyhow::Result<Submission> {
    let look = if look == Look::Deep { "deep" } else { "none" };
    submission([
        "sh".to_owned(),
        "-c".to_owned(),
        SCRIPT.to_owned(),
        "marks".to_owned(),
        number.to_string(),
        look.to_owned(),
        modules.to_owned(),
    ])
}

/// A job that marks twice: its second half finds what its first half left.
pub(super) fn twice(modules: &str) -> anyhow::Result<Submission> {
    let both = "sh -c \"$1\" marks 1 deep \"$2\"; sh -c \"$1\" marks 2 deep \"$2\"";
    submission(["sh", "-c", both, "twice", SCRIPT, modules].map(str::to_owned))
}

fn submission(argv: impl IntoIterator<Item = String>) -> anyhow::Result<Submission> {
    let mut submission = Submission::command(argv);
    // No job of these needs an interpreter, and warming one would be most of what a reset costs.
    submission.scenario = Some("shell".to_owned());
    // Under emulation, looking through all memory takes a while.
    submission.limits.wall = Duration::from_secs(240);
    submission.limits.cpu = Duration::from_secs(240);
    Ok(submission)
}

impl Marks {
    /// Reads a job's output; it must have come to its end.
    pub(super) fn read(evaluation: &Evaluation) -> anyhow::Result<Self> {
        let text = &evaluation.stdout.text;
        ensure!(evaluation.status == Status::Passed, "{:?}: {:?}", evaluation.status, evaluation.evidence);
        ensure!(text.lines().any(|line| line.starts_with("marked ")), "it did not come to its end: {text}");
        if let Some(scanned) = text.lines().find_map(|line| line.strip_prefix("scanned ")) {
            let scanned: u64 = scanned.parse().context("how much was scanned")?;
            ensure!(scanned >= SCANNED_MIN, "only {scanned} bytes of memory could be looked through");
            ensure!(
                text.lines().any(|line| line.starts_with("own ")),
                "its own mark was not found in memory"
            );
        }
        let lines =
            |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect();
        let modules =
            text.lines().find_map(|line| line.strip_prefix("modules")).unwrap_or_default().to_owned();
        Ok(Self { found: lines("found "), modules })
    }
}

/// Checks that what the host saw on the disk is job `number`'s own doing: its marks, the file that it
/// deletes, and what `mount` keeps below /run.
pub(super) fn only_its_own(number: u64, evaluation: &Evaluation) -> anyhow::Result<()> {
    let own = format!("/mark-{number}");
    let theirs = evaluation.effects.iter().find(|effect| {
        !(effect.path.ends_with(&own)
            || effect.path == "/etc/debian_version"
            || effect.path.starts_with("/run/"))
    });
    ensure!(theirs.is_none(), "an effect that is none of its own: {theirs:?}");
    let marks = evaluation.effects.iter().filter(|effect| effect.path.ends_with(&own)).count();
    ensure!(marks == 4, "{marks} of its 4 files were seen on the disk");
    Ok(())
}

/// Checks that a job which marked twice found marks of every kind.
pub(super) fn all_kinds_found(evaluation: &Evaluation) -> anyhow::Result<()> {
    let found = Marks::read(evaluation)?.found;
    for kind in KINDS {
        ensure!(
            found.iter().any(|line| line.starts_with(kind)),
            "a mark is not seen where it is: {kind}: {found:?}"
        );
    }
    ensure!(found.iter().any(|line| line.starts_with("found process")), "a process is not seen: {found:?}");
    Ok(())
}
