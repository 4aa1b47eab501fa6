//! A recorded evaluation and a run of the same job, held against each other: the same, or where they diverge first.
//! Pure.
//!
//! ```text
//! verdict ─▶ value ─▶ exit ─▶ stdout ─▶ stderr ─▶ effects ─▶ artifacts ─▶ network ─▶ processes ─▶ metrics
//! ```
//!
//! The principle: **what the subject did is compared, and what it was measured by or given is not.** What it says is
//! compared to the byte, so a subject that prints the time or its process number diverges: it does not do the same twice.
//! What is measured of it is compared within its noise ([`super::noise`]). Of the rest (ids, moments, worker, host, proof
//! of the reset, the wording of evidence and warnings) nothing is; what of it may explain a difference is told as a
//! circumstance. For effects, see [`super::effects`].
//!
//! A run that a limit ended was ended somewhere: of that, as much is compared as both sides have. A run that was not put
//! to the test (a fault of ours, a request that cannot be run, called off) says nothing of the subject: undecided.

use super::effects::{self, Difference};
use super::noise::{self, Measured};
use evalfleet_proto::evaluation::{Artifact, Evaluation, Metrics, Output, Provenance, Verdict};
use evalfleet_proto::network::Contact;
use evalfleet_proto::status::Cause;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Divergences that are listed; more are counted.
const LISTED_MAX: usize = 50;
/// Characters of a subject's words that are shown.
const SHOWN_MAX: usize = 200;
/// Of these, how many stand before the difference.
const SHOWN_BEFORE: usize = 60;

/// What a replay came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did the same.
    Same,
    /// It did something else.
    Diverged,
    /// It was not put to the test.
    Undecided,
}

/// Where two runs diverge, in the order in which it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// How it ended, and whose doing that was.
    Status,
    /// What the tool answered.
    Value,
    /// Its exit status or signal.
    ExitCode,
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// What it left different on its disk.
    Effects,
    /// The files that it was asked for.
    Artifacts,
    /// What it tried to reach.
    Network,
    /// What it left running.
    ProcessesLeft,
    /// What it used.
    Metrics,
}

impl At {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Value => "value",
            Self::ExitCode => "exit_code",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Effects => "effects",
            Self::Artifacts => "artifacts",
            Self::Network => "network",
            Self::ProcessesLeft => "processes_left",
            Self::Metrics => "metrics",
        }
    }
}

/// One place at which two runs diverge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divergence {
    /// Where.
    pub at: At,
    /// Where exactly: a path, a line, a JSON pointer, a metric.
    pub place: Option<String>,
    /// What was recorded.
    pub before: String,
    /// What it is now.
    pub now: String,
}

impl Divergence {
    fn new(at: At, before: impl Into<String>, now: impl Into<String>) -> Self {
        Self { at, place: None, before: before.into(), now: now.into() }
    }

    fn in_place(self, place: impl Into<String>) -> Self {
        Self { place: Some(place.into()), ..self }
    }

    fn of_effect(difference: Difference) -> Self {
        Self::new(At::Effects, difference.before, difference.now).in_place(difference.path)
    }
}

/// Something around the runs that was not the same, and may explain what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Circumstance {
    /// What.
    pub what: &'static str,
    /// What it was.
    pub before: String,
    /// What it is now.
    pub now: String,
}

/// What a recorded evaluation and a run of the same job have and have not in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What it comes to.
    pub outcome: Outcome,
    /// The first divergence.
    pub first: Option<Divergence>,
    /// The others, in their order.
    pub others: Vec<Divergence>,
    /// How many more there are than are listed.
    pub omitted: usize,
    /// What both used.
    pub measured: Vec<Measured>,
    /// What was not the same around them.
    pub circumstances: Vec<Circumstance>,
    /// What a reader must know of the comparison.
    pub notes: Vec<String>,
}

