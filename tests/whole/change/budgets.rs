//! What a change uses, held against its base.

use super::super::Test;
use super::fixture::{Fixture, stem};
use evalfleet_tests::machine::Machine;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const ALL: &[(&str, Test)] =
    &[("change::what_is_built_may_not_grow_beyond_its_share", what_is_built_may_not_grow_beyond_its_share)];

/// Some hundred KiB, to which `lib.sh` is added.
const BUILD: &str = "set -e\nmkdir -p out/debug\nhead -c 102400 /dev/zero > out/debug/app\ncat lib.sh >> out/debug/app\n\
                     date > out/debug/app.d\n";

fn what_is_built_may_not_grow_beyond_its_share(machine: &Machine) {
    let repo = Fixture::new();
    repo.write("build.sh", BUILD);
    let suite = repo.read("safety.toml").replace(
        "version = 1\n",
        "version = 1\n\n[budgets]\nbinary_size = { paths = [\"out/*/app\"], grows_at_most = \"10%\" }\n",
    );
    repo.write("safety.toml", &suite);
    repo.commit("Build an app");
    let with = |name: &str, bytes: usize| {
        repo.patch(name, |repo| {
            let build = BUILD.replace("102400", &(102_400 + bytes).to_string());
            repo.write("build.sh", &build);
        })
    };
    let patches = [with("within", 8_000), with("beyond", 40_000)];
    let before = repo.digest();
    let path = repo.path().display().to_string();
    let mut arguments = vec!["change", "eval", "--json", "--repo", &path];
    patches.iter().for_each(|patch| arguments.extend(["--patch", patch]));
    let answer = machine.evalfleet(&arguments).expect(2);
    let verdicts: BTreeMap<String, Value> = answer
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|verdict| (stem(verdict["change"]["name"].as_str().unwrap_or_default()), verdict))
        .collect();
    let size = |name: &str| {
        let checks = verdicts[name]["checks"].as_array();
        let check = checks.and_then(|all| all.iter().find(|check| check["name"] == "binary_size"));
        check.unwrap_or_else(|| panic!("no size in {:#}", verdicts[name])).clone()
    };
    assert_eq!(verdicts["within"]["safe"], true, "{:#}", verdicts["within"]);
    assert_eq!(size("within")["passed"], true);
    let beyond = &verdicts["beyond"];
    assert_eq!((&beyond["verdict"], &beyond["cause"]), (&json!("unsafe"), &json!("budget")), "{beyond:#}");
    let violation = &beyond["violations"][0];
    assert_eq!(violation["rule"], "budget.binary_size");
    // 102400 and 38 bytes of the base, of both its runs, and 40000 more.
    let (message, evidence) = (violation["message"].to_string(), violation["evidence"].to_string());
    assert!(message.contains("139.1 KiB") && message.contains("114.0 KiB"), "{message}");
    assert!(evidence.contains("base: 100.0, 100.0; change: 139.1, 139.1"), "{evidence}");
    assert_eq!(repo.digest(), before, "the repository was touched");
}
