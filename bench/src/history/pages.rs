//! What people look at, asked of the API over HTTP as they ask it.

use super::{LONGER, Plan, inside, made};
use crate::report::Row;
use crate::series::Series;
use anyhow::{Context as _, ensure};
use evalfleet_service::settings::Settings;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Askings before those that count.
const UNCOUNTED: usize = 5;
/// While it follows the log, it is asked this seldom.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A client of the API.
pub(super) struct Pages {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// A page: its name in the table, and how to ask for it the `n`th time.
type Page<'a> = (&'static str, Box<dyn Fn(u64) -> (Method, String, Option<Value>) + 'a>);

impl Pages {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let token = std::fs::read_to_string(&settings.api.token_file).context("the API's token")?;
        Ok(Self {
            http: evalfleet_service::http::builder().build()?,
            url: settings.api.url.clone(),
            token: token.trim().to_owned(),
        })
    }

    /// Waits until the API has everything that was recorded.
    pub(super) async fn followed(&self, plan: Plan, within: Duration) -> anyhow::Result<()> {
        let all = async {
            loop {
                let evaluations = self.get("/v1/evaluations?limit=1&count=true").await?;
                let letters = self.get("/v1/dead-letters/search?limit=1&state=any").await?;
                if evaluations["count"].as_u64() >= Some(plan.evaluations)
                    && letters["total"].as_u64() >= Some(plan.letters)
                {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(within, all).await.context("the API does not follow the log")?
    }

    /// Whether something is there.
    pub(super) async fn is_there(&self, path: &str) -> anyhow::Result<bool> {
        Ok(self.send(&Method::GET, path, None).await?.status() != StatusCode::NOT_FOUND)
    }

    /// Asks for every page, in turns.
    pub(super) async fn ask(&self, plan: Plan) -> anyhow::Result<Vec<Row>> {
        let basis = self.get("/v1/evaluations?limit=1").await?["basis_t"].as_u64().context("basis_t")?;
        let pages = pages(plan, basis - basis / 4);
        let mut times: Vec<Series> = pages.iter().map(|_| Series::default()).collect();
        for round in 0..UNCOUNTED + plan.rounds {
            for ((what, request), times) in pages.iter().zip(&mut times) {
                let (method, path, body) = request(round as u64);
                if method == Method::POST && !round.is_multiple_of(LONGER) {
                    continue;
                }
                let begun = Instant::now();
                let answer = self.send(&method, &path, body.as_ref()).await?;
                let status = answer.status();
                let body = answer.bytes().await?;
                let took = begun.elapsed();
                ensure!(status.is_success(), "{what}, {path}: {status}: {}", String::from_utf8_lossy(&body));
                if round >= UNCOUNTED {
                    times.push(took);
                }
            }
        }
        let rows = pages.iter().zip(times);
        Ok(rows.map(|((what, _), times)| Row { what, milliseconds: times.summary() }).collect())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.send(&Method::GET, path, None).await?.error_for_status()?.json().await?)
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<reqwest::Response> {
        let mut request =
            self.http.request(method.clone(), format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(request.send().await?)
    }
}

/// Every page that is asked for; `earlier` is a transaction of the past.
fn pages<'a>(plan: Plan, earlier: u64) -> Vec<Page<'a>> {
    let get = |path: String| (Method::GET, path, None);
    let some = move |nth: u64| made::id(nth.wrapping_mul(7919) % (plan.evaluations / 2).max(1));
    let query = |text: &str| {
        (Method::POST, "/v1/query".to_owned(), Some(json!({ "query": text, "rows_max": 100_000 })))
    };
    let by_tool = "[:find (count ?e) . :in $ ?name :where [?c :function-call/name ?name] [?e :evaluation/function-calls ?c] \
                   [?e :evaluation/status :failed]]";
    vec![
        ("overview", Box::new(move |_| get("/v1/overview".to_owned()))),
        ("overview, as of earlier", Box::new(move |_| get(format!("/v1/overview?as_of={earlier}")))),
        ("timeline", Box::new(move |_| get("/v1/timeline".to_owned()))),
        ("evaluations, first page", Box::new(move |_| get("/v1/evaluations".to_owned()))),
        (
            "evaluations, of a tool and failed",
            Box::new(move |nth| get(format!("/v1/evaluations?tool={}&status=failed", made::tool(nth)))),
        ),
        ("evaluations, slowest first", Box::new(move |_| get("/v1/evaluations?sort=slowest".to_owned()))),
        ("one evaluation", Box::new(move |nth| get(format!("/v1/evaluations/{}", some(nth))))),
        (
            "one evaluation, as of earlier",
            Box::new(move |nth| get(format!("/v1/evaluations/{}?as_of={earlier}", some(nth)))),
        ),
        ("tools", Box::new(move |_| get("/v1/tools".to_owned()))),
        ("a tool, with its series", Box::new(move |nth| get(format!("/v1/tools/{}", made::tool(nth))))),
        ("models", Box::new(move |_| get("/v1/models".to_owned()))),
        ("workers", Box::new(move |_| get("/v1/workers".to_owned()))),
        ("dead letters, first page", Box::new(move |_| get("/v1/dead-letters/search".to_owned()))),
        (
            "dead letters, of a tool and an error",
            Box::new(move |nth| get(format!("/v1/dead-letters/search?tool={}&error=image", made::tool(nth)))),
        ),
        (
            "dead letters, that none fits",
            Box::new(move |_| get("/v1/dead-letters/search?error=nobody%20ever%20said%20this".to_owned())),
        ),
        (inside::QUERIES[0].0, Box::new(move |_| query(inside::QUERIES[0].1))),
        (inside::QUERIES[1].0, Box::new(move |_| query(inside::QUERIES[1].1))),
        (inside::QUERIES[2].0, Box::new(move |_| query(inside::QUERIES[2].1))),
        (
            "a query: failures of a tool",
            Box::new(move |nth| {
                let args = [format!("{:?}", made::tool(nth))];
                (Method::POST, "/v1/query".to_owned(), Some(json!({ "query": by_tool, "args": args })))
            }),
        ),
    ]
}