/// Compares what was recorded with what came of the same job `now`; `earlier` is what other runs of it used.
pub fn compare(before: &Evaluation, now: &Evaluation, earlier: &[Metrics]) -> Comparison {
    let mut notes = Vec::new();
    let circumstances = circumstances(&before.provenance, &now.provenance);
    let (was, is) = (reported(before), reported(now));
    if was != is && !put_to_the_test(is) {
        let why = now.evidence.first().map_or("nobody says why", |evidence| evidence.message.as_str());
        notes.push(format!("it was not put to the test: {is}: {}", shown(why)));
        let (first, others, measured) = (None, Vec::new(), Vec::new());
        return Comparison {
            outcome: Outcome::Undecided,
            first,
            others,
            omitted: 0,
            measured,
            circumstances,
            notes,
        };
    }
    let mut found = Vec::new();
    if was != is {
        found.push(Divergence::new(At::Status, was.to_string(), is.to_string()));
    }
    let cut_short = [was, is].iter().any(|verdict| verdict.cause == Some(Cause::Budget));
    if cut_short {
        notes.push("a limit ended it: compared is as much as both have".to_owned());
    }
    found.extend(value(before, now));
    if !cut_short {
        found.extend(exit(before, now));
    }
    found.extend(output(At::Stdout, &before.stdout, &now.stdout, cut_short));
    found.extend(output(At::Stderr, &before.stderr, &now.stderr, cut_short));
    if cut_short {
        let kinds = effects::differences_in_kind(&before.effects, &now.effects);
        found.extend(kinds.into_iter().map(Divergence::of_effect));
    } else {
        found.extend(left(before, now));
    }
    if !cut_short && before.effects_omitted + now.effects_omitted > 0 {
        notes.push(
            "the lists of effects are not whole: a bound cut them, or something was unreadable".to_owned(),
        );
    }
    let measured = noise::measure(&before.metrics, &now.metrics, earlier);
    match incomparable(before, now, was != is || cut_short) {
        Some(why) => notes.push(format!("what they used is not compared: {why}")),
        None => found.extend(measured.iter().filter(|one| one.outside && !one.time).map(used)),
    }
    let omitted = found.len().saturating_sub(LISTED_MAX);
    found.truncate(LISTED_MAX);
    let mut found = found.into_iter();
    let first = found.next();
    let outcome = if first.is_some() { Outcome::Diverged } else { Outcome::Same };
    Comparison { outcome, first, others: found.collect(), omitted, measured, circumstances, notes }
}

/// The verdict as it was reported. What people made of it since says nothing of the run.
fn reported(evaluation: &Evaluation) -> Verdict {
    evaluation.amendments.first().map_or(evaluation.verdict(), |first| first.from)
}

fn put_to_the_test(verdict: Verdict) -> bool {
    verdict.status.success_rate(verdict.cause).is_some()
}

/// What it left and tried, where it came to its own end.
fn left(before: &Evaluation, now: &Evaluation) -> Vec<Divergence> {
    let differences = effects::differences(&before.effects, &now.effects);
    let mut found: Vec<Divergence> = differences.into_iter().map(Divergence::of_effect).collect();
    if before.effects_omitted != now.effects_omitted {
        let count = |omitted: u64| format!("{omitted} not in the list");
        let (was, is) = (count(before.effects_omitted), count(now.effects_omitted));
        found.push(Divergence::new(At::Effects, was, is));
    }
    found.extend(each(At::Artifacts, &artifacts(before), &artifacts(now)));
    found.extend(each(At::Network, &contacts(before), &contacts(now)));
    if before.processes_left != now.processes_left {
        let count = |left: u32| format!("{left} processes");
        let (was, is) = (count(before.processes_left), count(now.processes_left));
        found.push(Divergence::new(At::ProcessesLeft, was, is));
    }
    found
}

/// What differs between two maps, by their keys.
fn each(at: At, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Divergence> {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let told = |what: Option<&String>| what.cloned().unwrap_or_else(|| "nothing".to_owned());
    keys.into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| Divergence::new(at, told(before.get(key)), told(now.get(key))).in_place(key.clone()))
        .collect()
}

fn artifacts(evaluation: &Evaluation) -> BTreeMap<String, String> {
    let what = |artifact: &Artifact| match artifact.sha256 {
        Some(hash) => format!("{} bytes, sha256 {hash}", artifact.bytes),
        None => "not kept".to_owned(),
    };
    evaluation.artifacts.iter().map(|artifact| (artifact.path.clone(), what(artifact))).collect()
}

/// What it tried to reach. How often, and what the other side said, is not the subject's alone.
fn contacts(evaluation: &Evaluation) -> BTreeMap<String, String> {
    let name = |contact: &Contact| {
        let who = contact.name.as_ref().or(contact.destination.as_ref()).map_or("?", String::as_str);
        let port = contact.port.map_or(String::new(), |port| format!(" port {port}"));
        let allowed = if contact.allowed { "allowed" } else { "refused" };
        format!("{} {}{port} {allowed}", contact.protocol.as_str(), shown(who))
    };
    evaluation.network.iter().map(|contact| (name(contact), "tried".to_owned())).collect()
}

fn exit(before: &Evaluation, now: &Evaluation) -> Option<Divergence> {
    let told = |evaluation: &Evaluation| match (evaluation.exit_code, evaluation.signal) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit status".to_owned(),
    };
    let (was, is) = (told(before), told(now));
    (was != is).then(|| Divergence::new(At::ExitCode, was, is))
}

fn value(before: &Evaluation, now: &Evaluation) -> Option<Divergence> {
    let answers = |evaluation: &Evaluation| {
        evaluation.calls.iter().filter_map(|call| call.value.clone()).collect::<Vec<Value>>()
    };
    let (was, is) = (answers(before), answers(now));
    let told =
        |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), |value| shown(&value.to_string()));
    let at = (0..was.len().max(is.len())).find(|at| was.get(*at) != is.get(*at))?;
    let (pointer, before, now) = match (was.get(at), is.get(at)) {
        (Some(before), Some(now)) => unlike(before, now, String::new()),
        (before, now) => (String::new(), before, now),
    };
    let found = Divergence::new(At::Value, told(before), told(now));
    Some(if pointer.is_empty() { found } else { found.in_place(pointer) })
}

