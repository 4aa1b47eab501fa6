//! The library's front doors for a REPL, as a program of the user's calls them: a call, a tool, and a change to the
//! program itself. No command is in between.

use super::Test;
use super::change::fixture::Fixture;
use evalfleet::change::{Change, CodeChange, UnsafeModification, Verdict};
use evalfleet::functions::SecureEvaluator;
use evalfleet::toolbox::{Error, Tool, ToolRegistry};
use evalfleet_proto::job::FunctionCall;
use evalfleet_proto::status::{Cause, Exit, Status};
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::Machine;
use serde_json::{Value, json};
use std::path::Path;
use tokio::runtime::Runtime;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("library::a_call_is_tested", a_call_is_tested),
    ("library::a_tool_is_registered_called_and_evaluated", a_tool_is_registered_called_and_evaluated),
    ("library::a_change_to_ones_own_code_is_tested", a_change_to_ones_own_code_is_tested),
];

/// Has the library do something.
fn with(machine: &Machine, what: impl AsyncFnOnce(&SecureEvaluator)) {
    let endpoints =
        std::fs::read_to_string(machine.state().join("endpoints.toml")).expect("the machine is up");
    let environment = machine.environment().to_vec();
    let layers = Layers { endpoints: Some(endpoints), environment, ..Layers::default() };
    let settings = Settings::from_layers(&layers).expect("what `up` wrote is sound");
    Runtime::new().expect("a runtime").block_on(async {
        let evaluator = SecureEvaluator::connect(&settings).await.expect("it is up");
        what(&evaluator).await;
        evaluator.close().await;
    });
}

fn call(name: &str, args: Value) -> FunctionCall {
    FunctionCall { name: name.parse().expect("a name"), args }
}

fn a_call_is_tested(machine: &Machine) {
    with(machine, async |evaluator| {
        let counted = evaluator.test_function_call(&call("word_count", json!({"text": "a naïve b"}))).await;
        assert!(counted.passed() && counted.effects.is_empty(), "{counted:?}");
        assert_eq!((counted.exit, &counted.result.response["words"]), (Exit::Passed, &json!(3)));
        let evaluation = counted.evaluation.expect("it was run");
        assert!(counted.metrics.wall > std::time::Duration::ZERO);
        assert_eq!(machine.recorded(&evaluation.id.to_string())["status"], "passed");

        let written = json!({"path": "made.txt", "content": "text"});
        let written = evaluator.test_function_call(&call("write_file", written)).await;
        assert!(
            written.effects.iter().any(|effect| effect.path == "/workspace/made.txt" && effect.expected),
            "{written:?}"
        );

        // What is no call is answered without a VM, and as the request's fault.
        for (call, words) in [
            (call("word_count", json!({"text": 1})), "/text"),
            (call("word_count", json!({})), "required"),
            (call("no_such_tool", json!({})), "no tool no_such_tool"),
        ] {
            let refused = evaluator.test_function_call(&call).await;
            let Value::Object(answer) = &refused.result.response else { panic!("{refused:?}") };
            assert!(answer["error"].as_str().is_some_and(|why| why.contains(words)), "{refused:?}");
            assert_eq!((&answer["cause"], refused.exit), (&json!("harness"), Exit::Harness));
            assert!(refused.evaluation.is_none() && !refused.passed());
        }
    });
}

const SHOUT: &str = "name = 'shout'\ndescription = 'Gives a text back in capitals.'\nentry = ['tr', 'a-z', 'A-Z']\n\n\
                     [[cases]]\nname = 'short'\nargs = { t = 'a' }\nexpect = { value = { T = 'A' } }\n";
const PARAMETERS: &str = r#"{"type": "object", "properties": {"t": {"type": "string", "description": "A text."}}, "required": ["t"]}"#;

/// The folder of a tool.
fn tool(root: &Path, name: &str, spec: &str, parameters: &str) {
    let folder = root.join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("tool.toml"), spec).expect("written");
    std::fs::write(folder.join("parameters.json"), parameters).expect("written");
}

