//! Faults: parts are killed in the middle of things, and every job is in the history, once.

use super::Test;
use evalfleet_broker::{Options, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::{Machine, signal, wait_until};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("faults::a_worker_killed_in_mid_job", a_worker_killed_in_mid_job),
    (
        "faults::a_vm_killed_by_somebody_is_not_the_subjects_fault",
        a_vm_killed_by_somebody_is_not_the_subjects_fault,
    ),
    ("faults::the_recorder_killed_before_its_commit", the_recorder_killed_before_its_commit),
    ("faults::the_gateway_killed", the_gateway_killed),
    ("faults::the_broker_restarted_under_a_running_job", the_broker_restarted_under_a_running_job),
    ("faults::a_message_that_is_no_job", a_message_that_is_no_job),
    ("faults::a_damaged_image_a_dead_letter_and_its_replay", a_damaged_image_a_dead_letter_and_its_replay),
    ("faults::down_leaves_nothing_behind", down_leaves_nothing_behind),
];

/// Submits a job that takes a while, and gives its id once it runs.
pub(crate) fn slow_job(machine: &Machine, seconds: u32) -> String {
    let document =
        format!("{{\"kind\": \"command\", \"argv\": [\"sh\", \"-c\", \"sleep {seconds}; echo done\"]}}\n");
    let answer = machine.evalfleet_with(&document, &["submit", "-"]).expect(0);
    let id = answer.out.trim().to_owned();
    wait_until("the job is taken", || log(machine, "worker-1").contains(&format!("took a job job={id}")));
    id
}

pub(crate) fn log(machine: &Machine, part: &str) -> String {
    // Colours would come between a name and its value.
    std::fs::read_to_string(machine.state().join(format!("logs/{part}.log"))).unwrap_or_default()
}

/// It passed, and its facts are there once: in the whole history, not only as of now.
pub(crate) fn passed_once(machine: &Machine, id: &str) {
    let result = machine.recorded(id);
    assert_eq!(result["status"], "passed", "{result}");
    let query = format!(
        "(d/q '[:find ?e ?rate ?tx :where [?e :evaluation/id \"{id}\"] [?e :evaluation/success-rate ?rate ?tx]] (d/history db))"
    );
    assert_eq!(machine.count(&query), 1, "recorded more than once");
    let calls = format!("[:find ?c :where [?e :evaluation/id \"{id}\"] [?e :evaluation/function-calls ?c]]");
    assert_eq!(machine.count(&calls), 1, "its call was recorded more than once");
}

/// The QEMUs of a machine's worker.
pub(crate) fn qemus(machine: &Machine) -> Vec<u32> {
    let mark = machine.state().join("vms").display().to_string();
    let list = Command::new("pgrep")
        .args(["-f", &format!("qemu.*{mark}")])
        .output()
        .expect("pgrep (package procps)");
    String::from_utf8_lossy(&list.stdout).lines().filter_map(|line| line.trim().parse().ok()).collect()
}

fn a_worker_killed_in_mid_job(machine: &Machine) {
    let id = slow_job(machine, 3);
    let killed = machine.kill("worker-1");
    wait_until("no VM outlives its worker", || {
        qemus(machine).is_empty() || machine.part("worker-1")["pid"] != killed
    });
    machine.wait_for_successor("worker-1", killed);
    passed_once(machine, &id);
}

fn a_vm_killed_by_somebody_is_not_the_subjects_fault(machine: &Machine) {
    let id = slow_job(machine, 4);
    // The active one and its spare: killed by the host, which no guest can do to its QEMU.
    for pid in qemus(machine) {
        signal("KILL", pid);
    }
    let result = machine.recorded(&id);
    assert_eq!(
        (result["status"].as_str(), result["provenance"]["attempt"].as_u64()),
        (Some("passed"), Some(2)),
        "{result}"
    );
    assert_eq!(result["attempts"][0]["cause"], "infrastructure");
}

fn the_recorder_killed_before_its_commit(machine: &Machine) {
    let recorder = machine.pid("recorder");
    signal("STOP", recorder);
    // The waiting client hears of it all the same: results do not wait for the history.
    let result = machine.evalfleet(&["run", "--json", "--", "true"]).expect(0).json();
    let killed = machine.kill("recorder");
    machine.wait_for_successor("recorder", killed);
    passed_once(machine, result["id"].as_str().expect("an id"));
}

fn the_gateway_killed(machine: &Machine) {
    let killed = machine.kill("gateway");
    // While it is down, questions say so, and jobs go on.
    machine
        .evalfleet(&["query", "[:find ?e :where [?e :evaluation/id]]"])
        .expect(69)
        .says(&["Datomic gateway"]);
    let result = machine.evalfleet(&["run", "--json", "--", "true"]).expect(0).json();
    machine.wait_for_successor("gateway", killed);
    passed_once(machine, result["id"].as_str().expect("an id"));
}

fn the_broker_restarted_under_a_running_job(machine: &Machine) {
    let id = slow_job(machine, 3);
    let killed = machine.kill("broker");
    machine.wait_for_successor("broker", killed);
    passed_once(machine, &id);
}

/// Does something on the machine's broker.
pub(crate) fn on_broker(machine: &Machine, what: impl AsyncFnOnce(&Session)) {
    let endpoints =
        std::fs::read_to_string(machine.state().join("endpoints.toml")).expect("the machine is up");
    let layers = Layers { endpoints: Some(endpoints), ..Layers::default() };
    let settings = Settings::from_layers(&layers).expect("what `up` wrote is sound");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let session =
            Session::connect(&Options::new(&settings.broker, "test")).await.expect("the broker is up");
        what(&session).await;
        session.close().await;
    });
}

