//! The same data and the same queries without HTTP: what Datomic takes by itself, in one process with whoever asks
//! (`datomic/bench/inside.clj`).

use anyhow::{Context as _, bail, ensure};
use evalfleet_datomic::edn::{self, Value};
use evalfleet_datomic::guard::{self, Question};
use evalfleet_datomic::{Answer, Batch, Bounds, Client, Error, Transacted};
use evalfleet_recorder::gateway::Gateway;
use futures::future::BoxFuture;
use std::fs::File;
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

/// A gateway that writes down what it is told to transact, and how long that took.
#[derive(Debug)]
pub(super) struct Noting {
    client: Client,
    notes: Mutex<(File, Duration)>,
}

impl Noting {
    pub(super) fn new(client: Client, file: &Path) -> anyhow::Result<Self> {
        Ok(Self { client, notes: Mutex::new((File::create(file)?, Duration::ZERO)) })
    }

    /// What all transactions took together.
    pub(super) fn taken(&self) -> Duration {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

impl Gateway for Noting {
    fn transact<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Transacted, Error>> {
        Box::pin(async move {
            let begun = Instant::now();
            let transacted = self.client.transact(batch).await;
            let taken = begun.elapsed();
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.1 += taken;
            writeln!(notes.0, "{batch}").map_err(|error| Error::Defect { message: error.to_string() })?;
            transacted
        })
    }

    fn query<'a>(&'a self, question: &'a Question, bounds: Bounds) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(self.client.query(question, bounds))
    }
}

/// What transacting the batches of `file` takes, in Datomic Local and in the memory of a peer, all together.
pub(super) async fn record(file: &Path) -> anyhow::Result<(Duration, Duration)> {
    let answer = run(&["record", &file.display().to_string()]).await?;
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
