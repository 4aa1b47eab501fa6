//! The projection against the real store: what is counted in memory equals what Datalog counts, as of every
//! moment, and a store that begins anew is noticed.

#![expect(clippy::unwrap_used, reason = "a test may, its helpers as well")]

#[path = "projection/agreement.rs"]
mod agreement;

use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Bounds, Client, Config, Point, View, guard};
use evalfleet_insight::projection::follow::Projection;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_recorder::store::Store;
use evalfleet_recorder::{facts, import};
use evalfleet_service::blobs::Blobs;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const TOKEN: &str = "a-token-for-this-test-only";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("insight/ lies in the repository").to_owned()
}

struct Gateway {
    process: Child,
    client: Client,
    dir: tempfile::TempDir,
    port: u16,
}

impl Gateway {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (process, client) = Self::open(dir.path(), port).await;
        Self { process, client, dir, port }
    }

    async fn open(dir: &Path, port: u16) -> (Child, Client) {
        assert!(repository().join("datomic/target/classpath").exists(), "run datomic/build.sh first");
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let process = Command::new(repository().join("datomic/run.sh"))
            .env("EVALFLEET_GATEWAY_HEAP", "768m")
            .args(["--uri", "datomic:mem://projection", "--port", &port.to_string(), "--token-file"])
            .arg(dir.join("token"))
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = Client::new(Config::new(format!("http://127.0.0.1:{port}"), TOKEN)).unwrap();
        client.wait_ready(Duration::from_secs(180), |_| {}).await.unwrap();
        (process, client)
    }

    /// Ends it; what was in its memory is gone.
    async fn begin_anew(&mut self) {
        self.process.kill().await.unwrap();
        (self.process, self.client) = Self::open(self.dir.path(), self.port).await;
    }

    async fn count(&self, query: &str, as_of: Option<Point>) -> BTreeMap<String, u64> {
        let view = View { as_of, ..View::default() };
        let question = guard::check(query, &[]).unwrap().with_view(view).unwrap();
        let rows = self.client.query(&question, Bounds::default()).await.unwrap().rows;
        let pair = |row: &Value| {
            let [name, count] = row.as_vector().unwrap() else { panic!("{row}") };
            let name = name.as_str().or(name.as_keyword()).unwrap().to_owned();
            (name, u64::try_from(count.as_int().unwrap()).unwrap())
        };
        rows.iter().map(pair).collect()
    }
}

fn evaluation(index: usize, at: Timestamp) -> Evaluation {
    let cause = [None, Some("subject"), None, Some("infrastructure"), Some("budget")][index % 5];
    let status = if cause.is_some() { "failed" } else { "passed" };
    let rate =
        if cause == Some("infrastructure") { None } else { Some(f64::from(u8::from(cause.is_none()))) };
    let tool = ["read", "write"][index % 2];
    let output = json!({ "text": "", "bytes": 0, "sha256": null, "truncated": false });
    let evidence = cause.map(|_| json!({ "source": "host", "message": "seen" }));
    serde_json::from_value(json!({
        "schema": 1, "id": format!("019ab0c4-0000-7000-8000-{index:012x}"), "kind": "function_call", "batch": index.is_multiple_of(3).then_some("b1"),
        "status": status, "cause": cause, "evidence": evidence.into_iter().collect::<Vec<_>>(), "success_rate": rate,
        "calls": [{ "name": tool, "success_rate": rate, "exit_code": 0, "value": null, "duration_ms": 5.0 }],
        "exit_code": 0, "signal": null, "stdout": output, "stderr": output, "effects": [],
        "metrics": { "wall_ms": 5.0, "cpu_user_ms": 1.0, "cpu_system_ms": 1.0, "memory_peak_bytes": 1, "disk_read_bytes": 0,
            "disk_written_bytes": 0, "net_rx_bytes": 0, "net_tx_bytes": 0 },
        "timings": { "queued_ms": 1.0, "claim_ms": 1.0, "run_ms": 5.0, "effects_ms": 1.0, "report_ms": 1.0 },
        "provenance": { "worker": format!("worker-{}", index % 4), "host": "h", "image": null, "template": null, "qemu": null, "accelerator": "tcg", "attempt": 1, "reset": null },
        "labels": { "model": "gemini" }, "submitted": at, "started": at, "finished": at,
    }))
    .unwrap()
}

async fn catch_up(projection: &Projection, client: &Client) {
    while projection.step(client).await.unwrap() {}
}

