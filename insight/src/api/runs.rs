//! `GET /v1/runs`, `GET /v1/runs/{id}`

use super::Shared;
use super::ask::{AsOf, Asked, Paging, Place, answer};
use crate::problem::{Problem, Problems};
use crate::view::runs::{RunDetail, RunFilter, RunKind, Runs, detail, runs as view};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which of two runs of one name.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Which {
    /// A batch, or a labelled run; when missing, the batch where both have that name.
    #[param(inline)]
    kind: Option<RunKind>,
}

/// Runs, page by page
///
/// Batches, and jobs whose label `run` is the same; those that last finished something first. Each with how its
/// evaluations ended, by status and by cause, and with both rates: attributed (`rate`) and raw.
#[utoipa::path(get, path = "/v1/runs", params(AsOf, RunFilter, Paging), responses((status = 200, body = Runs), (status = 304), Problems))]
pub(super) async fn runs(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, filter, paging): Asked<AsOf, RunFilter, Paging>,
) -> Result<Response, Problem> {
    let place = Place::of(paging.limit, paging.cursor.as_deref(), &as_of)?;
    if let Some(fault) = filter.fault() {
        return Err(Problem::bad_request(fault));
    }
    let page = app.look(place.moment, |world, at| view(world, at, &filter, place.limit, place.after)).await?;
    Ok(answer(&headers, page.paged.basis_t, &page))
}

/// One run
///
/// Its rates, its functions, its cases, what did not pass.
#[utoipa::path(get, path = "/v1/runs/{id}",
    params(("id" = String, Path, description = "The batch's id, or the run's name; a slash in it is written %2F.", min_length = 1), AsOf, Which),
    responses((status = 200, body = RunDetail), (status = 304), Problems))]
pub(super) async fn run(
    State(app): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Asked(as_of, which, _): Asked<AsOf, Which>,
) -> Result<Response, Problem> {
    let found = app.look(as_of.point()?, |world, at| detail(world, at, &id, which.kind)).await?;
    let absent = || Problem::not_found(format!("nothing of a run {id:?} was recorded by then"));
    let found = found.ok_or_else(absent)?;
    Ok(answer(&headers, found.basis_t, &found))
}
