//! `GET /v1/overview`, `GET /v1/timeline`

use super::Shared;
use super::app::now;
use super::ask::{AsOf, Asked, answer, passing};
use crate::problem::{Problem, Problems};
use crate::view::overview::{self, Overview, Timeline};
use crate::view::series::Window;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

/// How many insights the overview shows.
const INSIGHTS: usize = 3;
/// How many stretches the timeline has.
const STRETCHES: usize = 120;

/// How far back.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Over {
    /// The window that rates and series are about; it ends now, or at `as_of`.
    #[param(inline)]
    pub(super) window: Window,
}

/// How things go
///
/// Rates, series, workers, what waits, the newest evaluations, what stands out most.
#[utoipa::path(get, path = "/v1/overview", params(AsOf, Over), responses((status = 200, body = Overview), Problems))]
pub(super) async fn overview(
    State(app): Shared,
    Asked(as_of, over, _): Asked<AsOf, Over>,
) -> Result<Response, Problem> {
    let point = as_of.point()?;
    let mut shown = app
        .look(point, |world, at| {
            overview::overview(world, at, over.window, overview::until(at, point, now()))
        })
        .await?;
    shown.insights = app.insights(point).await?.insights.iter().take(INSIGHTS).cloned().collect();
    if point.is_none() {
        shown.queues = app.queues().await;
    }
    Ok(passing(shown.basis_t, &shown))
}

/// How much was recorded when
///
/// From the first evaluation to the newest: what a time slider stands on.
#[utoipa::path(get, path = "/v1/timeline", responses((status = 200, body = Timeline), (status = 304), Problems))]
pub(super) async fn timeline(
    State(app): Shared,
    headers: HeaderMap,
    Asked(..): Asked<super::ask::Nothing>,
) -> Result<Response, Problem> {
    let timeline = app.look(None, |world, _| overview::timeline(world, STRETCHES)).await?;
    Ok(answer(&headers, timeline.basis_t, &timeline))
}
