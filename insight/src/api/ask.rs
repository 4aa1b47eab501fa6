//! Requests and answers in general: query parameters without surprises, moments, ETags.

use crate::moment::moment;
use crate::problem::Problem;
use crate::view::list::{Cursor, LIMIT_MAX};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use evalfleet_datomic::Point;
use evalfleet_service::VERSION;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

/// The transaction that an answer stands on.
pub const BASIS_T: HeaderName = HeaderName::from_static("evalfleet-basis-t");

/// No parameters.
#[derive(Debug, Default, Deserialize)]
pub struct Nothing {}

impl IntoParams for Nothing {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        Vec::new()
    }
}

/// As of when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct AsOf {
    /// As it was known then: a moment (RFC 3339, or a date) or a transaction's number. Now when missing.
    #[param(max_length = 64, example = "2026-01-31T06:00:00Z")]
    pub as_of: Option<String>,
}

impl AsOf {
    /// The moment.
    ///
    /// # Errors
    /// When it is none.
    pub fn point(&self) -> Result<Option<Point>, Problem> {
        within("as_of", self.as_of.as_deref(), 64)?;
        self.as_of.as_deref().map(moment).transpose()
    }
}

/// How many entries a page has when nobody says.
const LIMIT: u16 = 50;

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct Paging {
    /// How many entries a page has, 50 when missing.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
    /// The `next` of the page before. The page stands on the same transaction as that.
    #[param(max_length = 100)]
    pub cursor: Option<String>,
}

/// A page that was asked for.
#[derive(Debug)]
pub struct Place {
    /// How many entries at most.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// The moment: the one that the page before stood on, or the one that was asked for.
    pub moment: Option<Point>,
}

impl Place {
    /// Reads which page is meant.
    ///
    /// # Errors
    /// When the limit is out of bounds, or the cursor or the moment is none.
    pub fn of(limit: Option<u16>, cursor: Option<&str>, as_of: &AsOf) -> Result<Self, Problem> {
        let limit = self::limit(limit, LIMIT)?;
        let misread = || Problem::bad_request("cursor must be the `next` of a page, as it was given");
        let after = cursor.map(|text| Cursor::parse(text).ok_or_else(misread)).transpose()?;
        let moment = match after {
            Some(cursor) => Some(Point::T(cursor.t)),
            None => as_of.point()?,
        };
        Ok(Self { limit, after, moment })
    }
}

/// The document of a request's body.
///
/// # Errors
/// When it is too large, of another type, no JSON, or of another form.
pub fn body<T>(asked: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    let problem = |error: JsonRejection| {
        if error.status().as_u16() == 422 {
            Problem::bad_request(error.body_text())
        } else {
            Problem::body(error.status(), error.body_text())
        }
    };
    asked.map(|Json(document)| document).map_err(problem)
}

/// How many entries are wanted, `usual` when nobody says.
///
/// # Errors
/// When it is out of bounds.
pub fn limit(asked: Option<u16>, usual: u16) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(usual);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("limit is {limit}, and must be between 1 and {LIMIT_MAX}");
        return Err(Problem::bad_request(detail));
    }
    Ok(limit.into())
}

/// Bounds a text, in characters as the description counts them.
///
/// # Errors
/// When it is longer.
pub fn within(name: &str, text: Option<&str>, most: usize) -> Result<(), Problem> {
    let long = text.map_or(0, |text| text.chars().count());
    if long > most {
        return Err(Problem::bad_request(format!("{name} has {long} characters, and may have {most}")));
    }
    Ok(())
}

/// The parameters of a query string, in up to three groups; one that belongs to none of them is an error
/// that names it, rather than a filter that is silently left out.
#[derive(Debug)]
pub struct Asked<A, B = Nothing, C = Nothing>(pub A, pub B, pub C);

fn names<T: IntoParams>() -> Vec<String> {
    T::into_params(|| Some(ParameterIn::Query)).into_iter().map(|parameter| parameter.name).collect()
}

impl<S, A, B, C> FromRequestParts<S> for Asked<A, B, C>
where
    S: Send + Sync,
    A: DeserializeOwned + IntoParams,
    B: DeserializeOwned + IntoParams,
    C: DeserializeOwned + IntoParams,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let known: Vec<String> = [names::<A>(), names::<B>(), names::<C>()].concat();
        let pairs = read::<Vec<(String, String)>>(parts)?;
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !known.contains(name)) {
            return Err(Problem::bad_request(format!(
                "there is no parameter {name:?} here; there are: {}",
                known.join(", ")
            )));
        }
        Ok(Self(read(parts)?, read(parts)?, read(parts)?))
    }
}

fn read<T: DeserializeOwned>(parts: &Parts) -> Result<T, Problem> {
    let read = Query::<T>::try_from_uri(&parts.uri);
    read.map(|Query(value)| value).map_err(|error| Problem::bad_request(error.body_text()))
}

/// An answer that changes only with the history: whoever has it already is told so.
pub fn answer(headers: &HeaderMap, basis_t: u64, what: &impl Serialize) -> Response {
    // The form of answers is this build's.
    let tag = format!("W/\"{VERSION}-{basis_t}\"");
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let known = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
    let mut response =
        if known { StatusCode::NOT_MODIFIED.into_response() } else { Json(what).into_response() };
    let headers = response.headers_mut();
    headers.insert(BASIS_T, HeaderValue::from(basis_t));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// An answer that also changes by itself, with the clock or with what parts say of themselves.
pub fn passing(basis_t: u64, what: &impl Serialize) -> Response {
    let mut response = Json(what).into_response();
    response.headers_mut().insert(BASIS_T, HeaderValue::from(basis_t));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::list::Filter;

    async fn asked(query: &str) -> Result<Asked<AsOf, Filter>, Problem> {
        let (mut parts, ()) = axum::http::Request::get(format!("/x?{query}")).body(()).unwrap().into_parts();
        Asked::from_request_parts(&mut parts, &()).await
    }

    #[tokio::test]
    async fn a_parameter_that_is_not_known_is_named() {
        let Asked(as_of, filter, _) = asked("tool=read&as_of=12&since=2026-01-01T00:00:00Z").await.unwrap();
        assert_eq!(as_of.point().unwrap(), Some(Point::T(12)));
        assert_eq!(filter.tool.as_deref(), Some("read"));
        assert!(filter.since.is_some());
        assert!(asked("tol=read").await.unwrap_err().detail.contains("\"tol\""));
        assert_eq!(asked("since=yesterday").await.unwrap_err().status, 400);
        assert_eq!(asked("tool=a&tool=b").await.unwrap_err().status, 400);
    }

    #[test]
    fn who_knows_an_answer_already_is_told_so() {
        let first = answer(&HeaderMap::new(), 7, &1);
        let tag = first.headers()[header::ETAG].clone();
        let again = |t| answer(&HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.clone())]), t, &1).status();
        assert_eq!((again(7), again(8)), (StatusCode::NOT_MODIFIED, StatusCode::OK));
    }
}
