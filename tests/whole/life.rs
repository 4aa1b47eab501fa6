//! A job's life, as its submitter sees it.

use super::Test;
use super::faults::{log, slow_job};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::JobId;
use evalfleet_tests::machine::{Answer, Machine, signal, wait_until};
use std::time::Duration;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("life::a_key_given_twice_is_one_job_and_one_record", a_key_given_twice_is_one_job_and_one_record),
    ("life::a_key_that_was_answered_is_answered_again", a_key_that_was_answered_is_answered_again),
    ("life::an_urgent_job_overtakes", an_urgent_job_overtakes),
    (
        "life::a_job_past_its_deadline_is_recorded_and_not_run",
        a_job_past_its_deadline_is_recorded_and_not_run,
    ),
    ("life::a_worker_that_is_told_to_end_finishes_its_job", a_worker_that_is_told_to_end_finishes_its_job),
    ("life::the_output_is_followed_from_its_beginning", the_output_is_followed_from_its_beginning),
    ("life::a_batch_is_summed_up", a_batch_is_summed_up),
    ("life::the_examples_of_the_library_run", the_examples_of_the_library_run),
    (
        "life::the_gateway_has_no_privileges_whoever_starts_it",
        the_gateway_has_no_privileges_whoever_starts_it,
    ),
];

pub(crate) const ALONE: &[(&str, fn())] =
    &[("life::a_lane_may_have_workers_of_its_own", a_lane_may_have_workers_of_its_own)];

