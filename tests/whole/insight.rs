//! What is made of the history: told as it happens, summed up, compared, and shown.

use super::Test;
use super::api::Api;
use evalfleet_proto::ids::JobId;
use evalfleet_tests::machine::{Machine, signal, wait_until};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::{Duration, Instant};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("insight::what_is_recorded_is_told_at_once", what_is_recorded_is_told_at_once),
    ("insight::a_regression_is_found_and_named", a_regression_is_found_and_named),
    ("insight::runs_calls_and_images_are_told", runs_calls_and_images_are_told),
    ("insight::the_dashboard_lets_in_who_has_the_link", the_dashboard_lets_in_who_has_the_link),
    ("insight::serve_answers_until_it_is_ended", serve_answers_until_it_is_ended),
];

fn what_is_recorded_is_told_at_once(machine: &Machine) {
    let api = Api::of(machine);
    let key = format!("told-{}", JobId::fresh());
    let id = JobId::from_key(&key).to_string();
    std::thread::scope(|scope| {
        // Not what its worker tells of it: that names it as a job.
        let listening = scope.spawn(|| api.hear("/v1/events", &format!("\"id\":\"{id}\"")));
        // Whoever listens a moment too late hears it all the same: the job takes longer than to connect.
        machine.evalfleet(&["run", "--key", &key, "--", "sleep", "2"]).expect(0);
        listening.join().expect("it was told");
    });
    let queues = api.get("/v1/queues").1;
    let named = |name: &str| {
        let all = queues["queues"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|queue| queue["name"] == name).unwrap_or_else(|| panic!("{name}: {queues}"))
    };
    assert_eq!(named("eval.results.recorder")["consumers"], 1);
    assert_eq!(named("eval.jobs.default")["messages"], 0);
    assert_eq!(named("eval.jobs.default")["oldest_at_most_ms"], Value::Null, "nothing waits");
    an_upper_bound_of_the_oldest_job_holds(machine, &api);
    wait_until("its worker is known", || api.get("/v1/workers").1.to_string().contains("\"worker-1\""));
}

/// No queue says how old its first message is; what is said instead is never less, and not much more.
fn an_upper_bound_of_the_oldest_job_holds(machine: &Machine, api: &Api) {
    let begun = Instant::now();
    let jobs = format!("{}\n", json!({ "kind": "command", "argv": ["sleep", "3"] })).repeat(2);
    machine.evalfleet_with(&jobs, &["submit", "-"]).expect(0);
    let submitted = Instant::now();
    let lane = || {
        let queues = api.get("/v1/queues").1["queues"].clone();
        let own = |queue: &&Value| queue["name"] == "eval.jobs.default";
        queues.as_array().and_then(|all| all.iter().find(own).cloned()).unwrap_or_default()
    };
    // One of the two runs, the other waits. What is said may be some seconds old, but of a time of its own.
    let mut told = Value::Null;
    wait_until("a job waits", || {
        told = lane();
        told["messages"] == 1 && submitted.elapsed() > Duration::from_secs(1)
    });
    let (least, most) =
        (submitted.elapsed() - Duration::from_secs(1), begun.elapsed() + Duration::from_secs(10));
    let said = told["oldest_at_most_ms"].as_f64().map(|ms| Duration::from_secs_f64(ms / 1000.0));
    assert!(said.is_some_and(|said| least <= said && said <= most), "{least:?} {told} {most:?}");
    wait_until("nothing waits", || lane()["oldest_at_most_ms"].is_null());
}

/// Cases of each run: enough that losing all of them is no chance.
const CASES: usize = 10;

fn a_regression_is_found_and_named(machine: &Machine) {
    let mark = JobId::fresh().to_string();
    let run = |name: &str, program: &str| {
        let line = |case| {
            let labels = json!({ "run": format!("{name}-{mark}"), "suite": "s", "case": format!("c{case}") });
            json!({ "kind": "command", "argv": [program], "batch": format!("{name}-{mark}"), "labels": labels })
        };
        (0..CASES).map(|case| format!("{}\n", line(case))).collect::<String>()
    };
    let both = run("base", "true") + &run("head", "false");
    machine.evalfleet_with(&both, &["submit", "-"]).expect(0);
    let count = CASES.to_string();
    let wait =
        |name: &str| machine.evalfleet(&["wait", "--batch", &format!("{name}-{mark}"), "--count", &count]);
    wait("base").expect(0);
    wait("head").expect(1);

    let [base, head] = ["base", "head"].map(|name| format!("run:{name}-{mark}"));
    let mut report = None;
    wait_until("both runs are compared", || {
        let answer = machine.evalfleet(&["ci", "compare", &base, &head]);
        let whole = answer.out.contains(&format!("0.0 % (0/{CASES})"));
        report = Some(answer);
        whole
    });
    let report = report.expect("it was asked").expect(1);
    assert!(report.out.starts_with("## ❌ Regression"), "{report:?}");
    assert!(report.out.contains("| s/c0 | lost |"), "{report:?}");
    assert!(
        machine.evalfleet(&["ci", "compare", &base, &base]).expect(0).out.contains("No change that is sure")
    );
    // They are found anew every few seconds.
    wait_until("it is an insight", || {
        let found = machine.evalfleet(&["insights", "--json"]).expect(0).json();
        let insights = found["insights"].as_array().cloned().unwrap_or_default();
        insights.iter().any(|one| one["id"] == "consistently_fails/false" && one["severity"] == "critical")
    });
}

