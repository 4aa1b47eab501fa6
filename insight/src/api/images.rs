//! `GET /v1/images`

use super::Shared;
use super::ask::{AsOf, Asked, Paging, Place, answer};
use crate::problem::{Problem, Problems};
use crate::view::images::{Images, images as view};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

/// Images, page by page
///
/// Those that evaluations ran in, the last used first, each with what came of it.
#[utoipa::path(get, path = "/v1/images", params(AsOf, Paging), responses((status = 200, body = Images), (status = 304), Problems))]
pub(super) async fn images(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, paging, _): Asked<AsOf, Paging>,
) -> Result<Response, Problem> {
    let place = Place::of(paging.limit, paging.cursor.as_deref(), &as_of)?;
    let page = app.look(place.moment, |world, at| view(world, at, place.limit, place.after)).await?;
    Ok(answer(&headers, page.paged.basis_t, &page))
}
