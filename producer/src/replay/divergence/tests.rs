use super::*;
use evalfleet_proto::Timestamp;
use evalfleet_proto::amendment::Amended;
use evalfleet_proto::evaluation::{Evidence, Source};
use evalfleet_proto::ids::{JobId, Sha256};
use evalfleet_proto::status::Status;
use proptest::prelude::*;
use std::time::Duration;

/// A call that passed and left something everywhere.
fn passed() -> Evaluation {
    let mut evaluation: Evaluation = serde_json::from_str(
        r#"{"schema": 1, "id": "0198c1c2-0000-7000-8000-000000000000", "kind": "function_call", "batch": null,
        "status": "passed", "cause": null, "evidence": [], "success_rate": 1.0,
        "calls": [{"name": "t", "success_rate": 1.0, "exit_code": 0, "value": {"words": [1, 2, 3], "a/b": "c"}, "duration_ms": 5}],
        "exit_code": 0, "signal": null,
        "stdout": {"text": "", "bytes": 0, "sha256": null, "truncated": false}, "stderr": {"text": "", "bytes": 0, "sha256": null, "truncated": false},
        "effects": [{"path": "/workspace/a", "change": "created", "type": "file", "size": 3, "mode": "0644", "uid": 0, "gid": 0, "expected": true},
                    {"path": "/etc/hostname", "change": "deleted", "type": "file", "size": 0, "mode": "0644", "uid": 0, "gid": 0, "expected": false}],
        "network": [{"protocol": "tcp", "destination": "1.2.3.4", "port": 443, "name": null, "attempts": 3, "allowed": false}],
        "processes_left": 1,
        "artifacts": [{"path": "/workspace/a", "bytes": 3, "sha256": null, "error": "gone"}],
        "metrics": {"wall_ms": 300, "cpu_user_ms": 1, "cpu_system_ms": 1, "memory_peak_bytes": 9000000, "disk_read_bytes": 0, "disk_written_bytes": 0, "net_rx_bytes": 0, "net_tx_bytes": 0},
        "timings": {"queued_ms": 2.1, "claim_ms": 1, "run_ms": 310, "effects_ms": 9, "report_ms": 1.2},
        "provenance": {"worker": "w1", "host": "h", "image": "sha256:1", "template": "sha256:2", "qemu": "10.0.2", "accelerator": "tcg", "attempt": 1, "reset": null},
        "submitted": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:30Z"}"#,
    )
    .unwrap();
    evaluation.stdout = written("one\ntwo\nthree\n");
    evaluation.stderr = written("careful\n");
    evaluation.effects[0].sha256 = Some(Sha256::of(b"abc"));
    evaluation
}

fn written(text: &str) -> Output {
    let sha256 = Some(Sha256::of(text.as_bytes()));
    Output { text: text.to_owned(), bytes: text.len() as u64, sha256, truncated: false }
}

fn ended(status: Status, cause: Cause, why: &str) -> Evaluation {
    let evidence = vec![Evidence::new(Source::Host, why)];
    Evaluation {
        status,
        cause: Some(cause),
        evidence,
        success_rate: status.success_rate(Some(cause)),
        ..passed()
    }
}

fn first(before: &Evaluation, now: &Evaluation) -> Divergence {
    let comparison = compare(before, now, &[]);
    assert_eq!(comparison.outcome, Outcome::Diverged, "{comparison:?}");
    comparison.first.unwrap()
}

fn place(before: &Evaluation, now: &Evaluation) -> String {
    first(before, now).place.unwrap_or_default()
}

/// What of a report is not the subject's doing.
fn around_it(evaluation: &mut Evaluation, seed: u64) {
    evaluation.id = JobId::fresh();
    evaluation.replay_of = Some(JobId::fresh());
    evaluation.batch = Some("other".parse().unwrap());
    evaluation.labels = [("run".to_owned(), seed.to_string())].into();
    evaluation.submitted = Timestamp::from_second(1_800_000_000).unwrap();
    evaluation.finished = Timestamp::from_second(1_900_000_000).unwrap();
    evaluation.timings.queued = Duration::from_millis(seed);
    evaluation.metrics.wall = Duration::from_millis(seed * 1000);
    evaluation.calls[0].duration = evaluation.metrics.wall;
    evaluation.metrics.memory_peak_bytes += seed;
    evaluation.provenance.worker = format!("w{seed}");
    evaluation.provenance.host = format!("h{seed}");
    evaluation.provenance.attempt = 3;
    evaluation.warnings = vec!["host and guest disagree".to_owned()];
    evaluation.network[0].attempts = seed + 1;
    evaluation.effects[0].expected = false;
    evaluation.effects[1].renamed_from = Some("/somewhere".to_owned());
}

