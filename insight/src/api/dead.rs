//! `GET /v1/dead-letters`

use super::Shared;
use super::ask::{AsOf, Asked, answer};
use crate::problem::{Problem, Problems};
use crate::view::dead::{self, Letters};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which dead letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Which {
    /// `poison`, `attempts_spent`, …
    #[param(max_length = 100)]
    reason: Option<String>,
    /// A text in the job's id or in the error.
    #[param(max_length = 500)]
    q: Option<String>,
    /// How many, 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Dead letters
///
/// Jobs that could not be run, as the history tells them, the newest first.
#[utoipa::path(get, path = "/v1/dead-letters", params(AsOf, Which), responses((status = 200, body = Letters), (status = 304), Problems))]
pub(super) async fn letters(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, which, _): Asked<AsOf, Which>,
) -> Result<Response, Problem> {
    let limit = which.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::bad_request(format!("limit is {limit}, and must be between 1 and 1000")));
    }
    let needle = which.q.unwrap_or_default().to_lowercase();
    let found = app
        .look(as_of.point()?, |world, at| {
            dead::letters(world, at, which.reason.as_deref(), &needle, limit.into())
        })
        .await?;
    Ok(answer(&headers, found.basis_t, &found))
}
