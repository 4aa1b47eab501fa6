//! Evaluations and letters that are made up, each from its number alone: as varied as a fleet's, and the same in
//! every run.

use evalfleet_proto::Timestamp;
use evalfleet_proto::dead::{DeadLetter, Letter, Reason};
use evalfleet_proto::evaluation::{Call, Evaluation, Evidence, Metrics, Output, Provenance, Source, Timings};
use evalfleet_proto::ids::{JobId, Lane, Sha256};
use evalfleet_proto::job::{Attempt, FunctionCall};
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::{SCHEMA_VERSION, wire};
use evalfleet_recorder::letters::{Noted, What};
use std::time::Duration;

/// Tools, workers and models there are.
const TOOLS: u64 = 40;
const WORKERS: u64 = 8;
const MODELS: u64 = 4;
/// When the first was evaluated, in seconds, and how long after it the next.
const BEGINNING: i64 = 1_750_000_000;
const EVERY: i64 = 20;

/// A tool's name.
pub(super) fn tool(nth: u64) -> String {
    format!("tool_{}", nth % TOOLS)
}

/// The `nth` evaluation's job.
pub(super) fn id(nth: u64) -> JobId {
    named("evaluation", nth)
}

/// An id made out of a number: not random, and unlike all others.
fn named(what: &str, nth: u64) -> JobId {
    let first = "0198c1c2-0000-7000-8000-000000000000".parse().unwrap_or_else(|_| JobId::fresh());
    first.derived(&format!("{what} {nth}"), 0)
}

/// When the `nth` was evaluated.
fn moment(nth: u64) -> Timestamp {
    let seconds = BEGINNING.saturating_add(EVERY.saturating_mul(i64::try_from(nth).unwrap_or(i64::MAX)));
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// The `nth` evaluation: nine of ten passed, one of fifty failed for no fault of its subject.
pub(super) fn evaluation(nth: u64) -> Evaluation {
    let (ended, error) = match nth % 50 {
        7 => ((Status::Crashed, Some(Cause::Infrastructure)), "QEMU: was killed by somebody on the host"),
        nth if nth % 10 == 3 => {
            ((Status::Failed, Some(Cause::Subject)), "the entry ended with exit status 1")
        }
        _ => ((Status::Passed, None), ""),
    };
    let evidence = ended
        .1
        .map(|_| vec![Evidence::new(Source::Host, format!("{error} ({})", nth % 13))])
        .unwrap_or_default();
    let finished = moment(nth);
    let wall = Duration::from_micros(80_000 + nth * 7919 % 40_000);
    let mut evaluation = Evaluation::blank(id(nth), "function_call", ended, evidence, finished);
    evaluation.calls = vec![Call {
        name: tool(nth),
        success_rate: evaluation.success_rate,
        exit_code: Some(i32::from(ended.1.is_some())),
        value: None,
        duration: wall,
    }];
    evaluation.exit_code = Some(i32::from(ended.1.is_some()));
    evaluation.stdout = Output { text: "{\"words\": 3}\n".to_owned(), bytes: 13, ..Output::default() };
    evaluation.metrics = Metrics {
        wall,
        cpu_user: wall / 2,
        cpu_system: wall / 8,
        memory_peak_bytes: 8_000_000 + nth * 4096 % 1_000_000,
        disk_read_bytes: 4096 * (nth % 64),
        ..Metrics::default()
    };
    evaluation.timings = Timings { queued: wall / 3, run: wall, ..Timings::default() };
    evaluation.provenance = Provenance {
        worker: format!("worker-{}", nth % WORKERS),
        host: format!("host-{}", nth % WORKERS / 4),
        image: Some(format!("sha256:{}", Sha256::of(b"image"))),
        accelerator: Some("kvm".to_owned()),
        attempt: 1,
        ..Provenance::default()
    };
    let labels = [("model", format!("model-{}", nth % MODELS)), ("run", format!("run-{}", nth / 1000))];
    evaluation.labels = labels.map(|(name, value)| (name.to_owned(), value)).into();
    evaluation
}

/// The `nth` letter: a call whose every try ended in a fault of ours.
///
/// # Errors
/// When a job as it is made here is none.
pub(super) fn letter(nth: u64) -> anyhow::Result<Noted> {
    let call = FunctionCall { name: tool(nth).parse()?, args: serde_json::json!({ "text": "a b c" }) };
    let defaults = Defaults { image: "base".parse()?, now: moment(nth) };
    let mut job = Submission::function_call(call).into_job(&defaults)?;
    job.id = named("letter", nth);
    let error = match nth % 3 {
        0 => "no such image: base",
        1 => "QEMU: was killed by somebody on the host",
        _ => "the scratch disk is full: No space left on device",
    };
    job.attempts = (1..=3)
        .map(|number| Attempt {
            number,
            worker: format!("worker-{}", (nth + u64::from(number)) % WORKERS),
            cause: Cause::Infrastructure,
            error: error.to_owned(),
            ended: moment(nth),
        })
        .collect();
    let letter = DeadLetter {
        schema: SCHEMA_VERSION,
        id: job.id,
        reason: Reason::AttemptsSpent,
        error: error.to_owned(),
        lane: Lane::default_lane(),
        attempts: job.attempts.clone(),
        worker: format!("worker-{}", nth % WORKERS),
        died: moment(nth),
        body: wire::encode(&job),
    };
    let message = Sha256::of(&wire::encode(&letter));
    Ok(Noted { message, what: What::Letter(Box::new(Letter::of_ours(letter))) })
}
