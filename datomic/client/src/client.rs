//! The gateway's HTTP API. Every request has a time limit, no reply is read beyond a bound, and no
//! proxy or redirect is followed: the gateway stands on loopback.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use tracing::debug;

use crate::Error;
use crate::edn::{self, Limits, Value};
use crate::guard::{self, Question};
use crate::message::{self, Batch, Bounds, Entity, View};
use crate::reply::{self, Answer, Copied, Health, Log, Retention, Status, Transacted};

/// Above this the gateway refuses a batch; so it is not even sent.
const BATCH_BYTES_MAX: usize = 16 << 20;
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// For copying a whole store.
const COPY_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const POLL: Duration = Duration::from_millis(200);
/// What a query's caller waits beyond the query's own limit, for the gateway to say so itself.
const GRACE: Duration = Duration::from_secs(10);

/// Where the gateway is, and how long it is waited for.
#[derive(Clone, Debug)]
pub struct Config {
    /// Like `http://127.0.0.1:8471`.
    pub url: String,
    pub token: String,
    pub connect_timeout: Duration,
    /// For everything but queries, which carry their own.
    pub request_timeout: Duration,
}

impl Config {
    /// A second to connect, a minute and a half for a request.
    pub fn new(url: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            url: url.into().trim_end_matches('/').to_owned(),
            token: token.into(),
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(90),
        }
    }
}

/// What a waiting caller can show.
#[derive(Clone, Debug)]
pub enum Waiting {
    /// No socket yet.
    Unreachable,
    /// The socket answers; the store is still opening.
    Opening(Box<Health>),
}

