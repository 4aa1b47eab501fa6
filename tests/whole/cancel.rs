//! Jobs are called off: queued, running, lost with their worker, or not submitted yet. Each is in the
//! history once, with the reason.

use super::Test;
use super::faults::{log, qemus, slow_job};
use evalfleet_proto::ids::JobId;
use evalfleet_tests::machine::{Machine, wait_until};
use serde_json::Value;
use std::time::{Duration, Instant};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("cancel::a_running_job_is_killed", a_running_job_is_killed),
    ("cancel::a_queued_job_is_not_run", a_queued_job_is_not_run),
    ("cancel::a_worker_that_starts_later_hears_of_it", a_worker_that_starts_later_hears_of_it),
    ("cancel::a_job_whose_worker_died_is_not_tried_again", a_job_whose_worker_died_is_not_tried_again),
    ("cancel::a_batch_is_called_off_and_its_name_used_again", a_batch_is_called_off_and_its_name_used_again),
    ("cancel::what_is_done_stays_done", what_is_done_stays_done),
    ("cancel::the_repl_calls_off_what_is_outstanding", the_repl_calls_off_what_is_outstanding),
];

/// It was called off, for that reason, and its facts are there once.
fn cancelled_once(machine: &Machine, id: &str, reason: &str) -> Value {
    let result = machine.recorded(id);
    assert_eq!(
        (result["status"].as_str(), result["cause"].as_str(), result["success_rate"].as_f64()),
        (Some("cancelled"), Some("harness"), None),
        "{result}"
    );
    let why = &result["evidence"][0];
    assert_eq!(why["source"], "client", "{result}");
    assert!(why["message"].as_str().is_some_and(|message| message.ends_with(reason)), "{result}");
    let query = format!(
        "(d/q '[:find ?e ?status ?tx :where [?e :evaluation/id \"{id}\"] [?e :evaluation/status ?status ?tx]] (d/history db))"
    );
    assert_eq!(machine.count(&query), 1, "recorded more than once");
    result
}

fn submit(machine: &Machine, document: &str) -> String {
    machine.evalfleet_with(document, &["submit", "-"]).expect(0).out.trim().to_owned()
}

const SLEEP: &str = r#"{"kind": "command", "argv": ["sleep", "600"], "limits": {"wall": "700s"}}"#;

/// Whether the worker has a VM that waits: then a job that is taken runs at once.
fn a_spare_stands(machine: &Machine) -> bool {
    let told = std::fs::read_dir(machine.state().join("workers")).into_iter().flatten().flatten();
    told.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(|text| text.contains("\"ready\""))
}

fn a_running_job_is_killed(machine: &Machine) {
    // What a worker's predecessor told is told anew before there is a QEMU.
    wait_until("a spare stands", || !qemus(machine).is_empty() && a_spare_stands(machine));
    let before = qemus(machine);
    let id = slow_job(machine, 25);
    let begun = Instant::now();
    let answer = machine.evalfleet(&["cancel", &id, "--reason", "a newer revision", "--wait"]).expect(0);
    let took = begun.elapsed();
    assert!(answer.out.contains("cancelled (harness)"), "{answer:?}");
    assert!(took < Duration::from_secs(20), "its program went on: {took:?}");
    let result = cancelled_once(machine, &id, "a newer revision");
    assert!(result["timings"]["run_ms"].as_f64().is_some_and(|ms| ms < 20_000.0), "{result}");
    // Its VM is gone: the one that waited for it.
    wait_until("its VM is gone", || {
        let now = qemus(machine);
        before.iter().any(|pid| !now.contains(pid))
    });
    machine.evalfleet(&["run", "--", "true"]).expect(0);
}

fn a_queued_job_is_not_run(machine: &Machine) {
    let running = slow_job(machine, 6);
    let queued = submit(machine, SLEEP);
    let answer = machine.evalfleet(&["cancel", &queued, "--json"]).expect(0).json();
    assert_eq!((answer["id"].as_str(), answer["said"].as_bool()), (Some(queued.as_str()), Some(true)));
    let result = cancelled_once(machine, &queued, "called off");
    assert_eq!(result["evidence"][1]["message"], "called off before it was run", "{result}");
    assert_eq!(result["provenance"]["reset"], Value::Null, "{result}");
    assert_eq!(machine.recorded(&running)["status"], "passed");
    assert!(!log(machine, "worker-1").contains(&format!("took a job job={queued}")));
}

fn a_worker_that_starts_later_hears_of_it(machine: &Machine) {
    let key = format!("not-yet-{}", JobId::fresh());
    let id = JobId::from_key(&key).to_string();
    machine.evalfleet(&["cancel", &id, "--reason", "never mind"]).expect(0);
    let killed = machine.kill("worker-1");
    machine.wait_for_successor("worker-1", killed);
    let document = format!(r#"{{"kind": "command", "argv": ["sleep", "600"], "key": "{key}"}}"#);
    assert_eq!(submit(machine, &document), id);
    cancelled_once(machine, &id, "never mind");
}

/// Its first try is lost with the worker, and the job is delivered again, to one that knows.
fn a_job_whose_worker_died_is_not_tried_again(machine: &Machine) {
    let id = slow_job(machine, 600);
    let killed = machine.kill("worker-1");
    machine.evalfleet(&["cancel", &id, "--reason", "too late"]).expect(0);
    machine.wait_for_successor("worker-1", killed);
    cancelled_once(machine, &id, "too late");
    wait_until("nothing waits", || machine.status()["queues"]["eval.jobs.default"]["messages"] == 0);
}

fn a_batch_is_called_off_and_its_name_used_again(machine: &Machine) {
    let running = slow_job(machine, 4);
    let jobs: String = (0..3)
        .map(|_| r#"{"kind": "command", "argv": ["sleep", "600"], "batch": "doomed"}"#.to_owned() + "\n")
        .collect();
    let ids = submit(machine, &jobs);
    machine.evalfleet(&["cancel", "--batch", "doomed", "--reason", "wrong inputs"]).expect(0);
    let again = submit(machine, r#"{"kind": "command", "argv": ["true"], "batch": "doomed"}"#);
    for id in ids.lines() {
        cancelled_once(machine, id, "called off with its batch doomed: wrong inputs");
    }
    assert_eq!(machine.recorded(&again)["status"], "passed");
    assert_eq!(machine.recorded(&running)["status"], "passed");
}

fn what_is_done_stays_done(machine: &Machine) {
    let id = submit(machine, r#"{"kind": "command", "argv": ["true"]}"#);
    machine.recorded(&id);
    let answer = machine.evalfleet(&["cancel", &id, "--wait"]).expect(0);
    assert!(answer.out.contains("is done already: passed"), "{answer:?}");
    let reason = "x".repeat(501);
    machine
        .evalfleet(&["cancel", &JobId::fresh().to_string(), "--reason", &reason])
        .expect(64)
        .says(&["501", "500"]);
    machine.evalfleet(&["cancel"]).expect(64);
}

fn the_repl_calls_off_what_is_outstanding(machine: &Machine) {
    let begun = Instant::now();
    let answer = machine
        .evalfleet_with("run --wall 200s -- sleep 150\nrun --wall 200s -- sleep 150\ncancel all\n", &["repl"])
        .expect(5);
    assert_eq!(answer.out.matches("cancelled (harness)").count(), 2, "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", begun.elapsed());
}
