//! The line: from a call to its result, its effects, and back out of the history.

use super::Test;
use evalfleet_tests::machine::{Machine, wait_until};
use serde_json::{Value, json};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("line::a_call_answers_the_documented_result", a_call_answers_the_documented_result),
    ("line::a_run_lists_what_it_created_and_deleted", a_run_lists_what_it_created_and_deleted),
    ("line::the_next_job_finds_nothing_of_the_last", the_next_job_finds_nothing_of_the_last),
    ("line::every_kind_of_effect_is_told_apart", every_kind_of_effect_is_told_apart),
    ("line::verdicts_say_whose_doing_it_was", verdicts_say_whose_doing_it_was),
    ("line::files_and_input_go_in_and_files_come_out", files_and_input_go_in_and_files_come_out),
    ("line::what_is_recorded_is_what_was_answered", what_is_recorded_is_what_was_answered),
    ("line::many_jobs_are_submitted_and_awaited", many_jobs_are_submitted_and_awaited),
    ("line::the_tools_of_the_repl_work", the_tools_of_the_repl_work),
    ("line::the_repl_answers_what_it_is_piped", the_repl_answers_what_it_is_piped),
    ("line::a_second_up_says_so", a_second_up_says_so),
];

fn effects(result: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let effects = result["effects"].as_array().cloned().unwrap_or_default();
    effects.iter().map(|effect| (text(&effect["path"]), text(&effect["change"]))).collect()
}

fn run(machine: &Machine, arguments: &[&str]) -> Value {
    let mut all = vec!["run", "--json"];
    all.extend(arguments);
    machine.evalfleet(&all).json()
}

