//! Who may do what. A token has a role; it comes as a bearer token or, for the dashboard, as a cookie that
//! scripts cannot read. Compared by their hashes, so that its letters cannot be found out one by one; each
//! role has its rate, and those without a token share one.

use crate::problem::Problem;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use evalfleet_proto::ids::Sha256;
use evalfleet_service::settings;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Serialize;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use utoipa::ToSchema;

/// The cookie that the dashboard's login sets.
pub const COOKIE_NAME: &str = "evalfleet-token";

/// What one may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look at everything.
    Read,
    /// Submit jobs.
    Submit,
    /// Change how things run.
    Operate,
}

/// The tokens, as their hashes, with the rates of their roles.
#[derive(Debug, Clone)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tokens: Vec<(Role, Sha256)>,
    rates: [DefaultDirectRateLimiter; 4],
}

impl Access {
    /// Reads the files that the settings name. Without any, everybody who reaches the API may do all.
    ///
    /// # Errors
    /// When a file is named and cannot be read, or is empty.
    pub fn new(settings: &settings::Api) -> std::io::Result<Self> {
        let files = [
            (Role::Read, &settings.read_token_file),
            (Role::Submit, &settings.submit_token_file),
            (Role::Operate, &settings.token_file),
        ];
        let mut tokens = Vec::new();
        for (role, file) in files {
            tokens.extend(read(file)?.map(|token| (role, token)));
        }
        let rate = NonZeroU32::new(settings.rate).unwrap_or(NonZeroU32::MIN);
        let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        let rates = std::array::from_fn(|_| RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)));
        Ok(Self(Arc::new(Inner { tokens, rates })))
    }

    /// Whether a token is asked for at all.
    pub fn is_guarded(&self) -> bool {
        !self.0.tokens.is_empty()
    }

    /// The role of a token.
    pub fn role(&self, token: Option<&str>) -> Option<Role> {
        if !self.is_guarded() {
            return Some(Role::Operate);
        }
        let given = Sha256::of(token?.as_bytes());
        // All are compared, whichever fits.
        let fitting = self.0.tokens.iter().filter(|(_, token)| *token == given);
        fitting.map(|(role, _)| *role).max()
    }

    /// The role of a token that somebody logs in with: at the rate of those who have none.
    ///
    /// # Errors
    /// When there were too many tries.
    pub fn login(&self, token: &str) -> Result<Option<Role>, Problem> {
        if self.0.rates[3].check().is_err() {
            return Err(Problem::too_often());
        }
        Ok(self.role(Some(token)))
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Role, Problem> {
        let role = self.role(token(headers));
        let rate = &self.0.rates[role.map_or(3, |role| role as usize)];
        if rate.check().is_err() {
            return Err(Problem::too_often());
        }
        role.ok_or_else(Problem::unauthorized)
    }
}

fn read(file: &Path) -> std::io::Result<Option<Sha256>> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let named =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(named)?;
    match text.trim() {
        "" => Err(named(std::io::Error::new(std::io::ErrorKind::InvalidData, "the token is empty"))),
        token => Ok(Some(Sha256::of(token.as_bytes()))),
    }
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some(bearer) = bearer {
        return bearer.strip_prefix("Bearer ");
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

/// Lets a request through that may look, and tells the routes its role.
pub async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    match access.admit(request.headers()) {
        Ok(role) => {
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Lets a request through whose role is `submit` or more.
pub async fn submitters(request: Request, next: Next) -> Response {
    with_role(Role::Submit, "submit", request, next).await
}

/// Lets a request through whose role is `operate`.
pub async fn operators(request: Request, next: Next) -> Response {
    with_role(Role::Operate, "operate", request, next).await
}

async fn with_role(least: Role, name: &str, request: Request, next: Next) -> Response {
    if request.extensions().get::<Role>().is_some_and(|role| *role >= least) {
        return next.run(request).await;
    }
    Problem::forbidden(name).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn access(dir: &Path, rate: u32) -> std::io::Result<Access> {
        let mut settings = settings::Settings::from_layers(&settings::Layers::default()).unwrap().api;
        settings.token_file = dir.join("operate");
        settings.read_token_file = dir.join("read");
        settings.rate = rate;
        Access::new(&settings)
    }

    fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_opens_as_far_as_its_role_goes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("operate"), "s3cret\n").unwrap();
        std::fs::write(dir.path().join("read"), "l00k").unwrap();
        let access = access(dir.path(), 100).unwrap();
        assert_eq!(access.role(Some("s3cret")), Some(Role::Operate));
        assert_eq!(access.role(Some("l00k")), Some(Role::Read));
        assert_eq!((access.role(Some("s3cre")), access.role(None)), (None, None));
        assert_eq!(access.admit(&headers(AUTHORIZATION, "Bearer l00k")).unwrap(), Role::Read);
        let cookie = format!("other=1; {COOKIE_NAME}=s3cret");
        assert_eq!(access.admit(&headers(COOKIE, &cookie)).unwrap(), Role::Operate);
        assert_eq!(access.admit(&headers(AUTHORIZATION, "Basic l00k")).unwrap_err().status, 401);
    }

    #[tokio::test]
    async fn a_route_wants_its_role_or_more() {
        use axum::http::StatusCode;
        use axum::middleware::from_fn;
        let routes = axum::Router::new().route("/", axum::routing::get(async || "done"));
        let ask = async |of: axum::Router, role: Role| {
            let mut request = Request::get("/").body(axum::body::Body::empty()).unwrap();
            request.extensions_mut().insert(role);
            tower::ServiceExt::oneshot(of, request).await.unwrap().status()
        };
        let submitting = routes.clone().layer(from_fn(submitters));
        let operating = routes.layer(from_fn(operators));
        assert_eq!(ask(submitting.clone(), Role::Read).await, StatusCode::FORBIDDEN);
        assert_eq!(ask(submitting.clone(), Role::Submit).await, StatusCode::OK);
        assert_eq!(ask(submitting, Role::Operate).await, StatusCode::OK);
        assert_eq!(ask(operating.clone(), Role::Submit).await, StatusCode::FORBIDDEN);
        assert_eq!(ask(operating, Role::Operate).await, StatusCode::OK);
    }

    #[test]
    fn an_empty_token_is_an_error_and_none_opens_all() {
        let dir = tempfile::tempdir().unwrap();
        assert!(access(dir.path(), 1).is_err(), "a file that is not there");
        std::fs::write(dir.path().join("operate"), "\n").unwrap();
        std::fs::write(dir.path().join("read"), "x").unwrap();
        assert!(access(dir.path(), 1).unwrap_err().to_string().contains("empty"));
        let settings = settings::Settings::from_layers(&settings::Layers::default()).unwrap().api;
        assert_eq!(Access::new(&settings).unwrap().role(None), Some(Role::Operate));
    }

    #[test]
    fn who_asks_too_often_waits_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("operate"), "s3cret").unwrap();
        std::fs::write(dir.path().join("read"), "l00k").unwrap();
        let access = access(dir.path(), 1).unwrap();
        let statuses: Vec<u16> =
            (0..3).map(|_| access.admit(&HeaderMap::new()).unwrap_err().status).collect();
        assert_eq!(statuses, [401, 401, 429]);
        assert!(access.admit(&headers(AUTHORIZATION, "Bearer l00k")).is_ok());
    }
}
