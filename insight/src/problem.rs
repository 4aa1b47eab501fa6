//! What went wrong, as `application/problem+json` (RFC 9457), with the exit code that a command gives for it.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use evalfleet_proto::status::Exit;
use serde::Serialize;

/// A problem document.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// A word or two.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what would help.
    pub detail: String,
    /// The exit code of a command that meets it.
    pub exit: u8,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, exit: Exit, detail: impl Into<String>) -> Self {
        Self { title, status: status.as_u16(), detail: detail.into(), exit: exit.code() }
    }

    /// The request is at fault.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad request", Exit::Usage, detail)
    }

    /// The question is not of the grammar.
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "refused query", Exit::Usage, detail)
    }

    /// There is no such thing, or none was known at that moment.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", Exit::Usage, detail)
    }

    /// The token is missing or wrong.
    pub fn unauthorized() -> Self {
        let detail =
            "give the API's token: Authorization: Bearer <token>, from the file that api.token_file names";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", Exit::Usage, detail)
    }

    /// The store takes too long, or too much is asked of it at once.
    pub fn too_much(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too much", Exit::Unreachable, detail)
    }

    /// The store does not answer.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store unavailable", Exit::Unreachable, detail)
    }

    /// What is recorded cannot be read.
    pub fn damaged(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged record", Exit::Defect, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response()
    }
}
