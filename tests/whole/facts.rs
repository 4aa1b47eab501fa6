//! How much the history holds of an evaluation: forty datoms at most, on the real store, whatever recorded it.

use super::Test;
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Client, Config, Datom, Transaction};
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::Machine;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const ALL: &[(&str, Test)] =
    &[("facts::an_evaluation_is_forty_datoms_at_most", an_evaluation_is_forty_datoms_at_most)];

const DATOMS_MAX: usize = 40;
/// What evaluations share, and the first one writes: worker and its host, image, run, suite, case, batch, and the
/// job that is repeated.
const NAMES_MAX: u64 = 8;

/// Leaves some of everything: both outputs beyond their previews, and every kind of effect.
const MUCH: &str = "head -c 100000 /dev/zero | tr '\\0' o; head -c 100000 /dev/zero | tr '\\0' e >&2; echo kept > /workspace/kept; \
                    echo more >> /etc/passwd; rm -f /etc/group; rm -f /etc/hostname; mkdir -p /etc/hostname; exit 3";

fn an_evaluation_is_forty_datoms_at_most(machine: &Machine) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut run = vec!["run", "--json", "--out", "/workspace/kept"];
    for label in ["suite=s", "case=facts", "run=facts", "model=m", "agent=a", "revision=r"] {
        run.extend(["--label", label]);
    }
    run.extend(["--", "sh", "-c", MUCH]);
    let ran = machine.program("evalfleet").args(&run).current_dir(dir.path()).output().expect("it runs");
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let ran: Evaluation = serde_json::from_slice(&ran.stdout).expect("a result");
    assert!(ran.effects.len() > 2 && ran.stdout.truncated && ran.artifacts.len() == 1, "{ran:?}");
    machine.recorded(&ran.id.to_string());
    let called = machine.evalfleet(&["call", "word_count", "{\"text\": \"a\"}", "--json"]).expect(0).json();
    machine.recorded(called["id"].as_str().expect("an id"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, store) = history(machine);
        for kind in ["command", "function_call", "tool", "code_change"] {
            // The second finds the names that the first wrote.
            for (most, names) in [(DATOMS_MAX as u64 + NAMES_MAX, "first"), (DATOMS_MAX as u64, "second")] {
                let largest = largest(kind);
                let written = store.record(&[&largest]).await.expect("it is recorded");
                assert!((30..=most).contains(&written.datoms), "the {names} {kind}: {written:?}");
            }
        }
        // All that this machine recorded so far, in whichever trial.
        let counted = counted(&client).await;
        for kind in ["command", "function-call", "tool", "code-change"] {
            assert!(counted.iter().any(|(of, _)| of == kind), "no {kind}: {counted:?}");
        }
        for (kind, datoms) in &counted {
            assert!(*datoms <= DATOMS_MAX, "a {kind} is {datoms} datoms");
        }
        let most = counted.iter().map(|(_, datoms)| datoms).max();
        eprintln!("facts: {} evaluations, {most:?} datoms at most", counted.len());
    });
}

fn history(machine: &Machine) -> (Client, Store) {
    let endpoints = std::fs::read_to_string(machine.state().join("endpoints.toml")).expect("it is up");
    let layers = Layers { endpoints: Some(endpoints), ..Layers::default() };
    let settings = Settings::from_layers(&layers).expect("what `up` wrote is sound").datomic;
    let token = settings.token().expect("the gateway has a token");
    let client = Client::new(Config::new(settings.url, token)).expect("a client");
    let blobs = Blobs::in_dir(&machine.state().join("blobs")).expect("the machine's blobs");
    (client.clone(), Store::new(client, blobs))
}

