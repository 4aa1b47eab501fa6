//! The history as the recorder writes it: documents first, then the facts that point to them.

use crate::facts::amended::Held;
use crate::facts::{self, Sum};
use crate::gateway::{self, Gateway};
use crate::letters::{Noted, What};
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Answer, Batch, Error as Refusal, Transacted, View};
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::Alert;
use evalfleet_proto::amendment::Amendment;
use evalfleet_proto::dead::Letter;
use evalfleet_proto::evaluation::{Evaluation, Verdict};
use evalfleet_proto::healing::Healing;
use evalfleet_proto::ids::{BatchId, JobId, Sha256};
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::wire;
use evalfleet_service::blobs::{self, Blobs};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use tokio::sync::Mutex;

/// How often a batch is counted before others are let go first.
const COUNTS_MAX: usize = 5;

/// The most rows of an answer.
const ROWS_MAX: u32 = 100_000;

/// Why something was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's own.
    #[error(transparent)]
    Store(#[from] Refusal),
    /// The blob store's.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// A verdict was amended that there is not.
    #[error("no evaluation {id} is recorded whose verdict could be amended")]
    Unknown {
        /// Its job.
        id: JobId,
    },
    /// Something that has no JSON.
    #[error("a result has no JSON form: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        match self {
            // A full disk is mended by people, and nothing is lost while they do.
            Self::Blobs(_) => true,
            Self::Store(error) => error.is_transient(),
            Self::Json(_) | Self::Unknown { .. } => false,
        }
    }

    /// Whether it is about what was to be recorded, and not about the store.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Store(error) => {
                matches!(error, Refusal::Refused { .. } | Refusal::TooLarge { .. } | Refusal::TooOld { .. })
            }
            Self::Json(_) | Self::Unknown { .. } => true,
            Self::Blobs(_) => false,
        }
    }
}

/// The history, for writing.
#[derive(Debug, Clone)]
pub struct Store {
    client: Arc<dyn Gateway>,
    blobs: Blobs,
    /// Batches are counted one after the other: two counts at once of one batch would refuse each other.
    counting: Arc<Mutex<()>>,
}

impl Store {
    /// The history behind `client`, with its documents in `blobs`.
    pub fn new(client: impl Gateway + 'static, blobs: Blobs) -> Self {
        Self::over(Arc::new(client), blobs)
    }

    /// The same, behind a gateway that others have as well.
    pub fn over(client: Arc<dyn Gateway>, blobs: Blobs) -> Self {
        Self { client, blobs, counting: Arc::default() }
    }

    /// Records evaluations in one transaction. The first result of a job stands: one that comes later,
    /// from a second delivery, is passed over. Where all are recorded already, nothing is written.
    ///
    /// # Errors
    /// When the store refuses, or cannot be reached: then nothing is known, and the same call asks.
    pub async fn record(&self, evaluations: &[&Evaluation]) -> Result<Transacted, Error> {
        let (mut known, mut basis_t) = self.known(evaluations).await?;
        let transacted = loop {
            if evaluations.iter().all(|evaluation| known.contains(&evaluation.id)) {
                break Transacted { basis_t, duplicate: true, datoms: 0 };
            }
            match self.write(evaluations, known.clone()).await {
                Err(error) if error.is_refusal() => {
                    // Another recorder's transaction may have come late, after we looked.
                    let now = self.known(evaluations).await?;
                    if now.0 == known {
                        return Err(error);
                    }
                    (known, basis_t) = now;
                }
                done => break done?,
            }
        };
        self.sum_up(evaluations, transacted.basis_t).await?;
        Ok(transacted)
    }

    /// Writes those of `evaluations` whose jobs are not among `seen`.
    async fn write(
        &self,
        evaluations: &[&Evaluation],
        mut seen: HashSet<JobId>,
    ) -> Result<Transacted, Error> {
        let mut tx_data = Vec::new();
        for evaluation in evaluations {
            if seen.insert(evaluation.id) {
                let document = self.blobs.put(serde_json::to_vec(evaluation)?).await?;
                tx_data.extend(facts::evaluation(evaluation, document));
            }
        }
        Ok(self.client.transact(&Batch { id: batch_id(evaluations), tx_data, tx_instant: None }).await?)
    }