/// One thing that a subject did otherwise, and where that is seen.
fn change(evaluation: &mut Evaluation, which: usize, much: u64) -> At {
    match which {
        0 => {
            (evaluation.status, evaluation.cause) = (Status::Failed, Some(Cause::Subject));
            At::Status
        }
        1 => {
            evaluation.calls[0].value = Some(serde_json::json!({"words": [1, 2, much + 4], "a/b": "c"}));
            At::Value
        }
        2 => {
            evaluation.exit_code = Some(1 + (much % 255) as i32);
            At::ExitCode
        }
        3 => {
            evaluation.stdout = written(&format!("one\ntwo {much}\n"));
            At::Stdout
        }
        4 => {
            evaluation.stderr = written(&format!("careful\n{much}"));
            At::Stderr
        }
        5 => {
            match much % 5 {
                0 => evaluation.effects[0].size += 1 + much,
                1 => evaluation.effects[0].sha256 = Some(Sha256::of(&much.to_be_bytes())),
                2 => "0600".clone_into(&mut evaluation.effects[1].mode),
                3 => evaluation.effects[1].path = format!("/etc/{much}"),
                _ => _ = evaluation.effects.pop(),
            }
            At::Effects
        }
        6 => {
            evaluation.artifacts[0].sha256 = Some(Sha256::of(&much.to_be_bytes()));
            At::Artifacts
        }
        7 => {
            evaluation.network[0].port = Some(1000 + (much % 1000) as u16);
            At::Network
        }
        8 => {
            evaluation.processes_left += 1 + much as u32;
            At::ProcessesLeft
        }
        _ => {
            evaluation.metrics.disk_written_bytes = (64 + much) << 20;
            At::Metrics
        }
    }
}

proptest! {
    #[test]
    fn who_ran_it_when_and_how_fast_is_no_divergence(seed in 0u64..10_000) {
        let before = passed();
        let mut now = passed();
        around_it(&mut now, seed);
        let comparison = compare(&before, &now, &[]);
        prop_assert_eq!((comparison.outcome, comparison.first, comparison.others), (Outcome::Same, None, Vec::new()));
        prop_assert!(comparison.circumstances.iter().any(|circumstance| circumstance.what == "host"));
    }

    #[test]
    fn any_single_change_is_the_one_divergence(which in 0usize..10, much in 0u64..500, seed in 0u64..10_000) {
        let (before, mut now) = (passed(), passed());
        around_it(&mut now, seed);
        let at = change(&mut now, which, much);
        let found = compare(&before, &now, &[]);
        prop_assert_eq!((found.outcome, found.first.as_ref().map(|first| first.at)), (Outcome::Diverged, Some(at)));
        prop_assert!(found.others.iter().all(|other| other.at == at), "{:?}", found.others);
        // And from the other side.
        let found = compare(&now, &before, &[]);
        prop_assert_eq!(found.first.map(|first| first.at), Some(at));
    }

    #[test]
    fn of_several_changes_the_first_in_the_order_is_first(some in prop::collection::btree_set(0usize..10, 1..5), much in 0u64..500) {
        let (before, mut now) = (passed(), passed());
        let mut at: Vec<At> = some.iter().map(|which| change(&mut now, *which, much)).collect();
        // What a run used that ended otherwise is not compared.
        at.retain(|at| *at != At::Metrics || !some.contains(&0));
        let found = compare(&before, &now, &[]);
        let listed: Vec<At> = found.first.iter().chain(&found.others).map(|one| one.at).collect();
        prop_assert!(listed.is_sorted(), "{:?}", listed);
        let listed: BTreeSet<At> = listed.into_iter().collect();
        prop_assert_eq!(listed, at.into_iter().collect::<BTreeSet<At>>());
    }

    #[test]
    fn whatever_two_subjects_write_the_difference_is_found(one in "(?s).{0,40}", other in "(?s).{0,40}") {
        let (mut before, mut now) = (passed(), passed());
        (before.stdout, now.stdout) = (written(&one), written(&other));
        let found = compare(&before, &now, &[]);
        prop_assert_eq!(found.outcome == Outcome::Same, one == other);
        (before.cause, before.status) = (Some(Cause::Budget), Status::TimedOut);
        (now.cause, now.status) = (before.cause, before.status);
        let found = compare(&before, &now, &[]);
        let end = |text: &str| text.trim_end_matches('\u{fffd}').to_owned();
        let (one, other) = (end(&one), end(&other));
        prop_assert_eq!(found.outcome == Outcome::Same, one.starts_with(&other) || other.starts_with(&one));
    }
}