fn a_tool_is_registered_called_and_evaluated(machine: &Machine) {
    let dir = tempfile::tempdir().expect("a folder");
    tool(dir.path(), "shout", SHOUT, PARAMETERS);
    with(machine, async |evaluator| {
        let mut registry = ToolRegistry::new(evaluator);
        what_is_no_tool_registers_none(&mut registry, dir.path());
        registry.register_dir(dir.path()).expect("a tool");
        let definitions = registry.get_tool_definitions();
        assert_eq!((definitions.len(), &definitions[0]["name"]), (1, &json!("shout")));

        let name = "shout".parse().expect("a name");
        let result = registry.execute_tool(&name, json!({"t": "hello"})).await.expect("it is called");
        assert_eq!(result.result.response, json!({"T": "HELLO"}), "{result:?}");
        assert!(result.effects.is_empty(), "its own code is none of its effects: {result:?}");
        let misfit = registry.execute_tool(&name, json!({"t": 1})).await.expect_err("it does not fit");
        assert!(matches!(misfit, Error::Arguments(_)) && misfit.exit() == Exit::Harness, "{misfit}");
        let unknown = "whisper".parse().expect("a name");
        let unknown = registry.execute_tool(&unknown, json!({})).await.expect_err("there is none");
        assert_eq!(unknown.to_string(), "no tool whisper; there are shout");

        let good = registry.list_tools().next().expect("just registered").clone();
        let result = registry.evaluate_tool_safely(&good).await.expect("it is evaluated");
        assert_eq!((result.current.tally.passed, result.current.tally.tries), (3, 3), "{result:?}");
        assert_eq!(json!(result.recommendation.action), "needs_more_evidence");
        assert_eq!(machine.recorded(&result.evaluation.id.to_string())["kind"], "tool");

        // The same name with other code: its past is known, and it goes where it can do no harm.
        tool(dir.path(), "shout", &SHOUT.replace("'A-Z'", "'a-z'"), PARAMETERS);
        registry.register_dir(dir.path()).expect("a tool");
        let bad = registry.tool(&name).expect("just registered").clone();
        assert_ne!(bad.code, good.code);
        let result = registry.evaluate_tool_safely(&bad).await.expect("it is evaluated");
        assert_eq!((result.current.tally.passed, result.current.tally.tries), (0, 5), "{result:?}");
        assert_eq!(
            (result.historical.other_versions.passed, json!(result.recommendation.action)),
            (3, json!("quarantine"))
        );
        let refused = registry.execute_tool(&name, json!({"t": "a"})).await.expect_err("it is in quarantine");
        assert!(matches!(refused, Error::Quarantined(_)) && refused.exit() == Exit::Harness, "{refused}");
        let nothing = Tool { spec: without_cases(&bad), ..bad };
        let none = registry.evaluate_tool_safely(&nothing).await.expect_err("it has no cases");
        assert!(matches!(none, Error::NoCases(_)) && none.exit() == Exit::Harness, "{none}");
    });
}

fn without_cases(tool: &Tool) -> evalfleet_images::tool::ToolSpec {
    let mut spec = tool.spec.clone();
    spec.cases.clear();
    spec
}

/// Each fault is named, and the sound tool beside it is not registered either.
fn what_is_no_tool_registers_none(registry: &mut ToolRegistry<'_>, folder: &Path) {
    let other = SHOUT.replace("shout", "other");
    for (spec, parameters, words) in [
        (&other, r#"{"type": "object", "properties": 3}"#, "are no schema"),
        (&other, r#"{"type": "array"}"#, "schema of an object"),
        (&other, "{", "parameters.json"),
        (&other.replace("'a'", "3"), PARAMETERS, "case `short`"),
        (&format!("image = 'no image'\n{other}"), PARAMETERS, "image"),
        (&other.replace("\n\n[[cases", "\n[limits]\nwall = 'soon'\n\n[[cases"), PARAMETERS, "limits.wall"),
    ] {
        tool(folder, "other", spec, parameters);
        let error = registry.register_dir(folder).expect_err("one of them is no tool");
        assert!(error.to_string().contains(words) && error.exit() == Exit::Harness, "{words}: {error}");
        assert_eq!(registry.list_tools().count(), 0);
    }
    std::fs::remove_dir_all(folder.join("other")).expect("it was there");
}

fn a_change_to_ones_own_code_is_tested(machine: &Machine) {
    let repo = Fixture::new();
    let change = |patch: Vec<u8>| CodeChange {
        repository: repo.path(),
        base: None,
        change: Change::Patch(patch),
        suite: None,
    };
    let patch = |name: &str, text: &str| {
        let path = repo.patch(name, |repo| repo.write("lib.sh", text));
        std::fs::read(path).expect("just written")
    };
    let good = change(patch("good", "# Sums.\nadd() {\n    echo $(($1 + $2))\n}\n"));
    let bad = change(patch("bad", "add() {\n    echo 7\n}\n"));
    let before = repo.digest();
    with(machine, async |evaluator| {
        let safe = evaluator.test_self_modification(&good).await.expect("it is safe");
        assert!(safe.is_safe() && safe.violations.is_empty() && safe.exit() == Exit::Passed, "{safe:?}");
        assert_eq!(machine.recorded(&safe.evaluation.id.to_string())["kind"], "code_change");

        let UnsafeModification { verdict, violations, result, .. } =
            evaluator.test_self_modification(&bad).await.expect_err("it breaks a test");
        assert_eq!(verdict, Verdict::Unsafe);
        assert!(violations.iter().any(|it| it.rule == "tests.failed"), "{violations:?}");
        let result = result.expect("it was looked at");
        assert_eq!(
            (result.evaluation.status, result.evaluation.cause),
            (Status::Failed, Some(Cause::Subject))
        );
        assert!(result.looks.iter().any(|look| look.tree == "base" && look.reused));

        // Whose fault it is that nobody can say.
        let none = change(b"this is no patch\n".to_vec());
        let none = evaluator.test_self_modification(&none).await.expect_err("it is none");
        assert_eq!((none.verdict, none.violations.len()), (Verdict::Undecided, 0));
        assert_eq!(none.result.and_then(|result| result.evaluation.cause), Some(Cause::Harness));
        let nowhere = CodeChange { repository: "/nonexistent".into(), ..good.clone() };
        let nowhere = evaluator.test_self_modification(&nowhere).await.expect_err("there is nothing");
        assert!(nowhere.result.is_none(), "{nowhere:?}");
        assert!(nowhere.why.is_some_and(|why| why.contains("no Git repository")));
    });
    assert_eq!(repo.digest(), before, "the repository was touched");
}
