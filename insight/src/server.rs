//! The server: routes, who may ask, and its end.

use crate::access::{Token, guard};
use crate::history::History;
use crate::problem::Problem;
use crate::routes;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The largest body: a question and its inputs.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Composes the routes.
pub fn router(history: History, token: Token) -> Router {
    let guarded = Router::new()
        .route("/v1/evaluations", get(routes::evaluations))
        .route("/v1/evaluations/{*id}", get(routes::evaluation))
        .route("/v1/query", post(routes::query))
        .layer(middleware::from_fn_with_state(token, guard));
    Router::new()
        .route("/health", get(routes::health))
        .merge(guarded)
        .fallback(async || {
            Problem::not_found("there is no such address; see GET /health, /v1/evaluations, POST /v1/query")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(history)
}

/// Serves until `stop`, then finishes what is under way.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    history: History,
    token: Token,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(history, token)).with_graceful_shutdown(stop.cancelled_owned()).await
}
