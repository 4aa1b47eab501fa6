//! Bad input and missing parts: each a clear error that names the cause and the fix, with its exit code.

use super::Test;
use evalfleet_tests::machine::{Answer, Machine, wait_until};
use std::os::unix::fs::PermissionsExt as _;

pub(crate) const ALL: &[(&str, Test)] = &[
    (
        "errors::requests_at_fault_are_refused_before_they_are_enqueued",
        requests_at_fault_are_refused_before_they_are_enqueued,
    ),
    ("errors::a_job_no_vm_can_hold_is_the_requests_fault", a_job_no_vm_can_hold_is_the_requests_fault),
];

pub(crate) const ALONE: &[(&str, fn())] = &[
    ("errors::usage_is_64", usage_is_64),
    ("errors::a_setting_that_does_not_exist_is_named", a_setting_that_does_not_exist_is_named),
    ("errors::a_fleet_that_is_down_is_said_to_be", a_fleet_that_is_down_is_said_to_be),
    (
        "errors::a_qemu_that_is_missing_or_too_old_is_said_to_be",
        a_qemu_that_is_missing_or_too_old_is_said_to_be,
    ),
    ("errors::a_full_disk_is_said_to_be_full", a_full_disk_is_said_to_be_full),
    ("errors::the_doctor_names_what_is_missing", the_doctor_names_what_is_missing),
    ("errors::a_port_that_is_taken_is_left_alone", a_port_that_is_taken_is_left_alone),
    ("errors::the_users_own_files_are_accepted_as_written", the_users_own_files_are_accepted_as_written),
];