/// Jobs of the run that is looked at.
const JOBS: usize = 5;

fn runs_calls_and_images_are_told(machine: &Machine) {
    let api = Api::of(machine);
    let name = format!("told-{}", JobId::fresh());
    let line = |index: usize| {
        let labels = json!({ "run": name, "suite": "s", "case": format!("c{index}") });
        let program = if index < 2 { "true" } else { "false" };
        format!("{}\n", json!({ "kind": "command", "argv": [program], "batch": name, "labels": labels }))
    };
    let lines: String = (0..JOBS).map(line).collect();
    machine.evalfleet_with(&lines, &["submit", "-"]).expect(0);
    machine.evalfleet(&["wait", "--batch", &name, "--count", &JOBS.to_string()]).expect(1);
    let get = |path: &str| {
        let (status, document) = api.get(path);
        assert_eq!(status, StatusCode::OK, "{path}: {document}");
        assert!(document["basis_t"].as_u64() > Some(0), "{path}: {document}");
        document
    };

    // A batch and a run of one name are two.
    let listed = |more: &str| get(&format!("/v1/runs?q={name}{more}"));
    wait_until("the whole run is told", || {
        let runs = listed("");
        runs["count"] == 2 && runs["runs"][0]["standing"]["evaluations"]["total"] == JOBS
    });
    let runs = listed("&kind=run");
    let run = &runs["runs"][0];
    assert_eq!(
        (&runs["count"], &run["kind"], &run["id"]),
        (&json!(1), &json!("run"), &json!(name)),
        "{runs}"
    );
    assert_eq!(run["statuses"], json!({ "passed": 2, "failed": 3 }), "{runs}");
    assert_eq!(
        (&run["standing"]["rate"]["rate"], &run["standing"]["raw"]["rate"]),
        (&json!(0.4), &json!(0.4))
    );
    assert!(run["first"].as_str() <= run["last"].as_str(), "{run}");
    let first = listed("&limit=1");
    let second = listed(&format!("&limit=1&cursor={}", first["next"].as_str().expect("there is more")));
    assert_ne!(first["runs"][0]["kind"], second["runs"][0]["kind"]);
    assert!(second["next"].is_null(), "{second}");

    wait_until("the batch has its sums", || {
        get(&format!("/v1/runs/{name}"))["reported"]["success_rate"] == json!(0.4)
    });
    let batch = get(&format!("/v1/runs/{name}"));
    let lengths = ["failures", "cases", "tools"].map(|key| batch[key].as_array().map_or(0, Vec::len));
    assert_eq!((batch["kind"].as_str(), lengths), (Some("batch"), [3, JOBS, 2]), "{batch}");
    assert!(get(&format!("/v1/runs/{name}?kind=run"))["reported"].is_null());
    assert_eq!(api.get("/v1/runs/none-such").0, StatusCode::NOT_FOUND);
    let before = run["first"].as_str().expect("a time");
    assert_eq!(
        api.get(&format!("/v1/runs/{name}?as_of={before}")).0,
        StatusCode::NOT_FOUND,
        "nothing was recorded yet"
    );

    let (mut called, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("/v1/calls?run={name}&tool=false&limit=2{cursor}"));
        called.extend(page["calls"].as_array().cloned().unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(called.len(), 3, "{called:?}");
    let all = called
        .iter()
        .all(|call| call["name"] == "false" && call["success_rate"] == 0.0 && call["exit_code"] == 1);
    assert!(all, "{called:?}");

    let digest = called[0]["image"].as_str().expect("it ran in one");
    let images = get("/v1/images");
    let images = images["images"].as_array().expect("a list");
    let image = images.iter().find(|image| image["digest"] == digest).expect("its image is told");
    assert!(image["standing"]["evaluations"]["total"].as_u64() >= Some(JOBS as u64), "{image}");
    for path in ["/v1/calls?limit=0", "/v1/images?cursor=x", "/v1/runs?kind=none", "/v1/runs?colour=red"] {
        let (status, problem) = api.get(path);
        assert_eq!(
            (status, problem["status"].as_u64()),
            (StatusCode::BAD_REQUEST, Some(400)),
            "{path}: {problem}"
        );
    }
}

fn the_dashboard_lets_in_who_has_the_link(machine: &Machine) {
    let api = Api::of(machine);
    let link = machine.evalfleet(&["dashboard"]).expect(0).out.trim().to_owned();
    let (address, token) = link.split_once("#token=").expect("a token after the address");
    let page = api.without_token(reqwest::Method::GET, address, None);
    assert_eq!(page.0, StatusCode::OK);
    assert!(page.1.contains("<script type=\"module\""), "{}", page.1);
    let session = format!("{}v1/session", address);
    let login = |token: &str| {
        let body = json!({ "token": token }).to_string();
        api.without_token(reqwest::Method::POST, &session, Some(&body)).0
    };
    assert_eq!(login(token), StatusCode::NO_CONTENT);
    assert_eq!(login("somebody-elses"), StatusCode::UNAUTHORIZED);
}

fn serve_answers_until_it_is_ended(machine: &Machine) {
    let api = Api::of(machine);
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let address = format!("127.0.0.1:{port}");
    let mut serving = machine.start(&["serve", "--listen", &address], false);
    wait_until("it answers", || {
        api.answers(&format!("http://{address}/health"))
            && api.answers(&format!("http://{address}/openapi.json"))
    });
    signal("TERM", serving.id());
    assert_eq!(serving.wait().expect("it ends").code(), Some(0));
}
