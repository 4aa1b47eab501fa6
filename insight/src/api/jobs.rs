//! `POST /v1/evaluations`, `POST /v1/evaluations/{id}/replay`, `POST /v1/evaluations/{id}/cancel`,
//! `POST /v1/batches/{batch}/cancel`: for the role `submit`.

use super::Shared;
use super::ask::body;
use crate::problem::{BodyProblems, Problem, Problems};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use evalfleet_proto::ids::{BatchId, JobId};
use evalfleet_proto::submission::Submission;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The most documents of one request.
const DOCUMENTS_MAX: usize = 1000;

/// The jobs that were submitted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Submitted {
    /// Their ids, in the order of the documents.
    ids: Vec<String>,
}

/// Why something is called off, or somebody drained.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Why {
    /// Its record says it, or its status.
    #[schema(max_length = 500)]
    pub(super) reason: Option<String>,
}

/// Submit jobs
///
/// One document, or up to 1000 in an array, as `evalfleet submit` takes them. All are checked before the first is
/// enqueued. The body may have 16 MiB; what a job's own files and standard input have beyond 256 KiB is kept in the
/// blob store and travels by its hash. They are evaluated some time later: `GET /v1/evaluations/{id}` has them then, `GET /v1/events?job=ID` tells
/// of them meanwhile. Wants the role `submit`.
#[utoipa::path(post, path = "/v1/evaluations",
    request_body(content = Object, description = "A submission document, or an array of them",
        example = json!({ "kind": "command", "argv": ["true"] })),
    responses((status = 202, body = Submitted), Problems, BodyProblems))]
pub(super) async fn submit(
    State(app): Shared,
    asked: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Problem> {
    let asked = body(asked)?;
    let documents = if let Value::Array(documents) = asked { documents } else { vec![asked] };
    if !(1..=DOCUMENTS_MAX).contains(&documents.len()) {
        let detail = format!("{} documents, and there may be 1 to {DOCUMENTS_MAX}", documents.len());
        return Err(Problem::bad_request(detail));
    }
    let read = |(number, document): (usize, Value)| {
        serde_json::from_value::<Submission>(document)
            .map_err(|error| Problem::misfit(format!("document {number}: {error}; nothing was submitted")))
    };
    let documents = documents.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(accepted(&app.desk.submit(documents).await?))
}

/// The ids, and where the evaluation will be if there is one.
fn accepted(ids: &[JobId]) -> Response {
    let submitted = Submitted { ids: ids.iter().map(ToString::to_string).collect() };
    let mut response = (StatusCode::ACCEPTED, Json(submitted)).into_response();
    if let [only] = ids
        && let Ok(place) = HeaderValue::from_str(&format!("/v1/evaluations/{only}"))
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// Run an evaluation again
///
/// The job is asked again as it was kept, in the very image that it ran in. What comes of it is an evaluation of its own,
/// whose `replay_of` names this one; `evalfleet replay` also compares the two. Refused where no job was kept, its image is
/// gone, or it is a dead letter. Wants the role `submit`.
#[utoipa::path(post, path = "/v1/evaluations/{id}/replay", params(("id" = String, Path, description = "The job")),
    responses((status = 202, body = Submitted), Problems))]
pub(super) async fn replay(State(app): Shared, Path(id): Path<String>) -> Result<Response, Problem> {
    let id: JobId = id.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    let (original, kept) = app.kept(id).await?;
    Ok(accepted(&[app.desk.replay(&original, &kept).await?]))
}

/// Call a job off
///
/// Queued, running or not submitted yet; what is done stays done. Its record will say `cancelled`, and why. Wants the
/// role `submit`.
#[utoipa::path(post, path = "/v1/evaluations/{id}/cancel", params(("id" = String, Path, description = "The job")),
    request_body = Why, responses((status = 202, description = "The word is said"), Problems, BodyProblems))]
pub(super) async fn cancel(
    State(app): Shared,
    Path(id): Path<String>,
    asked: Result<Json<Why>, JsonRejection>,
) -> Result<Response, Problem> {
    let why = body(asked)?;
    let id: JobId = id.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    app.desk.cancel(id, why.reason.as_deref()).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Call a batch off
///
/// Those of its jobs that were submitted until now. Wants the role `submit`.
#[utoipa::path(post, path = "/v1/batches/{batch}/cancel", params(("batch" = String, Path, description = "The batch")),
    request_body = Why, responses((status = 202, description = "The word is said"), Problems, BodyProblems))]
pub(super) async fn cancel_batch(
    State(app): Shared,
    Path(batch): Path<String>,
    asked: Result<Json<Why>, JsonRejection>,
) -> Result<Response, Problem> {
    let why = body(asked)?;
    let batch: BatchId = batch.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    app.desk.cancel_batch(&batch, why.reason.as_deref()).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
