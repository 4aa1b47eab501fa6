//! Against the real gateway, both drivers: whatever is recorded again, in whatever order and company and by however
//! many recorders at once, adds no fact.
//!
//! `EVALFLEET_REDELIVERY_SEED` plays a run again.

#![expect(clippy::unwrap_used, reason = "a test may, its helpers as well")]

use evalfleet_datomic::{Bounds, Client, Config, Datom, guard};
use evalfleet_proto::dead::{DeadLetter, Letter, Reason};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::{JobId, Sha256};
use evalfleet_proto::{Timestamp, wire};
use evalfleet_recorder::letters::{Noted, What};
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use fastrand::Rng;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const TOKEN: &str = "a-token-for-this-test-only";
const ROUNDS: u64 = 8;

struct Gateway {
    _process: Child,
    client: Client,
    _dir: tempfile::TempDir,
}

impl Gateway {
    async fn start(uri: &str) -> Self {
        let repository: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        assert!(repository.join("datomic/target/classpath").exists(), "run datomic/build.sh first");
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(repository.join("datomic/run.sh"))
            .env("EVALFLEET_GATEWAY_HEAP", "768m")
            .args(["--uri", uri, "--port", &port.to_string(), "--token-file"])
            .arg(&token)
            .arg("--storage-dir")
            .arg(dir.path().join("store"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = Client::new(Config::new(format!("http://127.0.0.1:{port}"), TOKEN)).unwrap();
        client.wait_ready(Duration::from_secs(180), |_| {}).await.unwrap();
        Self { _process: process, client, _dir: dir }
    }

    /// The newest transaction, and all facts that ever were, less those about transactions themselves.
    async fn facts(&self) -> (u64, Vec<Datom>) {
        let (mut next, mut facts) = (0, Vec::new());
        loop {
            let log = self.client.tx_range(next, 200).await.unwrap();
            for transaction in log.transactions {
                let itself = transaction.datoms.iter().find(|datom| datom.attribute == "db/txInstant");
                let itself = itself.map(|datom| datom.entity);
                facts.extend(transaction.datoms.into_iter().filter(|datom| Some(datom.entity) != itself));
            }
            next = log.next_t;
            if next > log.basis_t {
                return (log.basis_t, facts);
            }
        }
    }

    async fn count(&self, what: &str) -> usize {
        let question = guard::check(&format!("[:find ?e :where [?e {what}]]"), &[]).unwrap();
        let bounds = Bounds { rows_max: 100_000, ..Bounds::default() };
        self.client.query(&question, bounds).await.unwrap().rows.len()
    }
}

/// A result as varied as a fleet's: with calls or without, of a batch or of none, of one model or another.
fn result(rng: &mut Rng, round: u64, index: usize) -> Evaluation {
    let cause = *rng.choice([None, Some("subject"), Some("infrastructure"), Some("budget")].iter()).unwrap();
    let status = match cause {
        None => "passed",
        Some("infrastructure") if rng.bool() => "dead",
        Some(_) => "failed",
    };
    let rate = match cause {
        Some("infrastructure") => None,
        cause => Some(f64::from(u8::from(cause.is_none()))),
    };
    let calls: Vec<_> = (0..rng.usize(0..4))
        .map(|call| json!({ "name": format!("tool-{call}"), "success_rate": rate, "exit_code": rng.i32(0..3), "value": null, "duration_ms": 5.0 }))
        .collect();
    let evidence = cause.map(|_| json!({ "source": "host", "message": "seen" }));
    let output = json!({ "text": "o".repeat(rng.usize(0..3000)), "bytes": 3000, "sha256": Sha256::of(b"o"), "truncated": false });
    let nothing = json!({ "text": "", "bytes": 0, "sha256": null, "truncated": false });
    let batch = rng.bool().then(|| format!("batch-{round}-{}", rng.usize(0..2)));
    let at = Timestamp::from_second(1_790_000_000 + rng.i64(0..100_000)).unwrap();
    serde_json::from_value(json!({
        "schema": 1, "id": format!("019ab0c4-{round:04x}-7000-8000-{index:012x}"), "kind": "function_call", "batch": batch,
        "status": status, "cause": cause, "evidence": evidence.into_iter().collect::<Vec<_>>(), "success_rate": rate,
        "calls": calls, "exit_code": 0, "signal": null, "stdout": output, "stderr": nothing, "effects": [],
        "metrics": { "wall_ms": 5.0, "cpu_user_ms": 1.0, "cpu_system_ms": 1.0, "memory_peak_bytes": 1, "disk_read_bytes": 0,
            "disk_written_bytes": 0, "net_rx_bytes": 0, "net_tx_bytes": 0 },
        "timings": { "queued_ms": 1.0, "claim_ms": 1.0, "run_ms": 5.0, "effects_ms": 1.0, "report_ms": 1.0 },
        "provenance": { "worker": format!("worker-{}", rng.usize(0..3)), "host": "h", "image": "sha256:00", "template": null,
            "qemu": null, "accelerator": "tcg", "attempt": rng.u32(1..3), "reset": null },
        "labels": { "model": format!("m-{}", rng.usize(0..2)), "suite": "s", "case": format!("c{}", index % 3), "team": "t" },
        "submitted": at, "started": at, "finished": at,
    }))
    .unwrap()
}

/// A letter of a worker's, or one that the broker passed on, for whose death nobody noted a time.
fn letter(rng: &mut Rng, round: u64, index: usize) -> Noted {
    let body = wire::encode(&format!("no job {round} {index}"));
    let id: JobId = format!("019ab0c5-{round:04x}-7000-8000-{index:012x}").parse().unwrap();
    let what = if rng.bool() {
        Letter::of_ours(DeadLetter {
            schema: 1,
            id,
            reason: Reason::AttemptsSpent,
            error: "the VM died".to_owned(),
            lane: "default".parse().unwrap(),
            attempts: Vec::new(),
            worker: "w".to_owned(),
            died: Timestamp::from_second(1_790_000_000).unwrap(),
            body: body.clone(),
        })
    } else {
        Letter::read(None, "dead.default", &body)
    };
    Noted { message: Sha256::of(&body), what: What::Letter(Box::new(what)) }
}

/// Everything in some order, each a number of times in `times`, cut into batches.
fn deliveries<'t, T>(rng: &mut Rng, all: &'t [T], times: std::ops::Range<usize>) -> Vec<Vec<&'t T>> {
    let mut order: Vec<&T> =
        all.iter().flat_map(|one| std::iter::repeat_n(one, rng.usize(times.clone()))).collect();
    rng.shuffle(&mut order);
    let mut batches = Vec::new();
    while !order.is_empty() {
        let rest = order.split_off(order.len().min(rng.usize(1..12)));
        batches.push(std::mem::replace(&mut order, rest));
    }
    batches
}

