//! What is committed, what is not, and requests that are themselves at fault.

use super::super::Test;
use super::fixture::Fixture;
use evalfleet_tests::machine::{Answer, Machine};
use serde_json::Value;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("change::a_safe_change_is_committed", a_safe_change_is_committed),
    ("change::a_revision_is_forwarded_to_and_a_bundle_is_only_read", a_revision_and_a_bundle),
    ("change::requests_at_fault_are_said_to_be", requests_at_fault_are_said_to_be),
    ("change::a_suite_that_never_ends_is_a_budget", a_suite_that_never_ends_is_a_budget),
];

fn eval(machine: &Machine, repo: &Fixture, arguments: &[&str]) -> Answer {
    let path = repo.path().display().to_string();
    let mut all = vec!["change", "eval", "--repo", &path, "--json"];
    all.extend(arguments);
    machine.evalfleet(&all)
}

fn a_safe_change_is_committed(machine: &Machine) {
    let repo = Fixture::new();
    let good =
        repo.patch("good", |repo| repo.write("lib.sh", "# Sums.\nadd() {\n    echo $(($1 + $2))\n}\n"));
    let poisoned = repo.patch("poisoned", |repo| repo.write("lib.sh", "add() {\n    echo 7\n}\n"));
    let base = repo.git(&["rev-parse", "HEAD"]);

    let refused = eval(machine, &repo, &["--patch", &poisoned, "--commit"]).expect(1).json();
    assert_eq!((&refused["safe"], &refused["committed"]), (&Value::Bool(false), &Value::Null), "{refused:#}");
    assert_eq!(
        (repo.git(&["rev-parse", "HEAD"]), repo.git(&["status", "--porcelain"])),
        (base.clone(), String::new())
    );

    let verdict = eval(machine, &repo, &["--patch", &good, "--commit"]).expect(0).json();
    // The base was looked at for the poisoned one.
    assert_eq!(
        (&verdict["looks"][0]["tree"], &verdict["looks"][0]["reused"]),
        (&"base".into(), &true.into())
    );
    let head = repo.git(&["rev-parse", "HEAD"]);
    assert_eq!(verdict["committed"]["commit"], head.as_str());
    assert_eq!(
        (repo.git(&["rev-parse", "HEAD^"]), repo.git(&["status", "--porcelain"])),
        (base.clone(), String::new())
    );
    assert!(repo.read("lib.sh").starts_with("# Sums."));
    assert_eq!(
        repo.git(&["rev-parse", "HEAD^{tree}"]),
        verdict["change"]["tree"].as_str().unwrap_or_default()
    );
    let message = repo.git(&["log", "-1", "--format=%B"]);
    let trailer = format!("Evalfleet-Evaluation: {}", verdict["id"].as_str().unwrap_or_default());
    assert!(message.starts_with("Apply good.patch") && message.ends_with(&trailer), "{message}");

    // The branch is no longer at the base that a verdict would be about.
    let moved = eval(machine, &repo, &["--patch", &good, "--base", &base, "--commit"]).expect(4);
    assert!(moved.err.contains("moved") && moved.json()["safe"] == true, "{moved:?}");
    assert_eq!(repo.git(&["rev-parse", "HEAD"]), head);
}

