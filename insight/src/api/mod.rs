//! The routes: what is asked of us, read and bounded, and answered. Router and OpenAPI document are made of
//! the same list, so that neither has what the other lacks.

pub mod app;
pub mod ask;

mod alerts;
mod calls;
mod compare;
mod dead;
mod evaluations;
mod events;
mod handle;
mod healings;
mod images;
mod insights;
mod jobs;
mod overview;
mod projection;
mod query;
mod runs;
mod session;
mod subjects;
mod workers;

pub use app::App;

use crate::access::{self, Access};
use crate::dashboard;
use crate::problem::Problem;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The largest body: a question and its inputs.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The largest body of a submission, whose jobs bring their inputs along.
const SUBMISSION_BYTES_MAX: usize = 16 << 20;
/// Submissions that are read at one moment, each in memory.
const SUBMISSIONS_MAX: usize = 8;
/// The longest that an answer may take; a question's own limit is shorter.
const TIME_MAX: Duration = Duration::from_secs(75);

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "evalfleet",
        description = "What was evaluated, as of any moment. Every answer names the transaction that it stands on: \
                       `basis_t`, the header `evalfleet-basis-t`, and the ETag. Errors are problem documents (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    modifiers(&Bearer),
    security(("bearer" = [])),
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    }
}

/// The routes that want a token, and their description.
fn described() -> (Router<Arc<App>>, Router<Arc<App>>, utoipa::openapi::OpenApi) {
    let guarded = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(overview::overview))
        .routes(routes!(overview::timeline))
        .routes(routes!(evaluations::list))
        .routes(routes!(evaluations::one))
        .routes(routes!(evaluations::context))
        .routes(routes!(evaluations::diff))
        .routes(routes!(evaluations::blob))
        .routes(routes!(subjects::tools))
        .routes(routes!(subjects::tool))
        .routes(routes!(subjects::models))
        .routes(routes!(subjects::model))
        .routes(routes!(calls::calls))
        .routes(routes!(runs::runs))
        .routes(routes!(runs::run))
        .routes(routes!(images::images))
        .routes(routes!(compare::compare))
        .routes(routes!(workers::workers))
        .routes(routes!(workers::queues))
        .routes(routes!(dead::letters))
        .routes(routes!(dead::search))
        .routes(routes!(dead::letter))
        .routes(routes!(alerts::alerts))
        .routes(routes!(alerts::alert))
        .routes(routes!(healings::healings))
        .routes(routes!(healings::healing))
        .routes(routes!(insights::insights))
        .routes(routes!(query::query))
        .routes(routes!(events::events))
        .routes(routes!(projection::progress))
        .routes(routes!(session::role));
    let submit = OpenApiRouter::new()
        .routes(routes!(jobs::submit))
        .route_layer(DefaultBodyLimit::max(SUBMISSION_BYTES_MAX))
        .route_layer(from_fn_with_state(Arc::new(Semaphore::new(SUBMISSIONS_MAX)), some_at_once));
    let submitting = OpenApiRouter::new()
        .merge(submit)
        .routes(routes!(jobs::replay))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::cancel_batch))
        .route_layer(from_fn(access::submitters));
    let operating = OpenApiRouter::new()
        .routes(routes!(handle::replay))
        .routes(routes!(handle::drop_letters))
        .routes(routes!(handle::amend))
        .routes(routes!(alerts::judge))
        .routes(routes!(workers::drain))
        .routes(routes!(workers::resume))
        .routes(routes!(healings::apply))
        .routes(routes!(healings::undo))
        .routes(routes!(projection::rebuild))
        .route_layer(from_fn(access::operators));
    let open = OpenApiRouter::new()
        .routes(routes!(projection::health))
        .routes(routes!(session::open))
        .routes(routes!(session::close));
    let (guarded, document) = guarded.merge(submitting).merge(operating).split_for_parts();
    let (open, others) = open.split_for_parts();
    let mut document = document;
    document.merge(others);
    (guarded, open, document)
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    described().2
}

/// Composes the server's routes.
pub fn router(app: Arc<App>, access: Access) -> Router {
    let (guarded, open, document) = described();
    let document = Arc::new(document);
    let guarded = guarded.route_layer(from_fn_with_state(access.clone(), access::guard));
    guarded
        .merge(open)
        .route("/openapi.json", get(async move || Json(document.as_ref().clone())))
        .merge(dashboard::routes())
        .fallback(dashboard::page_or_problem)
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(Extension(access))
        .layer(from_fn(within_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(dashboard::protect))
        .with_state(app)
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::too_much("no answer in time: ask for less").into_response(),
    }
}

/// Lets so many requests in as there are permits; the others wait, before their bodies are read.
async fn some_at_once(State(permits): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    // Nobody closes it.
    let _permit = permits.acquire().await;
    next.run(request).await
}

/// What every handler has.
type Shared = State<Arc<App>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_every_route_and_every_operation_its_answers() {
        let document = serde_json::to_value(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().unwrap();
        for path in [
            "/v1/evaluations/{id}",
            "/v1/evaluations/{id}/diff",
            "/v1/calls",
            "/v1/runs",
            "/v1/runs/{id}",
            "/v1/images",
            "/v1/compare",
            "/v1/projection/rebuild",
            "/health",
            "/v1/session",
        ] {
            assert!(paths.contains_key(path), "{path} is missing: {:?}", paths.keys());
        }
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path} says nothing of itself");
            }
        }
    }
}
