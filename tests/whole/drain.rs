//! A worker is drained: it takes no jobs, says so, and remembers it when it starts anew; until it is told to resume.

use super::Test;
use evalfleet_proto::ids::JobId;
use evalfleet_tests::machine::{Machine, wait_until};
use serde_json::Value;

pub(crate) const ALL: &[(&str, Test)] = &[
    (
        "drain::a_worker_takes_no_jobs_until_it_is_told_to_resume",
        a_worker_takes_no_jobs_until_it_is_told_to_resume,
    ),
    ("drain::who_is_drained_and_who_is_not", who_is_drained_and_who_is_not),
];

/// Why the worker says that it takes no jobs.
fn why(machine: &Machine) -> Option<String> {
    let status = machine.status();
    let worker = status["parts"].as_array()?.iter().find(|part| part["name"] == "worker-1")?;
    worker["detail"]["supply"]["drained"].as_str().map(str::to_owned)
}

fn waiting(machine: &Machine) -> Value {
    machine.status()["queues"]["eval.jobs.default"]["messages"].clone()
}

fn a_worker_takes_no_jobs_until_it_is_told_to_resume(machine: &Machine) {
    machine.evalfleet(&["worker", "drain", "worker-1", "--reason", "its disk is exchanged"]).expect(0);
    wait_until("it says so", || why(machine).as_deref() == Some("its disk is exchanged"));
    let text = machine.evalfleet(&["status"]).expect(0).out;
    assert!(text.contains("drained, takes no jobs") && text.contains("its disk is exchanged"), "{text}");

    let id =
        machine.evalfleet_with(r#"{"kind": "command", "argv": ["true"]}"#, &["submit", "-"]).expect(0).out;
    let id = id.trim();
    wait_until("the job waits", || waiting(machine) == 1);
    // A successor reads what was said to its predecessor before it takes anything.
    let killed = machine.kill("worker-1");
    machine.wait_for_successor("worker-1", killed);
    wait_until("its successor says so, too", || why(machine).as_deref() == Some("its disk is exchanged"));
    assert_eq!(waiting(machine), 1);
    machine.evalfleet(&["get", id]).expect(64);

    machine.evalfleet(&["worker", "resume", "worker-1"]).expect(0);
    assert_eq!(machine.recorded(id)["status"], "passed");
    wait_until("it says nothing of it any more", || why(machine).is_none());
}

fn who_is_drained_and_who_is_not(machine: &Machine) {
    // Another's plight is none of its own.
    machine.evalfleet(&["worker", "drain", "somebody-else"]).expect(0);
    machine.evalfleet(&["run", "--", "true"]).expect(0);
    assert_eq!(why(machine), None);
    let long = "x".repeat(501);
    let refused = machine.evalfleet(&["worker", "drain", "worker-1", "--reason", &long]).expect(64);
    assert!(refused.err.contains("501") && refused.err.contains("500"), "{refused:?}");
    machine.evalfleet(&["worker", "drain"]).expect(64);
    machine.evalfleet(&["worker", "drain", "a b"]).expect(64);

    let all = machine.evalfleet(&["worker", "drain", "--all", "--json"]).expect(0).json();
    assert_eq!((all["all"].as_bool(), all["drained"].as_bool()), (Some(true), Some(true)));
    wait_until("all means it", || why(machine).is_some());
    let listed = machine.evalfleet(&["worker", "list"]).expect(0).out;
    assert!(listed.contains("worker-1") && listed.contains("drained: no reason was given"), "{listed}");
    machine.evalfleet(&["worker", "resume", "--all"]).expect(0);
    wait_until("all means it again", || why(machine).is_none());
    let id = JobId::fresh().to_string();
    machine.evalfleet(&["run", "--key", &id, "--", "true"]).expect(0);
}
