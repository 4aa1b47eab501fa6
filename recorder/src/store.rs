//! The history as the recorder writes it: documents first, then the facts that point to them.

use crate::facts::amended::Held;
use crate::facts::{self, Sum};
use crate::gateway::{self, Gateway};
use crate::letters::{Noted, What};
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Batch, Error as Refusal, Transacted, View};
use evalfleet_proto::Timestamp;
use evalfleet_proto::amendment::Amendment;
use evalfleet_proto::evaluation::{Evaluation, Verdict};
use evalfleet_proto::ids::{BatchId, JobId, Sha256};
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::wire;
use evalfleet_service::blobs::{self, Blobs};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

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
}

impl Store {
    /// The history behind `client`, with its documents in `blobs`.
    pub fn new(client: impl Gateway + 'static, blobs: Blobs) -> Self {
        Self { client: Arc::new(client), blobs }
    }

    /// The same, behind a gateway that others have as well.
    pub fn over(client: Arc<dyn Gateway>, blobs: Blobs) -> Self {
        Self { client, blobs }
    }

    /// Records evaluations in one transaction. The first result of a job stands: one that comes later,
    /// from a second delivery, is passed over.
    ///
    /// # Errors
    /// When the store refuses, or cannot be reached: then nothing is known, and the same call asks.
    pub async fn record(&self, evaluations: &[&Evaluation]) -> Result<Transacted, Error> {
        let mut known = self.known(evaluations).await?;
        let transacted = loop {
            match self.write(evaluations, known.clone()).await {
                Err(error) if error.is_refusal() => {
                    // Another recorder's transaction may have come late, after we looked.
                    let now = self.known(evaluations).await?;
                    if now == known {
                        return Err(error);
                    }
                    known = now;
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
        if tx_data.is_empty() {
            // A transaction has to say something: that a job which has its result is there adds no fact.
            tx_data.extend(evaluations.first().map(|evaluation| facts::known(evaluation.id)));
        }
        Ok(self.client.transact(&Batch { id: batch_id(evaluations), tx_data, tx_instant: None }).await?)
    }

    /// Records dead letters, and what was done with some, in one transaction.
    ///
    /// # Errors
    /// As [`Store::record`].
    pub async fn record_dead(&self, noted: &[&Noted]) -> Result<Transacted, Error> {
        let now = Timestamp::now();
        let (mut tx_data, mut batches) = (Vec::new(), BTreeSet::new());
        for noted in noted {
            match &noted.what {
                What::Letter(letter) => {
                    let body = self.blobs.put(letter.body.clone()).await?;
                    let document = self.blobs.put(serde_json::to_vec(&letter.document(now))?).await?;
                    tx_data.push(facts::dead::letter(&letter.card(now), body, document));
                }
                What::Handled(handled) => tx_data.extend(facts::dead::handled(handled)),
                What::Amended(amendment) => {
                    let (facts, batch) = self.amended(amendment).await?;
                    tx_data.extend(facts);
                    batches.extend(batch);
                }
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

    /// The jobs among `evaluations` that have a result already.
    async fn known(&self, evaluations: &[&Evaluation]) -> Result<HashSet<JobId>, Error> {
        let ids = evaluations.iter().map(|evaluation| Value::Str(evaluation.id.to_string())).collect();
        let query = "[:find ?id :in $ [?id ...] :where [?e :evaluation/id ?id] [?e :evaluation/document _]]";
        let rows = self.ask(query, &[Value::Vector(ids)]).await?;
        Ok(rows.iter().filter_map(|row| row.as_vector()?.first()?.as_str()?.parse().ok()).collect())
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

    /// Counts a batch and writes what it came to, again if somebody counted meanwhile.
    async fn sum_up_one(&self, id: &str, batch: &BatchId, model: Option<&str>) -> Result<(), Error> {
        let mut last = String::new();
        for _ in 0..COUNTS_MAX {
            // In this order: jobs that are recorded in between are counted, and the total is still the old one.
            let before = self.total(batch).await?;
            let sum = self.sum(batch).await?;
            let tx_data = facts::batch(&batch.to_string(), before, sum, model, Timestamp::now()).to_vec();
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

    async fn total(&self, batch: &BatchId) -> Result<Option<u64>, Error> {
        let query =
            "[:find ?total :in $ ?batch :where [?b :evaluation/id ?batch] [?b :evaluation/total ?total]]";
        let rows = self.ask(query, &[Value::Str(batch.to_string())]).await?;
        let total = rows.first().and_then(|row| row.as_vector()?.first()?.as_int());
        Ok(total.and_then(|total| u64::try_from(total).ok()))
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
        Ok(gateway::ask(&*self.client, query, arguments, View::default(), ROWS_MAX).await?.rows)
    }
}

/// The same results, the same name: whoever sends them again is told so.
fn batch_id(evaluations: &[&Evaluation]) -> String {
    let parts: Vec<Sha256> =
        evaluations.iter().map(|evaluation| Sha256::of(&wire::encode(evaluation))).collect();
    format!("results/{}", Sha256::of(&wire::encode(&parts)))
}
