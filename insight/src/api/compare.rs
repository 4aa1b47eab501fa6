//! `GET /v1/compare`

use super::Shared;
use super::ask::{Asked, answer, within};
use crate::moment::moment;
use crate::problem::{Problem, Problems};
use crate::view::compare::{self, Comparison, Side};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

/// The longest selector, in characters.
const SELECTOR_MAX: usize = 1000;

/// What is compared.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Sides {
    /// The first: `run:NAME`, `batch:ID`, `model:NAME`, `tool:NAME`, `image:DIGEST`, `worker:NAME`, `suite:NAME`,
    /// `label:KEY=VALUE`, several joined by commas; or a bare name.
    #[param(max_length = 1000)]
    base: String,
    /// The second, likewise.
    #[param(max_length = 1000)]
    head: String,
    /// As of when the first is looked at.
    #[param(max_length = 64)]
    base_as_of: Option<String>,
    /// As of when the second is.
    #[param(max_length = 64)]
    head_as_of: Option<String>,
    /// As of when both are, unless said otherwise.
    #[param(max_length = 64)]
    as_of: Option<String>,
}

/// Two sets of evaluations against each other
///
/// Two runs, two batches, two versions, two moments; case by case where both tried the same.
#[utoipa::path(get, path = "/v1/compare", params(Sides), responses((status = 200, body = Comparison), (status = 304), Problems))]
pub(super) async fn compare(
    State(app): Shared,
    headers: HeaderMap,
    Asked(sides, ..): Asked<Sides>,
) -> Result<Response, Problem> {
    within("base", Some(&sides.base), SELECTOR_MAX)?;
    within("head", Some(&sides.head), SELECTOR_MAX)?;
    let point =
        |own: &Option<String>| own.as_ref().or(sides.as_of.as_ref()).map(|text| moment(text)).transpose();
    let (before, after) = (point(&sides.base_as_of)?, point(&sides.head_as_of)?);
    let compared = app
        .look(None, |world, _| {
            let at = |point| world.at(point).map_err(|early| early.to_string());
            let base = Side::parse(world, at(before)?, &sides.base)?;
            let head = Side::parse(world, at(after)?, &sides.head)?;
            compare::compare(world, &base, &head)
        })
        .await?;
    let compared = compared.map_err(Problem::bad_request)?;
    Ok(answer(&headers, compared.basis_t, &compared))
}
