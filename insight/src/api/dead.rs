//! The dead letters: at a glance, searched, and one whole.

use super::Shared;
use super::ask::{AsOf, Asked, answer, limit, within};
use crate::problem::{Problem, Problems};
use crate::view::dead::{self, Letters};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use evalfleet_proto::dead::Filter;
use serde::Deserialize;
use utoipa::IntoParams;

/// Which dead letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Which {
    /// `poison`, `attempts_spent`, …
    #[param(max_length = 100)]
    reason: Option<String>,
    /// A text in the job's id or in the error.
    #[param(max_length = 500)]
    q: Option<String>,
    /// How many, 100 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// Dead letters
///
/// Jobs that could not be run, as the history tells them, the newest first.
#[utoipa::path(get, path = "/v1/dead-letters", params(AsOf, Which), responses((status = 200, body = Letters), (status = 304), Problems))]
pub(super) async fn letters(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, which, _): Asked<AsOf, Which>,
) -> Result<Response, Problem> {
    let limit = limit(which.limit, 100)?;
    within("reason", which.reason.as_deref(), 100)?;
    within("q", which.q.as_deref(), 500)?;
    let needle = which.q.unwrap_or_default().to_lowercase();
    let found = app
        .look(as_of.point()?, |world, at| dead::letters(world, at, which.reason.as_deref(), &needle, limit))
        .await?;
    Ok(answer(&headers, found.basis_t, &found))
}

/// Which dead letters: those that fit all of it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub(super) struct Search {
    /// Its name, or the beginning of it.
    #[param(max_length = 200)]
    id: Option<String>,
    /// `waiting`, when missing; `replayed`, `dropped`, `any`.
    #[param(max_length = 20)]
    state: Option<String>,
    /// The tool, or the program.
    #[param(max_length = 500)]
    tool: Option<String>,
    /// `infrastructure`, `harness`.
    #[param(max_length = 100)]
    cause: Option<String>,
    /// `poison`, `attempts_spent`, `broker`.
    #[param(max_length = 100)]
    reason: Option<String>,
    /// A part of what went wrong, in any case of letters.
    #[param(max_length = 500)]
    error: Option<String>,
    /// The part that gave it up.
    #[param(max_length = 100)]
    worker: Option<String>,
    /// The batch of its job.
    #[param(max_length = 200)]
    batch: Option<String>,
    /// The model of its job.
    #[param(max_length = 500)]
    model: Option<String>,
    /// The image of its job.
    #[param(max_length = 200)]
    image: Option<String>,
    /// The lane it came from.
    #[param(max_length = 100)]
    lane: Option<String>,
    /// `command`, `function_call`, …
    #[param(max_length = 100)]
    kind: Option<String>,
    /// Given up at this moment or later.
    #[param(max_length = 64)]
    since: Option<String>,
    /// Given up before this moment.
    #[param(max_length = 64)]
    until: Option<String>,
    /// Leave out the first, newest ones.
    skip: Option<usize>,
    /// How many, 50 when missing.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

impl Search {
    fn filter(self) -> Result<Filter, Problem> {
        let terms = [
            ("id", self.id, 200),
            ("state", self.state, 20),
            ("tool", self.tool, 500),
            ("cause", self.cause, 100),
            ("reason", self.reason, 100),
            ("error", self.error, 500),
            ("worker", self.worker, 100),
            ("batch", self.batch, 200),
            ("model", self.model, 500),
            ("image", self.image, 200),
            ("lane", self.lane, 100),
            ("kind", self.kind, 100),
            ("since", self.since, 64),
            ("until", self.until, 64),
        ];
        for (key, value, most) in &terms {
            within(key, value.as_deref(), *most)?;
        }
        let terms: Vec<String> =
            terms.into_iter().filter_map(|(key, value, _)| Some(format!("{key}={}", value?))).collect();
        Filter::parse(&terms).map_err(|error| Problem::bad_request(error.to_string()))
    }
}

/// Dead letters that fit
///
/// With what was done with each, the newest first; as of any moment.
#[utoipa::path(get, path = "/v1/dead-letters/search", params(AsOf, Search),
    responses((status = 200, body = Object, description = "The letters"), (status = 304), Problems))]
pub(super) async fn search(
    State(app): Shared,
    headers: HeaderMap,
    Asked(as_of, search, _): Asked<AsOf, Search>,
) -> Result<Response, Problem> {
    let (limit, skip) = (limit(search.limit, 50)?, search.skip.unwrap_or(0));
    let found = app.dead.list(&search.filter()?, as_of.point()?, skip, limit).await?;
    Ok(answer(&headers, found.basis_t, &found.what))
}

/// One dead letter
///
/// With every try, its input, the evidence, and the jobs before and after it.
#[utoipa::path(get, path = "/v1/dead-letters/{id}", params(("id" = String, Path, description = "Its name"), AsOf),
    responses((status = 200, body = Object, description = "The letter"), (status = 304), Problems))]
pub(super) async fn letter(
    State(app): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Asked(as_of, _, _): Asked<AsOf>,
) -> Result<Response, Problem> {
    let found = app.dead.show(&id, as_of.point()?).await?;
    Ok(answer(&headers, found.basis_t, &found.what))
}
