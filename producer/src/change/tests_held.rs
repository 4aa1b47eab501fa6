//! Whether what passed before still passes, and whether those who say so are to be believed. Pure.

use super::looks::{Outcomes, Seen};
use super::order::{Step, Test};
use super::suite::Safety;
use super::violation::Violation;
use std::collections::BTreeSet;

/// What a script's own end, put behind the script's, exits with.
const REACHED_ITS_END: i32 = 97;

/// What the judged looks at base and change tell about the tests.
pub(super) fn judge(safety: &Safety, base: &Seen, change: &Seen) -> Vec<Violation> {
    let mut found = Vec::new();
    if let Some(step) = change.failed_build() {
        let rule = if step.ended == "timeout" { "budget.endless" } else { "build.failed" };
        let message = format!("the base builds, and the change does not: {} {}", step.name, how(step));
        found.push(Violation::new(rule, message).seen(&*step.output));
        return found;
    }
    let repeat = safety.suite.repeat;
    let (before, after) = (base.outcomes(), change.outcomes());
    let cut = cut_short(&before, &after, &mut found);
    for name in base.passed(repeat) {
        match after.get(name) {
            None if cut.iter().any(|file| name.starts_with(file.as_str())) => {}
            None => {
                let message = "a test that the base passes is not there any more";
                found.push(Violation::new("tests.missing", message).at(name));
            }
            Some(turns) => found.extend(held(name, turns, repeat)),
        }
    }
    let new = after.iter().filter(|(name, _)| !before.contains_key(*name));
    for (name, turns) in new.filter(|(_, turns)| turns.iter().any(|test| test.outcome == "failed")) {
        let message = "a test that the change brings fails under it";
        found.push(Violation::new("tests.new", message).at(*name).seen(words(turns)));
    }
    probes(base, change, &mut found);
    others(base, change, &mut found);
    findings(base, change, &mut found);
    found
}

/// Test programs that ended before they were done, which those of the base did not.
fn cut_short(before: &Outcomes<'_>, after: &Outcomes<'_>, found: &mut Vec<Violation>) -> BTreeSet<String> {
    let is = |turns: &[&Test], outcome: &str| turns.iter().any(|test| test.outcome == outcome);
    let mut cut = BTreeSet::new();
    for (name, turns) in after {
        if is(turns, "cut_short") && !before.get(name).is_some_and(|turns| is(turns, "cut_short")) {
            let message =
                "the tests' process ended before they were done, and said that all is well or nothing";
            found.push(Violation::new("tests.cut_short", message).at(*name).seen(words(turns)));
            cut.insert((*name).to_owned());
        }
        if is(turns, "timed_out") && !before.get(name).is_some_and(|turns| is(turns, "timed_out")) {
            let message = "the tests do not come to an end, as those of the base do";
            found.push(Violation::new("budget.endless", message).at(*name).seen(words(turns)));
            cut.insert((*name).to_owned());
        }
    }
    cut
}

/// What speaks against a test that the base passes in every turn.
fn held(name: &str, turns: &[&Test], repeat: u32) -> Option<Violation> {
    let passed = turns.iter().filter(|test| test.outcome == "passed").count();
    if passed == repeat as usize
        || turns.iter().any(|test| ["cut_short", "timed_out"].contains(&&*test.outcome))
    {
        return None;
    }
    let first = turns.iter().find(|test| test.turn == 1).is_some_and(|test| test.outcome == "passed");
    let (rule, message) = match (passed, first) {
        (0, _) if turns.iter().all(|test| test.outcome == "skipped") => {
            ("tests.skipped", "a test that the base passes is skipped".to_owned())
        }
        (0, _) => ("tests.failed", "a test that the base passes fails".to_owned()),
        (_, true) => {
            ("tests.unrepeatable", format!("a test passes the first time, and in {passed} of {repeat} turns"))
        }
        (_, false) => ("tests.unstable", format!("a test passes in {passed} of {repeat} turns")),
    };
    Some(Violation::new(rule, message).at(name).seen(words(turns)))
}

/// Scripts that got to their own end under the base.
fn probes(base: &Seen, change: &Seen, found: &mut Vec<Violation>) {
    let reached = |step: &&Step| step.ended == "exit" && step.code == REACHED_ITS_END;
    let armed: BTreeSet<&str> = base.steps("probe").filter(reached).map(|step| step.name.as_str()).collect();
    let outcomes = change.outcomes();
    for step in change.steps("probe").filter(|step| armed.contains(step.name.as_str()) && !reached(step)) {
        // One that fails is told as that.
        let passed = outcomes.get(step.name.as_str()).is_some_and(|turns| turns[0].outcome == "passed");
        if passed {
            let message = format!(
                "the script passes without being run to its end, as it is under the base: {}",
                how(step)
            );
            found.push(Violation::new("tests.cut_short", message).at(&*step.name).seen(&*step.output));
        }
    }
}

