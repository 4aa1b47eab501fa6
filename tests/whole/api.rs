//! What the API does for those who may: jobs submitted, heard of and called off; dead letters replayed and dropped.

use super::Test;
use super::dead::{buried, job, letter};
use evalfleet_proto::ids::JobId;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::{Machine, wait_until};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("api::jobs_are_submitted_heard_of_and_called_off", jobs_are_submitted_heard_of_and_called_off),
    ("api::dead_letters_are_replayed_and_dropped", dead_letters_are_replayed_and_dropped),
];

/// A machine's API.
pub(crate) struct Api {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    pub(crate) fn of(machine: &Machine) -> Self {
        let endpoints =
            std::fs::read_to_string(machine.state().join("endpoints.toml")).expect("the machine is up");
        let layers = Layers { endpoints: Some(endpoints), ..Layers::default() };
        let api = Settings::from_layers(&layers).expect("what `up` wrote is sound").api;
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            client: evalfleet_service::http::builder().build().expect("a client"),
            url: api.url,
            token: std::fs::read_to_string(api.token_file).expect("a token").trim().to_owned(),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        request.timeout(Duration::from_secs(60)).send().await.expect("the API answers")
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Posts a document, and gives the status, and the answer where it has one.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.document(Method::POST, path, Some(body))
    }

    /// Asks for a document.
    pub(crate) fn get(&self, path: &str) -> (StatusCode, Value) {
        self.document(Method::GET, path, None)
    }

    fn document(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.runtime.block_on(async {
            let response = self.ask(method, path, body).await;
            let status = response.status();
            let text = response.text().await.expect("its body");
            (status, serde_json::from_str(&text).unwrap_or_default())
        })
    }

    /// Asks an address as somebody who has no token.
    pub(crate) fn without_token(
        &self,
        method: Method,
        url: &str,
        body: Option<&str>,
    ) -> (StatusCode, String) {
        self.runtime.block_on(async {
            let mut request = self.client.request(method, url).header("accept", "text/html,*/*");
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_owned());
            }
            let response = request.send().await.expect("the API answers");
            (response.status(), response.text().await.expect("its body"))
        })
    }

    /// Whether an address answers with what was asked for.
    pub(crate) fn answers(&self, url: &str) -> bool {
        let asked = self.runtime.block_on(self.client.get(url).send());
        asked.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// Submits one document, and gives the job's id.
    pub(crate) fn submit(&self, document: &Value) -> String {
        let (status, answer) = self.post("/v1/evaluations", document);
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        answer["ids"][0].as_str().expect("an id").to_owned()
    }

    /// Listens to the events of `path` until `text` was told.
    pub(crate) fn hear(&self, path: &str, text: &str) {
        self.runtime.block_on(async {
            let response = self.client.get(format!("{}{path}", self.url)).bearer_auth(&self.token);
            let mut response = response.send().await.expect("the API answers");
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            let mut heard = String::new();
            let listening = async {
                while !heard.contains(text) {
                    let chunk = response.chunk().await.expect("it does not break").expect("it goes on");
                    heard.push_str(&String::from_utf8_lossy(&chunk));
                }
            };
            tokio::time::timeout(Duration::from_secs(60), listening).await.expect("it is told in time");
        });
    }
}

