//! `GET /health`, `GET /v1/projection`, `POST /v1/projection/rebuild`

use super::Shared;
use super::ask::{Asked, Nothing, passing};
use crate::problem::{Problem, Problems};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use evalfleet_service::VERSION;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Whether the API and the store behind it answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ready`, or `unreachable` where the store does not answer.
    status: &'static str,
    /// The API's version.
    version: &'static str,
    /// What the store says of itself.
    #[schema(value_type = Option<Object>)]
    store: Option<Value>,
    /// Why it does not answer.
    detail: Option<String>,
}

/// Whether the API and the store behind it answer
///
/// Needs no token.
#[utoipa::path(get, path = "/health", security(()), responses((status = 200, body = Health)))]
pub(super) async fn health(State(app): Shared) -> Response {
    let health = match app.history.health().await {
        Ok(store) => Health { status: "ready", version: VERSION, store: Some(store), detail: None },
        Err(problem) => {
            Health { status: "unreachable", version: VERSION, store: None, detail: Some(problem.detail) }
        }
    };
    Json(health).into_response()
}

/// How far the projection is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Progress {
    /// Whether it holds all that the store held when it was last asked.
    ready: bool,
    /// The newest transaction in it.
    basis_t: u64,
    /// How many versions of evaluations are kept.
    kept: u64,
    /// The earliest transaction of which all is kept; 0 for everything.
    kept_from: u64,
    /// Why it does not go on.
    error: Option<String>,
}

/// How far the projection is
///
/// Lists, rates and series come out of it; it follows the store's log.
#[utoipa::path(get, path = "/v1/projection", responses((status = 200, body = Progress), Problems))]
pub(super) async fn progress(State(app): Shared, Asked(..): Asked<Nothing>) -> Result<Response, Problem> {
    let progress = app.projection.progress().borrow().clone();
    let (kept, kept_from) = {
        let world = app.projection.read();
        (world.kept() as u64, world.kept_from())
    };
    let shown =
        Progress { ready: progress.ready, basis_t: progress.basis_t, kept, kept_from, error: progress.error };
    Ok(passing(shown.basis_t, &shown))
}

/// Read the log again from its beginning
///
/// Wants the role `operate`. Until that is done, lists and rates wait for it.
#[utoipa::path(post, path = "/v1/projection/rebuild", responses((status = 202, description = "It has begun"), Problems))]
pub(super) async fn rebuild(State(app): Shared, Asked(..): Asked<Nothing>) -> Result<Response, Problem> {
    app.projection.rebuild();
    Ok(StatusCode::ACCEPTED.into_response())
}
