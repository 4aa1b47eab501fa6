//! Questions put to a model: over HTTP to a server that replays recorded exchanges of the Gemini API, and every call
//! in a real VM.

use super::Test;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use evalfleet::gemini::Request;
use evalfleet::gemini::recorded::{Exchange, Recorded};
use evalfleet_tests::machine::{Machine, signal, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Runtime;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("suite::a_model_is_judged_by_what_it_did_and_not_by_its_service", a_model_is_judged),
    ("suite::two_models_are_compared_question_by_question", two_models_are_compared),
    ("suite::a_run_that_was_stopped_goes_on", a_run_that_was_stopped_goes_on),
    ("suite::what_is_no_suite_is_said", what_is_no_suite_is_said),
];

const KEY: &str = "a-key-that-nobody-may-see";

const SUITE: &str = r#"
name = "basics"
system = "You work in /workspace."
fixture = "fixture"

[[questions]]
id = "q1"
question = "What is two and two?"
answer = "four|4"

[[questions]]
id = "q2"
question = "What does the note say?"
expected_tools = ["read_file"]
calls = [{ tool = "read_file", args = { path = "notes/note.txt" } }]
effects = []
answer = "milk"

[[questions]]
id = "q3"
question = "Write done into out/a.txt."
expected_tools = ["write_file"]
effects = ["/workspace/out", "/workspace/out/a.txt"]

[[questions]]
id = "q4"
question = "List the files."
expected_tools = ["list_files"]

[[questions]]
id = "q5"
question = "What is overloaded?"

[[questions]]
id = "q6"
question = "What is overloaded only once?"

[[questions]]
id = "q7"
question = "What cannot be read?"
"#;

fn said(model: &str, question: &str, contents: usize, status: u16, parts: &Value) -> Exchange {
    let answer = match status {
        200 => {
            json!({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]})
        }
        _ => {
            json!({"error": {"code": status, "message": "Resource exhausted", "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.1s"}]}})
        }
    };
    Exchange { model: model.to_owned(), question: question.to_owned(), contents, status, answer }
}

/// What a model says to the suite; a better one lists the files when it is asked to.
fn exchanges(model: &str, better: bool) -> Vec<Exchange> {
    let call = |name: &str, args: Value| json!([{"text": "I look."}, {"functionCall": {"name": name, "args": args}}]);
    let words = |text: &str| json!([{"text": text}]);
    let mut all = vec![
        said(model, "What is two and two?", 1, 200, &words("It is four.")),
        said(model, "What does the note say?", 1, 200, &call("read_file", json!({"path": "notes/note.txt"}))),
        said(model, "What does the note say?", 3, 200, &words("To buy milk.")),
        said(
            model,
            "Write done into out/a.txt.",
            1,
            200,
            &call("write_file", json!({"path": "out/a.txt", "content": "done"})),
        ),
        said(model, "Write done into out/a.txt.", 3, 200, &words("Done.")),
        said(model, "What is overloaded?", 1, 429, &Value::Null),
        said(model, "What is overloaded only once?", 1, 429, &Value::Null),
        said(model, "What is overloaded only once?", 1, 200, &words("This.")),
    ];
    let listing = if better { call("list_files", json!({})) } else { words("I see no files.") };
    all.push(said(model, "List the files.", 1, 200, &listing));
    all.push(said(model, "List the files.", 3, 200, &words("One folder.")));
    let mut unreadable = said(model, "What cannot be read?", 1, 200, &Value::Null);
    unreadable.answer = json!("<html>no JSON</html>");
    all.push(unreadable);
    all
}

fn lines(exchanges: &[Exchange]) -> String {
    exchanges.iter().map(|exchange| serde_json::to_string(exchange).expect("it is JSON") + "\n").collect()
}

/// The suite in a folder of its own, with its fixture; exchanges beside it.
fn laid(machine: &Machine, exchanges: &[Exchange]) -> PathBuf {
    let dir = machine.state().join("suite");
    std::fs::create_dir_all(dir.join("fixture/notes")).expect("the state directory can be written");
    std::fs::write(dir.join("fixture/notes/note.txt"), "buy milk\n").expect("written");
    std::fs::write(dir.join("basics.toml"), SUITE).expect("written");
    std::fs::write(dir.join("said.jsonl"), lines(exchanges)).expect("written");
    dir
}

