//! What went wrong, as `application/problem+json` (RFC 9457), with the exit code that a command gives for it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use evalfleet_proto::status::Exit;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// A problem document (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
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

    /// Whether the same may succeed later.
    pub fn is_passing(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
    }

    /// The request is at fault.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad request", Exit::Usage, detail)
    }

    /// What was submitted is no job.
    pub fn misfit(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "no job", Exit::Harness, detail)
    }

    /// The broker does not answer, or does not take it.
    pub fn no_broker(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "broker unavailable", Exit::Unreachable, detail)
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

    /// The token's role does not go so far.
    pub fn forbidden(role: &str) -> Self {
        let detail = format!("this wants a token of the role {role}");
        Self::new(StatusCode::FORBIDDEN, "forbidden", Exit::Usage, detail)
    }

    /// Too many requests.
    pub fn too_often() -> Self {
        let detail = "more requests than api.rate allows: try again in a second";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too often", Exit::Unreachable, detail)
    }

    /// The address is there, and not for this method.
    pub fn wrong_method() -> Self {
        let detail = "this address does not take this method; /openapi.json says which it takes";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", Exit::Usage, detail)
    }

    /// The body is larger than it may be, or of another type.
    pub fn body(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, "unusable body", Exit::Usage, detail)
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
        let kind = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (status, kind, Json(self)).into_response();
        let more = match status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::TOO_MANY_REQUESTS => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// What a route that wants a body may answer instead, too.
#[derive(Debug, IntoResponses)]
pub enum BodyProblems {
    /// The body is larger than it may be.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is of another type: it must be `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    OtherType(#[to_schema] Problem),
}

/// What every route may answer instead.
#[derive(Debug, IntoResponses)]
pub enum Problems {
    /// The request is at fault; the detail says what would be right.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(#[to_schema] Problem),
    /// The token is missing or wrong.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// The token's role does not go so far.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// There is no such thing, or none was known at that moment.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// Too many requests.
    #[response(status = 429, content_type = "application/problem+json")]
    TooOften(#[to_schema] Problem),
    /// What is recorded cannot be read.
    #[response(status = 500, content_type = "application/problem+json")]
    Damaged(#[to_schema] Problem),
    /// The store does not answer, or takes too long.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}