fn jobs_are_submitted_heard_of_and_called_off(machine: &Machine) {
    let api = Api::of(machine);
    let id = api.submit(&json!({ "kind": "command", "argv": ["echo", "by HTTP"] }));
    let result = machine.recorded(&id);
    assert_eq!(
        (result["status"].as_str(), result["stdout"]["text"].as_str()),
        (Some("passed"), Some("by HTTP\n"))
    );

    let batch = format!("http-{}", JobId::fresh());
    let fits = json!({ "kind": "command", "argv": ["true"], "batch": batch });
    let tool = json!({ "kind": "function_call", "tool": "no_such_tool", "args": {}, "batch": batch });
    let (status, problem) = api.post("/v1/evaluations", &json!([fits, tool]));
    assert_eq!((status, problem["exit"].as_u64()), (StatusCode::BAD_REQUEST, Some(4)), "{problem}");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("document 1") && detail.contains("nothing was submitted"), "{detail}");
    let (status, problem) = api.post("/v1/evaluations", &json!({ "kind": "command", "argb": ["true"] }));
    assert!(status == StatusCode::BAD_REQUEST && problem["detail"].to_string().contains("argb"), "{problem}");
    assert_eq!(api.post("/v1/evaluations", &json!([])).0, StatusCode::BAD_REQUEST);

    // A first job says when the worker is at it, a second one waits meanwhile; both are called off.
    let script = "while :; do echo tick; sleep 1; done";
    let running =
        api.submit(&json!({ "kind": "command", "argv": ["sh", "-c", script], "limits": { "wall": "300s" } }));
    let queued = api.submit(&fits);
    api.hear(&format!("/v1/events?job={running}"), "tick");
    let (status, _) = api.post(&format!("/v1/batches/{batch}/cancel"), &json!({ "reason": "by HTTP" }));
    assert_eq!(status, StatusCode::ACCEPTED);
    let (status, _) = api.post(&format!("/v1/evaluations/{running}/cancel"), &json!({ "reason": "by HTTP" }));
    assert_eq!(status, StatusCode::ACCEPTED);
    for id in [running, queued] {
        let result = machine.recorded(&id);
        let why = result["evidence"][0]["message"].as_str().unwrap_or_default().to_owned();
        assert!(result["status"] == "cancelled" && why.ends_with("by HTTP"), "{result}");
    }
    assert_eq!(api.post("/v1/evaluations/none/cancel", &json!({})).0, StatusCode::BAD_REQUEST);

    let nobody = api.runtime.block_on(async {
        let request = api.client.post(format!("{}/v1/evaluations", api.url));
        request
            .header("content-type", "application/json")
            .body(fits.to_string())
            .send()
            .await
            .expect("an answer")
    });
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
}

fn dead_letters_are_replayed_and_dropped(machine: &Machine) {
    let api = Api::of(machine);
    let batch = format!("http-dead-{}", JobId::fresh());
    let document = format!(r#"{{"kind": "command", "argv": ["true"], "batch": "{batch}"}}"#);
    let dead = [job(&document), job(&document)];
    buried(machine, &dead.each_ref().map(|job| letter(job, "w1", "the VM died")));
    let [first, second] = dead.each_ref().map(|job| job.id.to_string());

    let replay = json!({ "ids": [first], "dry_run": true });
    let (status, dry) = api.post("/v1/dead-letters/replay", &replay);
    assert_eq!((status, dry["letters"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{dry}");
    let (status, done) = api.post("/v1/dead-letters/replay", &json!({ "ids": [first] }));
    assert_eq!(status, StatusCode::OK, "{done}");
    // What a dry run says is what is done.
    assert_eq!(done["letters"][0]["job"], dry["letters"][0]["job"], "{done}");
    let new = done["letters"][0]["job"].as_str().expect("a job").to_owned();
    let result = machine.recorded(&new);
    assert_eq!(
        (result["status"].as_str(), result["replay_of"].as_str()),
        (Some("passed"), Some(first.as_str()))
    );
    let mut again = Value::Null;
    wait_until("the replay is in the history", || {
        again = api.post("/v1/dead-letters/replay", &json!({ "ids": [first] })).1;
        again["letters"][0]["refused"].is_string()
    });
    assert!(again["letters"][0]["refused"].to_string().contains(&new), "{again}");

    let nothing = json!({ "ids": [second], "reason": " " });
    assert_eq!(api.post("/v1/dead-letters/drop", &nothing).0, StatusCode::BAD_REQUEST);
    let (status, dropped) =
        api.post("/v1/dead-letters/drop", &json!({ "ids": [second], "reason": "by HTTP" }));
    assert_eq!(status, StatusCode::OK, "{dropped}");
    wait_until("it is told to be dropped", || {
        let shown = machine.evalfleet(&["dead", "show", &second, "--json"]);
        shown.code == 0 && shown.json()["drop_reason"] == "by HTTP"
    });
    let (status, problem) = api.post("/v1/dead-letters/drop", &json!({ "ids": ["nothing"], "reason": "x" }));
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
}
