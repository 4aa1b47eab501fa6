//! A history to look at: the sample batches, and evaluations over three weeks in which things happen. A new
//! image makes `edit_file` slower, the next one makes it fail in one of three cases; one worker's machine fails by itself;
//! one case is flaky; two jobs end as dead letters, of which one is replayed. Before all that, a [`suite`] was put to
//! a model. No randomness: every run shows the same, but for the day.

use super::suite;
use evalfleet_datomic::edn;
use evalfleet_proto::alert::Alert;
use evalfleet_proto::dead::{DeadLetter, Letter, Reason};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::healing::Healing;
use evalfleet_proto::ids::{AlertId, HealingId, Lane, Sha256};
use evalfleet_proto::job::FunctionCall;
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp, wire};
use evalfleet_recorder::store::Store;
use evalfleet_recorder::{facts, import};
use evalfleet_service::blobs::Blobs;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const TOOLS: [(&str, f64); 4] =
    [("edit_file", 160.0), ("read_file", 45.0), ("run_tests", 2400.0), ("word_count", 30.0)];
const OLD: &str = "sha256:5d0c1f8a2b6e4d3c9a7b5e1f0c2d4a6b8e9f1a3c5d7b9e0f2a4c6d8b0e1f3a5c";
const NEW: &str = "sha256:9b11e7c3d5f0a2b4c6d8e0f1a3b5c7d9e1f3a5b7c9d0e2f4a6b8c0d1e3f5a7b9";
const NEWEST: &str = "sha256:c47f02e8d1b3a5c7e9f0a2b4d6c8e0f1a3b5d7c9e1f2a4b6d8c0e2f3a5b7c9d1";
/// How many evaluations one transaction records, of a history that is looked at.
const CHUNK: usize = 10;
/// Transactions of a long one, as far as these hold no more than a recorder's would.
const CHUNKS: usize = 600;
const CHUNK_MAX: usize = 100;

/// How long ago the first was.
const SPAN: Duration = Duration::from_secs(21 * 24 * 3600);

