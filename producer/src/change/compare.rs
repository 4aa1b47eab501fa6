//! From what was seen of base and change to what speaks against the change. Pure.

use super::behaviour;
use super::budget::{self, Figure};
use super::looks::{Looks, Seen};
use super::suite::{self, Safety};
use super::tests_held;
use super::violation::Violation;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One thing that was held against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `build`, `tests`, `lint`, `effects`, `network`, `build_time`, `memory`, …
    pub name: String,
    /// Whether it speaks for the change.
    pub passed: bool,
    /// What the base showed.
    pub base: Value,
    /// What the change showed.
    pub change: Value,
}

/// Says why a base cannot be held against anything, if it cannot.
pub(super) fn unsound(safety: &Safety, base: &Looks) -> Option<String> {
    for seen in base.both() {
        if seen.answer.is_none() {
            return Some(format!(
                "its suite does not come to an end ({} look): {}",
                seen.look.as_str(),
                seen.because()
            ));
        }
        if let Some(step) = seen.failed_build() {
            return Some(format!("it does not build: {}: {}", step.name, step.output.trim()));
        }
    }
    if let Some(canary) = base.judged.steps("canary").find(|step| step.succeeded()) {
        return Some(format!("the canary {:?} succeeds, and must fail", canary.name));
    }
    if let Some(why) = budget::unmeasurable(&safety.budgets, base) {
        return Some(why);
    }
    if base.judged.passed(safety.suite.repeat).is_empty() {
        let failed = base.judged.outcomes().into_iter().next();
        let words = failed.map_or_else(String::new, |(name, turns)| {
            format!(": {name}: {}", turns.first().map_or("", |test| test.message.trim()))
        });
        return Some(format!("none of its tests passes{words}"));
    }
    None
}

/// What base and change show, held against each other. Several looks at each are samples of what they use.
pub(super) fn compare(
    safety: &Safety,
    base: &[&Looks],
    change: &[&Looks],
) -> Result<(Vec<Violation>, Vec<Check>), suite::Error> {
    let (Some(first), Some(looks)) = (base.first(), change.first()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let mut found = Vec::new();
    if looks.judged.answer.is_some() {
        found.extend(tests_held::judge(safety, &first.judged, &looks.judged));
    }
    if looks.judged.answer.is_some()
        && looks.watched.answer.is_some()
        && looks.judged.failed_build().is_none()
    {
        found.extend(tests_held::elsewhere(safety, first.both(), looks.both()));
    }
    for (base, change) in first.both().into_iter().zip(looks.both()) {
        for violation in behaviour::judge(safety, base, change)? {
            // Both looks may show the same.
            let same = |it: &Violation| {
                (&it.rule, &it.path, &it.message) == (&violation.rule, &violation.path, &violation.message)
            };
            if !found.iter().any(same) {
                found.push(violation);
            }
        }
    }
    let figures = budget::figures(&safety.budgets, base, change)?;
    found.extend(budget::violations(&figures, change));
    found.retain(|violation| !safety.policy.waive.contains(&violation.rule));
    let checks = checks(safety, first, looks, &figures, &found);
    Ok((found, checks))
}

fn checks(
    safety: &Safety,
    base: &Looks,
    change: &Looks,
    figures: &[Figure],
    found: &[Violation],
) -> Vec<Check> {
    let free = |areas: &[&str]| !found.iter().any(|it| areas.iter().any(|area| it.rule.starts_with(area)));
    let check = |name: &str, passed: bool, of: &dyn Fn(&Looks) -> Value| Check {
        name: name.to_owned(),
        passed,
        base: of(base),
        change: of(change),
    };
    let judged = |phase: &'static str| {
        move |looks: &Looks| {
            let steps: Vec<_> = looks.judged.steps(phase).collect();
            let failed = steps.iter().filter(|step| !step.succeeded()).count();
            let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
            json!({"programs": steps.len(), "failed": failed, "seconds": seconds})
        }
    };
    let mut checks = vec![
        check("build", free(&["build."]), &judged("build")),
        check("tests", free(&["tests.", "runner.", "budget.endless"]), &|looks| tests(safety, &looks.judged)),
        check("elsewhere", free(&["behaviour.environment"]), &|looks| tests(safety, &looks.watched)),
        check(
            "effects",
            free(&["behaviour.writes", "behaviour.toolchain", "behaviour.git", "behaviour.tests"]),
            &|looks| {
                let effects = looks
                    .both()
                    .map(|seen| seen.evaluation.effects.len() as u64 + seen.evaluation.effects_omitted);
                json!({"judged": effects[0], "watched": effects[1]})
            },
        ),
        check("network", free(&["behaviour.network"]), &|looks| {
            json!(looks.both().iter().map(|seen| seen.evaluation.network.len()).sum::<usize>())
        }),
        check("processes_left", free(&["behaviour.processes"]), &|looks| {
            json!(looks.both().iter().map(|seen| seen.evaluation.processes_left).sum::<u32>())
        }),
    ];
    if !safety.suite.lint.is_empty() {
        checks.push(check("lint", free(&["lint."]), &judged("lint")));
    }
    checks.extend(figures.iter().map(|figure| Check {
        name: figure.name.clone(),
        passed: !figure.exceeded(),
        base: json!({"samples": figure.base, "unit": figure.unit}),
        change: json!({"samples": figure.change, "unit": figure.unit, "allowed": figure.allowed}),
    }));
    checks
}