/// Both messages are run, as a job is that is delivered twice; the second result is passed over, and is
/// not taken for one that cannot be recorded.
fn a_key_given_twice_is_one_job_and_one_record(machine: &Machine) {
    let key = format!("twice-{}", JobId::fresh());
    let document = format!(r#"{{"kind": "command", "argv": ["sh", "-c", "echo $RANDOM"], "key": "{key}"}}"#);
    let both = machine.evalfleet_with(&format!("{document}\n{document}\n"), &["submit", "-"]).expect(0);
    let ids: Vec<&str> = both.out.lines().collect();
    assert_eq!((ids.len(), ids[0]), (2, ids[1]), "{both:?}");
    let first = machine.recorded(ids[0]);
    let log = || std::fs::read_to_string(machine.state().join("logs/worker-1.log")).unwrap_or_default();
    wait_until("both were run", || log().matches(&format!("evaluated job={}", ids[0])).count() == 2);
    wait_until("both results were read", || {
        machine.status()["queues"]["eval.results.recorder"]["messages"] == 0
    });
    assert_eq!(machine.recorded(ids[0]), first, "the first result stands");
    let query = format!(
        "(d/q '[:find ?e ?document ?tx :where [?e :evaluation/id \"{}\"] [?e :evaluation/document ?document ?tx]] (d/history db))",
        ids[0]
    );
    assert_eq!(machine.count(&query), 1, "recorded more than once");
    let letters = machine.evalfleet(&["dead", "list", "--json"]).expect(0);
    assert!(!letters.out.contains(ids[0]), "{letters:?}");
}

fn a_key_that_was_answered_is_answered_again(machine: &Machine) {
    let key = format!("answered-{}", JobId::fresh());
    let arguments = ["run", "--json", "--key", &key, "--", "cat", "/proc/sys/kernel/random/uuid"];
    let first = machine.evalfleet(&arguments).expect(0).json();
    let id = first["id"].as_str().expect("an id");
    machine.recorded(id);
    assert_eq!(machine.evalfleet(&arguments).expect(0).json(), first);
    assert_eq!(log(machine, "worker-1").matches(&format!("took a job job={id}")).count(), 1);
}

fn submitted(machine: &Machine, document: &str) -> String {
    machine.evalfleet_with(document, &["submit", "-"]).expect(0).out.trim().to_owned()
}

fn a_lane_may_have_workers_of_its_own() {
    let machine = Machine::new()
        .with("EVALFLEET_BROKER__LANES", "urgent,default,special")
        .with("EVALFLEET_WORKER__LANES", "special");
    machine.up(1);
    let ordinary = submitted(&machine, r#"{"kind": "command", "argv": ["true"]}"#);
    machine.evalfleet(&["run", "--lane", "special", "--", "true"]).expect(0);
    assert_eq!(machine.status()["queues"]["eval.jobs.default"]["messages"], 1, "nobody serves that lane");
    let mut other = machine.program("evalfleet-worker");
    let other = other.env("EVALFLEET_WORKER__LANES", "urgent,default").env("EVALFLEET_WORKER__NAME", "other");
    let mut other = other.spawn().expect("the worker is built");
    let result = machine.recorded(&ordinary);
    signal("TERM", other.id());
    let ended = other.wait().expect("it ends");
    assert_eq!(
        (result["status"].as_str(), result["provenance"]["worker"].as_str()),
        (Some("passed"), Some("other"))
    );
    assert!(ended.success(), "{ended}");
    machine.evalfleet(&["down"]).expect(0);
}

fn an_urgent_job_overtakes(machine: &Machine) {
    let running = slow_job(machine, 5);
    let ordinary = submitted(machine, r#"{"kind": "command", "argv": ["true"]}"#);
    let urgent = submitted(machine, r#"{"kind": "command", "argv": ["true"], "urgent": true}"#);
    let started = |id: &str| machine.recorded(id)["started"].as_str().map(str::to_owned).expect("a time");
    let (running, ordinary, urgent) = (started(&running), started(&ordinary), started(&urgent));
    assert!(running < urgent && urgent < ordinary, "{running} {urgent} {ordinary}");
}

fn a_job_past_its_deadline_is_recorded_and_not_run(machine: &Machine) {
    let running = slow_job(machine, 6);
    let deadline = Timestamp::now() + Duration::from_secs(2);
    let document = format!(r#"{{"kind": "command", "argv": ["true"], "deadline": "{deadline}"}}"#);
    let late = submitted(machine, &document);
    let result = machine.recorded(&late);
    assert_eq!(
        (result["status"].as_str(), result["cause"].as_str()),
        (Some("expired"), Some("budget")),
        "{result}"
    );
    assert_eq!(result["provenance"]["reset"], serde_json::Value::Null, "it had a VM: {result}");
    let why = result["evidence"][0]["message"].as_str();
    assert!(why.is_some_and(|why| why.contains("deadline")), "{result}");
    machine.evalfleet(&["wait", &late]).expect(2);
    assert_eq!(machine.recorded(&running)["status"], "passed");
}

fn a_worker_that_is_told_to_end_finishes_its_job(machine: &Machine) {
    let id = slow_job(machine, 4);
    let ended = machine.pid("worker-1");
    signal("TERM", ended);
    machine.wait_for_successor("worker-1", ended);
    let result = machine.recorded(&id);
    let attempt = result["provenance"]["attempt"].as_u64();
    assert_eq!((result["status"].as_str(), attempt), (Some("passed"), Some(1)), "{result}");
    let taken = log(machine, "worker-1").matches(&format!("took a job job={id}")).count();
    assert_eq!(taken, 1, "it was taken again");
}

fn the_output_is_followed_from_its_beginning(machine: &Machine) {
    let script = "echo first; sleep 4; echo second; echo aside >&2; exit 3";
    let document = format!(r#"{{"kind": "command", "argv": ["sh", "-c", "{script}"]}}"#);
    let id = submitted(machine, &document);
    machine.evalfleet(&["logs", &id]).expect(64).says(&["not recorded", "-f"]);
    wait_until("it runs", || log(machine, "worker-1").contains(&format!("took a job job={id}")));
    std::thread::sleep(Duration::from_secs(2));
    // What was written before anybody looked is shown, and nothing is shown twice.
    let followed = machine.evalfleet(&["logs", "-f", &id]).expect(1);
    assert_eq!(followed.out, "first\nsecond\n", "{followed:?}");
    assert!(followed.err.starts_with("aside\n") && followed.err.contains("exit status 3"), "{followed:?}");
    machine.recorded(&id);
    let read = machine.evalfleet(&["logs", &id]).expect(0);
    assert_eq!((read.out.as_str(), read.err.as_str()), ("first\nsecond\n", "aside\n"));
}

fn a_batch_is_summed_up(machine: &Machine) {
    let batch = format!("sum-{}", JobId::fresh());
    let file = machine.state().join("batch.jsonl");
    let job = |program: &str| {
        format!("{{\"kind\": \"command\", \"argv\": [\"{program}\"], \"batch\": \"{batch}\"}}\n")
    };
    let jobs = ["true", "false", "true"].map(job).concat();
    std::fs::write(&file, jobs).expect("the state directory can be written");
    machine.evalfleet(&["submit", "--file", &file.display().to_string()]).expect(0);
    let watch = ["batch", "show", &batch, "--watch", "--count", "3", "--json"];
    let watched = machine.evalfleet(&watch).expect(0);
    let last: serde_json::Value =
        serde_json::from_str(watched.out.lines().last().expect("a line")).expect("a document");
    assert_eq!(last["recorded"], 3, "{last}");
    assert_eq!(last["statuses"], serde_json::json!({"failed": 1, "passed": 2}), "{last}");
    assert_eq!(last["failed"].as_array().map(Vec::len), Some(1), "{last}");
    let wait = ["wait", "--batch", &batch, "--count", "3"];
    assert!(machine.evalfleet(&wait).expect(1).out.contains("3 recorded"));
    let more = ["wait", "--batch", &batch, "--count", "4", "--patience", "1s"];
    machine.evalfleet(&more).expect(3).says(&["3 of 4 jobs", "--patience"]);
    let whole = machine.evalfleet(&["history", "export"]).expect(0);
    let of_it = |line: &&str| line.contains(&format!("\"batch\":\"{batch}\""));
    let lines: Vec<&str> = whole.out.lines().filter(of_it).collect();
    assert_eq!(lines.len(), 3, "{whole:?}");
    for line in lines {
        let document: serde_json::Value = serde_json::from_str(line).expect("a line is a document");
        assert_eq!(machine.recorded(document["id"].as_str().expect("an id")), document);
    }
    let shown = machine.evalfleet(&["batch", "show", &batch]).expect(0);
    assert!(shown.out.contains("3 recorded") && shown.out.contains("66.7 %"), "{shown:?}");
}

fn the_examples_of_the_library_run(machine: &Machine) {
    let run = |name: &str| -> Answer {
        machine.program(&format!("examples/{name}")).output().expect("the examples are built").into()
    };
    let cancelled = run("cancel").expect(0);
    assert_eq!(cancelled.out.matches(" cancelled: called off").count(), 4, "{cancelled:?}");
    assert!(run("dead_letters").expect(0).out.contains(" dead letters\n"));
    let submitted = run("submit").expect(0);
    for part in ["passed", "timed_out (budget)", "created  file      /workspace/a"] {
        assert!(submitted.out.contains(part), "{part:?}: {submitted:?}");
    }
}

fn the_gateway_has_no_privileges_whoever_starts_it(machine: &Machine) {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", machine.pid("gateway"))).expect("it runs");
    let of = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(of(set), Some("0000000000000000"), "{status}");
    }
    if rustix::process::geteuid().is_root() {
        assert_eq!((of("CapBnd"), of("NoNewPrivs")), (Some("0000000000000000"), Some("1")), "{status}");
    }
}
