//! Any evaluation again: the same where the subject does the same, the first divergence where it does not, and a refusal
//! with its reason where it cannot be run.

use super::Test;
use super::api::Api;
use super::faults::on_broker;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Status;
use evalfleet_proto::{Timestamp, topology, wire};
use evalfleet_tests::machine::{Answer, Machine};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("replay::a_subject_that_does_the_same_is_the_same", a_subject_that_does_the_same_is_the_same),
    ("replay::the_first_divergence_is_told", the_first_divergence_is_told),
    ("replay::what_is_not_the_subjects_doing_is_none", what_is_not_the_subjects_doing_is_none),
    ("replay::what_cannot_be_run_again_is_refused", what_cannot_be_run_again_is_refused),
    ("replay::a_secret_is_kept_nowhere", a_secret_is_kept_nowhere),
    ("replay::the_api_and_the_repl_replay", the_api_and_the_repl_replay),
];

/// Runs something and waits until it is recorded; gives its id.
fn recorded(machine: &Machine, arguments: &[&str]) -> String {
    let answer = machine.evalfleet(&[&["run", "--json"], arguments].concat());
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    machine.recorded(&id);
    id
}

fn replay(machine: &Machine, id: &str, more: &[&str]) -> Answer {
    machine.evalfleet(&[&["replay", id, "--json"], more].concat())
}

fn first(document: &Value) -> (&Value, &Value) {
    let first = &document["replays"][0]["first"];
    (&first["at"], &first["place"])
}

fn a_subject_that_does_the_same_is_the_same(machine: &Machine) {
    let dir = tempfile::tempdir().expect("a folder");
    let input = dir.path().join("input");
    // Too large for the message: it is in the blob store, and only the job says so.
    std::fs::write(&input, "line of input\n".repeat(30_000)).expect("written");
    let input = format!("{}:/workspace/input", input.display());
    let script = "wc -l < input; echo careful >&2; sort -u input > sorted; rm /etc/hostname; exit 3";
    let batch = format!("replay-{}", JobId::fresh());
    let arguments =
        ["--file", &input, "--out", "/workspace/sorted", "--env", "A=b", "--wall", "40s", "--batch", &batch];
    let id = recorded(machine, &[&arguments[..], &["--label", "run=1", "--", "sh", "-c", script]].concat());
    let original = machine.recorded(&id);
    assert_eq!(original["status"], "failed", "{original}");
    let document = replay(machine, &id, &["--times", "2"]).expect(0).json();
    assert_eq!(
        (&document["of"], &document["same"], &document["diverged"]),
        (&json!(id), &json!(2), &json!(0)),
        "{document}"
    );

    let again = document["replays"][0]["id"].as_str().expect("an id");
    let again = machine.recorded(again);
    assert_eq!(again["replay_of"], json!(id));
    assert_eq!(
        (&again["batch"], &again["labels"]),
        (&Value::Null, &json!({})),
        "it is of no batch and no run"
    );
    assert_eq!(again["provenance"]["image"], original["provenance"]["image"]);
    assert_eq!(again["artifacts"], original["artifacts"]);
    let sums = machine.recorded(&batch);
    assert_eq!(sums["evaluation/total"], 1, "the sums of its batch are what they were: {sums}");

    let called =
        machine.evalfleet(&["call", "word_count", r#"{"text": "a b c"}"#, "--json"]).expect(0).json();
    let called = called["id"].as_str().expect("an id");
    machine.recorded(called);
    let told = machine.evalfleet(&["replay", called]).expect(0);
    assert!(told.out.contains(&format!("the same as {called}")), "{told:?}");
}

fn the_first_divergence_is_told(machine: &Machine) {
    let random = recorded(machine, &["--", "sh", "-c", "echo always; od -An -tx8 -N8 /dev/urandom"]);
    let document = replay(machine, &random, &[]).expect(1).json();
    assert_eq!(first(&document), (&json!("stdout"), &json!("line 2")), "{document}");
    assert_eq!(document["replays"][0]["outcome"], "diverged");
    assert_eq!(document["replays"][0]["others"], json!([]), "and nothing else");
    let told = machine.evalfleet(&["replay", &random]).expect(1);
    for part in ["diverged from", "at stdout, line 2", "before: \"", "now:    \""] {
        assert!(told.out.contains(part), "{part:?}: {told:?}");
    }

    let time = recorded(machine, &["--", "date", "+%s.%N"]);
    assert_eq!(first(&replay(machine, &time, &[]).expect(1).json()).0, "stdout");

    let script = "echo done; od -An -tx8 -N8 /dev/urandom > /workspace/made";
    let written = recorded(machine, &["--", "sh", "-c", script]);
    let document = replay(machine, &written, &[]).expect(1).json();
    assert_eq!(first(&document), (&json!("effects"), &json!("/workspace/made")), "{document}");

    // The end of it comes first, whatever else there is.
    let script = "x=$(od -An -tu4 -N4 /dev/urandom | tr -d ' '); echo $x; exit $((x % 100 + 1))";
    let ends = recorded(machine, &["--", "sh", "-c", script]);
    let document = replay(machine, &ends, &["--times", "3"]).expect(1).json();
    let places: Vec<&Value> =
        document["replays"].as_array().expect("replays").iter().map(|one| &one["first"]["at"]).collect();
    assert!(
        places.iter().all(|at| ["exit_code", "stdout"].contains(&at.as_str().unwrap_or_default())),
        "{places:?}"
    );
    assert!(places.contains(&&json!("exit_code")), "three times the same of a hundred: {document}");
}

fn what_is_not_the_subjects_doing_is_none(machine: &Machine) {
    // Names that are made up, process numbers, times of writing, an hour of the clock that it does not tell.
    let script =
        "d=$(mktemp -d); echo x > $d/out; echo y > /run/job.$$; touch /workspace/a; date > /dev/null";
    let id = recorded(machine, &["--", "sh", "-c", script]);
    let document = replay(machine, &id, &[]).expect(0).json();
    assert_eq!(document["same"], 1, "{document}");
    let listed = |id: &str| machine.recorded(id)["effects"].to_string();
    let again = document["replays"][0]["id"].as_str().expect("an id");
    assert_ne!(listed(&id), listed(again), "the names are others");

    // What a limit ended was somewhere when it ended.
    let endless =
        ["--wall", "2s", "--", "sh", "-c", "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done"];
    let document = replay(machine, &recorded(machine, &endless), &[]).expect(0).json();
    assert!(document["replays"][0]["notes"].to_string().contains("a limit ended it"), "{document}");
}

fn what_cannot_be_run_again_is_refused(machine: &Machine) {
    let id = recorded(machine, &["--", "true"]);
    let image = machine.recorded(&id)["provenance"]["image"].as_str().expect("an image").to_owned();
    let elsewhere = tempfile::tempdir().expect("a folder");
    let without = |folder: &Path| {
        let mut command = machine.program("evalfleet");
        Answer::from(
            command.env("EVALFLEET_IMAGES__DIR", folder).args(["replay", &id]).output().expect("it runs"),
        )
    };
    without(elsewhere.path()).expect(4).says(&[&image, "evalfleet image build base", "not here"]);

    // As a worker reports that keeps no jobs, and older ones did.
    let older =
        Evaluation::blank(JobId::fresh(), "command", (Status::Passed, None), Vec::new(), Timestamp::now());
    let (key, envelope) =
        (topology::job_key(older.id), Envelope::new(MessageType::Result, older.id, Timestamp::now()));
    on_broker(machine, async |session| {
        session.publish(topology::RESULTS, &key, &envelope, &wire::encode(&older)).await.expect("confirmed");
    });
    let older = older.id.to_string();
    machine.recorded(&older);
    machine.evalfleet(&["replay", &older]).expect(4).says(&["was not kept", "before evalfleet kept jobs"]);

    machine
        .evalfleet(&["replay", "0198c1c2-0000-7000-8000-000000000000"])
        .expect(64)
        .says(&["no evaluation"]);
    let batch = format!("replay-{}", JobId::fresh());
    recorded(machine, &["--batch", &batch, "--", "true"]);
    machine.recorded(&batch);
    machine.evalfleet(&["replay", &batch]).expect(4).says(&[&batch, "is a batch"]);
    machine.evalfleet(&["replay", &id, "--times", "101"]).expect(64);
}

fn a_secret_is_kept_nowhere(machine: &Machine) {
    let secret = JobId::fresh().to_string();
    let variable = format!("SERVICE_TOKEN={secret}");
    let id = recorded(machine, &["--env", &variable, "--", "sh", "-c", "test -n \"$SERVICE_TOKEN\""]);
    let from = machine.recorded(&id)["provenance"].clone();
    assert_eq!(from["job"], Value::Null, "{from}");
    machine.evalfleet(&["replay", &id]).expect(4).says(&["SERVICE_TOKEN", "worker.secret_env"]);
    assert!(!held(&machine.state().join("blobs"), secret.as_bytes()), "it is in the blob store");
}

/// Whether a file below `dir` has these bytes.
fn held(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return held(&path, bytes);
        }
        std::fs::read(&path).expect("it can be read").windows(bytes.len()).any(|window| window == bytes)
    })
}

