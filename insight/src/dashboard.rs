//! The dashboard's files, in the program itself, and the headers that keep a browser to them.
//!
//! Nothing is fetched from elsewhere: the policy forbids it. A page's address is one of ours even where it
//! has no file: the same document is served, and its script shows the page that the address names. The document
//! names the files under this build's own digest, and under that a browser keeps them: a second page asks for none.

use crate::problem::Problem;
use axum::Router;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use evalfleet_proto::ids::Sha256;
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: String,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! assets {
    ($($kind:expr => $($name:literal)*;)*) => {
        LazyLock::new(|| vec![$($({
            let bytes: &[u8] = include_bytes!(concat!("../dashboard/", $name));
            Asset { name: $name, kind: $kind, bytes, tag: format!("\"{}\"", Sha256::of(bytes)) }
        },)*)*])
    };
}

static ASSETS: LazyLock<Vec<Asset>> = assets! {
    "text/html; charset=utf-8" => "index.html";
    "image/svg+xml" => "icon.svg";
    STYLE => "style.css" "charts.css" "vendor/uplot.css";
    SCRIPT => "app.js" "api.js" "router.js" "format.js" "parts.js" "chart.js" "timeline.js" "effects.js" "replay.js"
        "pages/overview.js" "pages/evaluations.js" "pages/evaluation.js" "pages/runs.js" "pages/run.js"
        "pages/subjects.js" "pages/subject.js" "pages/compare.js" "pages/workers.js" "pages/dead.js" "pages/letter.js"
        "pages/insights.js" "pages/alerts.js" "pages/healings.js" "pages/login.js"
        "vendor/uplot.js" "vendor/preact-htm.js";
    TEXT => "vendor/LICENSES.txt";
};

/// What this build's files are called by, all together.
static BUILD: LazyLock<String> = LazyLock::new(|| {
    let tags: Vec<&str> = ASSETS.iter().map(|asset| asset.tag.as_str()).collect();
    Sha256::of(tags.concat().as_bytes()).to_string()[..16].to_owned()
});

/// The document, with its files named under the build.
static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let bytes = ASSETS.iter().find(|asset| asset.name == "index.html").map_or(&[][..], |asset| asset.bytes);
    String::from_utf8_lossy(bytes).replace("/assets/", &format!("/assets/{}/", *BUILD)).into_bytes()
});

/// How a browser may keep what it got.
const ASK_AGAIN: &str = "no-cache";
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// What a page may do: run and show what comes from here, ask here, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files' routes.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/assets/{*name}", get(asset))
}

fn serve(headers: &HeaderMap, name: &str) -> Option<Response> {
    let of_build = name.strip_prefix(BUILD.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let asset = ASSETS.iter().find(|asset| asset.name == of_build.unwrap_or(name))?;
    // The document changes with any of its files.
    let tag = if asset.name == "index.html" { format!("\"{}\"", *BUILD) } else { asset.tag.clone() };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = match (known, asset.name) {
        (true, _) => StatusCode::NOT_MODIFIED.into_response(),
        (false, "index.html") => DOCUMENT.as_slice().into_response(),
        (false, _) => asset.bytes.into_response(),
    };
    let kind = HeaderValue::from_static(asset.kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    let keep = if of_build.is_some() { FOR_GOOD } else { ASK_AGAIN };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Some(response)
}

async fn asset(headers: HeaderMap, Path(name): Path<String>) -> Response {
    let served = serve(&headers, &name);
    served.unwrap_or_else(|| Problem::not_found("the dashboard has no such file").into_response())
}

/// The dashboard for whoever asks for a page, a problem for all others.
pub async fn page_or_problem(method: Method, request: Request) -> Response {
    let path = request.uri().path();
    let program =
        ["/v1", "/assets", "/health", "/openapi.json"].iter().any(|prefix| path.starts_with(prefix));
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let page = method == Method::GET && !program && (path == "/" || accept.contains("text/html"));
    let served = if page { serve(request.headers(), "index.html") } else { None };
    served.unwrap_or_else(|| {
        Problem::not_found("there is no such address; /openapi.json lists those that there are")
            .into_response()
    })
}

/// Adds the headers that protect whoever looks at the dashboard.
pub async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn every_file_that_a_file_names_is_there() {
        for asset in ASSETS
            .iter()
            .filter(|asset| [SCRIPT, STYLE].contains(&asset.kind) && !asset.name.starts_with("vendor"))
        {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for line in
                text.lines().filter(|line| line.starts_with("import ") || line.starts_with("export * from"))
            {
                let named = line.split('"').nth(1).unwrap_or_else(|| panic!("{line}"));
                let dir = asset.name.rsplit_once('/').map_or("", |(dir, _)| dir);
                let path = match named.strip_prefix("../") {
                    Some(up) => up.to_owned(),
                    None if dir.is_empty() => named.trim_start_matches("./").to_owned(),
                    None => format!("{dir}/{}", named.trim_start_matches("./")),
                };
                assert!(
                    ASSETS.iter().any(|asset| asset.name == path),
                    "{} imports {named}: no {path}",
                    asset.name
                );
            }
        }
    }

    #[test]
    fn the_document_fetches_every_script_at_once_and_under_this_build() {
        let document = std::str::from_utf8(&DOCUMENT).unwrap();
        for asset in ASSETS.iter().filter(|asset| [SCRIPT, STYLE].contains(&asset.kind)) {
            assert!(document.contains(&format!("\"/assets/{}/{}\"", *BUILD, asset.name)), "{}", asset.name);
        }
    }

    #[test]
    fn what_is_of_this_build_is_kept_for_good_and_all_else_asked_for_again() {
        let kept = |name: &str| {
            let served = serve(&HeaderMap::new(), name)?;
            served.headers()[header::CACHE_CONTROL].to_str().ok().map(str::to_owned)
        };
        assert!(kept(&format!("{}/app.js", *BUILD)).unwrap().contains("immutable"));
        assert_eq!(kept("app.js").as_deref(), Some("no-cache"));
        assert_eq!(kept("index.html").as_deref(), Some("no-cache"));
        assert_eq!(kept("0123456789abcdef/app.js"), None, "another build's");
        let known =
            HeaderMap::from_iter([(header::IF_NONE_MATCH, format!("\"{}\"", *BUILD).parse().unwrap())]);
        assert_eq!(serve(&known, "index.html").unwrap().status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn a_browser_gets_the_page_and_a_program_a_problem() {
        let ask = |path: &str, accept: &str| {
            let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
            page_or_problem(Method::GET, request)
        };
        assert_eq!(ask("/evaluations/1", "text/html,*/*").await.status(), StatusCode::OK);
        assert_eq!(ask("/evaluations/1", "application/json").await.status(), StatusCode::NOT_FOUND);
        assert_eq!(ask("/v1/unknown", "text/html").await.status(), StatusCode::NOT_FOUND);
    }
}
