//! `GET /v1/insights`

use super::Shared;
use super::ask::{AsOf, Asked, answer};
use crate::problem::{Problem, Problems};
use crate::view::insights::Insights;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

/// What stands out
///
/// Ranked, each with its numbers and the evaluations that it rests on. Those of now may be five seconds old.
#[utoipa::path(get, path = "/v1/insights", params(AsOf), responses((status = 200, body = Insights), (status = 304), Problems))]
pub(super) async fn insights(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, ..): Asked<AsOf>,
) -> Result<Response, Problem> {
    let found = app.insights(as_of.point()?).await?;
    Ok(answer(&headers, found.basis_t, &*found))
}
