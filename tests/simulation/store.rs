//! A history in memory behind the recorder's gateway: what is written once stays, answers get lost, and some
//! transactions are written only after their caller gave up.

use crate::broker::Kept;
use crate::chance::Chance;
use crate::journal::Journal;
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::guard::Question;
use evalfleet_datomic::{Answer, Batch, Bounds, Error, Shape, Transacted};
use evalfleet_proto::ids::JobId;
use evalfleet_recorder::gateway::Gateway;
use futures::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the history holds of one job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) status: String,
    pub(crate) cause: Option<String>,
    document: String,
    batch: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    transactions: BTreeMap<String, u64>,
    records: BTreeMap<String, Record>,
    sums: BTreeMap<String, i64>,
    /// The jobs that have a record.
    claims: BTreeSet<String>,
}

/// The history. Its clones are one.
#[derive(Debug, Clone)]
pub(crate) struct History {
    state: Arc<Mutex<State>>,
    chance: Chance,
    journal: Journal,
    down: Arc<AtomicBool>,
}

impl History {
    pub(crate) fn new(chance: Chance, journal: Journal) -> Self {
        Self { state: Arc::default(), chance, journal, down: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its gateway answers nobody for `time`.
    pub(crate) async fn outage(&self, time: Duration) {
        self.journal.note("the gateway is down");
        self.down.store(true, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        self.down.store(false, Ordering::Relaxed);
        self.journal.note("the gateway is up");
    }

    /// What it holds of a job.
    pub(crate) fn record(&self, id: JobId) -> Option<Record> {
        self.state().records.get(&id.to_string()).cloned()
    }

    /// The jobs that it holds.
    pub(crate) fn jobs(&self) -> Vec<String> {
        self.state().records.keys().cloned().collect()
    }

    /// How many jobs it counts in a batch, and how many it holds.
    pub(crate) fn batch(&self, batch: &str) -> (i64, i64) {
        let state = self.state();
        let held = state.records.values().filter(|record| record.batch.as_deref() == Some(batch)).count();
        (state.sums.get(batch).copied().unwrap_or_default(), held as i64)
    }

    /// Writes a batch as Datomic would: all of it or nothing, each record's own entity only once, and what is
    /// compared before it is set only if it is what it was.
    fn write(&self, batch: &Batch) -> Result<Transacted, Error> {
        let mut state = self.state();
        if let Some(basis_t) = state.transactions.get(&batch.id) {
            return Ok(Transacted { basis_t: *basis_t, duplicate: true, datoms: 0 });
        }
        let refused = |message: String| Err(Error::Refused { kind: "refused".to_owned(), message });
        let claims = batch.tx_data.iter().filter_map(|form| form.get("record/of")?.as_str());
        let claims: Vec<String> = claims.map(ToOwned::to_owned).collect();
        if let Some(of) = claims.iter().find(|of| state.claims.contains(*of)) {
            return refused(format!("there is a record of {of}"));
        }
        let sums: Vec<_> = batch.tx_data.iter().filter_map(compare_and_set).collect();
        if let Some((batch, ..)) =
            sums.iter().find(|(batch, before, _)| state.sums.get(batch) != before.as_ref())
        {
            return refused(format!("the batch {batch} was counted meanwhile"));
        }
        state.claims.extend(claims);
        state.sums.extend(sums.into_iter().map(|(batch, _, now)| (batch, now)));
        let basis_t = state.transactions.len() as u64 + 1;
        state.transactions.insert(batch.id.clone(), basis_t);
        for map in &batch.tx_data {
            let text = |name: &str| map.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
            let word = |name: &str| map.get(name).and_then(Value::as_keyword).map(ToOwned::to_owned);
            let Some(id) = text("evaluation/id") else { continue };
            let Some(document) = text("evaluation/document") else { continue };
            let of_batch = map.get("evaluation/batch").and_then(|batch| batch.get("evaluation/id"));
            let record = Record {
                status: word("evaluation/status").unwrap_or_default(),
                cause: word("evaluation/cause"),
                document,
                batch: of_batch.and_then(Value::as_str).map(ToOwned::to_owned),
            };
            self.journal.note(format!("recorded {id}: {}", record.status));
            if let Some(before) = state.records.get(&id).filter(|before| **before != record) {
                self.journal.breach(format!("the record of {id} was {before:?} and becomes {record:?}"));
            }
            state.records.insert(id, record);
        }
        Ok(Transacted { basis_t, duplicate: false, datoms: batch.tx_data.len() as u64 })
    }

    fn answer(&self, question: &Question) -> Vec<Value> {
        let state = self.state();
        match question.arguments().first() {
            // Which of these jobs have a record?
            Some(Value::Vector(ids)) => {
                let ids = ids.iter().filter_map(Value::as_str).filter(|id| state.records.contains_key(*id));
                ids.map(|id| Value::Vector(vec![Value::Str(id.to_owned())])).collect()
            }
            // What is the batch's total?
            Some(Value::Str(batch)) if question.query().to_string().contains("evaluation/total") => {
                let total = state.sums.get(batch);
                total.map(|total| Value::Vector(vec![Value::Int(*total)])).into_iter().collect()
            }
            // What became of the jobs of this batch?
            Some(Value::Str(batch)) => {
                let of_it = state.records.values().filter(|record| record.batch.as_ref() == Some(batch));
                let row = |(at, record): (usize, &Record)| {
                    let cause = record.cause.clone().unwrap_or_else(|| "none".to_owned());
                    let words = [record.status.clone(), cause].map(Value::Keyword);
                    Value::Vector([vec![Value::Int(at as i64)], words.to_vec()].concat())
                };
                of_it.enumerate().map(row).collect()
            }
            _ => {
                self.journal.breach(format!("a question that this history cannot answer: {question:?}"));
                Vec::new()
            }
        }
    }

    /// Before anything is done: may fail, and then nothing was.
    async fn knock(&self) -> Result<(), Error> {
        self.chance.latency().await;
        let unreachable = || Error::Unreachable { url: "memory".to_owned(), cause: "it is down".to_owned() };
        if self.down.load(Ordering::Relaxed) {
            return Err(unreachable());
        }
        if self.chance.strikes(|rates| rates.store_before) {
            return Err(match self.chance.number(0..3) {
                0 => unreachable(),
                1 => Error::Busy { message: "by chance".to_owned() },
                _ => Error::Opening { message: "by chance".to_owned() },
            });
        }
        Ok(())
    }

    /// After it was done: the answer may be lost.
    async fn reply<T>(&self, done: T) -> Result<T, Error> {
        self.chance.latency().await;
        if !self.chance.strikes(|rates| rates.store_after) {
            return Ok(done);
        }
        if self.chance.number(0..2) == 0 {
            return Err(Error::Broken { cause: "by chance".to_owned() });
        }
        tokio::time::sleep(PATIENCE).await;
        Err(Error::TimedOut { limit: PATIENCE, message: "by chance".to_owned() })
    }
}

/// `[:db/cas [:evaluation/id batch] :evaluation/total before now]`.
fn compare_and_set(form: &Value) -> Option<(String, Option<i64>, i64)> {
    let [op, identity, _, before, now] = form.as_vector()? else { return None };
    op.as_keyword().filter(|op| *op == "db/cas")?;
    let batch = identity.as_vector()?.get(1)?.as_str()?;
    Some((batch.to_owned(), before.as_int(), now.as_int()?))
}

impl Gateway for History {
    fn transact<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Transacted, Error>> {
        Box::pin(async move {
            self.knock().await?;
            if self.chance.strikes(|rates| rates.store_late) {
                let (history, batch, time) = (self.clone(), batch.clone(), self.chance.time(10..20_000));
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    // What becomes of it, nobody hears.
                    let _ = history.write(&batch);
                });
                return Err(Error::Broken { cause: "by chance".to_owned() });
            }
            self.reply(self.write(batch)).await?
        })
    }

    fn query<'a>(&'a self, question: &'a Question, _: Bounds) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(async move {
            self.knock().await?;
            let rows = self.answer(question);
            let basis_t = self.state().transactions.len() as u64;
            self.reply(Answer { shape: Shape::Relation, rows, basis_t, truncated: false }).await
        })
    }
}

impl Kept for History {
    fn holds(&self, id: JobId) -> bool {
        self.record(id).is_some()
    }
}
