//! `GET /v1/tools`, `GET /v1/tools/{name}`, `GET /v1/models`, `GET /v1/models/{name}`

use super::Shared;
use super::app::{App, now};
use super::ask::{AsOf, Asked, answer, passing};
use super::overview::Over;
use crate::problem::{Problem, Problems};
use crate::view::overview::until;
use crate::view::subjects::{Kind, SubjectDetail, Subjects, detail, subjects};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

async fn all(app: &App, headers: &HeaderMap, as_of: &AsOf, kind: Kind) -> Result<Response, Problem> {
    let found = app.look(as_of.point()?, |world, at| subjects(world, at, kind)).await?;
    Ok(answer(headers, found.basis_t, &found))
}

async fn one(app: &App, as_of: &AsOf, over: &Over, kind: Kind, name: &str) -> Result<Response, Problem> {
    let point = as_of.point()?;
    let found = app
        .look(point, |world, at| detail(world, at, kind, name, over.window, until(at, point, now())))
        .await?;
    let what = match kind {
        Kind::Tool => "tool",
        Kind::Model => "model",
    };
    let found =
        found.ok_or_else(|| Problem::not_found(format!("no {what} {name:?} was evaluated by then")))?;
    Ok(passing(found.basis_t, &found))
}

/// All tools
///
/// Those with the most evaluations first.
#[utoipa::path(get, path = "/v1/tools", params(AsOf), responses((status = 200, body = Subjects), (status = 304), Problems))]
pub(super) async fn tools(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, ..): Asked<AsOf>,
) -> Result<Response, Problem> {
    all(&app, &headers, &as_of, Kind::Tool).await
}

/// One tool
///
/// Its rate over time, its versions with a recommendation each, its cases, where it changed.
#[utoipa::path(get, path = "/v1/tools/{name}", params(("name" = String, Path, description = "Its name"), AsOf, Over),
    responses((status = 200, body = SubjectDetail), Problems))]
pub(super) async fn tool(
    State(app): Shared,
    Path(name): Path<String>,
    Asked(as_of, over, _): Asked<AsOf, Over>,
) -> Result<Response, Problem> {
    one(&app, &as_of, &over, Kind::Tool, &name).await
}

/// All models
///
/// Those with the most evaluations first.
#[utoipa::path(get, path = "/v1/models", params(AsOf), responses((status = 200, body = Subjects), (status = 304), Problems))]
pub(super) async fn models(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, ..): Asked<AsOf>,
) -> Result<Response, Problem> {
    all(&app, &headers, &as_of, Kind::Model).await
}

/// One model
///
/// Its rate over time, its cases and questions, where it changed.
#[utoipa::path(get, path = "/v1/models/{name}", params(("name" = String, Path, description = "Its name"), AsOf, Over),
    responses((status = 200, body = SubjectDetail), Problems))]
pub(super) async fn model(
    State(app): Shared,
    Path(name): Path<String>,
    Asked(as_of, over, _): Asked<AsOf, Over>,
) -> Result<Response, Problem> {
    one(&app, &as_of, &over, Kind::Model, &name).await
}
