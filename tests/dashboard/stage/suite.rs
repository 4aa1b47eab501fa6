//! A suite that was put to a model: eight questions, of which four were answered as they should be, and the others not,
//! each for another reason; two of them called tools in VMs.

use super::history::document;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_recorder::facts;
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const BATCH: &str = "basics-flash";
/// Its evaluations are none of those that the history has.
const INDEX: usize = 40_000_000;

/// What a question is called and asks, the tools that are expected and called, why it went wrong, by whose doing.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Option<(&'static str, &'static str)>,
);

const ROWS: [Row; 8] = [
    ("count", "How many words are in notes.md?", &["word_count"], &["word_count"], None),
    ("read", "What does notes.md say?", &["read_file"], &["read_file"], None),
    (
        "both",
        "Read notes.md, and count its words.",
        &["read_file", "word_count"],
        &["read_file", "word_count"],
        None,
    ),
    ("none", "What is two and two?", &[], &[], None),
    (
        "guess",
        "How long is todo.md?",
        &["word_count"],
        &["read_file"],
        Some(("expected to call word_count, called read_file", "subject")),
    ),
    (
        "args",
        "Read the file in the folder drafts.",
        &["read_file"],
        &["read_file"],
        Some((
            "expected read_file with {\"path\":\"drafts/a.md\"}, called with {\"path\":\"a.md\"}",
            "subject",
        )),
    ),
    (
        "more",
        "Read notes.md and leave it as it is.",
        &["read_file"],
        &["read_file"],
        Some(("changed what it should not: /workspace/notes.md", "subject")),
    ),
    (
        "busy",
        "Which files are there?",
        &["read_file"],
        &[],
        Some(("the service answered 429 three times: too many requests", "infrastructure")),
    ),
];

/// The batch's id in the history, once its file is laid down.
static ID: OnceLock<String> = OnceLock::new();

/// Lays the result file down, as a suite's run leaves it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn file(dir: &Path, at: Timestamp) -> anyhow::Result<PathBuf> {
    let question = |(nth, (name, question, expected, called, wrong)): (usize, &Row)| {
        json!({ "question_id": name, "question": question, "expected_tools": expected, "actual_tools": called,
            "success": wrong.is_none(), "response_time_ms": 900 + nth * 210, "error": wrong.map(|(why, _)| why),
            "cause": wrong.map(|(_, cause)| cause) })
    };
    let results: Vec<Value> = ROWS.iter().enumerate().map(question).collect();
    let passed = ROWS.iter().filter(|row| row.4.is_none()).count();
    let whole = json!({ "batch_id": BATCH, "model": "gemini-2.0-flash", "total_questions": ROWS.len(), "successful": passed,
        "failed": ROWS.len() - passed, "success_rate": passed as f64 / ROWS.len() as f64, "results": results });
    let path = dir.join(format!("results_{BATCH}_{}.json", at.as_second()));
    std::fs::write(&path, whole.to_string())?;
    let _ = ID.set(format!("{BATCH}-{}", at.as_second()));
    Ok(path)
}

/// Records the calls that its questions led to; gives the batch's id.
///
/// # Errors
/// When the store refuses them.
pub(super) async fn calls(store: &Store, blobs: &Blobs, at: Timestamp) -> anyhow::Result<String> {
    let id = ID.get().cloned().unwrap_or_default();
    let mut facts_of = Vec::new();
    for (nth, (name, tool)) in
        ROWS.iter().flat_map(|row| row.3.iter().map(move |tool| (row.0, *tool))).enumerate()
    {
        // Of four, the second is `read_file` and the fourth `word_count`, and both pass.
        let index = INDEX + nth * 4 + if tool == "read_file" { 1 } else { 3 };
        let mut document = document(index, 0.1, at);
        for (field, value) in [
            ("status", json!("passed")),
            ("cause", json!(null)),
            ("evidence", json!([])),
            ("attempts", json!([])),
            ("success_rate", json!(1.0)),
            ("labels", json!({ "suite": "basics", "case": name, "run": id, "model": "gemini-2.0-flash" })),
        ] {
            document[field] = value;
        }
        document["calls"][0]["success_rate"] = json!(1.0);
        let evaluation: Evaluation = serde_json::from_value(document)?;
        let key = blobs.put(serde_json::to_vec(&evaluation)?).await?;
        facts_of.extend(facts::evaluation(&evaluation, key));
    }
    store.import("stage-suite", facts_of, at).await?;
    Ok(id)
}
