//! A history made by chance, and the answers that are made of the projection, against Datalog: as of now, and as of
//! moments that chance picks, each by its transaction or by its time.

use super::{Gateway, catch_up};
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Bounds, Point, View, guard};
use evalfleet_insight::projection::follow::Projection;
use evalfleet_insight::projection::{At, World};
use evalfleet_insight::view::rates::Standing;
use evalfleet_insight::view::runs::{RunFilter, RunKind};
use evalfleet_insight::view::subjects::Kind;
use evalfleet_insight::view::{images, runs, subjects, workers};
use evalfleet_proto::Timestamp;
use evalfleet_proto::amendment::Amendment;
use evalfleet_proto::evaluation::{Evaluation, Verdict};
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::wire;
use evalfleet_recorder::letters::{Noted, What};
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use fastrand::Rng;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// Names another history than the usual one.
const SEED: &str = "EVALFLEET_PROJECTION_SEED";
/// How often something is recorded.
const STEPS: usize = 60;

const VERDICTS: [(Status, Option<Cause>); 8] = [
    (Status::Passed, None),
    (Status::Passed, None),
    (Status::Failed, Some(Cause::Subject)),
    (Status::Crashed, Some(Cause::Subject)),
    (Status::TimedOut, Some(Cause::Budget)),
    (Status::Dead, Some(Cause::Infrastructure)),
    (Status::Cancelled, Some(Cause::Harness)),
    (Status::Failed, Some(Cause::Harness)),
];

fn evaluation(random: &mut Rng, number: usize, end: Timestamp) -> Evaluation {
    let (status, cause) = VERDICTS[random.usize(..VERDICTS.len())];
    let rate = status.success_rate(cause);
    let labels: BTreeMap<&str, String> = [("run", 4), ("model", 3), ("suite", 2), ("case", 5)]
        .into_iter()
        .filter(|_| random.u8(..3) > 0)
        .map(|(name, of)| (name, format!("{name}-{}", number * 7 % of)))
        .collect();
    let output = json!({ "text": "", "bytes": 0, "sha256": null, "truncated": false });
    let evidence = cause.map(|_| json!({ "source": "host", "message": "seen" }));
    let call = json!({ "name": format!("tool-{}", random.u8(..4)), "success_rate": rate, "exit_code": 0, "value": null, "duration_ms": 5.0 });
    serde_json::from_value(json!({
        "schema": 1, "id": format!("019ab0c4-0000-7000-8000-{number:012x}"), "kind": "function_call",
        "batch": random.bool().then(|| format!("batch-{}", random.u8(..4))), "status": status, "cause": cause,
        "evidence": evidence.into_iter().collect::<Vec<_>>(), "success_rate": rate, "calls": [call], "exit_code": 0, "signal": null,
        "stdout": output, "stderr": output, "effects": [],
        "metrics": { "wall_ms": 5.0, "cpu_user_ms": 1.0, "cpu_system_ms": 1.0, "memory_peak_bytes": 1, "disk_read_bytes": 0,
            "disk_written_bytes": 0, "net_rx_bytes": 0, "net_tx_bytes": 0 },
        "timings": { "queued_ms": 1.0, "claim_ms": 1.0, "run_ms": 5.0, "effects_ms": 1.0, "report_ms": 1.0 },
        "provenance": { "worker": format!("worker-{}", random.u8(..3)), "host": "h", "image": (random.u8(..4) > 0).then(|| format!("sha256:{}", random.u8(..3))),
            "template": null, "qemu": null, "accelerator": "tcg", "attempt": 1, "reset": null },
        "labels": labels, "submitted": end, "started": end, "finished": end,
    }))
    .unwrap()
}

fn amendment(random: &mut Rng, of: &Evaluation) -> Noted {
    let others = [
        (Status::Passed, None),
        (Status::Failed, Some(Cause::Infrastructure)),
        (Status::Failed, Some(Cause::Subject)),
        (Status::LimitExceeded, Some(Cause::Budget)),
    ];
    let (status, cause) = others[random.usize(..others.len())];
    let amendment = Amendment {
        schema: 1,
        evaluation: of.id,
        to: Verdict { status, cause },
        reason: "chance".to_owned(),
        by: "test".to_owned(),
        at: Timestamp::now(),
    };
    Noted { message: Sha256::of(&wire::encode(&amendment)), what: What::Amended(amendment) }
}

