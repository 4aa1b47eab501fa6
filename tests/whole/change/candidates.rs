//! Candidates to one base begin with what the base built.

use super::super::Test;
use super::fixture::Fixture;
use evalfleet_tests::machine::Machine;
use serde_json::Value;

pub(crate) const ALL: &[(&str, Test)] =
    &[("change::candidates_begin_with_what_the_base_built", candidates_begin_with_what_the_base_built)];

/// Six units of a second each; one that was built and did not change since is not built again.
const BUILD: &str = "set -e\nmkdir -p out\nfor unit in src/*; do\n    built=out/${unit#src/}\n    \
                     if [ ! -e $built ] || [ $unit -nt $built ]; then sleep 1; cp $unit $built; fi\ndone\n";

fn candidates_begin_with_what_the_base_built(machine: &Machine) {
    let repo = Fixture::new();
    repo.write("build.sh", BUILD);
    (0..6).for_each(|unit| repo.write(&format!("src/{unit}"), "one\n"));
    let suite =
        repo.read("safety.toml").replace("[suites.default]\n", "[suites.default]\nprefix = [\"out\"]\n");
    repo.write("safety.toml", &suite);
    repo.commit("Build by units");
    let patches: Vec<String> = (0..2)
        .map(|unit| repo.patch(&format!("unit-{unit}"), |repo| repo.write(&format!("src/{unit}"), "two\n")))
        .collect();
    let path = repo.path().display().to_string();
    let mut arguments = vec!["change", "eval", "--json", "--suite", "default", "--repo", &path];
    patches.iter().for_each(|patch| arguments.extend(["--patch", patch]));
    let answer = machine.evalfleet(&arguments).expect(0);
    let verdicts: Vec<Value> =
        answer.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(verdicts.len(), 2);
    for verdict in &verdicts {
        let build =
            verdict["checks"].as_array().and_then(|all| all.iter().find(|check| check["name"] == "build"));
        let build = build.unwrap_or_else(|| panic!("no build in {verdict:#}"));
        let seconds = |of: &str| build[of]["seconds"].as_f64().expect("seconds");
        assert!(seconds("base") >= 6.0 && seconds("change") < seconds("base") / 2.0, "{build}");
        assert_eq!(verdict["looks"][0]["evaluation"], verdicts[0]["looks"][0]["evaluation"]);
    }
}