fn tests(safety: &Safety, seen: &Seen) -> Value {
    let repeat = safety.suite.repeat as usize;
    let (mut passed, mut failed, mut unsteady) = (0, 0, 0);
    for turns in seen.outcomes().values() {
        match turns.iter().filter(|test| test.outcome == "passed").count() {
            count if count == repeat => passed += 1,
            0 => failed += 1,
            _ => unsteady += 1,
        }
    }
    json!({"passed": passed, "not_passed": failed, "unsteady": unsteady, "turns": repeat, "disguised": seen.answer.as_ref().is_some_and(|answer| answer.disguised)})
}

#[cfg(test)]
mod tests {
    use super::super::order::{Answer, Look, PROJECT, Step, Test};
    use super::super::tree::{Entry, Tree};
    use super::*;
    use crate::cli::report::tests::sample;
    use evalfleet_proto::effect::Effect;
    use std::collections::BTreeMap;

    fn safety() -> Safety {
        let entry = Entry { mode: 0o100_644, oid: "aa".to_owned(), size: 1 };
        Safety::of(&Tree([(b"tests/a.sh".to_vec(), entry)].into()), None, None).unwrap()
    }

    fn looks(answer: impl Fn(&mut Answer)) -> Looks {
        let test =
            |turn| Test { name: "a".to_owned(), turn, outcome: "passed".to_owned(), message: String::new() };
        let mut sound = Answer { tests: vec![test(1), test(2)], ..Answer::default() };
        answer(&mut sound);
        let seen = |look| {
            let mut evaluation = sample();
            evaluation.effects.clear();
            Seen { look, evaluation, laid: BTreeMap::new(), answer: Some(sound.clone()) }
        };
        Looks { judged: seen(Look::Judged), watched: seen(Look::Watched), prefix: None }
    }

    fn left(path: &str, size: u64) -> Effect {
        let path = format!("{PROJECT}/{path}");
        let effect = json!({"path": path, "change": "created", "type": "file", "size": size, "mode": "0755", "uid": 0, "gid": 0, "expected": true});
        serde_json::from_value(effect).unwrap()
    }

    /// What is the same in all but what its build left.
    fn building(sizes: [u64; 2]) -> Looks {
        let mut looks = looks(|_| ());
        for (seen, size) in [&mut looks.judged, &mut looks.watched].into_iter().zip(sizes) {
            seen.evaluation.effects = vec![left("out/app", size), left("out/deep/x", 1), left("src/app", 9)];
        }
        looks
    }

