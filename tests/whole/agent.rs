//! The example agent: a model that changes its own repository, whose changes are evaluated before they are made.

use super::Test;
use super::change::fixture::Fixture;
use evalfleet::gemini::recorded::Exchange;
use evalfleet_tests::machine::Machine;
use serde_json::{Value, json};

pub(crate) const ALL: &[(&str, Test)] = &[(
    "agent::it_changes_itself_only_by_what_was_found_safe",
    it_changes_itself_only_by_what_was_found_safe,
)];

const QUESTION: &str = "Improve your own adding.";

fn it_changes_itself_only_by_what_was_found_safe(machine: &Machine) {
    let repo = Fixture::new();
    let text = |path: String| std::fs::read_to_string(path).expect("a patch");
    let poisoned = text(repo.patch("poisoned", |repo| repo.write("lib.sh", "add() {\n    echo 7\n}\n")));
    let good =
        text(repo.patch("good", |repo| repo.write("lib.sh", "# Sums.\nadd() {\n    echo $(($1 + $2))\n}\n")));
    let call = |name: &str, args: Value| json!([{"functionCall": {"name": name, "args": args}}]);
    let propose = |patch: &str| call("propose_change", json!({"patch": patch, "message": "Add with care"}));
    let turns = [
        call("word_count", json!({"text": "what I am about to do"})),
        propose(&poisoned),
        propose(&good),
        json!([{"text": "I am better now."}]),
    ];
    let lines: Vec<String> = turns
        .iter()
        .enumerate()
        .map(|(turn, parts)| {
            let exchange = Exchange {
                model: "m".to_owned(),
                question: QUESTION.to_owned(),
                contents: 2 * turn + 1,
                status: 200,
                answer: json!({"candidates": [{"content": {"role": "model", "parts": parts}}]}),
            };
            serde_json::to_string(&exchange).expect("it is JSON")
        })
        .collect();
    let said = machine.state().join("agent.jsonl");
    std::fs::write(&said, lines.join("\n")).expect("written");
    let base = repo.git(&["rev-parse", "HEAD"]);

    let mut command = machine.program("examples/agent");
    command.args(["--model", "m", "--exchanges"]).arg(&said).arg("--repo").arg(repo.path()).arg(QUESTION);
    let output = command.output().expect("the example is built");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim() == "I am better now.", "{out}{err}");
    let answers: Vec<&str> = err.lines().filter(|line| line.contains(" → ")).collect();
    assert_eq!(answers.len(), 3, "{err}");
    assert!(answers[0].contains("\"words\":6"), "{err}");
    // One commit, the good one, which names the evaluation that allowed it.
    assert_eq!(repo.git(&["rev-parse", "HEAD^"]), base);
    assert!(repo.read("lib.sh").starts_with("# Sums."));
    let message = repo.git(&["log", "-1", "--format=%B"]);
    assert!(message.starts_with("Add with care") && message.contains("Evalfleet-Evaluation: "), "{message}");
}
