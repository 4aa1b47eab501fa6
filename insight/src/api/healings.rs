//! `GET /v1/healings`, `GET /v1/healings/{id}`, `POST /v1/healings/{id}/apply`, `POST /v1/healings/{id}/undo`

use super::Shared;
use super::app::App;
use super::ask::{AsOf, Asked, answer, body, limit, within};
use crate::heal::healer::can_undo;
use crate::problem::{BodyProblems, Problem, Problems};
use crate::projection::healings::Healing as Card;
use crate::view::healings::{self, Healings};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use evalfleet_datomic::Point;
use evalfleet_proto::healing::{State as Stage, Wanted};
use evalfleet_proto::ids::HealingId;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which healings.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Which {
    /// `proposed`, `applied`, `failed`, `undone`, `over`, `open` (the first two) or `any`; all when missing.
    #[param(max_length = 20)]
    state: Option<String>,
    /// What is not well, as `attribute=value`.
    #[param(max_length = 500, example = "worker=worker-1")]
    subject: Option<String>,
    /// How many, 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Healings
///
/// What of the fleet was not well and what was done about it, the newest first; as of any moment.
#[utoipa::path(get, path = "/v1/healings", params(AsOf, Which), responses((status = 200, body = Healings), (status = 304), Problems))]
pub(super) async fn healings(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, which, _): Asked<AsOf, Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit, 100)?;
    within("state", which.state.as_deref(), 20)?;
    within("subject", which.subject.as_deref(), 500)?;
    let wanted = healings::Which::parse(which.state.as_deref()).ok_or_else(|| {
        let known = "proposed, applied, failed, undone, over, open or any";
        Problem::bad_request(format!("state is {:?}, and must be {known}", which.state.unwrap_or_default()))
    })?;
    let subject = which.subject.as_deref();
    let found =
        app.look(as_of.point()?, |world, at| healings::healings(world, at, wanted, subject, limit)).await?;
    Ok(answer(&headers, found.basis_t, &found))
}

/// The healing as it was known at a moment, and the transaction that this stands on.
async fn known(app: &App, id: &str, as_of: Option<Point>) -> Result<(Arc<Card>, u64), Problem> {
    let find = |card: &Arc<Card>| card.id == id;
    let (found, t) = app.look(as_of, |world, at| (world.healings(at).into_iter().find(find), at.t)).await?;
    let when = if as_of.is_some() { " as of that moment" } else { "" };
    let found = found.ok_or_else(|| {
        Problem::not_found(format!("no healing {id} is recorded{when}: `evalfleet healing list` shows all"))
    })?;
    Ok((found, t))
}

/// One healing
///
/// With its evidence, what was done by whom and when, how long that took, and what people decided.
#[utoipa::path(get, path = "/v1/healings/{id}", params(("id" = String, Path, description = "Its name"), AsOf),
    responses((status = 200, body = Object, description = "The healing"), (status = 304), Problems))]
pub(super) async fn healing(
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
    // People decide after its document was written.
    document["decision"] = json!(card.decision);
    document["can_undo"] = json!(card.state == Stage::Proposed || can_undo(card.remedy));
    document["basis_t"] = json!(t);
    Ok(answer(&headers, t, &document))
}

/// Why something is decided about a healing.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    /// The history says it.
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
}

async fn decide(
    app: &App,
    id: &str,
    wanted: Wanted,
    asked: Result<Json<Decide>, JsonRejection>,
) -> Result<Response, Problem> {
    let Decide { reason } = body(asked)?;
    let id: HealingId = id.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    let (card, _) = known(app, &id.to_string(), None).await?;
    let fits = match wanted {
        Wanted::Apply => card.state == Stage::Proposed,
        Wanted::Undo => card.state.is_open(),
        Wanted::Unknown => false,
    };
    if !fits {
        let state = card.state.as_str();
        let why = match wanted {
            Wanted::Apply => "only what is proposed is applied",
            Wanted::Undo | Wanted::Unknown => "only what is proposed or applied is undone",
        };
        return Err(Problem::bad_request(format!("the healing {id} is {state}: {why}")));
    }
    if wanted == Wanted::Undo && card.state == Stage::Applied && !can_undo(card.remedy) {
        let remedy = card.remedy.as_str();
        return Err(Problem::bad_request(format!(
            "the remedy of {id} is {remedy}: there is nothing to undo"
        )));
    }
    app.desk.decide(id, wanted, &reason).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Apply a healing
///
/// One that is proposed: its remedy is carried out once this is recorded. Wants the role `operate`.
#[utoipa::path(post, path = "/v1/healings/{id}/apply", params(("id" = String, Path, description = "Its name")),
    request_body = Decide, responses((status = 202, description = "The word is said"), Problems, BodyProblems))]
pub(super) async fn apply(
    State(app): Shared,
    Path(id): Path<String>,
    asked: Result<Json<Decide>, JsonRejection>,
) -> Result<Response, Problem> {
    decide(&app, &id, Wanted::Apply, asked).await
}

/// Undo a healing
///
/// One that is applied: what was done is taken back once this is recorded. One that is proposed is declined. What was
/// seen before is not held against its subject again. Wants the role `operate`.
#[utoipa::path(post, path = "/v1/healings/{id}/undo", params(("id" = String, Path, description = "Its name")),
    request_body = Decide, responses((status = 202, description = "The word is said"), Problems, BodyProblems))]
pub(super) async fn undo(
    State(app): Shared,
    Path(id): Path<String>,
    asked: Result<Json<Decide>, JsonRejection>,
) -> Result<Response, Problem> {
    decide(&app, &id, Wanted::Undo, asked).await
}
