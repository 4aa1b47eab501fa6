//! `GET /v1/workers`, `POST /v1/workers/{name}/drain`, `POST /v1/workers/{name}/resume`, `GET /v1/queues`

use super::Shared;
use super::ask::{AsOf, Asked, Nothing, body, passing};
use super::jobs::Why;
use crate::problem::{BodyProblems, Problem, Problems};
use crate::view::queues::Queue;
use crate::view::workers::{Workers, workers as view};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use evalfleet_proto::ids::WorkerId;
use serde::Serialize;
use utoipa::ToSchema;

/// The workers
///
/// What each ran, how often its machine failed, and what it says of itself now.
#[utoipa::path(get, path = "/v1/workers", params(AsOf), responses((status = 200, body = Workers), Problems))]
pub(super) async fn workers(State(app): Shared, Asked(as_of, ..): Asked<AsOf>) -> Result<Response, Problem> {
    let point = as_of.point()?;
    let says = |name: &str| if point.is_none() { app.fleet.worker(name) } else { None };
    let found = app.look(point, |world, at| view(world, at, says)).await?;
    Ok(passing(found.basis_t, &found))
}

/// Drain a worker
///
/// It finishes the job that it has, and takes no other until it is told to resume; its jobs stay in their queues, where
/// others take them. The word stands for two days, also for a worker of that name that starts later. Wants the role
/// `operate`.
#[utoipa::path(post, path = "/v1/workers/{name}/drain", params(("name" = String, Path, description = "The worker")),
    request_body = Why, responses((status = 202, description = "The word is said"), Problems, BodyProblems))]
pub(super) async fn drain(
    State(app): Shared,
    Path(name): Path<String>,
    asked: Result<Json<Why>, JsonRejection>,
) -> Result<Response, Problem> {
    let why = body(asked)?;
    app.desk.drain(&named(&name)?, why.reason.as_deref()).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Have a worker resume
///
/// It takes jobs again. Wants the role `operate`.
#[utoipa::path(post, path = "/v1/workers/{name}/resume", params(("name" = String, Path, description = "The worker")),
    responses((status = 202, description = "The word is said"), Problems))]
pub(super) async fn resume(State(app): Shared, Path(name): Path<String>) -> Result<Response, Problem> {
    app.desk.resume(&named(&name)?).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

fn named(name: &str) -> Result<WorkerId, Problem> {
    name.parse().map_err(|error| Problem::bad_request(format!("{error}")))
}

/// What waits at the broker.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queues {
    /// Null when the broker does not answer.
    queues: Option<Vec<Queue>>,
    /// The transaction that the projection had reached.
    basis_t: u64,
}

/// What waits at the broker
///
/// Jobs by lane, those that wait for another try, results that wait for the recorder, dead letters.
#[utoipa::path(get, path = "/v1/queues", responses((status = 200, body = Queues), Problems))]
pub(super) async fn queues(State(app): Shared, Asked(..): Asked<Nothing>) -> Result<Response, Problem> {
    let basis_t = app.projection.read().basis_t();
    Ok(passing(basis_t, &Queues { queues: app.queues().await, basis_t }))
}