/// What the projection counts, in the words of the queries below.
fn counted(projection: &Projection, as_of: Option<Point>) -> [BTreeMap<String, u64>; 3] {
    let world = projection.read();
    let at = world.at(as_of).unwrap();
    let mut causes = BTreeMap::new();
    let text = |symbol| world.symbols().text(symbol).to_owned();
    world.summary(at, |summary| {
        let all = summary.all.total;
        for (name, count) in [
            ("passed", all.passed),
            ("subject", all.subject),
            ("budget", all.budget),
            ("infrastructure", all.infrastructure),
        ] {
            if count > 0 {
                causes.insert(name.to_owned(), count);
            }
        }
        let workers = summary.workers.iter().map(|(name, line)| (text(*name), line.total.total())).collect();
        let models = summary.models.iter().map(|(name, line)| (text(*name), line.total.total())).collect();
        [causes, workers, models]
    })
}

async fn same(gateway: &Gateway, projection: &Projection, as_of: Option<Point>) {
    let [causes, workers, models] = counted(projection, as_of);
    let ended = "[:find ?how (count ?e) :where [?e :evaluation/status ?status] [(get-else $ ?e :evaluation/cause :passed) ?how]]";
    assert_eq!(causes, gateway.count(ended, as_of).await, "{as_of:?}");
    let by_worker = "[:find ?name (count ?e) :where [?e :evaluation/worker ?w] [?w :worker/id ?name] [?e :evaluation/status _]]";
    assert_eq!(workers, gateway.count(by_worker, as_of).await, "{as_of:?}");
    let by_model = "[:find ?model (count ?e) :in $ % :where [?e :evaluation/status _] (of ?e ?model)]";
    let rules = "[[(of ?e ?model) [?e :evaluation/model ?model]] [(of ?e ?model) [?e :evaluation/batch ?b] [?b :evaluation/model ?model]]]";
    let view = View { as_of, ..View::default() };
    let question = guard::check(by_model, &[rules]).unwrap().with_view(view).unwrap();
    let rows = gateway.client.query(&question, Bounds::default()).await.unwrap().rows;
    let expected: BTreeMap<String, u64> = rows
        .iter()
        .filter_map(|row| {
            let [model, count] = row.as_vector()? else { return None };
            Some((model.as_str()?.to_owned(), u64::try_from(count.as_int()?).ok()?))
        })
        .collect();
    assert_eq!(models, expected, "{as_of:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_in_memory_is_what_datalog_counts_as_of_every_moment() {
    let mut gateway = Gateway::start().await;
    let blobs = Blobs::in_memory();
    let store = Store::new(gateway.client.clone(), blobs.clone());
    let files: Vec<PathBuf> = std::fs::read_dir(repository().join("tests/data/batches"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let imported = import::import(&store, &files).await.unwrap();
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let projection = Projection::new(10_000);
    catch_up(&projection, &gateway.client).await;
    for index in 0..20 {
        let at = begin + Duration::from_secs(3600 * index as u64);
        let evaluation = evaluation(index, at);
        let document = blobs.put(serde_json::to_vec(&evaluation).unwrap()).await.unwrap();
        store.import(&format!("e{index}"), facts::evaluation(&evaluation, document), at).await.unwrap();
        // Some come while one follows, some in a stretch.
        if index % 7 == 0 {
            catch_up(&projection, &gateway.client).await;
        }
    }
    // As the recorder does it: a batch that learns its sum and its model later.
    let last = evaluation(99, Timestamp::now());
    store.record(&[&last]).await.unwrap();
    catch_up(&projection, &gateway.client).await;
    let basis_t = gateway.client.health().await.unwrap().basis_t.unwrap();
    assert_eq!(projection.read().basis_t(), basis_t);
    for as_of in [
        None,
        Some(Point::Time("2025-07-31T06:00:00Z".parse().unwrap())),
        Some(Point::Time("2026-01-01T05:30:00Z".parse().unwrap())),
        Some(Point::Time("2026-01-01T12:00:00Z".parse().unwrap())),
    ] {
        same(&gateway, &projection, as_of).await;
    }
    let batch = &imported[1];
    let world_at = |moment: &str| {
        let world = projection.read();
        let at = world.at(Some(Point::Time(moment.parse().unwrap()))).unwrap();
        world.find(&batch.id, at).map(|row| row.success_rate)
    };
    assert_eq!(world_at("2025-07-31T05:00:00Z"), None);
    assert_eq!(world_at("2025-07-31T06:00:00Z"), Some(Some(batch.success_rate)));

    // Everything is read again, and is the same.
    let before = counted(&projection, None);
    projection.rebuild();
    catch_up(&projection, &gateway.client).await;
    assert_eq!(counted(&projection, None), before);

    // A store that began anew holds less than what was read: that is noticed at once.
    gateway.begin_anew().await;
    catch_up(&projection, &gateway.client).await;
    assert_eq!(counted(&projection, None)[0], BTreeMap::new());
}
