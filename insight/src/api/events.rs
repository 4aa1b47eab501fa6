//! `GET /v1/events`

use super::Shared;
use super::ask::Asked;
use crate::live::{Notice, notices};
use crate::problem::{Problem, Problems};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::Deserialize;
use std::time::Duration;
use utoipa::IntoParams;

/// How often a quiet stream shows that it is alive.
const ALIVE: Duration = Duration::from_secs(15);

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Of {
    /// Only what concerns this job, its output as well; without it, everything but outputs.
    #[param(max_length = 100)]
    job: Option<String>,
}

fn event(notice: &Notice) -> Option<Event> {
    let event = Event::default().event(notice.name());
    let event = match notice {
        Notice::Recorded { basis_t, .. } => event.id(basis_t.to_string()),
        Notice::Job(_) | Notice::Handled(_) | Notice::Missed { .. } => event,
    };
    event.json_data(notice).ok()
}

/// What happens now, as server-sent events
///
/// `recorded` (new evaluations, with the transaction as the event's id), `job` (started, progress, output,
/// retried; these may be lost), `handled` (how far an order about dead letters is), `missed` (the listener was too slow: ask anew).
#[utoipa::path(get, path = "/v1/events", params(Of),
    responses((status = 200, body = Notice, content_type = "text/event-stream"), Problems))]
pub(super) async fn events(State(app): Shared, Asked(of, ..): Asked<Of>) -> Result<Response, Problem> {
    let seat =
        app.live.seat().ok_or_else(|| Problem::too_much("too many listen already: close another page"))?;
    let notices = notices(app.live.listen(), of.job, seat);
    let events = notices.filter_map(async |notice| event(&notice).map(Ok::<_, std::convert::Infallible>));
    let events = Box::pin(events).take_until(app.stop.clone().cancelled_owned());
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