/// Programs that must fail, and those that must not.
fn others(base: &Seen, change: &Seen, found: &mut Vec<Violation>) {
    for step in change.steps("canary").filter(|step| step.succeeded()) {
        let message = "a program that must fail, and does under the base, succeeds";
        found.push(Violation::new("runner.tampered", message).at(&*step.name).seen(&*step.output));
    }
    let clean: BTreeSet<&str> =
        base.steps("lint").filter(|step| step.succeeded()).map(|step| step.name.as_str()).collect();
    for step in change.steps("lint").filter(|step| clean.contains(step.name.as_str()) && !step.succeeded()) {
        let message = format!("it was content with the base: {}", how(step));
        found.push(Violation::new("lint.failed", message).at(&*step.name).seen(&*step.output));
    }
}

/// What the judge noticed of the change and not of the base.
fn findings(base: &Seen, change: &Seen, found: &mut Vec<Violation>) {
    let known = base.answer.iter().flat_map(|answer| &answer.findings).collect::<Vec<_>>();
    let mut told = BTreeSet::new();
    for finding in change.answer.iter().flat_map(|answer| &answer.findings) {
        let before = known.iter().any(|it| it.path == finding.path && it.message == finding.message);
        if !before && told.insert((&finding.path, &finding.message)) {
            let violation = Violation::new(&finding.rule, finding.message.clone());
            found.push(violation.at(finding.path.clone()).seen(finding.evidence.clone()));
        }
    }
}

/// Tests that pass where the VM shows, and not where it looks like an ordinary machine.
pub(super) fn elsewhere(safety: &Safety, base: [&Seen; 2], change: [&Seen; 2]) -> Vec<Violation> {
    let repeat = safety.suite.repeat;
    let [base_judged, base_watched] = base.map(|seen| seen.passed(repeat));
    let [judged, watched] = change.map(|seen| seen.passed(repeat));
    let outcomes = change[1].outcomes();
    let both = base_watched.into_iter().filter(|name| base_judged.contains(name) && judged.contains(name));
    let differs = both.filter(|name| !watched.contains(name));
    differs
        .map(|name| {
            let message = "a test passes for an ordinary user in a VM, and not for root where no VM shows; the base's \
                           passes in both";
            let seen = outcomes.get(name).map_or_else(|| "it was not run".to_owned(), |turns| words(turns));
            Violation::new("behaviour.environment", message).at(name).seen(seen)
        })
        .collect()
}

fn words(turns: &[&Test]) -> String {
    let said =
        turns.iter().map(|test| format!("turn {}: {}: {}", test.turn, test.outcome, test.message.trim()));
    said.collect::<Vec<_>>().join("\n")
}

