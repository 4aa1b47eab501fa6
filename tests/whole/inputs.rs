//! Inputs of several MiB: they travel by their hash, whoever submits them, and the worker looks at what it fetched.

use super::Test;
use super::api::Api;
use evalfleet::client::Client;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::job::{Content, Task};
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::{Submission, SubmittedFile};
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::Machine;
use reqwest::StatusCode;
use serde_json::json;
use std::path::PathBuf;
use tokio::runtime::Runtime;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("inputs::large_ones_go_through_the_library", large_ones_go_through_the_library),
    ("inputs::large_ones_go_through_rest", large_ones_go_through_rest),
    ("inputs::a_damaged_one_is_never_run_with", a_damaged_one_is_never_run_with),
];

const SCRIPT: &str = "sha256sum; sha256sum < /workspace/data";

/// Some text of so many MiB, another for each `line`.
fn text(line: &str, mib: usize) -> String {
    let mut text = line.repeat((mib << 20) / line.len() + 1);
    text.truncate(mib << 20);
    text
}

/// What [`SCRIPT`] says of two texts.
fn sums(input: &str, data: &str) -> String {
    [input, data].map(|text| format!("{}  -\n", Sha256::of(text.as_bytes()))).concat()
}

fn kept(machine: &Machine, key: Sha256) -> PathBuf {
    let key = key.to_string();
    machine.state().join(format!("blobs/{}/{}/{key}", &key[..2], &key[2..4]))
}

fn in_the_store(machine: &Machine, text: &str) -> bool {
    std::fs::read(kept(machine, Sha256::of(text.as_bytes()))).is_ok_and(|bytes| bytes == text.as_bytes())
}

/// Has the client library do something.
fn with_client(machine: &Machine, what: impl AsyncFnOnce(&Client) -> Evaluation) -> Evaluation {
    let endpoints =
        std::fs::read_to_string(machine.state().join("endpoints.toml")).expect("the machine is up");
    let environment = machine.environment().to_vec();
    let layers = Layers { endpoints: Some(endpoints), environment, ..Layers::default() };
    let settings = Settings::from_layers(&layers).expect("what `up` wrote is sound");
    Runtime::new().expect("a runtime").block_on(async {
        let client = Client::connect(&settings).await.expect("it is up");
        let evaluation = what(&client).await;
        client.close().await;
        evaluation
    })
}

fn large_ones_go_through_the_library(machine: &Machine) {
    let (input, data) = (text("by the library\n", 5), text("and a file\n", 3));
    let mut submission = Submission::command(["sh", "-c", SCRIPT]);
    submission.stdin = Some(input.clone());
    submission.files =
        vec![SubmittedFile { path: "/workspace/data".to_owned(), text: data.clone(), mode: 0o644 }];
    let evaluation = with_client(machine, async |client| {
        let pending = client.submit(submission).await.expect("submitted");
        pending.wait().await.expect("done")
    });
    assert_eq!(
        (evaluation.status, evaluation.stdout.text.as_str()),
        (Status::Passed, sums(&input, &data).as_str())
    );
    assert!(in_the_store(machine, &input) && in_the_store(machine, &data));
}

fn large_ones_go_through_rest(machine: &Machine) {
    let (input, data) = (text("by HTTP\n", 4), text("and another file\n", 2));
    let api = Api::of(machine);
    let files = json!([{ "path": "/workspace/data", "text": data }]);
    let id = api
        .submit(&json!({ "kind": "command", "argv": ["sh", "-c", SCRIPT], "stdin": input, "files": files }));
    let result = machine.recorded(&id);
    assert_eq!(
        (result["status"].as_str(), result["stdout"]["text"].as_str()),
        (Some("passed"), Some(sums(&input, &data).as_str()))
    );
    assert!(in_the_store(machine, &input) && in_the_store(machine, &data));

    let args = json!({ "text": text("arguments\n", 1) });
    let (status, problem) =
        api.post("/v1/evaluations", &json!({ "kind": "function_call", "tool": "word_count", "args": args }));
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("args has")), "{problem}");
}

fn a_damaged_one_is_never_run_with(machine: &Machine) {
    let evaluation = with_client(machine, async |client| {
        let mut job = client.prepare(Submission::command(["cat"])).expect("a job");
        let key =
            client.blobs().await.expect("a folder").put(b"what was meant".to_vec()).await.expect("kept");
        std::fs::write(kept(machine, key), "something else").expect("it can be written");
        if let Task::Command(command) = &mut job.task {
            command.stdin = Some(Content::Blob { sha256: key, bytes: 14 });
        }
        client.submit_job(&job).await.expect("submitted").wait().await.expect("given up")
    });
    assert_eq!(evaluation.status, Status::Dead, "{evaluation:?}");
    assert!(
        evaluation.evidence.iter().any(|evidence| evidence.message.contains("is damaged")),
        "{evaluation:?}"
    );
    assert_eq!(evaluation.stdout.text, "");
}