/// There is some of everything that may be recorded of it.
fn largest(kind: &str) -> Evaluation {
    let now = Timestamp::now();
    let hash = "5d0c1f8a2b6e4d3c9a7b5e1f0c2d4a6b8e9f1a3c5d7b9e0f2a4c6d8b0e1f3a5c";
    let output = json!({ "text": "o".repeat(2000), "bytes": 20_000, "sha256": hash, "truncated": true });
    let effect = |change: &str| {
        json!({ "path": format!("/workspace/{change}"), "change": change, "type": "file", "size": 1, "mode": "0644", "uid": 0, "gid": 0,
            "sha256": hash, "expected": false })
    };
    let effects = ["created", "changed", "deleted", "replaced"].map(effect);
    // A tool's evaluation has a call for each of its cases.
    let cases = if kind == "tool" { 30 } else { 1 };
    let call = json!({ "name": "facts_tool", "success_rate": 0.0, "exit_code": 3, "value": null, "duration_ms": 5.0 });
    let mut labels: BTreeMap<String, String> =
        (0..8).map(|index| (format!("label{index}"), "value".to_owned())).collect();
    for name in ["suite", "case", "run", "model"] {
        labels.insert(name.to_owned(), "largest".to_owned());
    }
    let document = json!({
        "schema": 1, "id": JobId::fresh(), "kind": kind, "batch": null, "status": "failed", "cause": "subject",
        "evidence": [{ "source": "host", "message": "exit status 3" }], "success_rate": 0.0, "exit_code": 3, "signal": null,
        "calls": vec![call; cases], "stdout": output, "stderr": output,
        "effects": effects,
        "artifacts": [{ "path": "/workspace/kept", "bytes": 5, "sha256": hash, "error": null }],
        "metrics": { "wall_ms": 5.0, "cpu_user_ms": 1.0, "cpu_system_ms": 1.0, "memory_peak_bytes": 1, "disk_read_bytes": 1,
            "disk_written_bytes": 1, "net_rx_bytes": 1, "net_tx_bytes": 1 },
        "timings": { "queued_ms": 1.0, "claim_ms": 1.0, "run_ms": 5.0, "effects_ms": 1.0, "report_ms": 1.0 },
        "provenance": { "worker": "facts-worker", "host": "facts-host", "image": format!("sha256:{hash}"), "template": null, "qemu": "10.0.2",
            "accelerator": "tcg", "attempt": 1, "reset": { "strategy": "template-clone", "ms": 600.0, "hidden_ms": 600.0,
            "nonce": "00", "pages_checked": 256 } },
        "labels": labels, "replay_of": JobId::from_key("facts"), "submitted": now, "started": now, "finished": now,
    });
    let mut largest: Evaluation = serde_json::from_value(document).expect("it is an evaluation");
    largest.submitted = now - std::time::Duration::from_millis(20);
    largest
}

/// The kind of every evaluation in the log with the number of its datoms, in the transaction that recorded it.
async fn counted(client: &Client) -> Vec<(String, usize)> {
    let (mut next, mut counted) = (0, Vec::new());
    loop {
        let log = client.tx_range(next, 200).await.expect("the log");
        log.transactions.iter().for_each(|transaction| counted.extend(of(transaction)));
        next = log.next_t;
        if next > log.basis_t {
            return counted;
        }
    }
}

/// Its own, its calls', its claim to be the only record, and what joins it to its dead letter.
fn of(transaction: &Transaction) -> Vec<(String, usize)> {
    let of_entity = |entity: i64| transaction.datoms.iter().filter(move |datom| datom.entity == entity);
    let value = |entity: i64, name: &str| {
        of_entity(entity).find(|datom| datom.attribute == name && datom.added).map(|datom| &datom.value)
    };
    let documents = transaction.datoms.iter().filter(|datom| datom.attribute == "evaluation/document");
    let counted = documents.map(|document| {
        let own = document.entity;
        let refers = |datom: &&Datom| match datom.attribute.as_str() {
            "record/of" => Some(&datom.value) == value(own, "evaluation/id"),
            "dead-letter/evaluation" => datom.value.as_int() == Some(own),
            _ => false,
        };
        let mut entities: BTreeSet<i64> =
            transaction.datoms.iter().filter(refers).map(|datom| datom.entity).collect();
        let calls = of_entity(own).filter(|datom| datom.attribute == "evaluation/function-calls");
        entities.extend(calls.filter_map(|datom| datom.value.as_int()));
        entities.insert(own);
        let kind = value(own, "evaluation/kind").and_then(Value::as_keyword).unwrap_or_default().to_owned();
        (kind, entities.into_iter().map(|entity| of_entity(entity).count()).sum())
    });
    counted.collect()
}