/// How often each attribute was asserted and retracted: to see what was added, when something was.
fn tally(facts: &[Datom]) -> BTreeMap<(&str, bool), usize> {
    let mut tally = BTreeMap::new();
    for fact in facts {
        *tally.entry((fact.attribute.as_str(), fact.added)).or_default() += 1;
    }
    tally
}

/// Records as the service does: what may help when it is tried again, is.
async fn record_all(store: &Store, batches: &[Vec<&Evaluation>]) {
    for batch in batches {
        while let Err(error) = store.record(batch).await {
            assert!(error.is_transient(), "{error}");
        }
    }
}

async fn round(gateway: &Gateway, rng: &mut Rng, round: u64) {
    let blobs = Blobs::in_memory();
    let store = || Store::new(gateway.client.clone(), blobs.clone());
    let count = rng.usize(3..25);
    let results: Vec<Evaluation> = (0..count).map(|index| result(rng, round, index)).collect();
    let letters: Vec<Noted> = (0..rng.usize(1..8)).map(|index| letter(rng, round, index)).collect();
    let before = (gateway.count(":record/of").await, gateway.count(":function-call/id").await);

    // Two recorders have them first, each in an order of its own: what one is refused, the other has written.
    let (mine, theirs) = (deliveries(rng, &results, 1..4), deliveries(rng, &results, 0..3));
    let (one, other) = (store(), store());
    tokio::join!(record_all(&one, &mine), record_all(&other, &theirs));
    for batch in deliveries(rng, &letters, 1..3) {
        store().record_dead(&batch).await.unwrap();
    }
    let calls: usize = results.iter().map(|result| result.calls.len()).sum();
    let after = (gateway.count(":record/of").await, gateway.count(":function-call/id").await);
    assert_eq!(after, (before.0 + results.len(), before.1 + calls), "each job once, with its calls");

    let (basis_t, facts) = gateway.facts().await;
    let documents = facts.iter().filter(|fact| fact.attribute == "evaluation/document").count();
    assert_eq!(documents, after.0, "a document was replaced");

    // Second tries of the same jobs come as well, and say something else.
    let second = |result: &Evaluation| {
        let mut other = result.clone();
        other.provenance.attempt += 1;
        other.calls.extend(other.calls.first().cloned());
        other
    };
    let all: Vec<Evaluation> = results.iter().cloned().chain(results.iter().map(second)).collect();
    for batch in deliveries(rng, &all, 1..4) {
        let done = store().record(&batch).await.unwrap();
        assert!(done.duplicate && done.datoms == 0, "{done:?}");
    }
    assert_eq!(
        gateway.facts().await.0,
        basis_t,
        "there was nothing to write: {:?}",
        tally(&gateway.facts().await.1)
    );
    for batch in deliveries(rng, &letters, 1..3) {
        store().record_dead(&batch).await.unwrap();
    }
    // Some of it again with something new: the rest adds nothing.
    let news = result(rng, round, count);
    let mut mixed: Vec<&Evaluation> = results.iter().take(3).collect();
    mixed.insert(rng.usize(0..mixed.len()), &news);
    let (_, again) = gateway.facts().await;
    assert_eq!(tally(&facts), tally(&again));
    store().record(&mixed).await.unwrap();
    assert_eq!(gateway.count(":record/of").await, after.0 + 1);
    assert_eq!(gateway.count(":function-call/id").await, after.1 + news.calls.len());
}

async fn what_comes_again_adds_nothing(uri: &str) {
    let asked = std::env::var("EVALFLEET_REDELIVERY_SEED").ok();
    let seed = asked.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("a seed is a number"));
    println!("EVALFLEET_REDELIVERY_SEED={seed}");
    let gateway = Gateway::start(uri).await;
    let mut rng = Rng::with_seed(seed);
    for number in 0..ROUNDS {
        round(&gateway, &mut rng, number).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_to_datomic_local() {
    what_comes_again_adds_nothing("datomic:local://redelivery").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_to_datomic_in_memory() {
    what_comes_again_adds_nothing("datomic:mem://redelivery").await;
}
