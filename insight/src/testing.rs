//! Small histories for tests, written as the recorder writes them.

use crate::projection::World;
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Datom, Transaction};
use evalfleet_proto::Timestamp;
use evalfleet_proto::healing::{Detector, Evidence, Healing, Mode, Remedy, State};
use evalfleet_proto::ids::{HealingId, JobId};

/// One evaluation; its transaction is its place in the list, from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) id: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) tool: &'a str,
    /// A second function that it calls.
    pub(crate) more: &'a str,
    pub(crate) worker: &'a str,
    pub(crate) image: &'a str,
    pub(crate) run: &'a str,
    pub(crate) case: &'a str,
    pub(crate) model: &'a str,
    pub(crate) cause: Option<&'a str>,
    pub(crate) error: &'a str,
    /// Minutes after the beginning; its place where 0.
    pub(crate) at: u64,
    /// Milliseconds on the clock.
    pub(crate) wall: u64,
    /// Milliseconds from its submission to its result.
    pub(crate) duration: u64,
    /// The default one where empty.
    pub(crate) lane: &'a str,
    /// `passed` or `failed` where empty.
    pub(crate) status: &'a str,
    /// The place of the one that it repeats, from 1.
    pub(crate) replay_of: u64,
}

impl Default for Job<'_> {
    fn default() -> Self {
        Self {
            id: "job",
            kind: "function-call",
            tool: "tool",
            more: "",
            worker: "",
            image: "",
            run: "",
            case: "",
            model: "",
            cause: None,
            error: "",
            at: 0,
            wall: 0,
            duration: 0,
            lane: "",
            status: "",
            replay_of: 0,
        }
    }
}

/// The history of `jobs`.
pub(crate) fn history(jobs: &[Job<'_>]) -> World {
    let mut world = World::new(1_000_000);
    for (index, job) in jobs.iter().enumerate() {
        let t = index as u64 + 1;
        let minutes = if job.at == 0 { t } else { job.at };
        let time = Timestamp::from_second(1_750_000_000 + minutes as i64 * 60).expect("in range");
        world.apply(&Transaction {
            t,
            tx_instant: time,
            datoms: datoms(job, index as i64 * 100 + 1000, time),
        });
    }
    world
}

fn datoms(job: &Job<'_>, entity: i64, time: Timestamp) -> Vec<Datom> {
    let mut all = Vec::new();
    let mut put = |entity: i64, attribute: &str, value: Value| {
        all.push(Datom { entity, attribute: attribute.to_owned(), value, added: true });
    };
    put(entity, "evaluation/id", job.id.into());
    put(entity, "evaluation/kind", Value::keyword(job.kind));
    put(entity, "evaluation/timestamp", time.into());
    let status = match (job.status, job.cause) {
        ("", Some(_)) => "failed",
        ("", None) => "passed",
        (status, _) => status,
    };
    put(entity, "evaluation/status", Value::keyword(status));
    if job.replay_of > 0 {
        put(entity, "evaluation/replay-of", ((job.replay_of as i64 - 1) * 100 + 1000).into());
    }
    put(entity, "evaluation/wall-us", (job.wall as i64 * 1000).into());
    put(entity, "evaluation/duration-us", (job.duration as i64 * 1000).into());
    if !job.lane.is_empty() {
        put(entity, "evaluation/lane", Value::keyword(job.lane));
    }
    if let Some(cause) = job.cause {
        put(entity, "evaluation/cause", Value::keyword(cause));
    }
    let texts = [("evaluation/model", job.model), ("evaluation/error", job.error)];
    for (attribute, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        put(entity, attribute, text.into());
    }
    let references = [
        ("worker", "id", job.worker),
        ("image", "digest", job.image),
        ("run", "id", job.run),
        ("case", "id", job.case),
    ];
    for (offset, (name, key, text)) in (1..).zip(references).filter(|(_, (_, _, text))| !text.is_empty()) {
        put(entity + offset, &format!("{name}/{key}"), text.into());
        put(entity, &format!("evaluation/{name}"), (entity + offset).into());
    }
    for (offset, tool) in [(50, job.tool), (60, job.more)].into_iter().filter(|(_, tool)| !tool.is_empty()) {
        let call = entity + offset;
        put(call, "function-call/id", format!("{}/call/{offset}", job.id).into());
        put(call, "function-call/name", tool.into());
        if !matches!(job.cause, Some("infrastructure" | "harness")) {
            let rate = f64::from(u8::from(job.cause.is_none()));
            put(call, "function-call/success-rate", Value::Float(rate));
        }
        put(entity, "evaluation/function-calls", call.into());
    }
    all
}

/// A worker that is to be drained, with all that is known of it in this state.
pub(crate) fn healing(state: State) -> Healing {
    let at = Timestamp::UNIX_EPOCH;
    let is_done = state != State::Proposed;
    Healing {
        schema: 1,
        id: HealingId::of("bad_worker", "worker=w1", at, "x"),
        revision: 1,
        detector: Detector::BadWorker,
        subject: "worker=w1".to_owned(),
        remedy: Remedy::Drain,
        change: None,
        state,
        mode: Mode::Act,
        message: "its tries ended in faults of ours".to_owned(),
        evidence: vec![Evidence::new("died").in_evaluations([JobId::fresh()])],
        since: at,
        found: at,
        applied: is_done.then_some(at),
        by: is_done.then(|| "evalfleet".to_owned()),
        took: None,
        well: None,
        well_after: None,
        ended: None,
        undone_by: None,
        held: None,
        answered: None,
    }
}
