//! `POST /v1/dead-letters/replay`, `POST /v1/dead-letters/drop`, `POST /v1/evaluations/{id}/amend`: for the role
//! `operate`.

use super::Shared;
use super::ask::{body, within};
use crate::live::{Handled, Notice};
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
use std::time::{Duration, Instant};
use utoipa::ToSchema;

/// The most letters of one request: it is answered when all are done.
const LETTERS_MAX: usize = 1000;

/// How often it is told how far an order is: those who listen have other news, too.
const TELL_EVERY: Duration = Duration::from_millis(100);

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
    /// A name for this order: `GET /v1/events` tells under it how far it is (`handled`).
    #[serde(default)]
    #[schema(max_length = 100)]
    order: Option<String>,
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
    /// A name for this order, as for a replay.
    #[serde(default)]
    #[schema(max_length = 100)]
    order: Option<String>,
}

/// What came of each letter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// In no order.
    letters: Vec<Handling>,
}

/// What came of one.
#[derive(Debug, Serialize, ToSchema)]
struct Handling {
    /// Its name.
    id: String,
    /// The job that repeats it.
    job: Option<String>,
    /// Why nothing was done.
    refused: Option<String>,
}

impl From<Outcome> for Handling {
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
    let Replay { ids, dry_run, force, order } = body(asked)?;
    let action = Action::Replay { changes: Changes::default(), again: force };
    carry_out(&app, (ids, action, dry_run), order).await
}

/// Give dead letters up
///
/// For good, and their records say why. Wants the role `operate`.
#[utoipa::path(post, path = "/v1/dead-letters/drop", request_body = Drop, responses((status = 200, body = Done), Problems, BodyProblems))]
pub(super) async fn drop_letters(
    State(app): Shared,
    asked: Result<Json<Drop>, JsonRejection>,
) -> Result<Response, Problem> {
    let Drop { ids, reason, dry_run, order } = body(asked)?;
    within("reason", Some(&reason), 500)?;
    if reason.trim().is_empty() {
        return Err(Problem::bad_request("reason says nothing"));
    }
    let action = Action::Drop { reason };
    carry_out(&app, (ids, action, dry_run), order).await
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

/// Does it, and tells whoever listens how far it is.
async fn carry_out(
    app: &super::App,
    (ids, action, dry): (Vec<String>, Action, bool),
    name: Option<String>,
) -> Result<Response, Problem> {
    within("order", name.as_deref(), 100)?;
    let mut so_far = name.map(|order| Handled { order, done: 0, refused: 0, of: ids.len() as u64 });
    let order = Order { which: named(ids)?, action, dry, rate: None, max: None };
    let mut last = Instant::now();
    let told = |outcome: &Outcome| {
        let Some(so_far) = &mut so_far else { return };
        so_far.done += 1;
        so_far.refused += u64::from(outcome.refused.is_some());
        if last.elapsed() >= TELL_EVERY || so_far.done == so_far.of {
            last = Instant::now();
            app.live.tell(Notice::Handled(so_far.clone()));
        }
    };
    let letters = app.desk.carry_out(&order, told).await?.into_iter().map(Handling::from).collect();
    Ok(Json(Done { letters }).into_response())
}
