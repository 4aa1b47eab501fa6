//! The questions that the API puts to the history.

use crate::json::json;
use crate::problem::Problem;
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::guard;
use evalfleet_datomic::{Answer, Bounds, Client, Entity, Error, Log, Point, Status as Health, View};
use evalfleet_proto::ids::Sha256;
use evalfleet_recorder::believed;
use evalfleet_service::blobs::{self, Blobs};
use serde_json::{Value as Json, json as object};

/// The most jobs that repeat one and the same.
const LINEAGE_ROWS_MAX: u32 = 1000;

/// The history, for reading.
#[derive(Debug, Clone)]
pub struct History {
    client: Client,
    blobs: Blobs,
}

/// Something out of the history, and the transaction that it stands on.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// What.
    pub what: T,
    /// The newest transaction when it was answered.
    pub basis_t: u64,
}

/// Why a content is not to be had: it is gone, and `gone` says what that makes of it, or its store does not answer now.
fn unread(error: &blobs::Error, gone: fn(String) -> Problem) -> Problem {
    match error {
        blobs::Error::Missing(_) | blobs::Error::Damaged { .. } => gone(error.to_string()),
        blobs::Error::NoBucket { .. }
        | blobs::Error::Denied { .. }
        | blobs::Error::NoCredentials { .. }
        | blobs::Error::Settings { .. }
        | blobs::Error::Store { .. } => Problem::unavailable(error.to_string()),
    }
}

fn moment(point: Point) -> String {
    match point {
        Point::Time(time) => time.to_string(),
        Point::T(t) => format!("transaction {t}"),
    }
}

/// A view of the history as of a moment, or as it is now.
pub fn view(as_of: Option<Point>) -> View {
    View { as_of, ..View::default() }
}

impl History {
    /// The history behind `client`, with its documents in `blobs`.
    pub fn new(client: Client, blobs: Blobs) -> Self {
        Self { client, blobs }
    }

    /// Whether the store answers.
    pub async fn health(&self) -> Result<Json, Problem> {
        let health = self.client.health().await.map_err(problem)?;
        let status = match health.status {
            Health::Ready => "ready",
            Health::Opening => "opening",
            Health::Failed => "failed",
        };
        Ok(object!({ "status": status, "uri": health.uri, "driver": health.driver, "basis_t": health.basis_t,
            "durable": health.durable, "note": health.note, "last_error": health.last_error }))
    }

    /// One evaluation: its document, or, where it has none (an imported batch), its facts.
    ///
    /// # Errors
    /// When there is none, or none was known at that moment.
    pub async fn evaluation(&self, id: &str, as_of: Option<Point>) -> Result<Found<Json>, Problem> {
        let basis_t = self.client.health().await.map_err(problem)?.basis_t.unwrap_or(0);
        let key = Entity::Lookup("evaluation/id".to_owned(), Value::Str(id.to_owned()));
        let pattern = "[* {:evaluation/function-calls [*]} {:evaluation/batch [:evaluation/id]} {:evaluation/worker [:worker/id]} \
                       {:evaluation/image [:image/digest]} {:evaluation/amendments [*]}]";
        let facts = self.client.pull(pattern, &key, view(as_of)).await.map_err(problem)?;
        let absent = || {
            Problem::not_found(format!(
                "no evaluation {id}{}",
                as_of.map_or(String::new(), |at| format!(" was known at {}", moment(at)))
            ))
        };
        let facts = facts.filter(|facts| facts.get("evaluation/kind").is_some()).ok_or_else(absent)?;
        let what = match facts.get("evaluation/document").and_then(Value::as_str) {
            Some(key) => believed::amended(self.document(key).await?, &facts)
                .map_err(|error| Problem::damaged(error.to_string()))?,
            None => json(&facts),
        };
        Ok(Found { what, basis_t })
    }