/// The first place at which two values that differ do, as a JSON pointer, and what they are there.
fn unlike<'a>(
    before: &'a Value,
    now: &'a Value,
    pointer: String,
) -> (String, Option<&'a Value>, Option<&'a Value>) {
    let deeper = match (before, now) {
        (Value::Object(before), Value::Object(now)) => {
            let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
            let key = keys.into_iter().find(|key| before.get(*key) != now.get(*key));
            key.map(|key| (key.replace('~', "~0").replace('/', "~1"), before.get(key), now.get(key)))
        }
        (Value::Array(before), Value::Array(now)) => {
            let at = (0..before.len().max(now.len())).find(|at| before.get(*at) != now.get(*at));
            at.map(|at| (at.to_string(), before.get(at), now.get(at)))
        }
        _ => None,
    };
    match deeper {
        None => (pointer, Some(before), Some(now)),
        Some((step, Some(before), Some(now))) => unlike(before, now, format!("{pointer}/{step}")),
        Some((step, before, now)) => (format!("{pointer}/{step}"), before, now),
    }
}

fn output(at: At, before: &Output, now: &Output, cut_short: bool) -> Option<Divergence> {
    let known = before.sha256.is_some() && now.sha256.is_some();
    let same_content = if known { before.sha256 == now.sha256 } else { before.text == now.text };
    if before.bytes == now.bytes && (before.bytes == 0 || same_content) {
        return None;
    }
    let end = |text: &'_ str| if cut_short { text.trim_end_matches('\u{fffd}').len() } else { text.len() };
    let (was, is) = (&before.text[..end(&before.text)], &now.text[..end(&now.text)]);
    let common = common(was, is);
    let shorter = if was.len() < is.len() { before } else { now };
    if common == was.len().min(is.len()) {
        if cut_short {
            return None;
        }
        if was.len() == is.len() || shorter.truncated {
            let told = |output: &Output| {
                let hash = output.sha256.map_or(String::new(), |hash| format!(", sha256 {hash}"));
                format!("{} bytes{hash}", output.bytes)
            };
            let found = Divergence::new(at, told(before), told(now));
            return Some(found.in_place(format!("beyond the first {common} bytes")));
        }
    }
    let line = was[..common].matches('\n').count() + 1;
    Some(Divergence::new(at, around(was, common), around(is, common)).in_place(format!("line {line}")))
}

/// How many bytes two texts have in common at their beginning, in whole characters.
fn common(one: &str, other: &str) -> usize {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    same.map(|(letter, _)| letter.len_utf8()).sum()
}

/// The line of `text` in which `at` lies, cut around it.
fn around(text: &str, at: usize) -> String {
    if at == text.len() && !text[..at].ends_with(|letter: char| letter != '\n') {
        return "the end".to_owned();
    }
    let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
    let skipped = text[begin..at].chars().count().saturating_sub(SHOWN_BEFORE);
    let line: String = text[begin..end].chars().skip(skipped).collect();
    format!("{}{:?}", if skipped > 0 { "…" } else { "" }, cut(&line))
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// A subject's words, cut.
fn shown(text: &str) -> String {
    let shown = cut(text);
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}

fn used(figure: &Measured) -> Divergence {
    let usual =
        format!("{}, where {} to {} is usual", whole(figure.now), whole(figure.least), whole(figure.most));
    Divergence::new(At::Metrics, whole(figure.before), usual).in_place(figure.metric)
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// Why what two runs used cannot be held against each other, if it cannot.
fn incomparable(before: &Evaluation, now: &Evaluation, ended_otherwise: bool) -> Option<&'static str> {
    let (was, is) = (&before.provenance, &now.provenance);
    let rushed = |from: &Provenance| from.reset.as_ref().is_some_and(|reset| reset.rushed);
    if ended_otherwise {
        Some("they did not come to the same end")
    } else if was.accelerator != is.accelerator {
        Some("the accelerators are not the same")
    } else if rushed(was) != rushed(is) {
        Some("one of their VMs was not warmed to its end")
    } else {
        None
    }
}

fn circumstances(before: &Provenance, now: &Provenance) -> Vec<Circumstance> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    let strategy = |from: &Provenance| text(&from.reset.as_ref().map(|reset| reset.strategy.clone()));
    let rushed = |from: &Provenance| {
        from.reset.as_ref().map_or("none", |reset| if reset.rushed { "rushed" } else { "warmed" }).to_owned()
    };
    let pairs = [
        ("host", before.host.clone(), now.host.clone()),
        ("image", text(&before.image), text(&now.image)),
        ("template", text(&before.template), text(&now.template)),
        ("qemu", text(&before.qemu), text(&now.qemu)),
        ("accelerator", text(&before.accelerator), text(&now.accelerator)),
        ("reset", strategy(before), strategy(now)),
        ("vm", rushed(before), rushed(now)),
    ];
    let differing = pairs.into_iter().filter(|(_, before, now)| before != now);
    differing.map(|(what, before, now)| Circumstance { what, before, now }).collect()
}

#[cfg(test)]
mod tests;
