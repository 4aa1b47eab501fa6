//! The wire as it was: every message of version 1, byte for byte, and what a reader makes of it.
//!
//! `EVALFLEET_BLESS=1` writes bytes that are not there yet. Bytes that are there are never written
//! anew: a change of theirs is a new version.

#![expect(clippy::unwrap_used, reason = "a test may")]

use evalfleet_proto::alert::{
    Alert, Cost, Culprit, Judged, Judgement, Kind, Level, Means, Rerun, Said, Severity, State,
};
use evalfleet_proto::control::{Control, Event};
use evalfleet_proto::dead::{DeadLetter, Did, Handled, Reason};
use evalfleet_proto::effect::{Change, Effect, ObjectType};
use evalfleet_proto::evaluation::*;
use evalfleet_proto::guest::{Exited, FromGuest, Hello, Run, ToGuest};
use evalfleet_proto::healing::{
    Change as Swap, Decision, Detector, Evidence as Sign, Healing, Mode, Remedy, State as Stage, Wanted,
};
use evalfleet_proto::ids::{AlertId, HealingId, JobId, Sha256};
use evalfleet_proto::job::*;
use evalfleet_proto::kept::KeptJob;
use evalfleet_proto::network::{Contact, Protocol};
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::{Timestamp, wire};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

const ID: &str = "0198c1c2-0000-7000-8000-000000000001";

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn job(document: &str) -> Job {
    let defaults = Defaults { image: "base".parse().unwrap(), now: time(1_700_000_000) };
    let mut job = Submission::from_json(document).unwrap().into_job(&defaults).unwrap();
    job.id = ID.parse().unwrap();
    job
}

fn command() -> Job {
    let mut job = job(
        r#"{"kind": "command", "argv": ["sh", "-c", "echo hi"], "stdin": "in", "env": {"A": "b"}, "priority": 3,
        "files": [{"path": "/workspace/f", "text": "x"}], "out": ["/workspace/o"], "labels": {"suite": "s"}, "batch": "night",
        "expected_effects": ["/workspace/**"], "deadline": "2026-01-01T00:00:00Z", "urgent": true}"#,
    );
    job.attempts = vec![Attempt {
        number: 1,
        worker: "w1".into(),
        cause: Cause::Infrastructure,
        error: "the VM died".into(),
        ended: time(1_700_000_009),
    }];
    job
}

fn evaluation() -> Evaluation {
    Evaluation {
        schema: 1,
        id: ID.parse().unwrap(),
        kind: "function_call".into(),
        batch: None,
        status: Status::TimedOut,
        cause: Some(Cause::Budget),
        evidence: vec![Evidence::new(Source::Host, "still running after 1s")],
        warnings: Vec::new(),
        success_rate: Some(0.0),
        calls: vec![Call {
            name: "word_count".into(),
            success_rate: Some(0.0),
            exit_code: None,
            value: Some(serde_json::json!({"words": 3})),
            duration: Duration::from_micros(21_400),
        }],
        exit_code: None,
        signal: Some(9),
        stdout: Output { text: "a".into(), bytes: 1, sha256: Some(Sha256::of(b"a")), truncated: false },
        stderr: Output::default(),
        effects: vec![Effect {
            path: "/workspace/a".into(),
            change: Change::Created,
            object: ObjectType::File,
            size: 3,
            mode: "0644".into(),
            uid: 0,
            gid: 0,
            sha256: Some(Sha256::of(b"hi\n")),
            target: None,
            renamed_from: None,
            content: None,
            expected: true,
        }],
        effects_omitted: 0,
        network: Vec::new(),
        network_omitted: 0,
        processes_left: 1,
        processes_left_names: Vec::new(),
        artifacts: vec![Artifact {
            path: "/workspace/o".into(),
            bytes: 0,
            sha256: None,
            error: Some("not there".into()),
        }],
        metrics: Metrics {
            wall: Duration::from_micros(25_100),
            memory_peak_bytes: 4096,
            guest: Some(GuestMetrics::default()),
            ..Metrics::default()
        },
        timings: Timings { queued: Duration::from_millis(2), ..Timings::default() },
        provenance: Provenance {
            worker: "w1".into(),
            host: "h1".into(),
            accelerator: Some("tcg".into()),
            attempt: 2,
            reset: Some(Reset {
                strategy: "template-clone".into(),
                took: Duration::from_millis(131),
                hidden: Duration::ZERO,
                nonce: "00ff".into(),
                pages_checked: 256,
                rushed: false,
            }),
            ..Provenance::default()
        },
        labels: [("suite".to_owned(), "s".to_owned())].into(),
        amendments: Vec::new(),
        replay_of: None,
        attempts: Vec::new(),
        submitted: time(1_700_000_000),
        started: time(1_700_000_001),
        finished: time(1_700_000_002),
    }
}