fn a_message_that_is_no_job(machine: &Machine) {
    let id = JobId::fresh();
    on_broker(machine, async |session| {
        let envelope = Envelope::new(MessageType::Job, id, Timestamp::now());
        let body = b"\x81\xa6schema\x01 and then nonsense";
        session.publish(topology::JOBS, "default", &envelope, body).await.expect("confirmed");
    });
    let result = machine.recorded(&id.to_string());
    assert_eq!(
        (result["status"].as_str(), result["cause"].as_str()),
        (Some("dead"), Some("harness")),
        "{result}"
    );
    let letter = dead_letter(machine, &id.to_string());
    assert_eq!(
        (letter["reason"].as_str(), letter["cause"].as_str()),
        (Some("poison"), Some("harness")),
        "{letter}"
    );
    assert_eq!(
        (letter["replayable"].as_bool(), letter["bytes"].as_u64()),
        (Some(false), Some(27)),
        "{letter}"
    );
    machine.evalfleet(&["dead", "replay", &id.to_string()]).expect(4).says(&["cannot be replayed"]);
    machine.evalfleet(&["dead", "drop", &id.to_string(), "--reason", "nonsense"]).expect(0);
    // The line goes on.
    machine.evalfleet(&["run", "--", "true"]).expect(0);
}

/// An image that is named and whose file is gone: the host's fault, not the job's.
fn a_damaged_image_a_dead_letter_and_its_replay(machine: &Machine) {
    let (images, name) = (images(), "damaged");
    let whole = std::fs::canonicalize(images.join("base/current")).expect("the base image is built");
    let copy = images.join(name).join(whole.file_name().expect("named by its digest"));
    let _ = std::fs::remove_dir_all(images.join(name));
    std::fs::create_dir_all(&copy).expect("made");
    for entry in std::fs::read_dir(&whole).expect("an image") {
        let path = entry.expect("an entry").path();
        std::fs::hard_link(&path, copy.join(path.file_name().expect("a name"))).expect("linked");
    }
    rename_image(&copy.join("manifest.json"), name);
    std::os::unix::fs::symlink(copy.file_name().expect("a name"), images.join(name).join("current"))
        .expect("linked");
    let (root, aside) = (copy.join("root.erofs"), copy.join("aside"));
    std::fs::rename(&root, &aside).expect("moved away");

    let run = machine.evalfleet(&["run", "--json", "--image", name, "--", "echo", "alive"]).expect(3).json();
    assert_eq!(
        (run["status"].as_str(), run["cause"].as_str()),
        (Some("dead"), Some("infrastructure")),
        "{run}"
    );
    assert_eq!(run["success_rate"], serde_json::Value::Null, "an infrastructure fault counts against nobody");
    assert_eq!(run["attempts"].as_array().map(Vec::len), Some(2), "{run}");
    let id = run["id"].as_str().expect("an id");
    let letter = dead_letter(machine, id);
    assert_eq!((letter["tool"].as_str(), letter["image"].as_str()), (Some("echo"), Some(name)), "{letter}");

    std::fs::rename(&aside, &root).expect("moved back");
    let replayed = machine.evalfleet(&["dead", "replay", id, "--json"]).expect(0);
    let document: serde_json::Value =
        serde_json::from_str(replayed.out.lines().next().expect("a line")).expect("it is JSON");
    let successor = ["job", "replay", "id", "as"]
        .iter()
        .filter_map(|key| document[*key].as_str())
        .find(|found| *found != id);
    let successor = successor.unwrap_or_else(|| panic!("no new job in {document}"));
    let result = machine.recorded(successor);
    assert_eq!(
        (result["status"].as_str(), result["replay_of"].as_str()),
        (Some("passed"), Some(id)),
        "{result}"
    );
    let letters = machine.evalfleet(&["dead", "list", "--queue", "--json"]).expect(0);
    assert!(!letters.out.contains(id), "it is still there: {letters:?}");
    std::fs::remove_dir_all(images.join(name)).expect("removed");
}

/// A dead letter as the history has it, as soon as it does.
pub(crate) fn dead_letter(machine: &Machine, id: &str) -> serde_json::Value {
    let mut found = None;
    wait_until(&format!("the letter {id} is recorded"), || {
        let answer = machine.evalfleet(&["dead", "show", id, "--json"]);
        found = (answer.code == 0).then(|| answer.json());
        found.is_some()
    });
    found.expect("just found")
}

/// An image knows its name: a copy of its manifest under another one.
fn rename_image(manifest: &Path, name: &str) {
    let text = std::fs::read(manifest).expect("a manifest");
    let mut document: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
    document["name"] = name.into();
    std::fs::remove_file(manifest).expect("only a link");
    std::fs::write(manifest, document.to_string()).expect("written");
}

fn images() -> PathBuf {
    evalfleet_tests::machine::programs().parent().expect("target").join("images")
}

/// The last trial: it ends the machine.
fn down_leaves_nothing_behind(machine: &Machine) {
    machine.evalfleet(&["down"]).expect(0);
    let state = machine.state().display().to_string();
    let left = Command::new("pgrep").args(["-af", &state]).output().expect("pgrep (package procps)");
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    let ours: Vec<&str> = left.lines().filter(|line| !line.contains("pgrep")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    machine.evalfleet(&["status"]).expect(69);
}
