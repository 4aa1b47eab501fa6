//! `GET /v1/evaluations`, `GET /v1/evaluations/{id}`, `GET /v1/evaluations/{id}/context`, `GET /v1/evaluations/{id}/diff`,
//! `GET /v1/blobs/{sha256}`

use super::Shared;
use super::ask::{AsOf, Asked, Place, answer, within};
use crate::problem::{Problem, Problems};
use crate::view::context::{self, Context};
use crate::view::diff::{self, FileDiff};
use crate::view::list::{Filter, Page, Sort, Wanted, page};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use evalfleet_proto::effect::{Content, Effect};
use evalfleet_proto::ids::Sha256;
use serde::Deserialize;
use utoipa::IntoParams;

/// The longest id, in bytes.
const ID_MAX: usize = 300;

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Paging {
    /// The order; a cursor belongs to the order that it was given with.
    #[param(inline)]
    sort: Sort,
    /// How many evaluations a page has, 50 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
    /// The `next` of the page before. The page stands on the same transaction as that.
    #[param(max_length = 100)]
    cursor: Option<String>,
    /// Whether to count the whole list.
    #[param(inline)]
    count: bool,
}

/// Evaluations, page by page
///
/// The newest first, unless sorted otherwise.
#[utoipa::path(get, path = "/v1/evaluations", params(AsOf, Filter, Paging), responses((status = 200, body = Page), (status = 304), Problems))]
pub(super) async fn list(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, filter, paging): Asked<AsOf, Filter, Paging>,
) -> Result<Response, Problem> {
    let place = Place::of(paging.limit, paging.cursor.as_deref(), &as_of)?;
    if let Some(fault) = filter.fault() {
        return Err(Problem::bad_request(fault));
    }
    let wanted = Wanted { sort: paging.sort, limit: place.limit, after: place.after, count: paging.count };
    let page = app.look(place.moment, |world, at| page(world, at, &filter, wanted)).await?;
    Ok(answer(&headers, page.basis_t, &page))
}

fn absent(id: &str, as_of: &AsOf) -> Problem {
    let known = as_of.as_of.as_ref().map_or(String::new(), |moment| format!(" was known at {moment}"));
    Problem::not_found(format!("no evaluation {id}{known}"))
}

fn checked(id: &str) -> Result<(), Problem> {
    let fault = id.is_empty() || id.len() > ID_MAX || id.chars().any(char::is_control);
    if fault { Err(Problem::bad_request("this is no id of an evaluation")) } else { Ok(()) }
}

/// One evaluation, whole
///
/// The result as the worker reported it; for an imported batch and its questions, their facts.
#[utoipa::path(get, path = "/v1/evaluations/{id}",
    params(("id" = String, Path, description = "The job's or batch's id; a slash in it is written %2F.", min_length = 1, max_length = 300), AsOf),
    responses((status = 200, body = Object, description = "The evaluation"), (status = 304), Problems))]
pub(super) async fn one(
    State(app): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Asked(as_of, ..): Asked<AsOf>,
) -> Result<Response, Problem> {
    checked(&id)?;
    // The store is asked, not the projection: it also has what is older or newer than that.
    let found = app.history.evaluation(&id, as_of.point()?).await?;
    Ok(answer(&headers, found.basis_t, &found.what))
}

/// What surrounds an evaluation
///
/// Its repeats, the parts of a batch, the last evaluations of the same case, its dead letter.
#[utoipa::path(get, path = "/v1/evaluations/{id}/context",
    params(("id" = String, Path, description = "The job's or batch's id; a slash in it is written %2F.", min_length = 1, max_length = 300), AsOf),
    responses((status = 200, body = Context), (status = 304), Problems))]
pub(super) async fn context(
    State(app): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Asked(as_of, ..): Asked<AsOf>,
) -> Result<Response, Problem> {
    checked(&id)?;
    let found = app.look(as_of.point()?, |world, at| context::context(world, at, &id)).await?;
    let found = found.ok_or_else(|| absent(&id, &as_of))?;
    Ok(answer(&headers, found.basis_t, &found))
}

/// The longest path, in characters.
const PATH_MAX: usize = 4096;

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Of {
    /// Its path, as the list of effects has it.
    #[param(max_length = 4096)]
    path: String,
}

/// What changed in a file
///
/// Line by line, where its worker kept what was in it before and after. What is no text, or too long, is named as such.
#[utoipa::path(get, path = "/v1/evaluations/{id}/diff",
    params(("id" = String, Path, description = "The job's id", min_length = 1, max_length = 300), AsOf, Of),
    responses((status = 200, body = FileDiff), (status = 304), Problems))]
pub(super) async fn diff(
    State(app): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Asked(as_of, of, _): Asked<AsOf, Of>,
) -> Result<Response, Problem> {
    checked(&id)?;
    within("path", Some(&of.path), PATH_MAX)?;
    let found = app.history.evaluation(&id, as_of.point()?).await?;
    let effects = found.what.get("effects").cloned().unwrap_or_default();
    let effects: Vec<Effect> = serde_json::from_value(effects).unwrap_or_default();
    let effect = effects.into_iter().find(|effect| effect.path == of.path);
    let effect = effect.ok_or_else(|| Problem::not_found(format!("{id} left nothing at {}", of.path)))?;
    let content = effect.content.ok_or_else(|| {
        Problem::not_found(format!("what was in {} was not kept: its hash is all that is known", of.path))
    })?;
    let before = text(&app, content.before).await?;
    let after = text(&app, content.after).await?;
    let compared = tokio::task::spawn_blocking(move || {
        diff::diff(&of.path, (content.before, &before), (content.after, &after), found.basis_t)
    });
    let compared = compared.await.map_err(|error| Problem::damaged(error.to_string()))?;
    Ok(answer(&headers, found.basis_t, &compared))
}

/// A text that was kept; empty where none was.
async fn text(app: &super::App, content: Content) -> Result<String, Problem> {
    let Some(key) = content.sha256 else { return Ok(String::new()) };
    let bytes = app.history.blob(key).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file or an output, by its hash
///
/// What is too large for the result itself: a long output, a file that was kept.
#[utoipa::path(get, path = "/v1/blobs/{sha256}",
    params(("sha256" = String, Path, description = "64 hexadecimal digits", pattern = "^[0-9a-f]{64}$")),
    responses((status = 200, body = [u8], content_type = "application/octet-stream"), (status = 304), Problems))]
pub(super) async fn blob(
    State(app): Shared,
    headers: HeaderMap,
    Path(key): Path<String>,
    Asked(..): Asked<super::ask::Nothing>,
) -> Result<Response, Problem> {
    let key: Sha256 =
        key.parse().map_err(|_| Problem::bad_request("a blob's name is 64 hexadecimal digits"))?;
    let tag = format!("\"{key}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok(axum::http::StatusCode::NOT_MODIFIED.into_response());
    }
    let bytes = app.history.blob(key).await?;
    // Whatever it is, no browser is to run it.
    let name = format!("attachment; filename=\"{key}\"");
    let fixed = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
        (header::ETAG, tag),
    ];
    Ok((fixed, bytes).into_response())
}
