//! What is made of the history: told as it happens, summed up, compared, and shown.

use super::Test;
use super::api::Api;
use evalfleet_proto::ids::JobId;
use evalfleet_tests::machine::{Machine, signal, wait_until};
use reqwest::StatusCode;
use serde_json::json;
use std::net::TcpListener;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("insight::what_is_recorded_is_told_at_once", what_is_recorded_is_told_at_once),
    ("insight::a_regression_is_found_and_named", a_regression_is_found_and_named),
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
    wait_until("its worker is known", || api.get("/v1/workers").1.to_string().contains("\"worker-1\""));
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