/// Passed, and by whose doing not: the subject's, a budget's, infrastructure's, the request's.
type Counts = [u64; 5];
const CAUSES: [&str; 5] = ["passed", "subject", "budget", "infrastructure", "harness"];

/// The counts of what is shown, whose rates must be those of the counts.
fn counts(standing: &Standing) -> Counts {
    let all = standing.evaluations;
    let counts = [all.passed, all.subject, all.budget, all.infrastructure, all.harness];
    let rate = |of: u64| (of > 0).then(|| all.passed as f64 / of as f64);
    let total: u64 = counts.iter().sum();
    assert_eq!((all.total, standing.raw.rate), (total, rate(total)), "{standing:?}");
    assert_eq!(standing.rate.rate, rate(all.passed + all.subject + all.budget), "{standing:?}");
    counts
}

/// What the API's answers count, by what is counted and its name.
fn shown(world: &World, at: At) -> BTreeMap<(&'static str, String), Counts> {
    let mut all = BTreeMap::new();
    let mut put = |what, name: &str, standing: &Standing| {
        all.insert((what, name.to_owned()), counts(standing));
    };
    for run in runs::runs(world, at, &RunFilter::default(), 1000, None).runs {
        put(if run.kind == RunKind::Batch { "batch" } else { "run" }, &run.id, &run.standing);
    }
    for image in images::images(world, at, 1000, None).images {
        put("image", &image.digest, &image.standing);
    }
    for (what, kind) in [("tool", Kind::Tool), ("model", Kind::Model)] {
        for subject in subjects::subjects(world, at, kind).subjects {
            put(what, &subject.name, &subject.standing);
        }
    }
    for worker in workers::workers(world, at, |_| None).workers {
        put("worker", &worker.name, &worker.standing);
    }
    all
}

/// How each run ended, and its first and last end.
type Spans = BTreeMap<String, (BTreeMap<String, u64>, Timestamp, Timestamp)>;

fn spans(world: &World, at: At) -> Spans {
    let filter = RunFilter { kind: Some(RunKind::Run), ..RunFilter::default() };
    let runs = runs::runs(world, at, &filter, 1000, None).runs;
    runs.into_iter().map(|run| (run.id, (run.statuses, run.first, run.last))).collect()
}

struct Asker<'g> {
    gateway: &'g Gateway,
    as_of: Option<Point>,
}

