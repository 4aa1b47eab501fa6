//! What an alert says to people. Pure.

use evalfleet_proto::alert::{Alert, Kind, Level, Outcome, Severity, State};

/// The subject without its attribute.
fn name(alert: &Alert) -> &str {
    alert.subject.split_once('=').map_or(alert.subject.as_str(), |(_, name)| name)
}

fn cases(alert: &Alert) -> String {
    match alert.cases.as_slice() {
        [] => String::new(),
        [one] => format!(" in the case {one}"),
        [first, second] => format!(" in the cases {first} and {second}"),
        [first, others @ ..] => format!(" in the case {first} and {} others", others.len()),
    }
}

fn passed(level: Level) -> String {
    format!("{} of {} passed", level.passed, level.tries)
}

fn milliseconds(level: Level) -> String {
    level.wall_ms.map_or_else(|| "unknown".to_owned(), |time| format!("{time:.0} ms"))
}

/// What was run again, in a sentence.
fn reruns(alert: &Alert) -> Option<String> {
    let count = |before: bool, outcome: Outcome| {
        alert.reruns.iter().filter(|one| one.before == before && one.outcome == Some(outcome)).count()
    };
    let (bad, fine) = (count(false, Outcome::Bad), count(false, Outcome::Fine));
    let spoiled = match count(false, Outcome::Spoiled) {
        0 => String::new(),
        spoiled => format!(" ({spoiled} more came to nothing)"),
    };
    let mut workers: Vec<&str> = alert.reruns.iter().filter_map(|one| one.worker.as_deref()).collect();
    workers.sort_unstable();
    workers.dedup();
    let then = match (count(true, Outcome::Fine), count(true, Outcome::Bad)) {
        (0, 0) => "",
        (_, 0) => "; what passed before passes again",
        _ => "; what passed before is bad now as well",
    };
    (bad + fine > 0).then(|| {
        format!(" Run again: {bad} of {} bad, by {}{spoiled}{then}.", bad + fine, workers.join(", "))
    })
}

/// The alert in a sentence or two, with its numbers.
pub(super) fn message(alert: &Alert) -> String {
    let (name, cases, since) = (name(alert), cases(alert), alert.since.strftime("%Y-%m-%dT%H:%M:%SZ"));
    let mut text = match (alert.state, alert.kind) {
        (State::Closed, _) => format!("{name} is well again{cases}: it was worse since {since}."),
        (_, Kind::Slower) => format!(
            "{name} takes longer{cases}: {} since {since}, {} before.",
            milliseconds(alert.after),
            milliseconds(alert.before)
        ),
        (_, Kind::Failing | Kind::Unknown) => format!(
            "{name} fails{cases}: {} since {since}, {} before.",
            passed(alert.after),
            passed(alert.before)
        ),
    };
    if alert.state != State::Closed {
        text.push_str(&reruns(alert).unwrap_or_default());
    }
    if let Some(culprit) = &alert.culprit {
        let (attribute, value, before) = (&culprit.attribute, short(&culprit.value), short(&culprit.before));
        text.push_str(&format!(" New when it began: {attribute} {value} (before: {before})."));
    }
    text
}

/// The beginning of a digest; names as they are.
fn short(value: &str) -> &str {
    let plain = value.strip_prefix("sha256:").unwrap_or(value);
    let is_digest = plain.len() == 64 && plain.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { &plain[..12] } else { value }
}

/// How much it matters: what passes less than half the time needs a look now.
pub(super) fn severity(kind: Kind, after: Level) -> Severity {
    match kind {
        Kind::Failing if 2 * after.passed < after.tries => Severity::Critical,
        Kind::Failing | Kind::Slower | Kind::Unknown => Severity::Warning,
    }
}