    /// Records dead letters, what was done with some, amended verdicts, alerts and healings, in one transaction. Two
    /// changes of one alert or healing are refused together and recorded one after the other.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub async fn record_dead(&self, noted: &[&Noted]) -> Result<Transacted, Error> {
        let now = now_as_kept();
        let (mut tx_data, mut batches) = (Vec::new(), BTreeSet::new());
        for noted in noted {
            match &noted.what {
                What::Letter(letter) => {
                    let died = self.died(letter).await?.unwrap_or(now);
                    let body = self.blobs.put(letter.body.clone()).await?;
                    let document = self.blobs.put(serde_json::to_vec(&letter.document(died))?).await?;
                    tx_data.push(facts::dead::letter(&letter.card(died), body, document));
                }
                What::Handled(handled) => tx_data.extend(facts::dead::handled(handled)),
                What::Amended(amendment) => {
                    let (facts, batch) = self.amended(amendment).await?;
                    tx_data.extend(facts);
                    batches.extend(batch);
                }
                What::Alert(alert) => tx_data.push(self.alert(alert).await?),
                What::Judged(judgement) => tx_data.extend(facts::alert::judged(judgement)),
                What::Healing(healing) => tx_data.push(self.healing(healing).await?),
                What::Decided(decision) => tx_data.extend(facts::healing::decided(decision)),
            }
        }
        let parts: Vec<Sha256> = noted.iter().map(|noted| noted.message).collect();
        let id = format!("dead/{}", Sha256::of(&wire::encode(&parts)));
        let transacted = self.client.transact(&Batch { id: id.clone(), tx_data, tx_instant: None }).await?;
        for batch in &batches {
            let of = format!("sum/{}", Sha256::of(&wire::encode(&(transacted.basis_t, &id, batch))));
            self.sum_up_one(&of, batch, None).await?;
        }
        Ok(transacted)
    }

    /// When a letter died for whose death nobody noted a time, as far as it was recorded before: recording it again
    /// is to add nothing.
    async fn died(&self, letter: &Letter) -> Result<Option<Timestamp>, Error> {
        if letter.died.is_some() {
            return Ok(None);
        }
        let query = "[:find ?at :in $ ?id :where [?l :dead-letter/id ?id] [?l :dead-letter/timestamp ?at]]";
        let rows = self.ask(query, &[Value::Str(letter.name())]).await?;
        Ok(rows.first().and_then(|row| row.as_vector()?.first()?.as_inst()))
    }

    /// The facts of an amended verdict, as the history stands now, and the batch that counts it.
    async fn amended(&self, amendment: &Amendment) -> Result<(Vec<Value>, Option<BatchId>), Error> {
        let (name, id) = (Value::Str(amendment.name()), Value::Str(amendment.evaluation.to_string()));
        let known = "[:find ?a :in $ ?name :where [?a :amendment/id ?name]]";
        if !self.ask(known, std::slice::from_ref(&name)).await?.is_empty() {
            // Said before; a transaction has to say something.
            return Ok((vec![facts::known(amendment.evaluation)], None));
        }
        let query = "[:find ?status ?cause ?rate :in $ ?id :where [?e :evaluation/id ?id] \
                     [?e :evaluation/document _] [?e :evaluation/status ?status] \
                     [(get-else $ ?e :evaluation/cause :none) ?cause] \
                     [(get-else $ ?e :evaluation/success-rate -1.0) ?rate]]";
        let rows = self.ask(query, std::slice::from_ref(&id)).await?;
        let absent = || Error::Unknown { id: amendment.evaluation };
        let row = rows.first().and_then(Value::as_vector).ok_or_else(absent)?;
        let keyword = |at: usize| row.get(at).and_then(Value::as_keyword).map(|word| word.replace('-', "_"));
        let verdict = Verdict {
            status: keyword(0).and_then(|word| Status::parse(&word)).ok_or_else(absent)?,
            cause: keyword(1).and_then(|word| Cause::parse(&word)),
        };
        let rate = |value: Option<&Value>| value.and_then(Value::as_float).filter(|rate| *rate >= 0.0);
        let query = "[:find ?call ?rate :in $ ?id :where [?e :evaluation/id ?id] [?e :evaluation/function-calls ?c] \
                     [?c :function-call/id ?call] [(get-else $ ?c :function-call/success-rate -1.0) ?rate]]";
        let calls = self.ask(query, std::slice::from_ref(&id)).await?;
        let call = |row: &Value| {
            let row = row.as_vector()?;
            Some((row.first()?.as_str()?.to_owned(), rate(row.get(1))))
        };
        let held =
            Held { verdict, success_rate: rate(row.get(2)), calls: calls.iter().filter_map(call).collect() };
        let query = "[:find ?batch :in $ ?id :where [?e :evaluation/id ?id] [?e :evaluation/batch ?b] [?b :evaluation/id ?batch]]";
        let batch = self.ask(query, &[id]).await?;
        let batch = batch.first().and_then(|row| row.as_vector()?.first()?.as_str()?.parse().ok());
        Ok((facts::amended::facts(amendment, &held), batch))
    }

    /// The facts of an alert, unless the history has a later change of it already.
    async fn alert(&self, alert: &Alert) -> Result<Value, Error> {
        let query = "[:find ?revision :in $ ?id :where [?a :alert/id ?id] [?a :alert/revision ?revision]]";
        if self.is_known(query, alert.id.to_string(), alert.revision).await? {
            return Ok(facts::alert::known(alert.id));
        }
        let document = self.blobs.put(serde_json::to_vec(alert)?).await?;
        Ok(facts::alert::alert(alert, document))
    }

    /// The facts of a healing, likewise.
    async fn healing(&self, healing: &Healing) -> Result<Value, Error> {
        let query =
            "[:find ?revision :in $ ?id :where [?h :healing/id ?id] [?h :healing/revision ?revision]]";
        if self.is_known(query, healing.id.to_string(), healing.revision).await? {
            return Ok(facts::healing::known(healing.id));
        }
        let document = self.blobs.put(serde_json::to_vec(healing)?).await?;
        Ok(facts::healing::healing(healing, document))
    }

    /// Whether the revision that `query` finds of this id is `revision` or later.
    async fn is_known(&self, query: &str, id: String, revision: u32) -> Result<bool, Error> {
        let rows = self.ask(query, &[Value::Str(id)]).await?;
        let known = rows.first().and_then(|row| row.as_vector()?.first()?.as_int());
        Ok(known.is_some_and(|known| known >= i64::from(revision)))
    }

    /// The jobs among `evaluations` that have a result already, and the transaction as of which.
    async fn known(&self, evaluations: &[&Evaluation]) -> Result<(HashSet<JobId>, u64), Error> {
        let ids = evaluations.iter().map(|evaluation| Value::Str(evaluation.id.to_string())).collect();
        let query = "[:find ?id :in $ [?id ...] :where [?e :evaluation/id ?id] [?e :evaluation/document _]]";
        let answer = self.answer(query, &[Value::Vector(ids)]).await?;
        let ids = answer.rows.iter().filter_map(|row| row.as_vector()?.first()?.as_str()?.parse().ok());
        Ok((ids.collect(), answer.basis_t))
    }

    /// Brings the batches that these evaluations belong to up to date: a batch is an evaluation whose rate
    /// sums its jobs. Done again after a crash, since the results are not acknowledged before.
    async fn sum_up(&self, evaluations: &[&Evaluation], basis_t: u64) -> Result<(), Error> {
        let batches: BTreeSet<&BatchId> =
            evaluations.iter().filter_map(|evaluation| evaluation.batch.as_ref()).collect();
        if batches.is_empty() {
            return Ok(());
        }
        let mut models: BTreeMap<&BatchId, &str> = BTreeMap::new();
        for evaluation in evaluations {
            if let (Some(batch), Some(model)) = (&evaluation.batch, evaluation.labels.get("model")) {
                models.insert(batch, model);
            }
        }
        for batch in batches {
            let of = (basis_t, batch_id(evaluations), batch.to_string());
            let id = format!("sum/{}", Sha256::of(&wire::encode(&of)));
            self.sum_up_one(&id, batch, models.get(batch).copied()).await?;
        }
        Ok(())
    }

    /// Counts a batch and writes what it came to, again if somebody counted meanwhile; nothing, where it came to
    /// what is written.
    async fn sum_up_one(&self, id: &str, batch: &BatchId, model: Option<&str>) -> Result<(), Error> {
        let _alone = self.counting.lock().await;
        let mut last = String::new();
        for _ in 0..COUNTS_MAX {
            // In this order: jobs that are recorded in between are counted, and the total is still the old one.
            let before = self.counted(batch).await?;
            let sum = self.sum(batch).await?;
            // Jobs of one batch may name several: the first stands.
            let model = model.filter(|model| !model.is_empty() && before.model.is_empty());
            if before.is(sum) && model.is_none() {
                return Ok(());
            }
            let tx_data =
                facts::batch(&batch.to_string(), before.total, sum, model, Timestamp::now()).to_vec();
            match self.client.transact(&Batch { id: id.to_owned(), tx_data, tx_instant: None }).await {
                Ok(_) => return Ok(()),
                Err(Refusal::Refused { message, .. }) => {
                    tracing::debug!(%batch, message, "a batch was counted meanwhile: counting it again");
                    last = message;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Whatever it is, the results are recorded: only their acknowledgement waits.
        Err(Refusal::Busy { message: format!("the sums of the batch {batch} are refused: {last}") }.into())
    }

    /// What is written of a batch.
    async fn counted(&self, batch: &BatchId) -> Result<Counted, Error> {
        let query = "[:find ?total ?passed ?faults ?model :in $ ?batch :where [?b :evaluation/id ?batch] \
                     [?b :evaluation/total ?total] [(get-else $ ?b :evaluation/passed -1) ?passed] \
                     [(get-else $ ?b :evaluation/infrastructure-faults -1) ?faults] \
                     [(get-else $ ?b :evaluation/model \"\") ?model]]";
        let rows = self.ask(query, &[Value::Str(batch.to_string())]).await?;
        let row = rows.first().and_then(Value::as_vector).unwrap_or_default();
        let count =
            |at: usize| row.get(at).and_then(Value::as_int).and_then(|count| u64::try_from(count).ok());
        let model = row.get(3).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Counted { total: count(0), passed: count(1), infrastructure: count(2), model })
    }

    async fn sum(&self, batch: &BatchId) -> Result<Sum, Error> {
        let query = "[:find ?e ?status ?cause :in $ ?batch :where [?b :evaluation/id ?batch] [?e :evaluation/batch ?b] \
                     [?e :evaluation/status ?status] [(get-else $ ?e :evaluation/cause :none) ?cause]]";
        let rows = self.ask(query, &[Value::Str(batch.to_string())]).await?;
        let mut sum = Sum::default();
        for row in &rows {
            let word = |at: usize| {
                row.as_vector().and_then(|row| row.get(at)).and_then(Value::as_keyword).unwrap_or_default()
            };
            sum.total += 1;
            sum.passed += u64::from(word(1) == "passed");
            sum.infrastructure += u64::from(word(2) == "infrastructure");
        }
        Ok(sum)
    }

    /// Writes a batch of imported history, at its own time if the store still can.
    ///
    /// Tells whether it could.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub async fn import(
        &self,
        id: &str,
        tx_data: Vec<Value>,
        at: Timestamp,
    ) -> Result<(Transacted, bool), Error> {
        let batch = Batch { id: format!("import/{id}"), tx_data, tx_instant: Some(at) };
        match self.client.transact(&batch).await {
            Ok(transacted) => Ok((transacted, true)),
            // Something newer is recorded already, and time in the log only goes on.
            Err(Refusal::TooOld { .. }) => {
                let transacted = self.client.transact(&Batch { tx_instant: None, ..batch }).await?;
                Ok((transacted, false))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn ask(&self, query: &str, arguments: &[Value]) -> Result<Vec<Value>, Error> {
        Ok(self.answer(query, arguments).await?.rows)
    }

    async fn answer(&self, query: &str, arguments: &[Value]) -> Result<Answer, Error> {
        Ok(gateway::ask(&*self.client, query, arguments, View::default(), ROWS_MAX).await?)
    }
}

/// What is written of a batch; what is not, is missing.
#[derive(Debug)]
struct Counted {
    total: Option<u64>,
    passed: Option<u64>,
    infrastructure: Option<u64>,
    model: String,
}

impl Counted {
    /// Whether that is the same.
    fn is(&self, sum: Sum) -> bool {
        (self.total, self.passed, self.infrastructure)
            == (Some(sum.total), Some(sum.passed), Some(sum.infrastructure))
    }
}

/// Now, to the millisecond: the history keeps no more of it.
fn now_as_kept() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// The same results, the same name: whoever sends them again is told so.
fn batch_id(evaluations: &[&Evaluation]) -> String {
    let parts: Vec<Sha256> =
        evaluations.iter().map(|evaluation| Sha256::of(&wire::encode(evaluation))).collect();
    format!("results/{}", Sha256::of(&wire::encode(&parts)))
}