/// A server of the Gemini API that says what was recorded. It notes the questions that it is asked.
struct Service {
    _runtime: Runtime,
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Serving {
    recorded: Arc<Recorded>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Asked this, it is silent.
    silent_at: Option<&'static str>,
}

async fn generate(
    State(it): State<Serving>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Vec<u8>) {
    if headers.get("x-goog-api-key").is_none_or(|key| key != KEY) {
        return (StatusCode::FORBIDDEN, b"no key".to_vec());
    }
    let declared = &body["tools"][0]["functionDeclarations"];
    if declared.as_array().is_none_or(Vec::is_empty)
        || body["systemInstruction"]["parts"][0]["text"].is_null()
    {
        return (StatusCode::BAD_REQUEST, b"no tools".to_vec());
    }
    let contents = body["contents"].as_array().cloned().unwrap_or_default();
    let question =
        contents.first().and_then(|first| first["parts"][0]["text"].as_str()).unwrap_or_default().to_owned();
    it.asked.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
    if it.silent_at.is_some_and(|silent| silent == question) {
        std::future::pending::<()>().await;
    }
    match it.recorded.answer(&Request { contents, ..Request::default() }) {
        Ok((status, Value::String(text))) => {
            (StatusCode::from_u16(status).expect("a status"), text.into_bytes())
        }
        Ok((status, answer)) => {
            (StatusCode::from_u16(status).expect("a status"), answer.to_string().into_bytes())
        }
        Err(missing) => (StatusCode::NOT_FOUND, missing.into_bytes()),
    }
}

impl Service {
    fn new(exchanges: &[Exchange], silent_at: Option<&'static str>) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = Arc::new(Recorded::parse(&lines(exchanges), &exchanges[0].model).expect("exchanges"));
        let serving = Serving { recorded, asked: asked.clone(), silent_at };
        let app = axum::Router::new().route("/v1beta/models/{model}", post(generate)).with_state(serving);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { _runtime: runtime, endpoint, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn environment(&self) -> [(&'static str, &str); 2] {
        [("GEMINI_API_KEY", KEY), ("GEMINI_API_ENDPOINT", &self.endpoint)]
    }
}

fn a_model_is_judged(machine: &Machine) {
    let said = exchanges("weaker", false);
    let dir = laid(machine, &said);
    let service = Service::new(&said, None);
    let arguments = [
        "suite",
        "run",
        "basics.toml",
        "--model",
        "weaker",
        "--record",
        "recorded.jsonl",
        "--retries",
        "1",
        "--tries",
        "2",
    ];
    let mut command = machine.program("evalfleet");
    command.current_dir(&dir).args(arguments).arg("--json").envs(service.environment());
    let output = command.output().expect("evalfleet is built");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{out}{err}");
    let report: Value = serde_json::from_str(&out).expect("a document");
    // Without the service's doing and ours, five were put to the test, and four of them passed.
    assert_eq!(
        (&report["reported"]["passed"], &report["reported"]["tries"]),
        (&json!(4), &json!(7)),
        "{report:#}"
    );
    assert_eq!(
        (&report["attributed"]["passed"], &report["attributed"]["tries"]),
        (&json!(4), &json!(5)),
        "{report:#}"
    );
    assert_eq!(report["causes"], json!({"subject": 1, "infrastructure": 1, "harness": 1}));
    assert_eq!(report["functions"]["read_file"]["passed"], 1);
    let questions = report["questions"].as_array().expect("questions");
    let of = |id: &str| questions.iter().find(|one| one["question_id"] == id).expect("it was put");
    assert_eq!(of("q3")["actual_tools"], json!(["write_file"]));
    assert!(
        of("q4")["error"].as_str().is_some_and(|why| why.contains("expected to call list_files")),
        "{}",
        of("q4")
    );
    assert!(of("q5")["error"].as_str().is_some_and(|why| why.contains("429 at 2 tries")), "{}", of("q5"));
    // The one that is always overloaded was put twice, and asked twice each time; the other once more.
    let asked = service.asked();
    let count = |question: &str| asked.iter().filter(|one| *one == question).count();
    assert_eq!((count("What is overloaded?"), count("What is overloaded only once?")), (4, 2), "{asked:?}");
    // The history has the run with both rates, each question with its cause, and each call as an evaluation.
    let batch = report["batch"].as_str().expect("a name");
    let run = machine.evalfleet(&[
        "query",
        "--json",
        "[:find ?rate ?adjusted :in $ ?id :where [?e :evaluation/id ?id] [?e :evaluation/success-rate ?rate] \
         [?e :evaluation/success-rate-adjusted ?adjusted]]",
        "--arg",
        &format!("{batch:?}"),
    ]);
    let rates = run.expect(0).json()["rows"][0].clone();
    assert!(
        (rates[0].as_f64().expect("a rate") - 4.0 / 7.0).abs() < 1e-9 && rates[1] == json!(0.8),
        "{rates}"
    );
    let calls = machine.evalfleet(&[
        "query",
        "--json",
        "[:find ?id :in $ ?run :where [?r :run/id ?run] [?e :evaluation/run ?r] [?e :evaluation/id ?id]]",
        "--arg",
        &format!("{batch:?}"),
    ]);
    assert_eq!(calls.expect(0).json()["rows"].as_array().map(Vec::len), Some(2));
    // What was said can be said again, without a service and without a key.
    let written = std::fs::read_to_string(dir.join("recorded.jsonl")).expect("it was written");
    assert!(!written.contains(KEY) && !err.contains(KEY) && written.lines().count() == asked.len());
    let again = machine.evalfleet(&[
        "suite",
        "run",
        "suite/basics.toml",
        "--model",
        "weaker",
        "--exchanges",
        "suite/recorded.jsonl",
        "--retries",
        "0",
        "--json",
    ]);
    let again = again.expect(3).json();
    for key in ["reported", "attributed", "causes", "functions"] {
        assert_eq!(again[key], report[key], "{key}");
    }
    // Its result file is one of the REPL's, and can be put again as a suite.
    let results = report["results"].as_str().expect("a file");
    let imported = machine.evalfleet(&["history", "import", results]).expect(0);
    assert!(imported.out.contains("was there"), "{imported:?}");
    machine
        .evalfleet(&[
            "suite",
            "run",
            results,
            "--model",
            "weaker",
            "--exchanges",
            "suite/said.jsonl",
            "--json",
        ])
        .expect(3);
}

fn two_models_are_compared(machine: &Machine) {
    let both = [exchanges("weaker", false), exchanges("better", true)].concat();
    laid(machine, &both);
    let run = |model: &str| {
        let arguments = [
            "suite",
            "run",
            "suite/basics.toml",
            "--model",
            model,
            "--exchanges",
            "suite/said.jsonl",
            "--json",
        ];
        let report = machine.evalfleet(&arguments).expect(3).json();
        (
            report["batch"].as_str().expect("a name").to_owned(),
            report["results"].as_str().expect("a file").to_owned(),
        )
    };
    let ((weaker, _), (better, results)) = (run("weaker"), run("better"));
    let mut compared = Value::Null;
    wait_until("the API has both", || {
        let answer = machine.evalfleet(&["suite", "compare", &weaker, &results, "--json"]);
        compared = if answer.code == 0 { answer.json() } else { Value::Null };
        compared.is_object()
    });
    let rate = |side: &str| {
        (
            compared[side]["standing"]["rate"]["passed"].clone(),
            compared[side]["standing"]["rate"]["tries"].clone(),
        )
    };
    assert_eq!((rate("base"), rate("head")), ((json!(4), json!(5)), (json!(5), json!(5))), "{compared:#}");
    // One question of five says nothing that is sure, in whichever direction.
    assert_eq!(compared["verdict"], "no_change", "{compared:#}");
    let report = machine.evalfleet(&["suite", "compare", &weaker, &better]).expect(0);
    assert!(report.out.contains("(4/5) | 100.0 % (5/5)"), "{report:?}");
}

fn a_run_that_was_stopped_goes_on(machine: &Machine) {
    let said = exchanges("weaker", false);
    laid(machine, &said);
    let start = |service: &Service, more: &[&str]| {
        let mut command = machine.program("evalfleet");
        command.args([
            "suite",
            "run",
            "suite/basics.toml",
            "--model",
            "weaker",
            "--parallel",
            "1",
            "--retries",
            "0",
            "--tries",
            "1",
            "--json",
        ]);
        command.args(more).envs(service.environment());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().expect("evalfleet is built")
    };
    let silent = Service::new(&said, Some("Write done into out/a.txt."));
    let stopped = start(&silent, &[]);
    wait_until("the third question is put", || silent.asked().iter().any(|one| one.starts_with("Write")));
    signal("INT", stopped.id());
    let output = stopped.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(5) && err.contains("--resume"), "{err}");
    let service = Service::new(&said, None);
    let output = start(&service, &["--resume"]).wait_with_output().expect("it ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(report["reported"]["tries"], 7, "{report:#}");
    let asked = service.asked();
    assert!(
        !asked.iter().any(|one| one.starts_with("What is two") || one.starts_with("What does")),
        "{asked:?}"
    );
    // It is done: there is nothing to go on with.
    let nothing = start(&service, &["--resume"]).wait_with_output().expect("it ends");
    assert_eq!(nothing.status.code(), Some(64), "{}", String::from_utf8_lossy(&nothing.stderr));
}

fn what_is_no_suite_is_said(machine: &Machine) {
    let dir = laid(machine, &exchanges("weaker", false));
    std::fs::write(dir.join("wrong.toml"), SUITE.replace("\"list_files\"", "\"no_such_tool\""))
        .expect("written");
    std::fs::write(dir.join("empty.toml"), "questions = []").expect("written");
    let run = |file: &str, more: &[&str]| {
        let mut arguments = vec!["suite", "run", file, "--model", "weaker"];
        arguments.extend(more);
        machine.evalfleet(&arguments)
    };
    let replayed = ["--exchanges", "suite/said.jsonl"];
    run("suite/wrong.toml", &replayed).expect(4).says(&["no_such_tool", "list_files"]);
    run("suite/empty.toml", &replayed).expect(4).says(&["0 questions"]);
    run("suite/nosuch.toml", &replayed).expect(4).says(&["nosuch.toml"]);
    run("suite/basics.toml", &["--exchanges", "suite/basics.toml"]).expect(64).says(&["line 2"]);
    run("suite/basics.toml", &[]).expect(64).says(&["GEMINI_API_KEY", "--exchanges"]);
    let other = ["suite", "run", "suite/basics.toml", "--model", "nobody", "--exchanges", "suite/said.jsonl"];
    machine.evalfleet(&other).expect(64).says(&["weaker"]);
}
