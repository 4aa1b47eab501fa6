//! The same data and the same queries without HTTP: what Datomic takes by itself, in one process with whoever asks
//! (`datomic/bench/inside.clj`).

use anyhow::{Context as _, bail, ensure};
use evalfleet_datomic::edn::{self, Value};
use evalfleet_datomic::guard::{self, Question};
use evalfleet_datomic::{Answer, Batch, Bounds, Client, Error, Transacted};
use evalfleet_recorder::gateway::Gateway;
use evalfleet_recorder::service::{Kind, Results};
use futures::future::BoxFuture;
use futures::stream::{self, TryStreamExt as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The three queries of the document that evalfleet was asked for by, the second corrected.
pub(super) const QUERIES: [(&str, &str); 3] = [
    (
        "query 1: one model's evaluations",
        "[:find ?eval-id ?success-rate ?timestamp :where [?e :evaluation/id ?eval-id] [?e :evaluation/model \"model-1\"] \
         [?e :evaluation/success-rate ?success-rate] [?e :evaluation/timestamp ?timestamp]]",
    ),
    (
        "query 2: mean of each day",
        "[:find ?date (avg ?rate) :keys date avg-success :with ?e :where [?e :evaluation/timestamp ?timestamp] \
         [?e :evaluation/success-rate ?rate] [(java.time.LocalDate/from ?timestamp) ?date]]",
    ),
    (
        "query 3: failing functions",
        "[:find ?function-name (avg ?success-rate) :where [?e :evaluation/function-calls ?fc] \
         [?fc :function-call/name ?function-name] [?fc :function-call/success-rate ?success-rate] \
         [(< ?success-rate 0.5)]]",
    ),
];

/// A gateway that keeps what it was told to transact.
#[derive(Debug)]
pub(super) struct Noting {
    client: Client,
    batches: Mutex<Vec<Batch>>,
}

impl Noting {
    pub(super) fn new(client: Client) -> Self {
        Self { client, batches: Mutex::default() }
    }

    /// All of it.
    pub(super) fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut self.batches.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Gateway for Noting {
    fn transact<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Transacted, Error>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch.clone());
        Box::pin(self.client.transact(batch))
    }

    fn query<'a>(&'a self, question: &'a Question, bounds: Bounds) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(self.client.query(question, bounds))
    }
}

/// The first so many of the batches are not counted: a JVM that has just started is what they would measure.
fn uncounted(batches: usize) -> usize {
    batches / 10
}

/// What transacting takes through the gateway, as the recorder does it: [`Kind::AT_ONCE`] batches under way.
pub(super) async fn through(client: &Client, batches: &[Batch]) -> anyhow::Result<Duration> {
    let (warming, counted) = batches.split_at(uncounted(batches.len()));
    for batch in warming {
        client.transact(batch).await?;
    }
    let begun = Instant::now();
    let under_way = counted.iter().map(|batch| Ok(client.transact(batch)));
    stream::iter(under_way).try_buffer_unordered(Results::AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
    Ok(begun.elapsed())
}

/// What transacting them takes without it, in Datomic Local and in the memory of a peer.
pub(super) async fn record(batches: &[Batch]) -> anyhow::Result<(Duration, Duration)> {
    let file = tempfile::NamedTempFile::new()?;
    for batch in batches {
        writeln!(file.as_file(), "{batch}")?;
    }
    let (path, uncounted) = (file.path().display().to_string(), uncounted(batches.len()).to_string());
    let answer = run(&["record", &path, &uncounted]).await?;
    let time = |name: &str| {
        let milliseconds = answer.get(name).and_then(Value::as_float);
        milliseconds.map(|ms| Duration::from_secs_f64(ms / 1e3)).context("a time")
    };
    Ok((time("local-ms")?, time("memory-ms")?))
}

/// What each of [`QUERIES`] takes of the database in `storage`, each time.
pub(super) async fn ask(storage: &Path, database: &str, times: usize) -> anyhow::Result<Vec<Vec<Duration>>> {
    let file = tempfile::NamedTempFile::new()?;
    for (_, query) in QUERIES {
        // What the guard makes of it is what the gateway is asked.
        writeln!(file.as_file(), "{}", guard::check(query, &[])?.query())?;
    }
    let (storage, path) = (storage.display().to_string(), file.path().display().to_string());
    let answer = run(&["ask", &storage, database, &path, &times.to_string()]).await?;
    let of = |query: &Value| -> Option<Vec<Duration>> {
        let times = query.get("ms")?.as_vector()?.iter();
        times.map(|ms| Some(Duration::from_secs_f64(ms.as_float()? / 1e3))).collect()
    };
    let all: Option<Vec<_>> = answer.as_vector().context("a vector")?.iter().map(of).collect();
    all.context("the times of each query")
}

fn script() -> anyhow::Result<PathBuf> {
    let run = evalfleet::machine::gateway::script().context("the gateway is not built here")?;
    Ok(run.with_file_name("bench").join("inside.sh"))
}

async fn run(arguments: &[&str]) -> anyhow::Result<Value> {
    let output = tokio::process::Command::new(script()?).args(arguments).kill_on_drop(true).output().await?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        bail!("without HTTP: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let line = text.lines().last().unwrap_or_default();
    ensure!(!line.is_empty(), "it said nothing");
    Ok(edn::parse(line)?)
}