/// What a job tried to reach came after the first documents: one without it has other bytes.
fn evaluation_with_network() -> Evaluation {
    let refused = Contact {
        protocol: Protocol::Tcp,
        destination: Some("93.184.216.34".into()),
        port: Some(443),
        name: None,
        attempts: 3,
        allowed: false,
        error: None,
    };
    let asked = Contact {
        protocol: Protocol::Dns,
        destination: None,
        port: None,
        name: Some("example.com".into()),
        attempts: 1,
        allowed: true,
        error: Some("there is no such name".into()),
    };
    Evaluation { network: vec![refused, asked], network_omitted: 7, ..evaluation() }
}

fn alert() -> Alert {
    let id: JobId = ID.parse().unwrap();
    Alert {
        schema: 1,
        id: AlertId::of(id, "failing", "tool=word_count"),
        revision: 2,
        kind: Kind::Failing,
        severity: Severity::Critical,
        subject: "tool=word_count".into(),
        cases: vec!["s/c2".into()],
        state: State::Raised,
        message: "it fails".into(),
        since: time(1_700_000_000),
        suspected: time(1_700_000_010),
        confirmed: Some(time(1_700_000_020)),
        confirmed_by: Some(Means::Reruns),
        closed: None,
        dismissed: None,
        before: Level { passed: 24, tries: 24, ..Level::default() },
        after: Level { passed: 0, tries: 3, ..Level::default() },
        accelerator: None,
        evaluations: vec![id],
        suspect: Some("w1".to_owned()),
        reruns: vec![Rerun {
            id: id.derived("again", 1),
            of: id,
            before: false,
            between: None,
            worker: Some("w2".into()),
            outcome: Some(evalfleet_proto::alert::Outcome::Bad),
        }],
        culprit: Some(Culprit { attribute: "version".into(), value: "b".into(), before: "a".into() }),
        cost: Cost { reruns: 1, worker: Duration::from_micros(812_500) },
        judgement: Some(Judged {
            said: Said::Right,
            reason: "it was".into(),
            by: "me@here".into(),
            at: time(1_700_000_030),
        }),
    }
}

fn healing() -> Healing {
    let at = time(1_700_000_000);
    Healing {
        schema: 1,
        id: HealingId::of("bad_image", "image=base", at, "b"),
        revision: 3,
        detector: Detector::BadImage,
        subject: "image=base".into(),
        remedy: Remedy::RollBack,
        change: Some(Swap { from: "b".into(), to: "a".into() }),
        state: Stage::Undone,
        mode: Mode::Act,
        message: "its jobs turned bad".into(),
        evidence: vec![Sign::new("faults").counted(9, 10).in_evaluations([ID.parse().unwrap()])],
        since: at,
        found: time(1_700_000_001),
        applied: Some(time(1_700_000_002)),
        by: Some("evalfleet".into()),
        took: Some(Duration::from_millis(1_000)),
        well: Some(time(1_700_000_005)),
        well_after: Some(Duration::from_millis(4_000)),
        ended: Some(time(1_700_000_009)),
        undone_by: Some("me@here".into()),
        held: None,
        answered: Some(time(1_700_000_008)),
    }
}

