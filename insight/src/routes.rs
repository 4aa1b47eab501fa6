//! The routes: what is asked of us, read and bounded, and answered.

use crate::history::{Found, History};
use crate::json::json;
use crate::problem::Problem;
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderName;
use axum::response::{IntoResponse, Response};
use evalfleet_datomic::{Bounds, Point};
use evalfleet_proto::Timestamp;
use evalfleet_service::VERSION;
use serde::Deserialize;
use serde_json::{Value, json as object};
use std::time::Duration;

/// The transaction that an answer stands on.
pub const BASIS_T: HeaderName = HeaderName::from_static("evalfleet-basis-t");
/// The most evaluations of one list.
const LIMIT_MAX: usize = 1000;
/// The most inputs of one question.
const ARGUMENTS_MAX: usize = 32;

/// Which moment, and how many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    as_of: Option<String>,
    limit: Option<usize>,
}

impl Window {
    fn as_of(&self) -> Result<Option<Point>, Problem> {
        self.as_of.as_deref().map(moment).transpose()
    }
}

/// A question on the history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    query: String,
    #[serde(default)]
    args: Vec<String>,
    as_of: Option<String>,
    rows_max: Option<u32>,
    timeout_ms: Option<u64>,
}

/// A moment as people write it: RFC 3339; a date alone, which is its midnight in UTC; or a number, which
/// is a transaction.
fn moment(text: &str) -> Result<Point, Problem> {
    if let Ok(t) = text.parse() {
        return Ok(Point::T(t));
    }
    let with_time = if text.contains(['T', ' ']) { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let has_zone =
        with_time.ends_with('Z') || with_time.get(10..).is_some_and(|time| time.contains(['+', '-']));
    let whole = if has_zone { with_time } else { format!("{with_time}Z") };
    let parsed: Result<Timestamp, _> = whole.parse();
    parsed.map(Point::Time).map_err(|_| {
        Problem::bad_request(format!(
            "as_of is {text:?}, and must be a moment such as 2026-01-31 or 2026-01-31T06:00:00Z, or a transaction such as 1042"
        ))
    })
}

fn answer(found: Found<Value>) -> Response {
    ([(BASIS_T, found.basis_t.to_string())], Json(found.what)).into_response()
}

/// `GET /health`
pub async fn health(State(history): State<History>) -> Response {
    let store = history.health().await;
    let body = |store: Value| object!({ "status": "ready", "version": VERSION, "store": store });
    match store {
        Ok(store) => Json(body(store)).into_response(),
        Err(problem) => {
            Json(body(object!({ "status": "unreachable", "detail": problem.detail }))).into_response()
        }
    }
}

/// `GET /v1/evaluations/{id}`
pub async fn evaluation(
    State(history): State<History>,
    Path(id): Path<String>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(window) = window.map_err(|error| Problem::bad_request(error.body_text()))?;
    Ok(answer(history.evaluation(&id, window.as_of()?).await?))
}

/// `GET /v1/evaluations`
pub async fn evaluations(
    State(history): State<History>,
    window: Result<Query<Window>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(window) = window.map_err(|error| Problem::bad_request(error.body_text()))?;
    let limit = window.limit.unwrap_or(50);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is {limit}, and must be between 1 and {LIMIT_MAX}")));
    }
    let found = history.recent(limit, window.as_of()?).await?;
    let what = object!({ "evaluations": found.what, "basis_t": found.basis_t });
    Ok(answer(Found { what, basis_t: found.basis_t }))
}

/// `POST /v1/query`
pub async fn query(
    State(history): State<History>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(asked) = asked.map_err(|error| Problem::bad_request(error.body_text()))?;
    if asked.args.len() > ARGUMENTS_MAX {
        return Err(Problem::bad_request(format!(
            "{} args, and there may be {ARGUMENTS_MAX}",
            asked.args.len()
        )));
    }
    let as_of = asked.as_of.as_deref().map(moment).transpose()?;
    let bounds = bounds(&asked)?;
    let found = history.question(&asked.query, &asked.args, as_of, bounds).await?;
    let rows: Vec<Value> = found.rows.iter().map(json).collect();
    let what = object!({ "rows": rows, "basis_t": found.basis_t, "truncated": found.truncated });
    Ok(answer(Found { what, basis_t: found.basis_t }))
}

fn bounds(asked: &Asked) -> Result<Bounds, Problem> {
    let default = Bounds::default();
    let rows_max = asked.rows_max.unwrap_or(default.rows_max);
    let timeout = asked.timeout_ms.map_or(default.timeout, Duration::from_millis);
    if !(1..=100_000).contains(&rows_max) {
        return Err(Problem::bad_request("rows_max must be between 1 and 100000"));
    }
    if timeout.is_zero() || timeout > Duration::from_secs(60) {
        return Err(Problem::bad_request("timeout_ms must be between 1 and 60000"));
    }
    Ok(Bounds { timeout, rows_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_may_be_a_date_or_lack_its_zone_or_be_a_transaction() {
        for (text, expected) in [
            ("2025-07-31", "2025-07-31T00:00:00Z"),
            ("2025-07-31T06:00", "2025-07-31T06:00:00Z"),
            ("2025-07-31T06:00:00Z", "2025-07-31T06:00:00Z"),
            ("2025-07-31T08:00:00+02:00", "2025-07-31T06:00:00Z"),
        ] {
            assert_eq!(moment(text).unwrap(), Point::Time(expected.parse().unwrap()), "{text}");
        }
        assert_eq!(moment("1042").unwrap(), Point::T(1042));
        for text in ["", "yesterday", "2025-13-01", "T"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