/// A number from 0 to 1 that looks random and is the same in every run.
fn chance(index: usize, salt: u64) -> f64 {
    let mixed = (index as u64 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn id(index: usize) -> String {
    format!("019ab0c4-0000-7000-8000-{index:012x}")
}

/// What becomes of one evaluation: status, cause, what is said of it.
fn fate(
    index: usize,
    share: f64,
    tool: &str,
    case: usize,
    worker: usize,
) -> (&'static str, Option<&'static str>, String) {
    if worker == 3 && chance(index, 5) < 0.22 {
        return ("dead", Some("infrastructure"), "QEMU: was killed by somebody on the host".to_owned());
    }
    let broken = tool == "edit_file" && share > 0.7 && case.is_multiple_of(3);
    if broken {
        return (
            "failed",
            Some("subject"),
            format!("exit status 1: anchor not found in /workspace/notes-{case}.md line {}", index % 90),
        );
    }
    if tool == "run_tests" && case == 4 && chance(index, 7) < 0.45 {
        return (
            "failed",
            Some("subject"),
            format!("exit status 1: test_retry_{} timed out waiting for the server", index % 7),
        );
    }
    if chance(index, 11) < 0.01 {
        return ("timed_out", Some("budget"), "used 30.0 s on the clock, may use 30 s".to_owned());
    }
    if chance(index, 13) < 0.01 {
        return (
            "failed",
            Some("subject"),
            format!("exit status 2: no such file: /workspace/{}.txt", index % 23),
        );
    }
    ("passed", None, String::new())
}

pub(super) fn document(index: usize, share: f64, at: Timestamp) -> Value {
    let (tool, usual) = TOOLS[index % TOOLS.len()];
    let (case, worker) = (index / TOOLS.len() % 6, (chance(index, 23) * 3.0) as usize + 1);
    let image =
        [(0.7, NEWEST), (0.45, NEW)].iter().find(|(from, _)| share > *from).map_or(OLD, |(_, image)| image);
    let (status, cause, message) = fate(index, share, tool, case, worker);
    let slower = if tool == "edit_file" && image != OLD { 1.7 } else { 1.0 };
    let wall = usual * slower * (0.85 + 0.3 * chance(index, 3));
    let rate = match cause {
        None => Some(1.0),
        Some("infrastructure") => None,
        Some(_) => Some(0.0),
    };
    let started = at - Duration::from_millis(wall as u64 + 60);
    let submitted = started - Duration::from_millis(12);
    let evidence: Vec<Value> =
        cause.iter().map(|_| json!({ "source": "host", "message": message })).collect();
    let attempts: Vec<Value> = if status == "dead" {
        (1..=3).map(|number| json!({ "number": number, "worker": format!("worker-{worker}"), "cause": "infrastructure", "error": message, "ended": at })).collect()
    } else {
        Vec::new()
    };
    let text = format!("{{\"ok\": {}, \"case\": {case}}}\n", cause.is_none());
    let output =
        |text: &str| json!({ "text": text, "bytes": text.len(), "sha256": null, "truncated": false });
    let model = ["gemini-2.0-flash", "gemini-2.5-pro"][index / 7 % 2];
    let mut document = json!({
        "schema": 1, "id": id(index), "kind": "function_call", "batch": null, "status": status, "cause": cause, "evidence": evidence,
        "success_rate": rate, "exit_code": i32::from(cause.is_some()), "signal": null,
        "calls": [{ "name": tool, "success_rate": rate, "exit_code": i32::from(cause.is_some()), "value": { "ok": cause.is_none() }, "duration_ms": wall }],
        "stdout": output(&text), "stderr": output(&message), "effects": effects(tool, case), "effects_omitted": 0, "artifacts": [],
        "metrics": { "wall_ms": wall, "cpu_user_ms": wall * 0.7, "cpu_system_ms": wall * 0.1, "memory_peak_bytes": 9_437_184 + index * 4096,
            "disk_read_bytes": 65_536, "disk_written_bytes": 8192, "net_rx_bytes": 0, "net_tx_bytes": 0,
            "guest": { "cpu_user_ms": wall * 0.66, "cpu_system_ms": wall * 0.09, "memory_peak_bytes": 8_388_608 } },
        "timings": { "queued_ms": 4.0 + 20.0 * chance(index, 17), "claim_ms": 24.0, "run_ms": wall, "effects_ms": 80.0, "report_ms": 1.9 },
        "provenance": { "worker": format!("worker-{worker}"), "host": "lab-1", "image": image, "template": OLD, "qemu": "10.0.2", "accelerator": "tcg",
            "attempt": 1, "reset": { "strategy": "template-clone", "ms": 600.0 + 90.0 * chance(index, 19), "hidden_ms": 600.0, "nonce": format!("{index:032x}"), "pages_checked": 256 } },
        "labels": { "suite": "tools", "case": format!("{tool}-{case}"), "run": if share > 0.45 { "nightly-new" } else { "nightly-old" },
            "model": model, "agent": "rev-42" },
        "attempts": attempts, "submitted": submitted, "started": started, "finished": at,
    });
    if tool == "run_tests" {
        document["network"] = json!([{ "protocol": "tcp", "destination": "93.184.216.34", "port": 443, "name": "example.com", "attempts": 3, "allowed": false, "error": null }]);
        document["warnings"] = json!(["the guest says that 8 MiB of memory were used, the host 9 MiB"]);
    }
    document
}

/// The texts that its effects change: before and after.
const REPORT: &str = "<testsuite tests=\"3\">\n  <testcase name=\"adds\"/>\n  <testcase name=\"carries\"/>\n  <testcase name=\"overflows\"/>\n</testsuite>\n";
const LIB: [&str; 2] = [
    "//! Sums.\n\n/// Adds two numbers.\npub fn sum(one: u8, other: u8) -> u8 {\n    one + other\n}\n\n#[cfg(test)]\nmod tests {\n    use super::*;\n\n    #[test]\n    fn adds() {\n        assert_eq!(sum(1, 2), 3);\n    }\n}\n",
    "//! Sums.\n\n/// Adds two numbers; what is too large stays the largest.\npub fn sum(one: u8, other: u8) -> u8 {\n    one.saturating_add(other)\n}\n\n#[cfg(test)]\nmod tests {\n    use super::*;\n\n    #[test]\n    fn adds() {\n        assert_eq!(sum(1, 2), 3);\n    }\n\n    #[test]\n    fn overflows() {\n        assert_eq!(sum(255, 1), 255);\n    }\n}\n",
];
const NOTES: [&str; 2] = ["# Notes\n\n- ask for a review\n", "# Notes\n\n- ask for a review\n- merge\n"];

fn effects(tool: &str, case: usize) -> Value {
    let text =
        |text: &str| json!({ "is": "text", "bytes": text.len(), "sha256": Sha256::of(text.as_bytes()) });
    let without = |is: &str, bytes: u64| json!({ "is": is, "bytes": bytes });
    let effect = |path: &str, change: &str, kind: &str, expected: bool, content: Option<(Value, Value)>| {
        let content = content.map(|(before, after)| json!({ "before": before, "after": after }));
        let mut effect = json!({ "path": path, "change": change, "type": kind, "size": 120 + case * 17, "mode": "0644", "uid": 0,
            "gid": 0, "sha256": OLD.trim_start_matches("sha256:"), "expected": expected });
        if let Some(content) = content {
            effect["content"] = content;
        }
        effect
    };
    let absent = || without("absent", 0);
    match tool {
        "edit_file" => json!([
            effect(
                &format!("/workspace/notes-{case}.md"),
                "changed",
                "file",
                true,
                Some((text(NOTES[0]), text(NOTES[1])))
            ),
            effect(
                "/workspace/.edit.swp",
                "created",
                "file",
                false,
                Some((absent(), without("binary", 4096)))
            ),
        ]),
        "run_tests" => json!([
            effect("/workspace/build", "created", "directory", true, None),
            effect("/workspace/build/report.xml", "created", "file", true, Some((absent(), text(REPORT)))),
            effect(
                "/workspace/build/cache/index.bin",
                "created",
                "file",
                true,
                Some((absent(), without("binary", 52_480)))
            ),
            effect("/etc/hostname", "deleted", "file", false, Some((without("not_at_hand", 8), absent()))),
            effect("/workspace/src/lib.rs", "replaced", "file", true, Some((text(LIB[0]), text(LIB[1])))),
        ]),
        _ => json!([]),
    }
}

/// Lays the history down, oldest first, each chunk at its own time. Gives ids that tests look at.
///
/// # Errors
/// When the store refuses something.
pub(crate) async fn lay_down(
    store: &Store,
    blobs: &Blobs,
    batches: &[PathBuf],
    count: usize,
) -> anyhow::Result<Value> {
    let now = Timestamp::now();
    let dir = tempfile::tempdir()?;
    let of_suite = suite::file(dir.path(), now - SPAN - Duration::from_secs(24 * 3600))?;
    let batches: Vec<PathBuf> = batches.iter().cloned().chain([of_suite]).collect();
    let imported = import::import(store, &batches).await?;
    let suite = suite::calls(store, blobs, now - SPAN - Duration::from_secs(12 * 3600)).await?;
    for text in LIB.into_iter().chain(NOTES).chain([REPORT]) {
        blobs.put(text.into()).await?;
    }
    let chunk = (count / CHUNKS).clamp(CHUNK, CHUNK_MAX);
    let (mut dead, mut failed, mut rich) = (None, None, None);
    let mut facts_of = Vec::new();
    for index in 0..count {
        let share = index as f64 / count as f64;
        // More by day than by night, and the last a few minutes ago.
        let at = now - SPAN.mul_f64(1.0 - share) - Duration::from_secs(300);
        let evaluation: Evaluation = serde_json::from_value(document(index, share, at))?;
        let key = blobs.put(serde_json::to_vec(&evaluation)?).await?;
        facts_of.extend(facts::evaluation(&evaluation, key));
        if evaluation.status == Status::Dead {
            facts_of.push(letter(blobs, &evaluation).await?);
        }
        let id = evaluation.id.to_string();
        match evaluation.cause.map(evalfleet_proto::status::Cause::as_str) {
            Some("infrastructure") => dead = Some(id),
            Some("subject") => failed = Some(id),
            None if index % TOOLS.len() == 2 => rich = Some(id),
            _ => {}
        }
        if (index + 1).is_multiple_of(chunk) || index + 1 == count {
            store.import(&format!("stage-{index}"), std::mem::take(&mut facts_of), at).await?;
        }
    }
    if let Some(dead) = &dead {
        replay(store, blobs, dead, count, now).await?;
    }
    let alert = match &failed {
        Some(failed) => Some(alert(store, blobs, failed, now).await?),
        None => None,
    };
    let healing = match &dead {
        Some(dead) => Some(healing(store, blobs, dead, now).await?),
        None => None,
    };
    Ok(
        json!({ "dead": dead, "failed": failed, "rich": rich, "alert": alert, "healing": healing, "suite": suite, "batches": imported.iter().map(|one| &one.id).collect::<Vec<_>>() }),
    )
}

/// An alert about a tool that fails, raised a minute ago.
async fn alert(store: &Store, blobs: &Blobs, failed: &str, now: Timestamp) -> anyhow::Result<String> {
    let (first, at) = (failed.parse()?, now - Duration::from_secs(60));
    let id = AlertId::of(first, "failing", "tool=edit_file");
    let rerun = |nth: u32, before: bool, outcome: &str| json!({ "id": id.rerun(first, nth), "of": failed, "before": before, "worker": format!("worker-{}", nth % 2 + 1), "outcome": outcome });
    let alert: Alert = serde_json::from_value(json!({
        "schema": 1, "id": id, "revision": 2, "kind": "failing", "severity": "critical", "subject": "tool=edit_file",
        "cases": ["tools/edit_file-2"], "state": "raised", "since": at - Duration::from_secs(600), "suspected": at, "confirmed": at,
        "confirmed_by": "reruns",
        "message": "edit_file fails in the case tools/edit_file-2: 0 of 3 passed since 2026-01-31T06:00:00Z, 24 of 24 passed before.",
        "before": { "passed": 24, "tries": 24 }, "after": { "passed": 0, "tries": 3 }, "evaluations": [failed],
        "reruns": [rerun(0, false, "bad"), rerun(1, false, "bad"), rerun(2, true, "fine")],
        "culprit": { "attribute": "image", "value": NEW, "before": OLD }, "cost": { "reruns": 3, "worker_ms": 2410.0 },
    }))?;
    let key = blobs.put(serde_json::to_vec(&alert)?).await?;
    store.import("stage-alert", vec![facts::alert::alert(&alert, key)], at).await?;
    Ok(id.to_string())
}

/// The healing of a worker whose jobs died, done a minute ago.
async fn healing(store: &Store, blobs: &Blobs, dead: &str, now: Timestamp) -> anyhow::Result<String> {
    let at = now - Duration::from_secs(50);
    let id = HealingId::of("bad_worker", "worker=worker-3", at, dead);
    let healing: Healing = serde_json::from_value(json!({
        "schema": 1, "id": id, "revision": 2, "detector": "bad_worker", "subject": "worker=worker-3", "remedy": "drain",
        "state": "applied", "mode": "act", "since": at - Duration::from_secs(60), "found": at, "applied": at, "by": "evalfleet",
        "took_ms": 31.5,
        "message": "9 of 9 tries of worker-3 ended in a fault of ours, against 0 of 31 of all other workers.",
        "evidence": [
            { "text": "its tries that ended in a fault of ours", "count": 9, "of": 9, "evaluations": [dead] },
            { "text": "the same of all other workers", "count": 0, "of": 31 },
        ],
    }))?;
    let key = blobs.put(serde_json::to_vec(&healing)?).await?;
    store.import("stage-healing", vec![facts::healing::healing(&healing, key)], at).await?;
    Ok(id.to_string())
}

/// The letter of a job that no try could run.
async fn letter(blobs: &Blobs, of: &Evaluation) -> anyhow::Result<edn::Value> {
    let tool = of.calls.first().map_or("word_count", |call| &call.name);
    let defaults = Defaults { image: "base".parse()?, now: of.submitted };
    let call = FunctionCall { name: tool.parse()?, args: json!({}) };
    let mut job = Submission::function_call(call).into_job(&defaults)?;
    job.id = of.id;
    let letter = Letter::of_ours(DeadLetter {
        schema: SCHEMA_VERSION,
        id: of.id,
        reason: Reason::AttemptsSpent,
        error: of.evidence.first().map(|evidence| evidence.message.clone()).unwrap_or_default(),
        lane: Lane::default_lane(),
        attempts: of.attempts.clone(),
        worker: of.provenance.worker.clone(),
        died: of.finished,
        body: wire::encode(&job),
    });
    let body = blobs.put(letter.body.clone()).await?;
    let document = blobs.put(serde_json::to_vec(&letter.document(of.finished))?).await?;
    Ok(facts::dead::letter(&letter.card(of.finished), body, document))
}

/// The replay of a dead letter: it passes.
async fn replay(store: &Store, blobs: &Blobs, of: &str, index: usize, now: Timestamp) -> anyhow::Result<()> {
    let at = now - Duration::from_secs(120);
    // The index of `word_count`, whose evaluations pass.
    let mut document = document(index * TOOLS.len() + 3, 0.1, at);
    for (name, value) in [
        ("status", json!("passed")),
        ("cause", json!(null)),
        ("evidence", json!([])),
        ("attempts", json!([])),
        ("success_rate", json!(1.0)),
    ] {
        document[name] = value;
    }
    document["replay_of"] = json!(of);
    let evaluation: Evaluation = serde_json::from_value(document)?;
    let key = blobs.put(serde_json::to_vec(&evaluation)?).await?;
    store.import("stage-replay", facts::evaluation(&evaluation, key), at).await?;
    Ok(())
}

/// Records one more evaluation, as the recorder does.
///
/// # Errors
/// When the store refuses it.
pub(crate) async fn record_now(store: &Store, id: &str) -> anyhow::Result<()> {
    let mut document = document(3, 0.1, Timestamp::now());
    document["id"] = json!(id);
    for (name, value) in [
        ("status", json!("passed")),
        ("cause", json!(null)),
        ("evidence", json!([])),
        ("success_rate", json!(1.0)),
    ] {
        document[name] = value;
    }
    let evaluation: Evaluation = serde_json::from_value(document)?;
    store.record(&[&evaluation]).await?;
    Ok(())
}