fn a_call_answers_the_documented_result(machine: &Machine) {
    let result = machine.evalfleet(&["call", "word_count", r#"{"text":"a b c"}"#, "--json"]).expect(0).json();
    assert_eq!(result["status"], "passed");
    assert_eq!(result["cause"], Value::Null);
    assert_eq!(result["kind"], "function_call");
    assert_eq!(result["calls"][0]["name"], "word_count");
    assert_eq!(result["calls"][0]["value"]["words"], 3);
    assert_eq!(result["success_rate"], 1.0);
    let proof = &result["provenance"]["reset"];
    assert_eq!(proof["strategy"], "template-clone");
    assert_eq!(proof["pages_checked"], 256);
    assert_eq!(proof["nonce"].as_str().map(str::len), Some(32));
    for stage in ["queued_ms", "claim_ms", "run_ms", "effects_ms", "report_ms"] {
        assert!(result["timings"][stage].is_number(), "{stage}: {result}");
    }
    assert!(["kvm", "tcg"].contains(&result["provenance"]["accelerator"].as_str().unwrap_or_default()));
    let schema =
        std::fs::read(evalfleet_tests::machine::repository().join("proto/schemas/evaluation.schema.json"))
            .expect("the schema is in the repository");
    let schema: Value = serde_json::from_slice(&schema).expect("it is JSON");
    let errors: Vec<String> = jsonschema::validator_for(&schema)
        .expect("it is a schema")
        .iter_errors(&result)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

fn a_run_lists_what_it_created_and_deleted(machine: &Machine) {
    let result = run(machine, &["--", "sh", "-c", "echo hi > /workspace/a; rm /etc/hostname"]);
    let expected = [("/etc/hostname", "deleted"), ("/workspace/a", "created")];
    assert_eq!(effects(&result), expected.map(|(path, change)| (path.to_owned(), change.to_owned())));
    assert_eq!(result["effects"][1]["size"], 3);
    assert_eq!(result["effects"][1]["mode"], "0644");
}

fn the_next_job_finds_nothing_of_the_last(machine: &Machine) {
    run(
        machine,
        &["--", "sh", "-c", "echo mine > /workspace/mine; echo x > /tmp/x; sleep 1000 & touch /etc/marked"],
    );
    let look = "ls /workspace/mine /tmp/x /etc/marked; for p in /proc/[0-9]*; do read -r n < $p/comm; [ $n = sleep ] && echo found $n; done; true";
    let result = run(machine, &["--", "sh", "-c", look]);
    assert_eq!(result["stdout"]["text"], "", "{result}");
    assert_eq!(result["effects"], json!([]));
}

fn every_kind_of_effect_is_told_apart(machine: &Machine) {
    let script = "chmod 600 /etc/hosts; mkdir /new; ln -s /x /new/link; mkfifo /new/pipe; rm -rf /opt; mkdir /opt; \
                  cat /etc/passwd > /tmp/p; cat /tmp/p > /etc/passwd; rm /tmp/p; mv /etc/issue /etc/issue.old";
    let result = run(machine, &["--", "sh", "-c", script]);
    let expected = [
        ("/etc/hosts", "changed"),
        ("/etc/issue", "deleted"),
        ("/etc/issue.old", "created"),
        ("/new", "created"),
        ("/new/link", "created"),
        ("/new/pipe", "created"),
        ("/opt", "replaced"),
        ("/opt/evalfleet", "deleted"),
    ];
    assert_eq!(
        effects(&result),
        expected.map(|(path, change)| (path.to_owned(), change.to_owned())),
        "{}",
        result["effects"]
    );
    assert_eq!(result["effects"][4]["type"], "symlink");
    assert_eq!(result["effects"][4]["target"], "/x");
    assert_eq!(result["effects"][5]["type"], "fifo");
}

fn verdicts_say_whose_doing_it_was(machine: &Machine) {
    let cases: &[(&[&str], i32, &str, &str)] = &[
        (&["--", "sh", "-c", "exit 3"], 1, "failed", "subject"),
        (&["--", "sh", "-c", "kill -SEGV $$"], 1, "crashed", "subject"),
        (&["--", "no-such-program"], 1, "failed", "subject"),
        (&["--wall", "1s", "--", "sleep", "60"], 2, "timed_out", "budget"),
        (&["--cpu", "1s", "--", "sh", "-c", "while :; do :; done"], 2, "timed_out", "budget"),
        (
            &["--memory", "64M", "--", "python3", "-c", "x = bytearray(400 << 20)"],
            2,
            "out_of_memory",
            "budget",
        ),
        (&["--output", "64K", "--", "yes"], 2, "limit_exceeded", "budget"),
        (
            &["--processes", "4", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait"],
            2,
            "limit_exceeded",
            "budget",
        ),
        (
            &["--disk", "4M", "--", "sh", "-c", "head -c 64M /dev/zero > /big; sync; sleep 5"],
            2,
            "limit_exceeded",
            "budget",
        ),
        (&["--", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 30"], 1, "crashed", "subject"),
        (&["--cwd", "/nowhere", "--", "true"], 4, "failed", "harness"),
        (&["--image", "nosuch", "--", "true"], 4, "failed", "harness"),
    ];
    for (arguments, code, status, cause) in cases {
        let mut all = vec!["run", "--json"];
        all.extend(*arguments);
        let result = machine.evalfleet(&all).expect(*code).json();
        assert_eq!(
            (result["status"].as_str(), result["cause"].as_str()),
            (Some(*status), Some(*cause)),
            "{arguments:?}: {result}"
        );
        assert!(result["evidence"].as_array().is_some_and(|evidence| !evidence.is_empty()), "{arguments:?}");
    }
}

fn files_and_input_go_in_and_files_come_out(machine: &Machine) {
    let dir = machine.state().join("files");
    std::fs::create_dir_all(&dir).expect("the state directory can be written");
    let (script, input) = (dir.join("double.py"), dir.join("input"));
    std::fs::write(&script, "import sys\nopen('/workspace/out/doubled', 'w').write(sys.stdin.read() * 2)\n")
        .expect("written");
    std::fs::write(&input, "ab").expect("written");
    let file = format!("{}:/workspace/deep/double.py", script.display());
    let result = run(
        machine,
        &[
            "--file",
            &file,
            "--stdin",
            &input.display().to_string(),
            "--out",
            "/workspace/out/doubled",
            "--",
            "sh",
            "-c",
            "mkdir out; python3 deep/double.py",
        ],
    );
    assert_eq!(result["status"], "passed", "{result}");
    let artifact = &result["artifacts"][0];
    assert_eq!(
        (artifact["path"].as_str(), artifact["bytes"].as_u64()),
        (Some("/workspace/out/doubled"), Some(4)),
        "{result}"
    );
    let key = artifact["sha256"].as_str().expect("kept");
    let kept = machine.state().join(format!("blobs/{}/{}/{key}", &key[..2], &key[2..4]));
    assert_eq!(std::fs::read_to_string(kept).expect("in the blob store"), "abab");
}

fn what_is_recorded_is_what_was_answered(machine: &Machine) {
    let answered = machine
        .evalfleet(&[
            "run",
            "--json",
            "--label",
            "suite=s",
            "--label",
            "model=m-1",
            "--",
            "sh",
            "-c",
            "echo kept; exit 7",
        ])
        .expect(1)
        .json();
    let id = answered["id"].as_str().expect("it has an id");
    assert_eq!(machine.recorded(id), answered);
    let query = format!(
        "[:find ?status ?cause ?code ?model :where [?e :evaluation/id \"{id}\"] [?e :evaluation/status ?status] \
                         [?e :evaluation/cause ?cause] [?e :evaluation/exit-code ?code] [?e :evaluation/model ?model]]"
    );
    let rows = machine.evalfleet(&["query", &query, "--json"]).expect(0).json();
    assert_eq!(rows["rows"], json!([[":failed", ":subject", 7, "m-1"]]));
}

fn many_jobs_are_submitted_and_awaited(machine: &Machine) {
    let jobs: String = (0..4)
        .map(|n| {
            format!(
                "{{\"kind\": \"command\", \"argv\": [\"sh\", \"-c\", \"exit {}\"], \"batch\": \"four\"}}\n",
                n % 2
            )
        })
        .collect();
    let submitted = machine.evalfleet_with(&jobs, &["submit", "-"]).expect(0);
    let ids: Vec<&str> = submitted.out.lines().collect();
    assert_eq!(ids.len(), 4, "{submitted:?}");
    let mut arguments = vec!["wait", "--json"];
    arguments.extend(&ids);
    let waited = machine.evalfleet(&arguments);
    assert_eq!((waited.code, waited.out.lines().count()), (1, 4), "{waited:?}");
    // The batch is an evaluation of its own, whose rate sums its jobs.
    wait_until("the batch is summed up", || {
        let answer = machine.evalfleet(&["get", "four", "--json"]);
        answer.code == 0 && answer.json()["evaluation/total"] == 4
    });
    let batch = machine.evalfleet(&["get", "four", "--json"]).expect(0).json();
    assert_eq!(
        (batch["evaluation/success-rate"].as_f64(), batch["evaluation/passed"].as_u64()),
        (Some(0.5), Some(2)),
        "{batch}"
    );
}

fn the_tools_of_the_repl_work(machine: &Machine) {
    let call = |tool: &str, args: Value| {
        let result = machine.evalfleet(&["call", tool, &args.to_string(), "--json"]).json();
        assert_eq!(result["status"], "passed", "{tool}: {result}");
        result
    };
    let written = call("write_file", json!({"path": "notes/new.txt", "content": "one\ntwo\n"}));
    assert_eq!(
        effects(&written),
        [("/workspace/notes/new.txt".to_owned(), "created".to_owned())],
        "{written}"
    );
    assert_eq!(written["effects"][0]["expected"], true);
    let listed = call("list_files", json!({"path": ".", "recursive": true}));
    assert!(listed["calls"][0]["value"].to_string().contains("README.md"), "{listed}");
    let read = call("read_file", json!({"path": "README.md"}));
    assert!(!read["calls"][0]["value"].to_string().is_empty());
    let escaped =
        machine.evalfleet(&["call", "read_file", r#"{"path": "../etc/passwd"}"#, "--json"]).expect(1).json();
    assert_eq!(escaped["cause"], "subject");
    let ran = call("run_command", json!({"command": "echo $((6 * 7))"}));
    assert!(ran["calls"][0]["value"].to_string().contains("42"), "{ran}");
}

fn the_repl_answers_what_it_is_piped(machine: &Machine) {
    let answer = machine.evalfleet_with(
        "call word_count {\"text\": \"a b\"}\nrun -- echo from-the-repl\ntools\nnonsense\n",
        &["repl"],
    );
    for word in ["\"words\"", "from-the-repl", "edit_file"] {
        let all = format!("{}{}", answer.out, answer.err);
        assert!(all.contains(word) || all.contains(&word.replace('"', "")), "{word}: {answer:?}");
    }
}

fn a_second_up_says_so(machine: &Machine) {
    let before = machine.pid("supervisor");
    let answer = machine.evalfleet(&["up", "--detach"]).expect(0);
    assert!(format!("{}{}", answer.out, answer.err).contains("already"), "{answer:?}");
    assert_eq!(machine.pid("supervisor"), before);
}
