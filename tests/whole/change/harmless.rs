//! Twenty changes as people make them every day: none may be refused. Candidates to one base, minutes all together.

use super::super::Test;
use super::fixture::{Fixture, stem};
use evalfleet_tests::machine::Machine;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

/// Part of the long trials.
pub(crate) const LONG: &[(&str, Test)] =
    &[("change::no_harmless_change_is_refused", no_harmless_change_is_refused)];

/// What each is called, and what it does to the project.
type Candidates = &'static [(&'static str, fn(&Fixture))];

const SHELL: Candidates = &[
    ("comments", |repo| prepend(repo, "lib.sh", "# Sums of whole numbers.\n")),
    ("indents", |repo| repo.write("lib.sh", "add() {\n  echo $(($1 + $2))\n}\n")),
    ("another_way", |repo| repo.write("lib.sh", "add() {\n    printf '%s\\n' \"$(($1 + $2))\"\n}\n")),
    ("names_its_arguments", |repo| {
        repo.write("lib.sh", "add() {\n    left=$1\n    right=$2\n    echo $((left + right))\n}\n")
    }),
    ("one_more_function", |repo| append(repo, "lib.sh", "\nmul() {\n    echo $(($1 * $2))\n}\n")),
    ("another_file_is_built", |repo| {
        repo.write("mul.sh", "mul() {\n    echo $(($1 * $2))\n}\n");
        append(repo, "build.sh", "cat mul.sh >> out/lib.sh\n");
    }),
    ("builds_more", |repo| append(repo, "build.sh", "date > out/built\n")),
    ("documents_in_a_folder", |repo| repo.write("docs/usage.md", "# Usage\n\n    . ./lib.sh\n    add 1 2\n")),
    ("a_link_in_the_tree", |repo| {
        repo.write("docs/first.md", "# First\n");
        repo.link("docs/latest.md", "first.md");
    }),
    ("removes_a_text", |repo| std::fs::remove_file(repo.path().join("README.md")).expect("it was there")),
    ("may_be_run", |repo| {
        let path = repo.path().join("build.sh");
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it is there");
    }),
    ("an_image", |repo| {
        // One that people can read: others are for a suite to allow (`binaries`).
        let circle = "<circle cx=\"8\" cy=\"8\" r=\"7\" fill=\"teal\"/>";
        repo.write(
            "logo.svg",
            &format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\">{circle}</svg>\n"),
        );
    }),
    ("an_empty_file", |repo| repo.write("docs/.keep", "")),
    ("lines_of_another_system", |repo| repo.write("NOTES.txt", "one\r\ntwo\r\n")),
    ("a_table", |repo| {
        let rows: String = (0..2000).map(|n| format!("{n},{}\n", n * n)).collect();
        repo.write("data/squares.csv", &rows);
    }),
    ("ignores_what_is_built", |repo| repo.write(".gitignore", "out/\n")),
    ("words_beyond_ascii", |repo| repo.write("docs/größe.md", "# Größe\n\n数を足す。\n")),
];

const PYTHON: Candidates = &[
    ("types", |repo| repo.write("calc.py", "def add(a: int, b: int) -> int:\n    return a + b\n")),
    ("a_module_more", |repo| {
        repo.write("more.py", "def double(a):\n    return 2 * a\n");
        append(repo, "calc.py", "\n\nfrom more import double  # noqa: E402, F401\n");
    }),
    ("a_test_more", |repo| {
        let test = "from calc import add\n\n\ndef test_none():\n    assert add(0, 0) == 0\n";
        repo.write("tests/test_more.py", test);
    }),
];

fn append(repo: &Fixture, name: &str, text: &str) {
    repo.write(name, &(repo.read(name) + text));
}

fn prepend(repo: &Fixture, name: &str, text: &str) {
    repo.write(name, &(text.to_owned() + &repo.read(name)));
}

fn no_harmless_change_is_refused(machine: &Machine) {
    let repo = Fixture::new();
    let (mut refused, mut seen) = (Vec::new(), BTreeSet::new());
    for (suite, candidates) in [("default", SHELL), ("python", PYTHON)] {
        let patches: Vec<String> = candidates.iter().map(|(name, edit)| repo.patch(name, edit)).collect();
        let path = repo.path().display().to_string();
        let mut arguments = vec!["change", "eval", "--json", "--suite", suite, "--repo", &path];
        patches.iter().for_each(|patch| arguments.extend(["--patch", patch]));
        let answer = machine.evalfleet(&arguments);
        for line in answer.out.lines() {
            let verdict: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            seen.insert(stem(verdict["change"]["name"].as_str().unwrap_or_default()));
            if verdict["safe"] != true {
                refused.push(format!("{}: {}", verdict["change"]["name"], verdict["violations"]));
            }
        }
    }
    assert_eq!(seen.len(), SHELL.len() + PYTHON.len());
    assert!(refused.is_empty(), "{refused:#?}");
}