fn the_api_and_the_repl_replay(machine: &Machine) {
    let api = Api::of(machine);
    let id = recorded(machine, &["--", "echo", "again"]);
    let (status, answer) = api.post(&format!("/v1/evaluations/{id}/replay"), &json!({}));
    assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    let again = machine.recorded(answer["ids"][0].as_str().expect("an id"));
    assert_eq!((&again["replay_of"], &again["stdout"]["text"]), (&json!(id), &json!("again\n")), "{again}");
    for (id, status) in
        [("0198c1c2-0000-7000-8000-000000000000", StatusCode::NOT_FOUND), ("none", StatusCode::BAD_REQUEST)]
    {
        assert_eq!(api.post(&format!("/v1/evaluations/{id}/replay"), &json!({})).0, status);
    }
    let url = format!("{}/v1/evaluations/{id}/replay", api.url());
    assert_eq!(api.without_token(Method::POST, &url, Some("{}")).0, StatusCode::UNAUTHORIZED);

    let said = machine.evalfleet_with(&format!("/replay {id}\nwait\n/jobs\n"), &["repl"]).expect(0).out;
    for part in [
        format!("submitted: replay of {id}"),
        format!("the same as {id}"),
        format!("passed         replay of {id}"),
    ] {
        assert!(said.contains(&part), "{part:?}: {said}");
    }
    let nothing = "/replay 0198c1c2-0000-7000-8000-000000000000\n";
    machine.evalfleet_with(nothing, &["repl"]).expect(64).says(&["line 1: ", "no evaluation"]);
}