    /// A stretch of the log of transactions, from `start` on.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn log(&self, start: u64, limit: u32) -> Result<Log, Problem> {
        self.client.tx_range(start, limit).await.map_err(problem)
    }

    /// How a job ended, if it is recorded.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn status(&self, job: &str, as_of: Option<Point>) -> Result<Option<String>, Problem> {
        let query =
            "[:find [?status ...] :in $ ?id :where [?e :evaluation/id ?id] [?e :evaluation/status ?status]]";
        let found = self.about(query, job, as_of).await?;
        Ok(found.first().and_then(Value::as_keyword).map(|word| word.replace('-', "_")))
    }

    /// The job that this one repeats, if it is recorded.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn replay_of(&self, job: &str, as_of: Option<Point>) -> Result<Option<String>, Problem> {
        let query = "[:find [?before ...] :in $ ?id :where [?e :evaluation/id ?id] [?e :evaluation/replay-of ?o] \
                     [?o :evaluation/id ?before]]";
        Ok(self.about(query, job, as_of).await?.first().and_then(Value::as_str).map(str::to_owned))
    }

    /// The recorded jobs that repeat this one.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn replays(&self, job: &str, as_of: Option<Point>) -> Result<Vec<String>, Problem> {
        let query = "[:find [?after ...] :in $ ?id :where [?o :evaluation/id ?id] [?e :evaluation/replay-of ?o] \
                     [?e :evaluation/id ?after]]";
        let found = self.about(query, job, as_of).await?;
        Ok(found.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    async fn about(&self, query: &str, job: &str, as_of: Option<Point>) -> Result<Vec<Value>, Problem> {
        let id = Value::Str(job.to_owned()).to_string();
        let bounds = Bounds { rows_max: LINEAGE_ROWS_MAX, ..Bounds::default() };
        Ok(self.question(query, &[id], as_of, bounds).await?.rows)
    }

    /// A document out of the blob store.
    ///
    /// # Errors
    /// When it is not there, or is no JSON.
    pub async fn document(&self, key: &str) -> Result<Json, Problem> {
        let key: Sha256 = key.parse().map_err(|error| Problem::damaged(format!("{error}")))?;
        let bytes = self.blobs.get(key).await.map_err(|error| unread(&error, Problem::damaged))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Problem::damaged(format!("the document {key} is no JSON: {error}")))
    }

    /// A content of the blob store.
    ///
    /// # Errors
    /// When there is none.
    pub async fn blob(&self, key: Sha256) -> Result<Vec<u8>, Problem> {
        self.blobs.get(key).await.map_err(|error| unread(&error, Problem::not_found))
    }

    /// A question that a person wrote: only what the grammar lists is asked.
    ///
    /// # Errors
    /// When it is refused, or exceeds a bound.
    pub async fn question(
        &self,
        text: &str,
        arguments: &[String],
        as_of: Option<Point>,
        bounds: Bounds,
    ) -> Result<Answer, Problem> {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut question =
            guard::check(text, &arguments).map_err(|refusal| Problem::refused(refusal.to_string()))?;
        if as_of.is_some() {
            question =
                question.with_view(view(as_of)).map_err(|refusal| Problem::refused(refusal.to_string()))?;
        }
        self.client.query(&question, bounds).await.map_err(problem)
    }
}

/// What the store's errors mean to whoever asked.
pub fn problem(error: Error) -> Problem {
    let text = error.to_string();
    match error {
        Error::Guard(_) | Error::Refused { .. } => Problem::refused(text),
        Error::TimedOut { .. } | Error::TooLarge { .. } | Error::Busy { .. } => Problem::too_much(text),
        Error::Unreachable { .. }
        | Error::Opening { .. }
        | Error::Failed { .. }
        | Error::Unauthorized { .. }
        | Error::Broken { .. } => Problem::unavailable(text),
        Error::TooOld { .. } | Error::Defect { .. } => Problem::damaged(text),
    }
}