fn a_revision_and_a_bundle(machine: &Machine) {
    let repo = Fixture::new();
    let base = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["checkout", "--quiet", "-b", "topic"]);
    repo.write("calc.py", "def add(a, b):\n    return b + a\n");
    let topic = repo.commit("Add from behind");
    let bundle = repo.path().with_file_name("project.bundle").display().to_string();
    repo.git(&["bundle", "create", "--quiet", &bundle, "main", "topic"]);
    repo.git(&["checkout", "--quiet", "main"]);

    let arguments =
        ["change", "eval", "--repo", &bundle, "--base", "main", "--rev", "topic", "--json", "--commit"];
    let from_bundle = machine.evalfleet(&arguments).expect(4).says(&["a bundle has no branch"]).json();
    assert_eq!(
        (&from_bundle["safe"], &from_bundle["change"]["commit"]),
        (&Value::Bool(true), &topic.as_str().into())
    );

    let verdict = eval(machine, &repo, &["--rev", "topic", "--commit"]).expect(0).json();
    assert_eq!(
        (repo.git(&["rev-parse", "main"]), repo.git(&["status", "--porcelain"])),
        (topic.clone(), String::new())
    );
    assert_eq!(repo.read("calc.py"), "def add(a, b):\n    return b + a\n");
    let note = repo.git(&["notes", "--ref=evalfleet", "show", &topic]);
    assert_eq!(note, format!("Evalfleet-Evaluation: {}", verdict["id"].as_str().unwrap_or_default()));

    // What does not stand on the base is no change to it.
    repo.git(&["reset", "--quiet", "--hard", &base]);
    repo.write("README.md", "# Elsewhere\n");
    repo.commit("Elsewhere");
    let unrelated = eval(machine, &repo, &["--rev", "topic"]).expect(4).json();
    assert!(unrelated["evidence"].to_string().contains("does not stand on the base"), "{unrelated:#}");
}

fn requests_at_fault_are_said_to_be(machine: &Machine) {
    let repo = Fixture::new();
    let patch = repo.patch("fits", |repo| repo.write("lib.sh", "add() {\n    echo 7\n}\n"));
    let stale = std::fs::read_to_string(&patch).expect("written").replace("echo $(($1", "echo $((what");
    let stale = repo.save("stale", stale.as_bytes());
    let cut = std::fs::read(&patch).expect("written");
    let cut = repo.save("cut", &cut[..cut.len() - 8]);
    let none = repo.save("none", b"this is no patch\n");
    for (patch, word) in [(&stale, "does not apply"), (&cut, "corrupt patch"), (&none, "No valid patches")] {
        let verdict = eval(machine, &repo, &["--patch", patch]).expect(4).json();
        assert_eq!(
            (&verdict["verdict"], &verdict["cause"]),
            (&"undecided".into(), &"harness".into()),
            "{verdict:#}"
        );
        let why = verdict["evidence"][0]["message"].as_str().unwrap_or_default();
        assert!(why.contains(word), "{why}");
    }
    let head = repo.git(&["rev-parse", "HEAD"]);
    let same = eval(machine, &repo, &["--rev", &head]).expect(4).json();
    assert!(same["evidence"].to_string().contains("changes nothing"), "{same:#}");
    eval(machine, &repo, &["--patch", &patch, "--base", "nosuch"]).expect(4).says(&["no revision", "nosuch"]);
    eval(machine, &repo, &["--patch", &patch, "--suite", "nosuch"])
        .expect(4)
        .says(&["nosuch", "default, python"]);
    machine
        .evalfleet(&["change", "eval", "--repo", "/nonexistent", "--patch", &patch])
        .expect(4)
        .says(&["/nonexistent", "no Git repository"]);
    machine.evalfleet(&["change", "eval"]).expect(64).says(&["--patch"]);
}

fn a_suite_that_never_ends_is_a_budget(machine: &Machine) {
    let repo = Fixture::new();
    let text = repo
        .read("safety.toml")
        .replace("[suites.default]\n", "[suites.default]\nstep = \"6s\"\nrepeat = 1\n");
    repo.write("safety.toml", &text);
    repo.commit("Be quick");
    let endless = repo.patch("endless", |repo| repo.write("lib.sh", "add() {\n    sleep 600\n}\n"));
    let verdict = eval(machine, &repo, &["--patch", &endless]).expect(2).json();
    assert_eq!((&verdict["verdict"], &verdict["cause"]), (&"unsafe".into(), &"budget".into()), "{verdict:#}");
    assert_eq!(
        (&verdict["status"], &verdict["violations"][0]["rule"]),
        (&"timed_out".into(), &"budget.endless".into())
    );
}
