//! `GET /v1/workers`, `GET /v1/queues`

use super::Shared;
use super::ask::{AsOf, Asked, Nothing, passing};
use crate::problem::{Problem, Problems};
use crate::view::overview::Queue;
use crate::view::workers::{Workers, workers as view};
use axum::extract::State;
use axum::response::Response;
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
    Ok(passing(basis_t, &Queues { queues: app.fleet.queues().await, basis_t }))
}
