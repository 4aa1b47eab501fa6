//! `GET /v1/alerts`, `GET /v1/alerts/{id}`, `POST /v1/alerts/{id}/judge`

use super::Shared;
use super::app::App;
use super::ask::{AsOf, Asked, answer, body, limit, within};
use crate::problem::{BodyProblems, Problem, Problems};
use crate::projection::alerts::Card;
use crate::view::alerts::{self, Alerts};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use evalfleet_datomic::Point;
use evalfleet_proto::alert::Said;
use evalfleet_proto::ids::AlertId;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which alerts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Which {
    /// `confirming`, `raised`, `closed`, `dismissed` or `any`; those that people were told of when missing.
    #[param(max_length = 20)]
    state: Option<String>,
    /// What they are about, as `attribute=value`.
    #[param(max_length = 500, example = "tool=word_count")]
    subject: Option<String>,
    /// How many, 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Alerts
///
/// What became worse, the newest first, and how often alerts were right, as people judged them; as of any moment.
#[utoipa::path(get, path = "/v1/alerts", params(AsOf, Which), responses((status = 200, body = Alerts), (status = 304), Problems))]
pub(super) async fn alerts(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, which, _): Asked<AsOf, Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit, 100)?;
    within("state", which.state.as_deref(), 20)?;
    within("subject", which.subject.as_deref(), 500)?;
    let wanted = alerts::Which::parse(which.state.as_deref()).ok_or_else(|| {
        let known = "confirming, raised, closed, dismissed or any";
        Problem::bad_request(format!("state is {:?}, and must be {known}", which.state.unwrap_or_default()))
    })?;
    let subject = which.subject.as_deref();
    let found =
        app.look(as_of.point()?, |world, at| alerts::alerts(world, at, wanted, subject, limit)).await?;
    Ok(answer(&headers, found.basis_t, &found))
}

/// The alert as it was known at a moment, and the transaction that this stands on.
async fn known(app: &App, id: &str, as_of: Option<Point>) -> Result<(Arc<Card>, u64), Problem> {
    let find = |card: &Arc<Card>| card.id == id;
    let (found, t) = app.look(as_of, |world, at| (world.alerts(at).into_iter().find(find), at.t)).await?;
    let when = if as_of.is_some() { " as of that moment" } else { "" };
    let found = found.ok_or_else(|| {
        Problem::not_found(format!(
            "no alert {id} is recorded{when}: `evalfleet alerts --state any` shows all"
        ))
    })?;
    Ok((found, t))
}

/// One alert
///
/// With its numbers, the evaluations it rests on, what was run again, what changed when it began, and what people say.
#[utoipa::path(get, path = "/v1/alerts/{id}", params(("id" = String, Path, description = "Its name"), AsOf),
    responses((status = 200, body = Object, description = "The alert"), (status = 304), Problems))]
pub(super) async fn alert(
    State(app): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Asked(as_of, ..): Asked<AsOf>,
) -> Result<Response, Problem> {
    let (card, t) = known(&app, &id, as_of.point()?).await?;
    let mut document = match &card.document {
        Some(key) => app.history.document(key).await?,
        None => serde_json::to_value(&*card).map_err(|error| Problem::damaged(error.to_string()))?,
    };
    // People judge after its document was written.
    document["judgement"] = json!(card.judgement);
    document["basis_t"] = json!(t);
    Ok(answer(&headers, t, &document))
}

/// What is said of an alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Judge {
    /// `right` or `wrong`.
    #[schema(max_length = 10)]
    judgement: String,
    /// The history says it.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

/// Judge an alert
///
/// Whether it was right: the alerts' own precision counts it. The last word counts, the history has all. Wants the role
/// `operate`.
#[utoipa::path(post, path = "/v1/alerts/{id}/judge", params(("id" = String, Path, description = "Its name")),
    request_body = Judge, responses((status = 202, description = "The word is said"), Problems, BodyProblems))]
pub(super) async fn judge(
    State(app): Shared,
    Path(id): Path<String>,
    asked: Result<Json<Judge>, JsonRejection>,
) -> Result<Response, Problem> {
    let Judge { judgement, reason } = body(asked)?;
    let id: AlertId = id.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    let said = Said::parse(&judgement).ok_or_else(|| {
        Problem::bad_request(format!("judgement is {judgement:?}, and must be right or wrong"))
    })?;
    let (card, _) = known(&app, &id.to_string(), None).await?;
    if !card.was_raised() {
        return Err(Problem::bad_request(format!(
            "the alert {id} is {}: only what people were told of is judged",
            card.state.as_str()
        )));
    }
    app.desk.judge(id, said, &reason).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}
