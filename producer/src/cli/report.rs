//! An evaluation as people read it: the verdict first, then what it rests on, then where the time went.

use evalfleet_proto::effect::Effect;
use evalfleet_proto::evaluation::{Evaluation, Output};
use evalfleet_proto::network::Contact;
use std::fmt::Write as _;
use std::time::Duration;

/// Effects that a report lists; the document has them all.
const EFFECTS_MAX: usize = 20;
/// Contacts that a report lists.
const CONTACTS_MAX: usize = 10;

/// The report of one evaluation, a few lines without a trailing newline.
pub fn report(evaluation: &Evaluation) -> String {
    let mut text = verdict(evaluation);
    for amended in &evaluation.amendments {
        let (from, by, at) = (amended.from, plain(&amended.by), amended.at.strftime("%Y-%m-%dT%H:%M:%SZ"));
        let _ = write!(text, "\n  amended: it was {from} until {at}; {by}: {}", plain(&amended.reason));
    }
    for evidence in &evaluation.evidence {
        let _ = write!(text, "\n  because: {}", plain(&evidence.message));
    }
    effects(evaluation, &mut text);
    network(evaluation, &mut text);
    for artifact in evaluation.artifacts.iter().filter(|artifact| artifact.error.is_some()) {
        let why = artifact.error.as_deref().unwrap_or_default();
        let _ = write!(text, "\n  not kept: {}: {}", plain(&artifact.path), plain(why));
    }
    if evaluation.processes_left > 0 {
        let names = evaluation.processes_left_names.join(", ");
        let names = if names.is_empty() { names } else { format!(": {}", plain(&names)) };
        let _ = write!(text, "\n  left running: {} processes (ended){names}", evaluation.processes_left);
    }
    for warning in &evaluation.warnings {
        let _ = write!(text, "\n  warning: {}", plain(warning));
    }
    let timings = &evaluation.timings;
    let stages = [
        ("queued", timings.queued),
        ("claim", timings.claim),
        ("run", timings.run),
        ("effects", timings.effects),
        ("report", timings.report),
    ];
    let stages: Vec<_> = stages.iter().map(|(name, took)| format!("{name} {}", short(*took))).collect();
    let _ = write!(text, "\n  time: {}", stages.join(", "));
    let provenance = &evaluation.provenance;
    if !provenance.worker.is_empty() {
        let _ = write!(text, "\n  by: {}", provenance.worker);
        for detail in [&provenance.accelerator, &provenance.qemu].into_iter().flatten() {
            let _ = write!(text, ", {detail}");
        }
        let _ = write!(text, ", attempt {}", provenance.attempt);
        if let Some(reset) = &provenance.reset {
            let _ = write!(text, ", {} in {}", reset.strategy, short(reset.took));
        }
    }
    text
}

/// The first line: how it ended and whose doing it was.
pub fn verdict(evaluation: &Evaluation) -> String {
    let mut text = format!("{} {}", evaluation.id, evaluation.status.as_str());
    if let Some(cause) = evaluation.cause {
        let _ = write!(text, " ({})", cause.as_str());
    }
    match (evaluation.exit_code, evaluation.signal) {
        (Some(code), _) if code != 0 => _ = write!(text, ", exit status {code}"),
        (None, Some(signal)) => _ = write!(text, ", signal {signal}"),
        _ => {}
    }
    let _ = write!(text, " in {}", short(evaluation.metrics.wall));
    if let Some(call) = evaluation.calls.first() {
        let _ = write!(text, ": {}", call.name);
    }
    text
}

fn effects(evaluation: &Evaluation, text: &mut String) {
    let count = evaluation.effects.len() as u64 + evaluation.effects_omitted;
    if count == 0 {
        let _ = write!(text, "\n  effects: none");
        return;
    }
    let _ = write!(text, "\n  effects: {count}");
    for effect in evaluation.effects.iter().take(EFFECTS_MAX) {
        let _ = write!(text, "\n    {}", effect_line(effect));
    }
    let shown = evaluation.effects.len().min(EFFECTS_MAX) as u64;
    if count > shown {
        let _ = write!(text, "\n    … and {} more", count - shown);
    }
}

/// One effect: what happened to what, where.
pub(crate) fn effect_line(effect: &Effect) -> String {
    let change = serde_json::to_value(effect.change).unwrap_or_default();
    let object = serde_json::to_value(effect.object).unwrap_or_default();
    let (change, object) = (change.as_str().unwrap_or("?"), object.as_str().unwrap_or("?"));
    let mut text = format!("{change:<8} {object:<9} {}", plain(&effect.path));
    if let Some(target) = &effect.target {
        let _ = write!(text, " -> {}", plain(target));
    } else if effect.size > 0 {
        let _ = write!(text, " ({} bytes)", effect.size);
    }
    if let Some(from) = &effect.renamed_from {
        let _ = write!(text, ", was {}", plain(from));
    }
    if !effect.expected {
        text.push_str(" unexpected");
    }
    text
}

