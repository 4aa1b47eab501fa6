//! `GET`, `POST` and `DELETE /v1/session`: the dashboard's login. The token becomes a cookie that scripts
//! cannot read and that other sites' pages do not send.

use super::Shared;
use super::ask::passing;
use crate::access::{Access, COOKIE_NAME, Role};
use crate::problem::{BodyProblems, Problem, Problems};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    /// As it stands in the file that `api.token_file` names.
    #[schema(max_length = 500, pattern = "^[!-~]*$")]
    token: String,
}

/// Who one is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Session {
    /// What one may do.
    role: Role,
    /// Whether a token was asked for at all.
    guarded: bool,
}

/// Who one is
///
/// The role of the token that came with the request.
#[utoipa::path(get, path = "/v1/session", responses((status = 200, body = Session), Problems))]
pub(super) async fn role(
    State(app): Shared,
    Extension(access): Extension<Access>,
    Extension(role): Extension<Role>,
) -> Response {
    let basis_t = app.projection.read().basis_t();
    passing(basis_t, &Session { role, guarded: access.is_guarded() })
}

/// Log the dashboard in
///
/// Sets a cookie that holds the token until the browser is closed.
#[utoipa::path(post, path = "/v1/session", security(()), request_body = Login,
    responses((status = 204, description = "The cookie is set"), Problems, BodyProblems))]
pub(super) async fn open(
    Extension(access): Extension<Access>,
    login: Result<Json<Login>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(login) = login.map_err(|error| match error.status().as_u16() {
        413 | 415 => Problem::body(error.status(), error.body_text()),
        _ => Problem::bad_request(error.body_text()),
    })?;
    // Nothing that would end the cookie or begin another header.
    let clean = login.token.bytes().all(|byte| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte));
    if !clean || access.login(&login.token)?.is_none() {
        return Err(Problem::unauthorized());
    }
    let cookie = format!("{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict", login.token);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Log the dashboard out
///
/// Takes the cookie back.
#[utoipa::path(delete, path = "/v1/session", security(()), responses((status = 204, description = "The cookie is gone")))]
pub(super) async fn close() -> Response {
    let cookie = format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}
