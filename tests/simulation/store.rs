//! A history in memory behind the recorder's gateway: what is written once stays, answers get lost, and some
//! transactions are written only after their caller gave up.

use crate::broker::Kept;
use crate::chance::Chance;
use crate::journal::Journal;
use crate::network::Plug;
use crate::script::{Deed, Fault};
use evalfleet::dead::{self, Card, Filter, Ledger, Letter, State};
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::guard::Question;
use evalfleet_datomic::{Answer, Batch, Bounds, Error, Shape, Transacted};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::{JobId, Sha256};
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
struct Books {
    transactions: BTreeMap<String, u64>,
    records: BTreeMap<String, Record>,
    sums: BTreeMap<String, i64>,
    /// Of each batch those that passed, and those that failed for no fault of theirs.
    tallies: BTreeMap<String, [Value; 2]>,
    /// The jobs that have a record.
    claims: BTreeSet<String>,
    /// What is known of dead letters, by their names: the jobs that repeat them.
    letters: BTreeMap<String, Vec<JobId>>,
}

/// The history. Its clones are one.
#[derive(Debug, Clone)]
pub(crate) struct History {
    state: Arc<Mutex<Books>>,
    chance: Chance,
    journal: Journal,
    down: Arc<AtomicBool>,
}

impl History {
    pub(crate) fn new(chance: Chance, journal: Journal) -> Self {
        Self { state: Arc::default(), chance, journal, down: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, Books> {
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
            if let Some(letter) = map.get("dead-letter/id").and_then(Value::as_str) {
                let known = state.letters.entry(letter.to_owned()).or_default();
                let replays = map.get("dead-letter/replays").and_then(Value::as_vector).unwrap_or_default();
                known.extend(replays.iter().filter_map(|id| id.as_str()?.parse::<JobId>().ok()));
                known.sort_unstable();
                known.dedup();
            }
            let text = |name: &str| map.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
            let word = |name: &str| map.get(name).and_then(Value::as_keyword).map(ToOwned::to_owned);
            let Some(id) = text("evaluation/id") else { continue };
            let tally =
                ["evaluation/passed", "evaluation/infrastructure-faults"].map(|name| map.get(name).cloned());
            if let [Some(passed), Some(faults)] = tally {
                state.tallies.insert(id.clone(), [passed, faults]);
            }
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
            // What is written of the batch?
            Some(Value::Str(batch)) if question.query().to_string().contains("evaluation/total") => {
                let Some(total) = state.sums.get(batch) else { return Vec::new() };
                let tally = state.tallies.get(batch).cloned().unwrap_or([Value::Int(-1), Value::Int(-1)]);
                let row =
                    [vec![Value::Int(*total)], tally.to_vec(), vec![Value::Str(String::new())]].concat();
                vec![Value::Vector(row)]
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
}

/// `[:db/cas [:evaluation/id batch] :evaluation/total before now]`.
fn compare_and_set(form: &Value) -> Option<(String, Option<i64>, i64)> {
    let [op, identity, _, before, now] = form.as_vector()? else { return None };
    op.as_keyword().filter(|op| *op == "db/cas")?;
    let batch = identity.as_vector()?.get(1)?.as_str()?;
    Some((batch.to_owned(), before.as_int(), now.as_int()?))
}

/// One part's way to the history.
#[derive(Debug)]
pub(crate) struct Door {
    history: History,
    plug: Plug,
}

impl Door {
    pub(crate) fn new(history: History, plug: Plug) -> Self {
        Self { history, plug }
    }

    /// Before anything is done: may fail, and then nothing was.
    async fn knock(&self) -> Result<(), Error> {
        self.history.chance.latency().await;
        let unreachable = || Error::Unreachable { url: "memory".to_owned(), cause: "it is down".to_owned() };
        if self.history.down.load(Ordering::Relaxed) {
            return Err(unreachable());
        }
        if self.history.chance.strikes(|rates| rates.store_before) {
            return Err(match self.history.chance.number(0..3) {
                0 => unreachable(),
                1 => Error::Busy { message: "by chance".to_owned() },
                _ => Error::Opening { message: "by chance".to_owned() },
            });
        }
        Ok(())
    }

    /// After it was done: the answer may be lost.
    async fn reply<T>(&self, done: T, fault: Option<Fault>) -> Result<T, Error> {
        self.history.chance.latency().await;
        if fault == Some(Fault::CrashAfter) {
            self.plug.die::<()>().await;
        }
        if fault != Some(Fault::Unanswered) && !self.history.chance.strikes(|rates| rates.store_after) {
            return Ok(done);
        }
        if fault.is_none() && self.history.chance.number(0..2) == 0 {
            return Err(Error::Broken { cause: "by chance".to_owned() });
        }
        tokio::time::sleep(PATIENCE).await;
        Err(Error::TimedOut { limit: PATIENCE, message: "by chance".to_owned() })
    }
}

impl Gateway for Door {
    fn transact<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Transacted, Error>> {
        Box::pin(async move {
            let (history, script) = (&self.history, &self.plug.network.script);
            self.knock().await?;
            let results = recorded(batch);
            let fault = results.iter().find_map(|id| script.strikes(&self.plug.owner, Deed::Record, id));
            if fault == Some(Fault::Fail) {
                return Err(Error::Refused {
                    kind: "refused".to_owned(),
                    message: "by the script".to_owned(),
                });
            }
            let named = if results.is_empty() { "other" } else { "results" };
            let fault = script.strikes(&self.plug.owner, Deed::Transact, named);
            if fault == Some(Fault::CrashBefore) {
                self.plug.die::<()>().await;
            }
            if fault == Some(Fault::Late) || history.chance.strikes(|rates| rates.store_late) {
                let (history, batch, time) =
                    (history.clone(), batch.clone(), history.chance.time(10..20_000));
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    // What becomes of it, nobody hears.
                    let _ = history.write(&batch);
                });
                return Err(Error::Broken { cause: "by chance".to_owned() });
            }
            self.reply(history.write(batch), fault).await?
        })
    }

    fn query<'a>(&'a self, question: &'a Question, _: Bounds) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(async move {
            self.knock().await?;
            let rows = self.history.answer(question);
            let basis_t = self.history.state().transactions.len() as u64;
            self.reply(Answer { shape: Shape::Relation, rows, basis_t, truncated: false }, None).await
        })
    }
}

