//! Tools that are evaluated before they are trusted, and agents that call them.

use super::Test;
use evalfleet_tests::machine::{Machine, programs, repository, wait_until};
use rmcp::ServiceExt as _;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use std::path::Path;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("tools::an_agent_calls_them_over_mcp", an_agent_calls_them_over_mcp),
    ("tools::a_folder_that_is_no_tools_is_named", a_folder_that_is_no_tools_is_named),
];

/// Trials of dozens of VMs each: minutes.
pub(crate) const LONG: &[(&str, Test)] =
    &[("tools::what_proves_itself_is_promoted_and_a_poisoned_version_is_not", promotion_and_quarantine)];

/// Over the protocol's own Rust SDK, as a client.
fn an_agent_calls_them_over_mcp(machine: &Machine) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut command = tokio::process::Command::new(programs().join("evalfleet"));
        command.arg("mcp").envs(machine.environment().iter().cloned());
        let agent =
            ().serve(TokioChildProcess::new(command).expect("it starts")).await.expect("it speaks MCP");
        let listed = agent.list_all_tools().await.expect("a list");
        for name in ["word_count", "read_file", "evalfleet_run", "evalfleet_query", "evalfleet_get"] {
            assert!(listed.iter().any(|tool| tool.name == name), "{name}: {listed:?}");
        }
        let word_count = listed.iter().find(|tool| tool.name == "word_count").expect("just found");
        assert_eq!(word_count.input_schema["required"], json!(["text"]));

        let call = async |name: &'static str, args: Value| {
            let arguments = args.as_object().cloned().unwrap_or_default();
            agent.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await
        };
        let counted = call("word_count", json!({"text": "a b c"})).await.expect("an answer");
        assert_eq!(counted.is_error, Some(false), "{counted:?}");
        let counted = counted.structured_content.expect("structured");
        assert_eq!(
            (&counted["response"]["words"], &counted["effects"]),
            (&json!(3), &json!([])),
            "{counted}"
        );

        // What the protocol calls wrong parameters, and what the tool itself calls an error.
        let wrong = call("word_count", json!({"text": 1})).await.expect_err("it does not fit").to_string();
        assert!(wrong.contains("/text") && wrong.contains("string"), "{wrong}");
        call("nonsense", json!({})).await.expect_err("there is no such tool");
        let missing = call("read_file", json!({"path": "no-such"})).await.expect("an answer");
        let why = missing.structured_content.expect("structured");
        assert_eq!((missing.is_error, &why["cause"]), (Some(true), &json!("subject")), "{why}");

        let ran = call("evalfleet_run", json!({"argv": ["sh", "-c", "echo hi > a; exit 3"]}))
            .await
            .expect("an answer");
        let ran = ran.structured_content.expect("structured");
        assert_eq!(
            (&ran["exit_code"], &ran["effects"][0]["path"]),
            (&json!(3), &json!("/workspace/a")),
            "{ran}"
        );
        let id = ran["evaluation"].as_str().expect("an id").to_owned();
        machine.recorded(&id);
        let recorded = call("evalfleet_get", json!({"id": id})).await.expect("an answer");
        assert_eq!(recorded.structured_content.expect("structured")["exit_code"], json!(3));
        let query =
            format!("[:find ?code . :where [?e :evaluation/id \"{id}\"] [?e :evaluation/exit-code ?code]]");
        let asked = call("evalfleet_query", json!({"query": query})).await.expect("an answer");
        assert!(asked.structured_content.expect("structured")["rows"].to_string().contains('3'));
        agent.cancel().await.expect("it ends");
    });
}

fn promotion_and_quarantine(machine: &Machine) {
    let dir = tempfile::tempdir().expect("a folder");
    let tool = dir.path().join("word_count");
    copy(&repository().join("vm-images/tools/word_count"), &tool);
    let path = tool.display().to_string();
    let eval = |runs: &str| machine.evalfleet(&["tool", "eval", &path, "--runs", runs, "--json"]);
    let tally = |document: &Value, what: &str| {
        (document[what]["passed"].as_u64().unwrap_or(99), document[what]["tries"].as_u64().unwrap_or(99))
    };

    let few = eval("2").expect(0).json();
    assert_eq!(few["recommendation"]["action"], "needs_more_evidence", "{few:#}");
    assert_eq!((tally(&few["current"], "tally"), &few["kind"]), ((6, 6), &json!("tool")));
    let id = few["id"].as_str().expect("an id").to_owned();
    let recorded = machine.recorded(&id);
    assert_eq!(
        (&recorded["calls"][0]["name"], &recorded["labels"]["tool"]),
        (&json!("word_count"), &json!("word_count"))
    );

    // What the same bytes did before counts.
    let many = eval("10").expect(0).json();
    assert_eq!(tally(&many["historical"], "same_code"), (6, 6), "{many:#}");
    assert_eq!(many["recommendation"]["action"], "promote", "{many:#}");
    assert!(many["recommendation"]["bounds"]["low"].as_f64().is_some_and(|low| low > 0.9));
    machine.recorded(many["id"].as_str().expect("an id"));

    let code = std::fs::read_to_string(tool.join("main.py")).expect("its code");
    std::fs::write(
        tool.join("main.py"),
        format!("import sys\nprint('{{\"words\": 7}}')\nsys.exit(0)\n{code}"),
    )
    .expect("written");
    let poisoned = eval("1").expect(1).json();
    assert_eq!(poisoned["recommendation"]["action"], "quarantine", "{poisoned:#}");
    // Each failed once, and was run twice more.
    assert_eq!(
        (tally(&poisoned["current"], "tally"), tally(&poisoned["historical"], "other_versions")),
        ((0, 9), (36, 36))
    );
    assert_eq!(poisoned["historical"]["evaluations"][0]["evaluation"], many["id"]);

    let arguments = r#"{"text": "a b"}"#;
    machine
        .evalfleet(&["call", "word_count", arguments])
        .expect(4)
        .says(&["in quarantine", "release word_count"]);
    machine.evalfleet(&["call", "--force", "word_count", arguments]).expect(0);
    assert!(
        machine.evalfleet(&["tool", "quarantined"]).expect(0).out.starts_with("word_count is in quarantine")
    );
    machine.evalfleet(&["tool", "release", "word_count"]).expect(0);
    machine.evalfleet(&["tool", "release", "word_count"]).expect(64);
    wait_until("it is let out", || machine.evalfleet(&["call", "word_count", arguments]).code == 0);
}

fn a_folder_that_is_no_tools_is_named(machine: &Machine) {
    machine.evalfleet(&["tool", "eval", "nosuch"]).expect(4).says(&["nosuch", "word_count"]);
    machine.evalfleet(&["tool", "eval", "./nosuch"]).expect(4).says(&["./nosuch", "tool.toml"]);
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("tool.toml"), "name = 'a'").expect("written");
    machine.evalfleet(&["tool", "eval", &dir.path().display().to_string()]).expect(4).says(&["description"]);
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}