#[test]
fn a_difference_in_the_output_is_shown_by_its_line() {
    let (before, mut now) = (passed(), passed());
    now.stdout = written("one\ntwice\nthree\n");
    let found = first(&before, &now);
    assert_eq!((found.at, found.place.as_deref()), (At::Stdout, Some("line 2")));
    assert_eq!((found.before.as_str(), found.now.as_str()), (r#""two""#, r#""twice""#));
    now.stdout = written("one\ntwo\nthree\n\u{1b}[31mfour\n");
    let found = first(&before, &now);
    assert_eq!((found.before.as_str(), found.now.as_str()), ("the end", r#""\u{1b}[31mfour""#));
    let long = format!("{}x{}", "é".repeat(500), "y".repeat(500));
    now.stdout = written(&long);
    let mut other = passed();
    other.stdout = written(&long.replace('x', "z"));
    let found = first(&now, &other);
    assert!(found.before.starts_with("…\"é") && found.before.contains("éxy"), "{found:?}");
    assert!(found.before.chars().count() < SHOWN_MAX + 10, "{found:?}");
}

#[test]
fn an_output_that_is_known_in_part_differs_beyond_that() {
    let (mut before, mut now) = (passed(), passed());
    for (evaluation, rest) in [(&mut before, "a"), (&mut now, "b")] {
        let sha256 = Some(Sha256::of(rest.as_bytes()));
        evaluation.stdout = Output { text: "begin".to_owned(), bytes: 1000, sha256, truncated: true };
    }
    assert_eq!(place(&before, &now), "beyond the first 5 bytes");
}

#[test]
fn a_difference_in_the_answer_is_shown_by_its_pointer() {
    let (before, mut now) = (passed(), passed());
    now.calls[0].value = Some(serde_json::json!({"words": [1, 7, 3], "a/b": "c"}));
    let found = first(&before, &now);
    assert_eq!((found.at, found.place.as_deref()), (At::Value, Some("/words/1")));
    assert_eq!((found.before.as_str(), found.now.as_str()), ("2", "7"));
    now.calls[0].value = Some(serde_json::json!({"words": [1, 2, 3]}));
    let found = first(&before, &now);
    assert_eq!((found.place.as_deref(), found.now.as_str()), (Some("/a~1b"), "none"));
    now.calls[0].value = None;
    assert_eq!((place(&before, &now).as_str(), first(&before, &now).now.as_str()), ("", "none"));
}

#[test]
fn what_was_not_put_to_the_test_says_nothing_of_the_subject() {
    let before = passed();
    for (status, cause) in [
        (Status::Dead, Cause::Infrastructure),
        (Status::Failed, Cause::Harness),
        (Status::Cancelled, Cause::Harness),
        (Status::Expired, Cause::Budget),
    ] {
        let comparison = compare(&before, &ended(status, cause, "no such image"), &[]);
        assert_eq!((comparison.outcome, comparison.first), (Outcome::Undecided, None));
        assert!(comparison.notes[0].contains("no such image"), "{:?}", comparison.notes);
    }
    // A request that could not be run then cannot be run now: the same.
    let refused = ended(Status::Failed, Cause::Harness, "no such user");
    assert_eq!(compare(&refused, &refused, &[]).outcome, Outcome::Same);
    // And one that can: that is another end.
    let found = first(&refused, &before);
    assert_eq!((found.before.as_str(), found.now.as_str()), ("failed (harness)", "passed"));
}

#[test]
fn what_people_made_of_a_verdict_since_is_not_what_it_is_compared_with() {
    let mut before = passed();
    let (from, to) = (before.verdict(), Verdict { status: Status::Failed, cause: Some(Cause::Subject) });
    let (by, reason) = ("me@here".to_owned(), "wrong".to_owned());
    before.amend(to, vec![Amended { at: Timestamp::UNIX_EPOCH, by, reason, from, to }]);
    assert_eq!(before.verdict(), to);
    assert_eq!(compare(&before, &passed(), &[]).outcome, Outcome::Same);
}

#[test]
fn of_a_run_that_a_limit_ended_as_much_is_compared_as_both_have() {
    let before = ended(Status::TimedOut, Cause::Budget, "30 s passed");
    let mut now = before.clone();
    now.stdout = written("one\ntwo\nthree\nfour\n");
    now.effects[0].size = 9000;
    now.effects.pop();
    (now.signal, now.exit_code, now.processes_left) = (Some(9), None, 7);
    let comparison = compare(&before, &now, &[]);
    assert_eq!(comparison.outcome, Outcome::Same, "{comparison:?}");
    assert!(comparison.notes.iter().any(|note| note.contains("a limit ended it")), "{comparison:?}");
    now.stdout = written("one\n2\n");
    assert_eq!(first(&before, &now).at, At::Stdout);
}

#[test]
fn what_two_accelerators_need_is_not_compared() {
    let (before, mut now) = (passed(), passed());
    now.metrics.memory_peak_bytes = 1 << 33;
    assert_eq!(place(&before, &now), "memory_peak_bytes");
    now.provenance.accelerator = Some("kvm".to_owned());
    let comparison = compare(&before, &now, &[]);
    assert_eq!(comparison.outcome, Outcome::Same);
    assert!(comparison.notes.iter().any(|note| note.contains("accelerators")), "{comparison:?}");
    assert_eq!(comparison.circumstances[0].what, "accelerator");
}

#[test]
fn what_is_listed_is_bounded_and_the_rest_counted() {
    let (mut before, now) = (passed(), passed());
    let sample = before.effects[0].clone();
    before.effects.extend((0..200).map(|at| {
        let mut effect = sample.clone();
        effect.path = format!("/workspace/{at}");
        effect
    }));
    let comparison = compare(&before, &now, &[]);
    assert_eq!((comparison.others.len(), comparison.omitted), (LISTED_MAX - 1, 200 - LISTED_MAX));
}