/// The jobs whose results a batch writes.
fn recorded(batch: &Batch) -> Vec<String> {
    let results = batch.tx_data.iter().filter(|map| map.get("evaluation/document").is_some());
    let ids = results.filter_map(|map| map.get("evaluation/id").and_then(Value::as_str));
    ids.map(ToOwned::to_owned).collect()
}

impl Ledger for History {
    fn letters<'a>(
        &'a self,
        filter: &'a Filter,
        skip: usize,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Card>, dead::Error>> {
        Box::pin(async move {
            self.chance.latency().await;
            let state = self.state();
            let cards = state.letters.iter().map(|(id, replays)| card(id, replays));
            let fitting = cards.filter(|card| filter.has(card));
            Ok(fitting.skip(skip).take(limit).collect())
        })
    }

    fn body<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Sha256>, dead::Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// What a replay has to know of a letter, and nothing that is true of the rest.
fn card(id: &str, replays: &[JobId]) -> Card {
    let nothing = Letter::read(None, "dead.default", &[]).card(Timestamp::UNIX_EPOCH);
    let state = if replays.is_empty() { State::Waiting } else { State::Replayed };
    Card { id: id.to_owned(), state, replays: replays.to_vec(), ..nothing }
}

impl Kept for History {
    fn holds(&self, id: JobId) -> bool {
        self.record(id).is_some()
    }
}
