//! `POST /v1/dead-letters/replay`, `POST /v1/dead-letters/drop`, `POST /v1/evaluations/{id}/amend`: for the role
//! `operate`.

use super::Shared;
use super::ask::{body, within};
use crate::problem::{BodyProblems, Problem, Problems};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use evalfleet::dead::{Action, Changes, Order, Outcome, Which};
use evalfleet_proto::evaluation::Verdict;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::{Cause, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most letters of one request: it is answered when all are done.
const LETTERS_MAX: usize = 1000;

/// Dead letters to be replayed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// Their names.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<String>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
    /// Also those that were handled before.
    #[serde(default)]
    force: bool,
}

/// Dead letters to be given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drop {
    /// Their names.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Vec<String>,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// What came of each letter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// In no order.
    letters: Vec<Letter>,
}

/// What came of one.
#[derive(Debug, Serialize, ToSchema)]
struct Letter {
    /// Its name.
    id: String,
    /// The job that repeats it.
    job: Option<String>,
    /// Why nothing was done.
    refused: Option<String>,
}

impl From<Outcome> for Letter {
    fn from(outcome: Outcome) -> Self {
        Self { id: outcome.card.id, job: outcome.job.map(|id| id.to_string()), refused: outcome.refused }
    }
}

fn named(ids: Vec<String>) -> Result<Which, Problem> {
    if !(1..=LETTERS_MAX).contains(&ids.len()) {
        return Err(Problem::bad_request(format!("{} ids, and there may be 1 to {LETTERS_MAX}", ids.len())));
    }
    for id in &ids {
        within("an id", Some(id), 300)?;
    }
    Ok(Which::Of(ids))
}

/// Replay dead letters
///
/// Each as a new job that asks the same. One that was handled before is refused, unless `force`. The same request again
/// makes no second job. Wants the role `operate`.
#[utoipa::path(post, path = "/v1/dead-letters/replay", request_body = Replay, responses((status = 200, body = Done), Problems, BodyProblems))]
pub(super) async fn replay(
    State(app): Shared,
    asked: Result<Json<Replay>, JsonRejection>,
) -> Result<Response, Problem> {
    let Replay { ids, dry_run, force } = body(asked)?;
    let action = Action::Replay { changes: Changes::default(), again: force };
    carry_out(&app.desk, Order { which: named(ids)?, action, dry: dry_run, rate: None, max: None }).await
}

/// Give dead letters up
///
/// For good, and their records say why. Wants the role `operate`.
#[utoipa::path(post, path = "/v1/dead-letters/drop", request_body = Drop, responses((status = 200, body = Done), Problems, BodyProblems))]
pub(super) async fn drop_letters(
    State(app): Shared,
    asked: Result<Json<Drop>, JsonRejection>,
) -> Result<Response, Problem> {
    let Drop { ids, reason, dry_run } = body(asked)?;
    within("reason", Some(&reason), 500)?;
    if reason.trim().is_empty() {
        return Err(Problem::bad_request("reason says nothing"));
    }
    let action = Action::Drop { reason };
    carry_out(&app.desk, Order { which: named(ids)?, action, dry: dry_run, rate: None, max: None }).await
}

/// What a verdict is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Amend {
    /// `passed`, `failed`, `timed_out`, `out_of_memory`, `limit_exceeded` or `crashed`.
    #[schema(max_length = 30)]
    status: String,
    /// `subject`, `infrastructure`, `budget` or `harness`; absent for what passed.
    #[schema(max_length = 30)]
    cause: Option<String>,
    /// The history says it.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Amend a verdict
///
/// The history keeps both, each as of its time; rates and lists count the new one. Wants the role `operate`.
#[utoipa::path(post, path = "/v1/evaluations/{id}/amend", params(("id" = String, Path, description = "The job")),
    request_body = Amend, responses((status = 202, description = "The word is said"), Problems, BodyProblems))]
pub(super) async fn amend(
    State(app): Shared,
    Path(id): Path<String>,
    asked: Result<Json<Amend>, JsonRejection>,
) -> Result<Response, Problem> {
    let Amend { status, cause, reason } = body(asked)?;
    let id: JobId = id.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    let wrong = |what: &str, word: &str| Problem::bad_request(format!("{what} is {word:?}, which is none"));
    let status = Status::parse(&status).ok_or_else(|| wrong("status", &status))?;
    let cause = cause.map(|word| Cause::parse(&word).ok_or_else(|| wrong("cause", &word))).transpose()?;
    // Of what is not recorded nobody would ever hear.
    app.history.evaluation(&id.to_string(), None).await?;
    app.desk.amend(id, Verdict { status, cause }, &reason).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn carry_out(desk: &crate::desk::Desk, order: Order) -> Result<Response, Problem> {
    let letters = desk.carry_out(&order).await?.into_iter().map(Letter::from).collect();
    Ok(Json(Done { letters }).into_response())
}