/// A handle on the gateway; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    config: Config,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.config.url).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Defect`] if the HTTP client cannot be made.
    pub fn new(config: Config) -> Result<Self, Error> {
        let http = evalfleet_service::http::builder()
            .connect_timeout(config.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .map_err(|error| Error::Defect { message: format!("no HTTP client: {error}") })?;
        Ok(Self { http, config })
    }

    /// How the gateway is.
    ///
    /// # Errors
    /// Where it cannot be reached or refuses the token.
    pub async fn health(&self) -> Result<Health, Error> {
        reply::health(&self.send(Method::GET, "/health", String::new(), HEALTH_TIMEOUT).await?)
    }

    /// Waits until the store is open, telling `progress` several times a second how far it is.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be opened, [`Error::Unauthorized`], and, when `limit` has passed,
    /// [`Error::Opening`] or [`Error::Unreachable`] with the last known cause.
    pub async fn wait_ready(
        &self,
        limit: Duration,
        mut progress: impl FnMut(&Waiting),
    ) -> Result<Health, Error> {
        let begun = Instant::now();
        loop {
            let waiting = match self.health().await {
                Ok(health) => match health.status {
                    Status::Ready => return Ok(health),
                    Status::Failed => {
                        return Err(Error::Failed { message: health.last_error.unwrap_or_default() });
                    }
                    Status::Opening => Waiting::Opening(Box::new(health)),
                },
                Err(error) if error.is_transient() && begun.elapsed() < limit => Waiting::Unreachable,
                Err(error) => return Err(error),
            };
            if begun.elapsed() >= limit {
                return Err(Error::Opening { message: still_opening(&waiting, limit) });
            }
            progress(&waiting);
            tokio::time::sleep(POLL).await;
        }
    }

    /// Writes a batch, once however often it is asked.
    ///
    /// # Errors
    /// [`Error::Refused`] is permanent; after [`Error::TimedOut`] and [`Error::Broken`] the same batch
    /// asks what became of it.
    pub async fn transact(&self, batch: &Batch) -> Result<Transacted, Error> {
        let body = message::transact(batch);
        if body.len() > BATCH_BYTES_MAX {
            let message =
                format!("a batch of {} bytes, above {BATCH_BYTES_MAX}: send fewer results", body.len());
            return Err(Error::TooLarge { message });
        }
        reply::transacted(&self.post("/transact", body, self.config.request_timeout).await?)
    }

    /// Answers a question that the guard let through.
    ///
    /// # Errors
    /// [`Error::Refused`] if Datomic refuses it, [`Error::TimedOut`], [`Error::Busy`].
    pub async fn query(&self, question: &Question, bounds: Bounds) -> Result<Answer, Error> {
        let body = message::query(question, bounds);
        reply::answer(&self.post("/query", body, bounds.timeout + GRACE).await?)
    }

    /// What an entity holds, or `None`. The pattern is EDN: `[* {:evaluation/function-calls [*]}]`.
    ///
    /// # Errors
    /// [`Error::Guard`] for a pattern outside the grammar.
    pub async fn pull(&self, pattern: &str, entity: &Entity, view: View) -> Result<Option<Value>, Error> {
        let pattern = guard::check_pattern(pattern)?;
        let body = message::pull(&pattern, entity, view);
        reply::entity(&self.post("/pull", body, self.config.request_timeout).await?)
    }

    /// The log from transaction `start` on, `limit` (1 to 1000) transactions at most. Begin at 0, go on
    /// at [`Log::next_t`].
    ///
    /// # Errors
    /// As for every request.
    pub async fn tx_range(&self, start: u64, limit: u32) -> Result<Log, Error> {
        reply::log(
            &self.post("/tx-range", message::tx_range(start, limit), self.config.request_timeout).await?,
        )
    }

    /// Copies Datomic Local's files into the gateway's backup folder, under a name that is new there, while nothing
    /// is written.
    ///
    /// # Errors
    /// [`Error::Refused`] where the store is no Datomic Local, there is no backup folder, or the disk takes no more;
    /// [`Error::Busy`].
    pub async fn back_up(&self, name: &str) -> Result<Copied, Error> {
        reply::copied(&self.post("/backup", message::backup(name), COPY_TIMEOUT).await?)
    }

    /// Begins to let go what was last written to before `before`, or with `dry_run` to count it;
    /// [`Client::retention`] tells what comes of it.
    ///
    /// # Errors
    /// [`Error::Refused`] where the store is no Datomic Local; [`Error::Busy`] while one is at work.
    pub async fn retain(&self, before: Timestamp, dry_run: bool) -> Result<Retention, Error> {
        let body = message::retain(before, dry_run);
        reply::retention(&self.post("/retain", body, self.config.request_timeout).await?)
    }

    /// How far the retention is, or what the last one came to.
    ///
    /// # Errors
    /// As for every request.
    pub async fn retention(&self) -> Result<Retention, Error> {
        reply::retention(&self.send(Method::GET, "/retention", String::new(), HEALTH_TIMEOUT).await?)
    }

    async fn post(&self, path: &str, body: String, limit: Duration) -> Result<Value, Error> {
        self.send(Method::POST, path, body, limit).await
    }

    async fn send(&self, method: Method, path: &str, body: String, limit: Duration) -> Result<Value, Error> {
        let begun = Instant::now();
        let request = self
            .http
            .request(method, format!("{}{path}", self.config.url))
            .bearer_auth(&self.config.token)
            .header("Content-Type", "application/edn")
            .timeout(limit)
            .body(body);
        let response = request.send().await.map_err(|error| self.failed(&error, limit))?;
        let status = response.status();
        let text = self.read(response, limit).await?;
        debug!(path, status = status.as_u16(), bytes = text.len(), elapsed = ?begun.elapsed(), "gateway answered");
        let value = edn::parse_with(&text, Limits::REPLY).map_err(|error| Error::Defect {
            message: format!("its answer ({status}) is not EDN: {error}"),
        })?;
        if status == StatusCode::OK {
            return Ok(value);
        }
        let kind = value.get("error").and_then(Value::as_keyword).unwrap_or("unknown");
        let message = value.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
        Err(Error::of_answer(kind, message, &self.config.url, limit))
    }

    async fn read(&self, mut response: reqwest::Response, limit: Duration) -> Result<String, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error, limit))? {
            if bytes.len() + chunk.len() > Limits::REPLY.bytes_max {
                let message =
                    format!("the answer is above {} bytes: ask for fewer rows", Limits::REPLY.bytes_max);
                return Err(Error::TooLarge { message });
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(|_| Error::Defect { message: "its answer is not UTF-8".to_owned() })
    }

    fn failed(&self, error: &reqwest::Error, limit: Duration) -> Error {
        let cause = innermost(error);
        if error.is_connect() {
            Error::Unreachable { url: self.config.url.clone(), cause }
        } else if error.is_timeout() {
            Error::TimedOut { limit, message: "what was asked may or may not be done".to_owned() }
        } else {
            Error::Broken { cause }
        }
    }
}

fn still_opening(waiting: &Waiting, limit: Duration) -> String {
    match waiting {
        Waiting::Unreachable => format!("no answer after {limit:?}"),
        Waiting::Opening(health) => {
            let step = health.step.as_deref().unwrap_or("opening");
            let cause = health.last_error.as_deref().unwrap_or("it only needs longer");
            format!("{} after {limit:?} ({step}): {cause}", health.uri)
        }
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