fn requests_at_fault_are_refused_before_they_are_enqueued(machine: &Machine) {
    let count = || machine.count("[:find ?e :where [?e :evaluation/id]]");
    // What the trials before submitted and did not wait for is still on its way.
    let mut before = count();
    wait_until("nothing more is recorded", || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        let now = count();
        std::mem::replace(&mut before, now) == now
    });
    machine.evalfleet(&["call", "no_such_tool"]).expect(4).says(&["no_such_tool", "word_count"]);
    machine.evalfleet(&["call", "word_count", "{"]).expect(4).says(&["JSON"]);
    machine.evalfleet(&["call", "word_count", r#"{"txt": "a"}"#]).expect(4).says(&["word_count", "text"]);
    machine.evalfleet(&["call", "word_count", r#"{"text": 7}"#]).expect(4).says(&["text", "string"]);
    let submit = |document: &str| machine.evalfleet_with(document, &["submit", "-"]);
    submit("{\"kind\": \"command\", \"argv\": [\"true\"], \"colour\": 1}\n").expect(4).says(&["colour"]);
    submit("{\"kind\": \"command\", \"argv\": [\"true\"], \"limits\": {\"wall\": \"9d\"}}\n")
        .expect(4)
        .says(&["wall"]);
    submit("not json\n").expect(4);
    assert_eq!(count(), before, "something of it was enqueued and recorded");
}

fn a_job_no_vm_can_hold_is_the_requests_fault(machine: &Machine) {
    let result = machine.evalfleet(&["run", "--json", "--memory", "300G", "--", "true"]).expect(4).json();
    let evidence = result["evidence"].to_string();
    assert!(evidence.contains("memory") && evidence.contains("300G"), "{result}");
}

fn usage_is_64() {
    let machine = Machine::new();
    machine.evalfleet(&["dance"]).expect(64).says(&["dance"]);
    machine.evalfleet(&["run", "--wall", "soon", "--", "true"]).expect(64).says(&["soon"]);
    machine.evalfleet(&["--help"]).expect(0);
    machine.evalfleet(&["completions", "bash"]).expect(0);
    assert!(machine.evalfleet(&["doctor", "--settings"]).expect(0).out.contains("[broker]"));
}

fn a_setting_that_does_not_exist_is_named() {
    let machine = Machine::new();
    let file = machine.state().join("evalfleet.toml");
    std::fs::write(&file, "[qemu]\nmemroy = \"1G\"\n").expect("written");
    let file = file.display().to_string();
    machine.evalfleet(&["--config", &file, "status"]).expect(64).says(&["memroy"]);
    machine.evalfleet(&["--config", "/no/such/file", "status"]).expect(64).says(&["/no/such/file"]);
    let from_environment = Machine::new().with("EVALFLEET_QEMU__CPUS", "0");
    from_environment.evalfleet(&["status"]).expect(64).says(&["qemu.cpus"]);
}

fn a_fleet_that_is_down_is_said_to_be() {
    let machine = Machine::new()
        .with("EVALFLEET_BROKER__URLS", "amqp://guest:guest@127.0.0.1:1/%2f")
        .with("EVALFLEET_API__URL", "http://127.0.0.1:1");
    machine.evalfleet(&["image", "build", "base"]).expect(0);
    machine.evalfleet(&["run", "--", "true"]).expect(69).says(&["RabbitMQ", "evalfleet up"]);
    machine
        .evalfleet(&["query", "[:find ?e :where [?e :evaluation/id]]"])
        .expect(69)
        .says(&["API", "evalfleet up"]);
    machine.evalfleet(&["status"]).expect(69);
    machine.evalfleet(&["down"]).expect(0);
}

fn probe(machine: &Machine) -> Answer {
    machine.program("evalfleet-worker").arg("probe").output().expect("the worker is built").into()
}

fn a_qemu_that_is_missing_or_too_old_is_said_to_be() {
    let missing = Machine::new().with("EVALFLEET_QEMU__BINARY", "/no/such/qemu");
    missing.evalfleet(&["image", "build", "base"]).expect(0);
    let answer = probe(&missing).expect(3);
    assert!(answer.out.contains("/no/such/qemu") && answer.out.contains("apt-get install"), "{answer:?}");

    let machine = Machine::new();
    let old = machine.state().join("old-qemu");
    std::fs::write(&old, "#!/bin/sh\necho 'QEMU emulator version 7.2.17 (Debian)'\n").expect("written");
    std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let machine = machine
        .with("EVALFLEET_QEMU__BINARY", &old.display().to_string())
        .with("EVALFLEET_QEMU__STRATEGY", "template-clone");
    let answer = probe(&machine).expect(3);
    assert!(answer.out.contains("7.2.17") && answer.out.contains("set it to auto"), "{answer:?}");
}

/// In a mount namespace of its own, so that no right on the host is needed.
fn a_full_disk_is_said_to_be_full() {
    let machine = Machine::new();
    let full = machine.state().join("full");
    std::fs::create_dir_all(&full).expect("made");
    let script = "mount -t tmpfs -o size=16k tmpfs \"$1\" && export EVALFLEET_STATE__DIR=\"$1\" && exec \"$2\" up --detach";
    let evalfleet = evalfleet_tests::machine::programs().join("evalfleet");
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([&full, &evalfleet])
        .output()
        .expect("unshare (package util-linux)");
    Answer::from(output).expect(69).says(&["No space left", "state directory"]);
}

fn the_doctor_names_what_is_missing() {
    let machine = Machine::new().with("EVALFLEET_IMAGES__DIR", "/nonexistent/images");
    let answer = machine.evalfleet(&["doctor"]).expect(69);
    assert!(answer.out.contains("evalfleet image build base"), "{answer:?}");
}

fn a_port_that_is_taken_is_left_alone() {
    let machine = Machine::new();
    let up = || {
        machine.evalfleet(&["up", "--detach", "--only", "gateway"]).expect(0);
        let port = machine.part("gateway")["port"].as_u64().expect("it has a port") as u16;
        machine.evalfleet(&["down"]).expect(0);
        port
    };
    let first = up();
    assert_eq!(up(), first, "addresses stay from one `up` to the next");
    let taken = std::net::TcpListener::bind(("127.0.0.1", first)).expect("nobody else took it");
    assert_ne!(up(), first);
    drop(taken);
}

/// The configuration of the user's document, comments and all; the database is in memory.
fn the_users_own_files_are_accepted_as_written() {
    let machine = Machine::new();
    let edn = machine.state().join("datomic.edn");
    std::fs::write(
        &edn,
        "{:datomic-uri \"datomic:mem://gemini-eval\"\n :schema-file \"resources/evaluation-schema.edn\"\n \
         :backup-schedule \"0 2 * * *\"  ; Daily backups at 2 AM\n :retention-days 365}\n",
    )
    .expect("written");
    let toml = machine.state().join("evalfleet.toml");
    let snapshots = machine.state().join("snapshots");
    let text = format!(
        "[qemu]\nmemory = \"2048M\"\ncpus = 2\ndisk_size = \"20G\"\nnetwork = \"user,hostfwd=tcp::2222-:22\"\n\
         snapshot_dir = \"{}\"\n\n[qemu.images]\nbase = \"ubuntu-22.04-minimal.qcow2\"\n\
         evaluation = \"gemini-eval-env.qcow2\"\n\n[datomic]\nconfig = \"{}\"\n",
        snapshots.display(),
        edn.display()
    );
    std::fs::write(&toml, text).expect("written");
    let config = toml.display().to_string();
    machine.evalfleet(&["--config", &config, "up", "--detach", "--only", "gateway,api"]).expect(0);
    let query = "[:find ?ident :where [_ :db/ident ?ident] [(= ?ident :evaluation/success-rate)]]";
    let rows = machine.evalfleet(&["--config", &config, "query", query, "--json"]).expect(0).json();
    assert_eq!(rows["rows"], serde_json::json!([[":evaluation/success-rate"]]));
    let log = std::fs::read_to_string(machine.state().join("logs/gateway.log")).expect("the gateway logs");
    assert!(log.contains("datomic:mem://gemini-eval") && log.contains("NOT durable"), "{log}");
    machine.evalfleet(&["down"]).expect(0);
}