    fn step(phase: &str, code: i32) -> Step {
        let (name, ended, output) = ("s".to_owned(), "exit".to_owned(), "no".to_owned());
        Step { phase: phase.to_owned(), name, turn: 1, ended, code, seconds: 1.0, output }
    }

    #[test]
    fn a_base_that_does_not_pass_its_own_suite_proves_nothing() {
        let why = |looks: &Looks| unsound(&safety(), looks).unwrap_or_default();
        assert_eq!(why(&looks(|_| ())), "");
        assert!(why(&looks(|answer| answer.steps.push(step("build", 1)))).contains("does not build: s: no"));
        assert!(
            why(&looks(|answer| answer.steps.push(step("canary", 0)))).contains("succeeds, and must fail")
        );
        assert!(
            why(&looks(|answer| answer.tests[1].outcome = "timed_out".to_owned()))
                .contains("none of its tests")
        );
        let mut silent = looks(|_| ());
        silent.watched.answer = None;
        assert!(why(&silent).contains("does not come to an end (watched look): timed_out (30s passed)"));
    }

    #[test]
    fn what_is_built_may_grow_by_its_share_and_a_violation_has_both_sizes() {
        let mut safety = safety();
        let size = json!({"paths": ["out/*"], "grows_at_most": "10%"});
        safety.budgets.binary_size = Some(serde_json::from_value(size).unwrap());
        let kib = |sizes: [u64; 2]| building(sizes.map(|size| size << 10));
        let base = kib([100, 100]);
        assert_eq!(unsound(&safety, &base), None);
        let rules = |change: &[&Looks]| {
            let (found, _) = compare(&safety, &[&base], change).unwrap();
            found.into_iter().map(|it| (it.rule, it.message, it.evidence)).collect::<Vec<_>>()
        };
        // Ten in a hundred, and four of alignment.
        assert!(rules(&[&kib([114, 50])]).is_empty());
        // A look that shows less does not help, another run that does is noise.
        let found = rules(&[&kib([50, 115])]);
        assert_eq!(found.len(), 1);
        let (rule, message, evidence) = &found[0];
        assert_eq!(rule, "budget.binary_size");
        assert!(message.contains("115.0 KiB") && message.contains("114.0 KiB"), "{message}");
        assert!(evidence.contains("base: 100.0; change: 115.0"), "{evidence}");
        assert!(rules(&[&kib([115, 115]), &kib([100, 100])]).is_empty());
        let mut unlisted = kib([100, 100]);
        unlisted.watched.evaluation.effects_omitted = 3;
        assert_eq!(rules(&[&unlisted])[0].0, "budget.binary_size");
        assert!(unsound(&safety, &unlisted).unwrap_or_default().contains("3 effects are missing"));
        assert!(unsound(&safety, &looks(|_| ())).unwrap_or_default().contains("nothing under out/*"));
    }

    #[test]
    fn a_change_is_its_base_until_something_differs_and_rules_may_be_waived() {
        let (base, slow) = (
            looks(|answer| answer.steps.push(step("build", 0))),
            looks(|answer| {
                answer.steps.push(Step { seconds: 60.0, ..step("build", 0) });
            }),
        );
        let (found, checks) = compare(&safety(), &[&base], &[&base]).unwrap();
        assert!(found.is_empty() && checks.iter().all(|check| check.passed), "{found:?}");
        let (found, checks) = compare(&safety(), &[&base], &[&slow]).unwrap();
        assert_eq!(found.iter().map(|it| it.rule.as_str()).collect::<Vec<_>>(), ["budget.build_time"]);
        assert!(checks.iter().any(|check| check.name == "build_time" && !check.passed));
        // One sample within bounds is enough: the other was noise.
        assert!(compare(&safety(), &[&base, &base], &[&slow, &base]).unwrap().0.is_empty());
        let mut lenient = safety();
        lenient.policy.waive = vec!["budget.build_time".to_owned()];
        assert!(compare(&lenient, &[&base], &[&slow]).unwrap().0.is_empty());
    }
}
