//! `POST /v1/query`

use super::Shared;
use super::ask::{body, passing};
use crate::json::json;
use crate::moment::moment;
use crate::problem::{BodyProblems, Problem, Problems};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use evalfleet_datomic::Bounds;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use utoipa::ToSchema;

/// The most inputs of one question.
const ARGUMENTS_MAX: usize = 32;

/// A question on the history.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// Datalog, as EDN text; only what the positive grammar lists is asked.
    #[schema(example = "[:find (count ?e) . :where [?e :evaluation/status :passed]]")]
    query: String,
    /// Its further inputs, each as EDN text.
    #[serde(default)]
    #[schema(max_items = 32)]
    args: Vec<String>,
    /// As it was known then: a moment, or a transaction's number.
    as_of: Option<String>,
    /// Where the answer is cut, 10,000 when missing.
    #[schema(minimum = 1, maximum = 100_000)]
    rows_max: Option<u32>,
    /// How long it may take, 30,000 when missing.
    #[schema(minimum = 100, maximum = 60_000)]
    timeout_ms: Option<u64>,
}

/// The answer to a question.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rows {
    /// One entry a row.
    rows: Vec<Value>,
    /// The transaction that the answer stands on.
    basis_t: u64,
    /// Whether a bound cut it.
    truncated: bool,
}

/// Ask the history in Datalog
///
/// Refused is what the grammar does not list; the detail names the form.
#[utoipa::path(post, path = "/v1/query", request_body = Question,
    responses((status = 200, body = Rows), Problems, BodyProblems))]
pub(super) async fn query(
    State(app): Shared,
    asked: Result<Json<Question>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = body(asked)?;
    if asked.args.len() > ARGUMENTS_MAX {
        let detail = format!("{} args, and there may be {ARGUMENTS_MAX}", asked.args.len());
        return Err(Problem::bad_request(detail));
    }
    let as_of = asked.as_of.as_deref().map(moment).transpose()?;
    let bounds = bounds(&asked)?;
    let found = app.history.question(&asked.query, &asked.args, as_of, bounds).await?;
    let rows = found.rows.iter().map(json).collect();
    Ok(passing(found.basis_t, &Rows { rows, basis_t: found.basis_t, truncated: found.truncated }))
}

fn bounds(asked: &Question) -> Result<Bounds, Problem> {
    let default = Bounds::default();
    let rows_max = asked.rows_max.unwrap_or(default.rows_max);
    let timeout = asked.timeout_ms.map_or(default.timeout, Duration::from_millis);
    if !(1..=100_000).contains(&rows_max) {
        return Err(Problem::bad_request("rows_max must be between 1 and 100000"));
    }
    if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&timeout) {
        return Err(Problem::bad_request("timeout_ms must be between 100 and 60000"));
    }
    Ok(Bounds { timeout, rows_max })
}