fn how(step: &Step) -> String {
    match step.ended.as_str() {
        "exit" => format!("exit status {}", step.code),
        "signal" => format!("signal {}", -step.code),
        _ => format!("ended after {:.0} s", step.seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::{Answer, Finding, Look};
    use super::*;
    use crate::change::tree::{Entry, Tree};
    use crate::cli::report::tests::sample;

    fn safety() -> Safety {
        let entry = Entry { mode: 0o100_644, oid: "aa".to_owned(), size: 1 };
        Safety::of(&Tree([(b"tests/a.sh".to_vec(), entry)].into()), None, None).unwrap()
    }

    /// A look in which each test had these outcomes, turn by turn.
    fn seen(tests: &[(&str, &[&str])], steps: &[(&str, &str, i32)]) -> Seen {
        let turns = |(name, outcomes): &(&str, &[&str])| -> Vec<Test> {
            let (name, turns) = ((*name).to_owned(), outcomes.iter().zip(1..));
            turns
                .map(|(outcome, turn)| Test {
                    name: name.clone(),
                    turn,
                    outcome: (*outcome).to_owned(),
                    message: String::new(),
                })
                .collect()
        };
        let step = |(phase, name, code): &(&str, &str, i32)| Step {
            phase: (*phase).to_owned(),
            name: (*name).to_owned(),
            turn: 1,
            ended: "exit".to_owned(),
            code: *code,
            seconds: 0.1,
            output: String::new(),
        };
        let answer = Answer {
            tests: tests.iter().flat_map(turns).collect(),
            steps: steps.iter().map(step).collect(),
            ..Answer::default()
        };
        Seen {
            look: Look::Judged,
            evaluation: sample(),
            laid: std::collections::BTreeMap::new(),
            answer: Some(answer),
        }
    }

    fn rules(base: &Seen, change: &Seen) -> Vec<String> {
        judge(&safety(), base, change).into_iter().map(|violation| violation.rule).collect()
    }

    #[test]
    fn what_passed_before_must_pass() {
        const PASS: &[&str] = &["passed", "passed"];
        let base =
            seen(&[("a", PASS), ("broken", &["failed", "failed"]), ("flaky", &["passed", "failed"])], &[]);
        let with = |outcomes: &'static [&'static str]| {
            rules(
                &base,
                &seen(
                    &[("a", outcomes), ("broken", &["failed", "failed"]), ("flaky", &["failed", "failed"])],
                    &[],
                ),
            )
        };
        assert_eq!(with(PASS), [""; 0]);
        assert_eq!(with(&["failed", "failed"]), ["tests.failed"]);
        assert_eq!(with(&["passed", "failed"]), ["tests.unrepeatable"]);
        assert_eq!(with(&["failed", "passed"]), ["tests.unstable"]);
        assert_eq!(with(&["skipped", "skipped"]), ["tests.skipped"]);
        assert_eq!(with(&["timed_out", "timed_out"]), ["budget.endless"]);
        assert_eq!(rules(&base, &seen(&[], &[])), ["tests.missing"]);
        assert_eq!(rules(&base, &seen(&[("a", PASS), ("new", &["failed", "failed"])], &[])), ["tests.new"]);
    }

    #[test]
    fn a_process_that_ends_early_is_told_once() {
        let base = seen(&[("f.py::a", &["passed", "passed"]), ("f.py::b", &["passed", "passed"])], &[]);
        let change = seen(&[("f.py", &["cut_short", "cut_short"])], &[]);
        assert_eq!(rules(&base, &change), ["tests.cut_short"]);
        assert_eq!(rules(&change, &change), [""; 0]);
    }

    #[test]
    fn a_script_must_reach_the_end_that_it_reached_before() {
        const PASS: &[(&str, &[&str])] = &[("a", &["passed", "passed"])];
        let base = seen(PASS, &[("probe", "a", 97), ("canary", "c", 1), ("lint", "l", 0)]);
        assert_eq!(
            rules(&base, &seen(PASS, &[("probe", "a", 97), ("canary", "c", 1), ("lint", "l", 0)])),
            [""; 0]
        );
        assert_eq!(rules(&base, &seen(PASS, &[("probe", "a", 0)])), ["tests.cut_short"]);
        assert_eq!(rules(&base, &seen(PASS, &[("canary", "c", 0)])), ["runner.tampered"]);
        assert_eq!(rules(&base, &seen(PASS, &[("lint", "l", 1)])), ["lint.failed"]);
        // One that ends by itself in the base tells nothing.
        let ends = seen(PASS, &[("probe", "a", 0)]);
        assert_eq!(rules(&ends, &ends), [""; 0]);
    }

    #[test]
    fn what_the_judge_noticed_of_the_base_as_well_is_not_blamed() {
        let with = |message: &str| {
            let mut seen = seen(&[("a", &["passed", "passed"])], &[]);
            let finding = Finding {
                rule: "runner.tampered".to_owned(),
                path: "a".to_owned(),
                message: message.to_owned(),
                evidence: String::new(),
            };
            if let Some(answer) = &mut seen.answer {
                answer.findings = vec![finding.clone(), finding];
            }
            seen
        };
        assert_eq!(rules(&with("x"), &with("x")), [""; 0]);
        assert_eq!(rules(&with("x"), &with("y")), ["runner.tampered"]);
    }

    #[test]
    fn a_test_that_fails_only_where_no_vm_shows_is_told() {
        const PASS: &[(&str, &[&str])] = &[("a", &["passed", "passed"])];
        let (good, bad) = (seen(PASS, &[]), seen(&[("a", &["failed", "failed"])], &[]));
        let rules = |base: [&Seen; 2], change: [&Seen; 2]| elsewhere(&safety(), base, change).len();
        assert_eq!(rules([&good, &good], [&good, &bad]), 1);
        assert_eq!(rules([&good, &bad], [&good, &bad]), 0);
        assert_eq!(rules([&good, &good], [&bad, &bad]), 0);
    }
}
