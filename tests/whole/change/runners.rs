//! The runners that need more than the image `base`: pytest in `eval`, and a Cargo workspace with a vendored
//! dependency in `rust`. Their images are built where they are not there yet.

use super::super::Test;
use super::fixture::{Fixture, stem};
use evalfleet_tests::machine::Machine;
use serde_json::Value;
use std::collections::BTreeMap;

/// Part of the long trials.
pub(crate) const LONG: &[(&str, Test)] = &[
    ("change::pytest_is_heard_and_not_fooled", pytest_is_heard_and_not_fooled),
    ("change::a_vendored_workspace_is_built_offline", a_vendored_workspace_is_built_offline),
];

/// What became of changes to the project under its default suite, by name.
fn verdicts(machine: &Machine, repo: &Fixture, patches: &[String], code: i32) -> BTreeMap<String, Value> {
    let path = repo.path().display().to_string();
    let mut arguments = vec!["change", "eval", "--json", "--repo", &path];
    patches.iter().for_each(|patch| arguments.extend(["--patch", patch]));
    let answer = machine.evalfleet(&arguments).expect(code);
    let verdicts = answer.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    verdicts.map(|verdict| (stem(verdict["change"]["name"].as_str().unwrap_or_default()), verdict)).collect()
}

fn rules(verdict: &Value) -> Vec<&str> {
    let violations = verdict["violations"].as_array().into_iter().flatten();
    violations.filter_map(|violation| violation["rule"].as_str()).collect()
}

/// With what only pytest has: parameters, and a fixture of its own.
const TESTS: &str = "import pytest\nfrom calc import add\n\n\n@pytest.mark.parametrize('a, b, sum', [(1, 2, 3), (2, 2, 4)])\n\
                     def test_adds(a, b, sum):\n    assert add(a, b) == sum\n\n\ndef test_refuses(tmp_path):\n    \
                     with pytest.raises(TypeError):\n        add(tmp_path, 1)\n";

fn pytest_is_heard_and_not_fooled(machine: &Machine) {
    machine.evalfleet(&["image", "build", "eval"]).expect(0);
    let repo = Fixture::new();
    repo.write("tests/test_calc.py", TESTS);
    repo.write(
        "safety.toml",
        "version = 1\nimage = \"eval\"\n\n[suites.default]\nrunner = \"python\"\nmemory = \"384M\"\n",
    );
    repo.commit("Pytest");
    let edit = |name: &str, text: &str| repo.patch(name, |repo| repo.write("calc.py", text));
    let patches = [
        edit("harmless", "def add(a, b):\n    return b + a\n"),
        edit("breaks", "def add(a, b):\n    return 3\n"),
        edit("cuts", "import os\nprint('3 passed in 0.01s', flush=True)\nos._exit(0)\n"),
    ];
    let verdicts = verdicts(machine, &repo, &patches, 1);
    let harmless = &verdicts["harmless"];
    assert_eq!(harmless["safe"], true, "{harmless:#}");
    let tests = harmless["checks"].as_array().and_then(|all| all.iter().find(|it| it["name"] == "tests"));
    assert_eq!(tests.map(|it| &it["change"]["passed"]), Some(&3.into()), "{harmless:#}");
    assert!(rules(&verdicts["breaks"]).contains(&"tests.failed"), "{:#}", verdicts["breaks"]);
    assert!(verdicts["breaks"]["violations"].to_string().contains("test_adds[2-2-4]"));
    assert!(rules(&verdicts["cuts"]).contains(&"tests.cut_short"), "{:#}", verdicts["cuts"]);
}

/// A workspace of one crate, whose one dependency lies in it.
const WORKSPACE: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[package]\nname = \"sum\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\ntiny = \"1\"\n\n\
         [profile.dev]\ndebug = false\n",
    ),
    (
        "Cargo.lock",
        "version = 3\n\n[[package]]\nname = \"sum\"\nversion = \"0.1.0\"\ndependencies = [\"tiny\"]\n\n[[package]]\n\
         name = \"tiny\"\nversion = \"1.0.0\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
    ),
    (
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"vendored\"\n\n[source.vendored]\ndirectory = \"vendor\"\n",
    ),
    ("vendor/tiny/Cargo.toml", "[package]\nname = \"tiny\"\nversion = \"1.0.0\"\nedition = \"2021\"\n"),
    ("vendor/tiny/.cargo-checksum.json", "{\"files\":{}}"),
    ("vendor/tiny/src/lib.rs", "pub fn one() -> u32 {\n    1\n}\n"),
    (
        "src/lib.rs",
        "pub fn next(n: u32) -> u32 {\n    n + tiny::one()\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    \
         fn inside() {\n        assert_eq!(super::next(1), 2);\n    }\n}\n",
    ),
    ("tests/outside.rs", "#[test]\nfn outside() {\n    assert_eq!(sum::next(2), 3);\n}\n"),
    (
        "safety.toml",
        "version = 1\nimage = \"rust\"\n\n[suites.default]\nrepeat = 1\nstep = \"15m\"\nwall = \"80m\"\n",
    ),
];

fn a_vendored_workspace_is_built_offline(machine: &Machine) {
    machine.evalfleet(&["image", "build", "rust"]).expect(0);
    let repo = Fixture::new();
    repo.git(&["rm", "-r", "--quiet", "."]);
    WORKSPACE.iter().for_each(|(name, text)| repo.write(name, text));
    repo.commit("A workspace");
    let next = |name: &str, body: &str| {
        let text = WORKSPACE.iter().find(|(name, _)| *name == "src/lib.rs").expect("it is there").1;
        repo.patch(name, |repo| repo.write("src/lib.rs", &text.replace("n + tiny::one()", body)))
    };
    let patches = [next("harmless", "tiny::one() + n"), next("breaks", "n + tiny::one() + 1")];
    let verdicts = verdicts(machine, &repo, &patches, 1);
    assert_eq!(verdicts["harmless"]["safe"], true, "{:#}", verdicts["harmless"]);
    assert!(rules(&verdicts["breaks"]).contains(&"tests.failed"), "{:#}", verdicts["breaks"]);
    let failed = verdicts["breaks"]["violations"].to_string();
    assert!(failed.contains("outside") && failed.contains("inside"), "{failed}");
}