impl Asker<'_> {
    async fn ask(&self, query: &str, rules: &[&str]) -> Vec<Vec<Value>> {
        let view = View { as_of: self.as_of, ..View::default() };
        let question = guard::check(query, rules).unwrap().with_view(view).unwrap();
        let answer = self.gateway.client.query(&question, Bounds::default()).await.unwrap();
        assert!(!answer.truncated);
        answer.rows.iter().map(|row| row.as_vector().unwrap().to_vec()).collect()
    }

    async fn counted(&self) -> BTreeMap<(&'static str, String), Counts> {
        const RULES: &str = "[[(of ?e ?name) [?e :evaluation/model ?name]] \
                             [(of ?e ?name) [?e :evaluation/batch ?b] [?b :evaluation/model ?name]]]";
        let mut all: BTreeMap<(&'static str, String), Counts> = BTreeMap::new();
        for (what, clauses) in [
            ("batch", "[?e :evaluation/batch ?o] [?o :evaluation/id ?name]"),
            ("run", "[?e :evaluation/run ?o] [?o :run/id ?name]"),
            ("image", "[?e :evaluation/image ?o] [?o :image/digest ?name]"),
            ("tool", "[?e :evaluation/function-calls ?o] [?o :function-call/name ?name]"),
            ("model", "(of ?e ?name)"),
            ("worker", "[?e :evaluation/worker ?o] [?o :worker/id ?name]"),
        ] {
            let query = format!(
                "[:find ?name ?how (count ?e) :in $ % :where [?e :evaluation/status _] {clauses} \
                 [(get-else $ ?e :evaluation/cause :passed) ?how]]"
            );
            for row in self.ask(&query, &[RULES]).await {
                let how = CAUSES.iter().position(|cause| row[1].as_keyword() == Some(cause)).unwrap();
                let name = row[0].as_str().unwrap().to_owned();
                all.entry((what, name)).or_default()[how] = row[2].as_int().unwrap() as u64;
            }
        }
        all
    }

    async fn spanned(&self) -> Spans {
        let of = "[?e :evaluation/run ?r] [?r :run/id ?name] [?e :evaluation/status ?status]";
        let query = format!("[:find ?name (min ?at) (max ?at) :where {of} [?e :evaluation/timestamp ?at]]");
        let mut all = BTreeMap::new();
        for row in self.ask(&query, &[]).await {
            let time = |at: usize| row[at].as_inst().unwrap();
            all.insert(row[0].as_str().unwrap().to_owned(), (BTreeMap::new(), time(1), time(2)));
        }
        for row in self.ask(&format!("[:find ?name ?status (count ?e) :where {of}]"), &[]).await {
            let status = row[1].as_keyword().unwrap().replace('-', "_");
            let run = all.get_mut(row[0].as_str().unwrap()).unwrap();
            run.0.insert(status, row[2].as_int().unwrap() as u64);
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_by_chance_is_counted_as_datalog_counts_it_as_of_any_moment() {
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_131);
    let mut random = Rng::with_seed(seed);
    let gateway = Gateway::start().await;
    let store = Store::new(gateway.client.clone(), Blobs::in_memory());
    let projection = Projection::new(100_000);
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let (mut recorded, mut basis) = (Vec::<Evaluation>::new(), Vec::new());
    for _ in 0..STEPS {
        match random.u8(..10) {
            // A verdict turned out to be wrong.
            0..2 if !recorded.is_empty() => {
                let of = &recorded[random.usize(..recorded.len())];
                store.record_dead(&[&amendment(&mut random, of)]).await.unwrap();
            }
            // Something is delivered twice.
            2 if !recorded.is_empty() => {
                let again = &recorded[random.usize(..recorded.len())];
                store.record(&[again]).await.unwrap();
            }
            _ => {
                let first = recorded.len();
                for number in first..first + random.usize(1..6) {
                    // What ended earlier may well be recorded later.
                    let end = begin + Duration::from_secs(random.u64(..40 * 86_400));
                    recorded.push(evaluation(&mut random, number, end));
                }
                let new: Vec<&Evaluation> = recorded[first..].iter().collect();
                store.record(&new).await.unwrap();
            }
        }
        basis.push(gateway.client.health().await.unwrap().basis_t.unwrap());
        if random.bool() {
            catch_up(&projection, &gateway.client).await;
        }
    }
    catch_up(&projection, &gateway.client).await;

    let (oldest, newest) = (basis[0], *basis.last().unwrap());
    let mut moments: Vec<Option<Point>> = vec![None, Some(Point::T(oldest))];
    moments.extend((0..8).map(|_| Some(Point::T(random.u64(oldest..=newest)))));
    let instant = |t: u64| {
        let world = projection.read();
        world.at(Some(Point::T(t))).unwrap().instant
    };
    for _ in 0..4 {
        let time = random.i64(instant(oldest)..=instant(newest));
        moments.push(Some(Point::Time(Timestamp::from_millisecond(time).unwrap())));
    }
    for as_of in moments {
        let (answered, runs) = {
            let world = projection.read();
            let at = world.at(as_of).unwrap();
            (shown(&world, at), spans(&world, at))
        };
        let asker = Asker { gateway: &gateway, as_of };
        assert_eq!(answered, asker.counted().await, "{SEED}={seed}, as of {as_of:?}");
        assert_eq!(runs, asker.spanned().await, "{SEED}={seed}, as of {as_of:?}");
        assert!(as_of.is_some() || answered.len() > 15, "too little to compare: {answered:?}");
    }
}