/// A guest's words without what a terminal would obey.
pub(crate) fn plain(words: &str) -> String {
    words.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// The same of several lines, which may be indented with tabs.
pub(crate) fn plain_lines(words: &str) -> String {
    let obeyed = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    words.chars().map(|letter| if obeyed(letter) { '\u{fffd}' } else { letter }).collect()
}

fn network(evaluation: &Evaluation, text: &mut String) {
    let listed: u64 = evaluation.network.iter().map(|contact| contact.attempts).sum();
    let count = listed + evaluation.network_omitted;
    if count == 0 {
        return;
    }
    let contacts: Vec<_> = evaluation.network.iter().take(CONTACTS_MAX).map(contact).collect();
    let _ = write!(text, "\n  network: {count} attempts: {}", contacts.join(", "));
    if evaluation.network.len() > CONTACTS_MAX || evaluation.network_omitted > 0 {
        text.push_str(", …");
    }
}

/// `tcp pypi.org:443 refused ×3`.
fn contact(contact: &Contact) -> String {
    let mut text = contact.protocol.as_str().to_owned();
    if let Some(who) = contact.name.as_ref().or(contact.destination.as_ref()) {
        let who = plain(who);
        match contact.port {
            Some(port) if who.contains(':') => _ = write!(text, " [{who}]:{port}"),
            Some(port) => _ = write!(text, " {who}:{port}"),
            None => _ = write!(text, " {who}"),
        }
    }
    text.push_str(if contact.allowed { " allowed" } else { " refused" });
    if let Some(error) = &contact.error {
        let _ = write!(text, " ({})", plain(error));
    }
    if contact.attempts > 1 {
        let _ = write!(text, " ×{}", contact.attempts);
    }
    text
}

/// A duration with three digits that matter.
pub fn short(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    match ms {
        _ if ms < 10.0 => format!("{ms:.1} ms"),
        _ if ms < 1000.0 => format!("{ms:.0} ms"),
        _ if ms < 60_000.0 => format!("{:.1} s", ms / 1000.0),
        _ => humantime::format_duration(Duration::from_secs(took.as_secs())).to_string(),
    }
}

/// What is yet to be shown of a stream of which `shown` bytes came live: the rest, and a note where
/// that cannot be told.
pub fn remainder(output: &Output, shown: u64, name: &str) -> (String, Option<String>) {
    let text = if shown == 0 {
        output.text.clone()
    } else if shown < output.bytes && !output.text.contains('\u{fffd}') {
        let from = usize::try_from(shown).unwrap_or(usize::MAX);
        output.text.get(from..).unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    let seen = shown + text.len() as u64;
    let incomplete = seen < output.bytes && (output.truncated || shown > 0);
    let kept = output.sha256.map(|hash| format!(", the whole is the blob {hash}")).unwrap_or_default();
    let note = incomplete.then(|| format!("{name} has {} bytes, and {seen} are shown{kept}", output.bytes));
    (text, note)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The document of interfaces, shortened.
    pub(crate) fn sample() -> Evaluation {
        serde_json::from_str(
            r#"{"schema": 1, "id": "0198c1c2-0000-7000-8000-000000000000", "kind": "command", "batch": null,
            "status": "timed_out", "cause": "budget", "evidence": [{"source": "host", "message": "30s passed"}],
            "success_rate": 0.0, "calls": [], "exit_code": null, "signal": 9,
            "stdout": {"text": "héllo", "bytes": 6, "sha256": null, "truncated": false},
            "stderr": {"text": "", "bytes": 0, "sha256": null, "truncated": false},
            "effects": [{"path": "/workspace/a", "change": "created", "type": "file", "size": 3, "mode": "0644", "uid": 0, "gid": 0, "expected": true},
                        {"path": "/etc/hostname", "change": "deleted", "type": "file", "size": 0, "mode": "0644", "uid": 0, "gid": 0, "expected": false}],
            "metrics": {"wall_ms": 30000, "cpu_user_ms": 1, "cpu_system_ms": 1, "memory_peak_bytes": 0, "disk_read_bytes": 0, "disk_written_bytes": 0, "net_rx_bytes": 0, "net_tx_bytes": 0},
            "timings": {"queued_ms": 2.1, "claim_ms": 1, "run_ms": 30010, "effects_ms": 9, "report_ms": 1.2},
            "provenance": {"worker": "w1", "host": "h", "image": null, "template": null, "qemu": "10.0.2", "accelerator": "tcg", "attempt": 1, "reset": null},
            "submitted": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:30Z"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_report_says_verdict_evidence_effects_and_time() {
        let text = report(&sample());
        for part in [
            "timed_out (budget), signal 9 in 30.0 s",
            "because: 30s passed",
            "effects: 2",
            "created  file      /workspace/a (3 bytes)",
            "deleted  file      /etc/hostname unexpected",
            "queued 2.1 ms, claim 1.0 ms, run 30.0 s",
            "by: w1, tcg, 10.0.2, attempt 1",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_report_says_what_was_tried_to_be_reached() {
        let mut evaluation = sample();
        assert!(!report(&evaluation).contains("network"));
        evaluation.network = serde_json::from_str(
            r#"[{"protocol": "tcp", "destination": "93.184.216.34", "port": 443, "name": null, "attempts": 3, "allowed": false},
                {"protocol": "dns", "destination": null, "port": null, "name": "example.com", "attempts": 1, "allowed": false},
                {"protocol": "tcp", "destination": "::1", "port": 80, "name": null, "attempts": 1, "allowed": true, "error": "gone"}]"#,
        )
        .unwrap();
        let text = report(&evaluation);
        let expected = "network: 5 attempts: tcp 93.184.216.34:443 refused ×3, dns example.com refused, tcp [::1]:80 allowed (gone)";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn what_came_live_is_not_shown_again() {
        let output = sample().stdout;
        assert_eq!(remainder(&output, 0, "stdout"), ("héllo".to_owned(), None));
        assert_eq!(remainder(&output, 6, "stdout"), (String::new(), None));
        assert_eq!(remainder(&output, 1, "stdout"), ("éllo".to_owned(), None));
        // In the middle of a character: better a note than half of it.
        assert!(remainder(&output, 2, "stdout").1.is_some());
    }

    #[test]
    fn a_cut_output_says_so() {
        let output = Output { text: "ab".to_owned(), bytes: 100, sha256: None, truncated: true };
        let note = remainder(&output, 0, "stdout").1.unwrap();
        assert!(note.contains("100 bytes, and 2 are shown"), "{note}");
    }
}
