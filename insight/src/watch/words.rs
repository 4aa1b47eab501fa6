//! What an alert says to people. Pure.

use super::measure::Measure;
use evalfleet_proto::alert::{Alert, Kind, Level, Outcome, Rerun, Severity, State};

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

fn amount(measure: Measure, level: Level) -> String {
    measure.at(&level).map_or_else(|| "unknown".to_owned(), |amount| measure.in_words(amount))
}

/// What was run again, in a sentence.
fn reruns(alert: &Alert) -> Option<String> {
    let count = |before: bool, outcome: Outcome| {
        let meant =
            |one: &&Rerun| one.before == before && one.between.is_none() && one.outcome == Some(outcome);
        alert.reruns.iter().filter(meant).count()
    };
    let (bad, fine) = (count(false, Outcome::Bad), count(false, Outcome::Fine));
    let spoiled = match count(false, Outcome::Spoiled) {
        0 => String::new(),
        spoiled => format!(" ({spoiled} more came to nothing)"),
    };
    let heeded = alert.reruns.iter().filter(|one| one.between.is_none());
    let mut workers: Vec<&str> = heeded.filter_map(|one| one.worker.as_deref()).collect();
    workers.sort_unstable();
    workers.dedup();
    let then = match (count(true, Outcome::Fine), count(true, Outcome::Bad)) {
        (0, 0) => "",
        (fine, bad) if fine >= bad => "; what was well before is well again",
        _ => "; what was well before is bad now as well",
    };
    let mut between: Vec<&str> = alert.reruns.iter().filter_map(|one| one.between.as_deref()).collect();
    between.dedup();
    let then = match between.len() {
        0 => then.to_owned(),
        1 => format!("{then}; one version in between was run again, too"),
        some => format!("{then}; {some} versions in between were run again, too"),
    };
    (bad + fine > 0).then(|| {
        format!(" Run again: {bad} of {} bad, by {}{spoiled}{then}.", bad + fine, workers.join(", "))
    })
}

/// The alert in a sentence or two, with its numbers.
pub(super) fn message(alert: &Alert) -> String {
    let (name, cases, since) = (short(name(alert)), cases(alert), alert.since.strftime("%Y-%m-%dT%H:%M:%SZ"));
    let mut text = match (alert.state, Measure::of_kind(alert.kind)) {
        (State::Closed, _) => format!("{name} is well again{cases}: it was worse since {since}."),
        (_, Some(measure)) => format!(
            "{name} {}{cases}: {} since {since}, {} before.",
            measure.verb(),
            amount(measure, alert.after),
            amount(measure, alert.before)
        ),
        (_, None) => format!(
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
        Kind::Failing | Kind::Slower | Kind::Memory | Kind::Disk | Kind::Reset | Kind::Unknown => {
            Severity::Warning
        }
    }
}
