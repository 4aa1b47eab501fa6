//! The questions that the API puts to the history.

use crate::json::json;
use crate::problem::Problem;
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::guard;
use evalfleet_datomic::{Answer, Bounds, Client, Entity, Error, Point, Status, View};
use evalfleet_proto::ids::Sha256;
use evalfleet_service::blobs::Blobs;
use serde_json::{Value as Json, json as object};

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
            Status::Ready => "ready",
            Status::Opening => "opening",
            Status::Failed => "failed",
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
                       {:evaluation/image [:image/digest]}]";
        let facts = self.client.pull(pattern, &key, view(as_of)).await.map_err(problem)?;
        let absent = || {
            Problem::not_found(format!(
                "no evaluation {id}{}",
                as_of.map_or(String::new(), |at| format!(" was known at {}", moment(at)))
            ))
        };
        let facts = facts.filter(|facts| facts.get("evaluation/kind").is_some()).ok_or_else(absent)?;
        let what = match facts.get("evaluation/document").and_then(Value::as_str) {
            Some(key) => self.document(key).await?,
            None => json(&facts),
        };
        Ok(Found { what, basis_t })
    }

    async fn document(&self, key: &str) -> Result<Json, Problem> {
        let key: Sha256 = key.parse().map_err(|error| Problem::damaged(format!("{error}")))?;
        let bytes = self.blobs.get(key).await.map_err(|error| Problem::damaged(error.to_string()))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Problem::damaged(format!("the document {key} is no JSON: {error}")))
    }

    /// A content of the blob store.
    ///
    /// # Errors
    /// When there is none.
    pub async fn blob(&self, key: Sha256) -> Result<Vec<u8>, Problem> {
        self.blobs.get(key).await.map_err(|error| Problem::not_found(error.to_string()))
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
