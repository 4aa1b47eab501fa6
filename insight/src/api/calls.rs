//! `GET /v1/calls`

use super::Shared;
use super::ask::{AsOf, Asked, Paging, Place, answer};
use crate::problem::{Problem, Problems};
use crate::view::calls::{Calls, calls as view};
use crate::view::list::Filter;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

/// Calls of functions, page by page
///
/// Those of the newest evaluations first. The filters are about the evaluations that they were made in; `tool`
/// means the calls of that function alone.
#[utoipa::path(get, path = "/v1/calls", params(AsOf, Filter, Paging), responses((status = 200, body = Calls), (status = 304), Problems))]
pub(super) async fn calls(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, filter, paging): Asked<AsOf, Filter, Paging>,
) -> Result<Response, Problem> {
    let place = Place::of(paging.limit, paging.cursor.as_deref(), &as_of)?;
    if let Some(fault) = filter.fault() {
        return Err(Problem::bad_request(fault));
    }
    let page = app.look(place.moment, |world, at| view(world, at, &filter, place.limit, place.after)).await?;
    Ok(answer(&headers, page.basis_t, &page))
}
