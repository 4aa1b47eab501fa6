//! Results as the session shows them, each as a document and as text.

use crate::cli::report::{effect_line, plain, report};
use evalfleet_proto::evaluation::{Evaluation, Output};
use serde_json::{Value, json};

/// Characters of an output, or of a value, that a result shows; `logs` shows it all.
const OUTPUT_MAX: usize = 2000;

/// A result: its document has its handle, where it was submitted here.
pub(super) fn result(number: Option<u32>, evaluation: &Evaluation) -> (Value, String) {
    let mut document = serde_json::to_value(evaluation).unwrap_or_default();
    let mut text = report(evaluation);
    if let Some(number) = number {
        document["handle"] = number.into();
        text = format!("#{number} {text}");
    }
    let value = evaluation.calls.first().and_then(|call| call.value.as_ref());
    if let Some(value) = value {
        let whole = plain(&value.to_string());
        let (shown, more) = beginning(&whole);
        text += &format!("\n  value{more}: {shown}");
    }
    // A tool's answer is its standard output: once is enough.
    let stdout = value.is_none().then_some(("stdout", &evaluation.stdout));
    for (name, output) in stdout.into_iter().chain([("stderr", &evaluation.stderr)]) {
        text += &written(name, output);
    }
    (document, text)
}

fn written(name: &str, output: &Output) -> String {
    let whole = output.text.trim_end();
    if whole.is_empty() {
        return String::new();
    }
    let (shown, more) = beginning(whole);
    let more = if output.truncated { " (its beginning)" } else { more };
    let lines = shown.lines().map(|line| format!("\n    {}", plain(line)));
    format!("\n  {name}{more}:{}", lines.collect::<String>())
}

fn beginning(text: &str) -> (String, &'static str) {
    let more = if text.chars().nth(OUTPUT_MAX).is_some() { " (its beginning)" } else { "" };
    (text.chars().take(OUTPUT_MAX).collect(), more)
}

/// All effects of a job.
pub(super) fn effects(evaluation: &Evaluation) -> (Value, String) {
    let (effects, omitted) = (&evaluation.effects, evaluation.effects_omitted);
    let document = json!({"id": evaluation.id, "effects": effects, "effects_omitted": omitted});
    let mut lines: Vec<_> = effects.iter().map(effect_line).collect();
    if omitted > 0 {
        lines.push(format!("… and {omitted} more that are not in the list"));
    }
    (document, if lines.is_empty() { "no effects".to_owned() } else { lines.join("\n") })
}

/// Evaluations of a tool, as a query found them: id, moment, status, rate.
pub(super) fn history(mut rows: Vec<Value>, shown_max: usize) -> Vec<(Value, String)> {
    rows.sort_by(|a, b| a[1].as_str().cmp(&b[1].as_str()));
    let newest = rows.len().saturating_sub(shown_max);
    let told = rows.into_iter().skip(newest).map(|row| {
        let (id, at) = (row[0].as_str().unwrap_or_default(), row[1].as_str().unwrap_or_default());
        let status = row[2].as_str().unwrap_or_default().trim_start_matches(':');
        // -1 stands for a rate that is not there: the subject was not put to the test.
        let rate = row[3].as_f64().filter(|rate| *rate >= 0.0);
        let document = json!({"id": id, "timestamp": at, "status": status, "success_rate": rate});
        let rate = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}"));
        (document, format!("{id:<36}  {at:<24}  {status:<14} {rate}"))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::sample;

    #[test]
    fn a_result_says_its_handle_and_what_was_written() {
        let (document, text) = result(Some(3), &sample());
        assert_eq!(document["handle"], 3);
        assert!(text.starts_with("#3 0198c1c2-") && text.ends_with("\n  stdout:\n    héllo"), "{text}");
        assert_eq!(result(None, &sample()).0["handle"], Value::Null);
    }

    #[test]
    fn a_value_is_shown_instead_of_the_output_that_it_was() {
        let mut evaluation = sample();
        evaluation.calls = serde_json::from_value(json!([{"name": "f", "success_rate": 1.0, "exit_code": 0, "value": {"words": "\u{1b}[2J".repeat(3000)}, "duration_ms": 1}])).unwrap();
        let text = result(None, &evaluation).1;
        assert!(
            text.contains("\n  value (its beginning): {\"words\":") && !text.contains("stdout"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_newest_of_a_history_come_last() {
        let row = |id: &str, at: &str, rate: f64| json!([id, at, ":passed", rate]);
        let rows =
            vec![row("b", "2026-01-02", 1.0), row("c", "2026-01-03", -1.0), row("a", "2026-01-01", 0.5)];
        let told = history(rows, 2);
        assert_eq!(told.len(), 2);
        assert_eq!(
            told[0].0,
            json!({"id": "b", "timestamp": "2026-01-02", "status": "passed", "success_rate": 1.0})
        );
        assert_eq!(told[1].0["success_rate"], Value::Null);
    }

    #[test]
    fn effects_are_all_told() {
        let mut evaluation = sample();
        evaluation.effects_omitted = 2;
        let (document, text) = effects(&evaluation);
        assert_eq!(document["effects"].as_array().map(Vec::len), Some(2));
        assert!(
            text.contains("/etc/hostname unexpected")
                && text.ends_with("… and 2 more that are not in the list")
        );
    }
}