/// Holds `value` against the bytes that version 1 wrote for it.
fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let path = format!("{}/tests/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let bytes = wire::encode(value);
    if std::env::var_os("EVALFLEET_BLESS").is_some() && !std::path::Path::new(&path).exists() {
        std::fs::write(&path, hex::encode(&bytes) + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let written = hex::decode(text.trim()).unwrap();
    assert_eq!(
        hex::encode(&bytes),
        hex::encode(&written),
        "{name}: this build writes other bytes than version 1 did"
    );
    assert_eq!(&wire::decode::<T>(&written).unwrap(), value, "{name}: this build reads version 1 otherwise");
}

#[test]
fn every_message_of_version_1_is_written_and_read_as_it_was() {
    golden("job-command", &command());
    golden(
        "job-function-call",
        &job(r#"{"kind": "function_call", "tool": "word_count", "args": {"text": "a b c"}}"#),
    );
    golden("evaluation", &evaluation());
    golden(
        "job-network",
        &job(
            r#"{"kind": "command", "argv": ["x"], "network": {"allow": ["pypi.org:443", "[::1]:9", "*.a.org"]}}"#,
        ),
    );
    golden("evaluation-network", &evaluation_with_network());
    let mut kept = evaluation();
    kept.provenance.job = Some(Sha256::of(b"job"));
    golden("evaluation-kept", &kept);
    golden("kept-job", &KeptJob::of(&command()).unwrap());
    let body = vec![0, 255, 1];
    golden(
        "dead-letter",
        &DeadLetter {
            schema: 1,
            id: ID.parse().unwrap(),
            reason: Reason::Poison,
            error: "no job".into(),
            lane: "default".parse().unwrap(),
            attempts: Vec::new(),
            worker: "w1".into(),
            died: time(1_700_000_003),
            body,
        },
    );
    for (name, did) in [
        ("handled-replayed", Did::Replayed { job: ID.parse().unwrap() }),
        ("handled-dropped", Did::Dropped { reason: "known".into() }),
    ] {
        let (letter, by, at) = (ID.to_owned(), "me@here".to_owned(), time(1_700_000_005));
        golden(name, &Handled { schema: 1, letter, did, by, at });
    }
    golden("alert", &alert());
    golden(
        "judgement",
        &Judgement {
            schema: 1,
            alert: alert().id,
            said: Said::Wrong,
            reason: "the disk was full".into(),
            by: "me@here".into(),
            at: time(1_700_000_031),
        },
    );
    golden("healing", &healing());
    golden(
        "decision",
        &Decision {
            schema: 1,
            healing: healing().id,
            wanted: Wanted::Undo,
            reason: "it was the network".into(),
            by: "me@here".into(),
            at: time(1_700_000_008),
        },
    );
    golden("control-cancel", &Control::Cancel { job: ID.parse().unwrap(), reason: None });
    let reason = Some("a newer revision".to_owned());
    golden("control-cancel-reason", &Control::Cancel { job: ID.parse().unwrap(), reason: reason.clone() });
    golden(
        "control-cancel-batch",
        &Control::CancelBatch { batch: "night".parse().unwrap(), until: time(1_700_000_004), reason },
    );
    let worker = Some("w1".parse().unwrap());
    golden("control-drain", &Control::Drain { worker: worker.clone(), reason: Some("its disk".into()) });
    golden("control-resume", &Control::Resume { worker });
    golden("control-mark", &Control::Mark { nonce: "00ff".into() });
    golden("event-output", &Event::Output { job: ID.parse().unwrap(), stderr: true, data: vec![104, 105] });
    golden(
        "event-progress",
        &Event::Progress {
            job: ID.parse().unwrap(),
            elapsed: Duration::from_millis(1_000),
            cpu: Duration::from_micros(950_250),
            memory_bytes: 4096,
            disk_read_bytes: 0,
            disk_written_bytes: 8192,
        },
    );
    golden(
        "guest-hello",
        &ToGuest::Hello(Hello {
            nonce: "00ff".into(),
            clock_ns: 7,
            entropy: vec![1, 2],
            hostname: "job".into(),
            mac: None,
        }),
    );
    golden(
        "guest-hello-mac",
        &ToGuest::Hello(Hello {
            nonce: "00ff".into(),
            clock_ns: 7,
            entropy: vec![1, 2],
            hostname: "job".into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
        }),
    );
    golden(
        "guest-run",
        &ToGuest::Run(Run {
            argv: vec!["true".into()],
            cwd: "/".into(),
            memory: 1 << 20,
            processes: 4,
            ..Run::default()
        }),
    );
    golden("guest-exited", &FromGuest::Exited(Exited { code: Some(0), cpu_user_us: 5, ..Exited::default() }));
}

#[test]
fn a_reader_skips_what_it_does_not_know_and_defaults_what_it_misses() {
    let mut document = serde_json::to_value(command()).unwrap();
    let fields = document.as_object_mut().unwrap();
    fields.insert("colour".into(), serde_json::json!("blue"));
    fields.remove("labels");
    fields.remove("attempts");
    let read: Job = wire::decode_job(&wire::encode(&document)).unwrap();
    assert_eq!((read.id, read.labels.len(), read.attempt()), (ID.parse().unwrap(), 0, 1));

    let newer = serde_json::json!({"schema": 1, "id": ID, "task": {"kind": "dance", "steps": 3}, "image": "base", "limits": {}, "lane": "default", "submitted": "2026-01-01T00:00:00Z"});
    assert_eq!(wire::decode_job(&wire::encode(&newer)).unwrap().task, Task::Unknown);
}

#[test]
fn what_is_no_message_is_refused_with_a_reason() {
    let good = wire::encode(&command());
    assert!(matches!(wire::decode_job(&[&good[..], &[0]].concat()), Err(wire::DecodeError::Trailing(1))));
    assert!(matches!(wire::decode_job(&good[..good.len() - 1]), Err(wire::DecodeError::Malformed(_))));
    assert!(matches!(
        wire::decode_job(&vec![0; wire::BODY_BYTES_MAX + 1]),
        Err(wire::DecodeError::TooLarge(_))
    ));
    let mut newer = command();
    newer.schema = 2;
    assert!(matches!(wire::decode_job(&wire::encode(&newer)), Err(wire::DecodeError::Newer(2))));
}

#[test]
fn the_same_question_has_the_same_key_whoever_asks_when() {
    let (one, mut other) = (command(), command());
    other.id = JobId::fresh();
    other.submitted = time(1);
    other.labels.clear();
    other.attempts.clear();
    assert_eq!(wire::content_key(&one), wire::content_key(&other));
    other.limits.processes = 1;
    assert_ne!(wire::content_key(&one), wire::content_key(&other));
}

#[test]
fn a_result_that_breaks_its_rules_is_caught() {
    let mut result = evaluation();
    assert_eq!(result.broken_rule(), None);
    result.evidence.clear();
    assert!(result.broken_rule().is_some());
    result.cause = None;
    assert!(result.broken_rule().is_some());
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = wire::decode_job(&bytes);
        let _ = wire::decode::<Evaluation>(&bytes);
        let _ = KeptJob::decode(&bytes);
        let _ = wire::decode::<FromGuest>(&bytes);
    }

    #[test]
    fn damaged_messages_do_not_either(at in 0usize..4000, byte: u8) {
        let mut bytes = wire::encode(&evaluation());
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = wire::decode::<Evaluation>(&bytes);
    }

    #[test]
    fn whatever_a_subject_writes_survives_the_wire(text in ".*", code: i32, path in "/[^\0]{0,40}") {
        let mut sent = evaluation();
        sent.stdout.text = text;
        sent.exit_code = Some(code);
        sent.effects[0].path = path;
        let read: Evaluation = wire::decode(&wire::encode(&sent)).unwrap();
        prop_assert_eq!(&read, &sent);
        let json: Evaluation = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
        prop_assert_eq!(&json, &sent);
    }
}
