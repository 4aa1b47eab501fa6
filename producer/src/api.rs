//! The REST API, as a client sees it: what was recorded, and questions on the history.

use evalfleet_proto::alert::Said;
use evalfleet_proto::dead::{Card, Filter};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::healing::Wanted;
use evalfleet_proto::ids::{AlertId, HealingId, JobId, Sha256};
use evalfleet_proto::status::Exit;
use evalfleet_service::settings;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// How long an answer may take: the API cuts questions off well before.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing answers.
    #[error(
        "the API at {url} does not answer: {reason}. Start it with `evalfleet up`, or name yours in api.url"
    )]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// The token is missing or wrong.
    #[error("the API refuses the token in {file:?}: {reason}")]
    Token {
        /// The file.
        file: std::path::PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The question is refused.
    #[error("{0}")]
    Refused(String),
    /// The API, or the store behind it, cannot answer now.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Failed(_) => Exit::Unreachable,
            Self::Token { .. } | Self::Refused(_) | Self::NotFound(_) => Exit::Usage,
        }
    }
}

/// A question on the history.
#[derive(Debug, Clone, Serialize)]
pub struct Query {
    /// Datalog, as EDN text.
    pub query: String,
    /// Its further inputs, each as EDN text.
    pub args: Vec<String>,
    /// The moment, or the transaction, as of which it is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// The most rows of the answer; the API's own bound when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_max: Option<u32>,
}

/// The answer to a question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rows {
    /// One entry a row.
    pub rows: Vec<Value>,
    /// The transaction that the answer stands on.
    pub basis_t: Option<i64>,
    /// Whether a bound cut it.
    #[serde(default)]
    pub truncated: bool,
}

/// Which alerts, or which healings.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// Their state, or `any`; when missing all healings, and those alerts that people were told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What they are about, as `attribute=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// As of when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// How many, 1 to 1000.
    pub limit: u16,
}

/// What a comparison comes to, with the whole document beside.
#[derive(Debug, Clone, Deserialize)]
pub struct Comparison {
    /// `regression`, `improvement` or `no_change`.
    pub verdict: String,
    /// Everything.
    #[serde(flatten)]
    pub document: serde_json::Map<String, Value>,
}

/// A page of dead letters.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetters {
    /// The letters.
    pub dead_letters: Vec<Card>,
    /// How many fit in all.
    pub total: usize,
    /// How many older ones the API has no room for.
    #[serde(default)]
    pub omitted: u64,
    /// The transaction that the answer stands on.
    pub basis_t: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    exit: Option<u8>,
}

/// A client of the API.
#[derive(Debug)]
pub struct Api {
    http: reqwest::Client,
    url: String,
    token_file: std::path::PathBuf,
    token: Option<String>,
}

impl Api {
    /// A client of the API that `settings` name; nothing is asked yet.
    ///
    /// # Errors
    /// When the token's file cannot be read.
    pub fn new(settings: &settings::Api) -> Result<Self, Error> {
        let file = settings.token_file.clone();
        let token = if file.as_os_str().is_empty() {
            None
        } else {
            let failed =
                |error: std::io::Error| Error::Token { file: file.clone(), reason: error.to_string() };
            Some(std::fs::read_to_string(&file).map_err(failed)?.trim().to_owned())
        };
        let url = settings.url.trim_end_matches('/').to_owned();
        let http = evalfleet_service::http::builder().timeout(TIMEOUT).build();
        let http = http.map_err(|error| Error::Failed(format!("no HTTP client: {error}")))?;
        Ok(Self { http, url, token_file: file, token })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One evaluation, as it was recorded.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not recorded (yet, or as of that moment).
    pub async fn evaluation(&self, id: &str, as_of: Option<&str>) -> Result<Value, Error> {
        let request = self.at(&["v1", "evaluations", id])?;
        self.ask(match as_of {
            Some(moment) => request.query(&[("as_of", moment)]),
            None => request,
        })
        .await
    }

    /// One evaluation, if it is recorded.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn recorded(&self, id: JobId) -> Result<Option<Evaluation>, Error> {
        match self.evaluation(&id.to_string(), None).await {
            Ok(document) => serde_json::from_value(document)
                .map(Some)
                .map_err(|error| Error::Failed(format!("the API's document is not ours: {error}"))),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The newest evaluations, as they were known at `as_of`: `limit` (1 to 1000) at most.
    ///
    /// # Errors
    /// [`Error::Refused`] when the moment is none; otherwise when the API does not answer.
    pub async fn recent(&self, limit: usize, as_of: Option<&str>) -> Result<Value, Error> {
        let request = self.request(Method::GET, "/v1/evaluations").query(&[("limit", limit)]);
        self.ask(match as_of {
            Some(moment) => request.query(&[("as_of", moment)]),
            None => request,
        })
        .await
    }

    /// What stands out, as of a moment.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn insights(&self, as_of: Option<&str>) -> Result<Value, Error> {
        let request = self.request(Method::GET, "/v1/insights");
        self.ask(match as_of {
            Some(moment) => request.query(&[("as_of", moment)]),
            None => request,
        })
        .await
    }

    /// The workers, as of a moment.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn workers(&self, as_of: Option<&str>) -> Result<Value, Error> {
        let request = self.request(Method::GET, "/v1/workers");
        self.ask(match as_of {
            Some(moment) => request.query(&[("as_of", moment)]),
            None => request,
        })
        .await
    }

    /// Alerts, and how often they were right.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn alerts(&self, asked: &Asked) -> Result<Value, Error> {
        self.ask(self.request(Method::GET, "/v1/alerts").query(asked)).await
    }

    /// One alert, as of a moment.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not recorded (yet, or as of that moment).
    pub async fn alert(&self, id: AlertId, as_of: Option<&str>) -> Result<Value, Error> {
        self.one(&format!("/v1/alerts/{id}"), as_of).await
    }

    async fn one(&self, path: &str, as_of: Option<&str>) -> Result<Value, Error> {
        let request = self.request(Method::GET, path);
        self.ask(match as_of {
            Some(moment) => request.query(&[("as_of", moment)]),
            None => request,
        })
        .await
    }

    /// Says whether an alert was right.
    ///
    /// # Errors
    /// [`Error::Refused`] when people were not told of it, or the reason says nothing.
    pub async fn judge(&self, id: AlertId, said: Said, reason: &str) -> Result<(), Error> {
        let word = serde_json::json!({ "judgement": said.as_str(), "reason": reason });
        self.done(self.request(Method::POST, &format!("/v1/alerts/{id}/judge")).json(&word)).await
    }

    /// Healings.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn healings(&self, asked: &Asked) -> Result<Value, Error> {
        self.ask(self.request(Method::GET, "/v1/healings").query(asked)).await
    }

    /// One healing, as of a moment.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not recorded (yet, or as of that moment).
    pub async fn healing(&self, id: HealingId, as_of: Option<&str>) -> Result<Value, Error> {
        self.one(&format!("/v1/healings/{id}"), as_of).await
    }

    /// Decides about a healing; it is carried out once that is recorded.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is in no state for that, or the reason says nothing.
    pub async fn decide(&self, id: HealingId, wanted: Wanted, reason: &str) -> Result<(), Error> {
        let word = serde_json::json!({ "reason": reason });
        let path = format!("/v1/healings/{id}/{}", wanted.as_str());
        self.done(self.request(Method::POST, &path).json(&word)).await
    }

    /// Two sets of evaluations against each other, as of a moment.
    ///
    /// # Errors
    /// [`Error::Refused`] names the side that has no evaluations.
    pub async fn compare(&self, base: &str, head: &str, as_of: Option<&str>) -> Result<Comparison, Error> {
        let mut parameters = vec![("base", base), ("head", head)];
        parameters.extend(as_of.map(|moment| ("as_of", moment)));
        self.ask(self.request(Method::GET, "/v1/compare").query(&parameters)).await
    }

    /// Asks the history.
    ///
    /// # Errors
    /// [`Error::Refused`] names the form that is not admitted.
    pub async fn query(&self, query: &Query) -> Result<Rows, Error> {
        self.ask(self.request(Method::POST, "/v1/query").json(query)).await
    }

    /// GET at a path of these segments, whatever letters they have.
    fn at(&self, segments: &[&str]) -> Result<RequestBuilder, Error> {
        let wrong = |reason: &str| Error::Unreachable { url: self.url.clone(), reason: reason.to_owned() };
        let mut url = reqwest::Url::parse(&self.url).map_err(|error| wrong(&error.to_string()))?;
        url.path_segments_mut().map_err(|()| wrong("this is no address"))?.pop_if_empty().extend(segments);
        let request = self.http.get(url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Dead letters that `filter` means, newest first, as they were known at `as_of`: `limit` (1 to 1000)
    /// after the first `skip`.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn dead_letters(
        &self,
        filter: &Filter,
        as_of: Option<&str>,
        skip: usize,
        limit: usize,
    ) -> Result<DeadLetters, Error> {
        let request = self.request(Method::GET, "/v1/dead-letters/search").query(filter);
        let request = request.query(&[("skip", skip), ("limit", limit)]);
        self.ask(match as_of {
            Some(moment) => request.query(&[("as_of", moment)]),
            None => request,
        })
        .await
    }

    /// One dead letter with its tries, its input, and the jobs before and after it.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not recorded (yet, or as of that moment).
    pub async fn dead_letter(&self, id: &str, as_of: Option<&str>) -> Result<Value, Error> {
        let request = self.at(&["v1", "dead-letters", id])?;
        self.ask(match as_of {
            Some(moment) => request.query(&[("as_of", moment)]),
            None => request,
        })
        .await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A content of the blob store, checked against its hash.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not there (any more).
    pub async fn blob(&self, key: Sha256) -> Result<Vec<u8>, Error> {
        let bytes = self.answer(self.at(&["v1", "blobs", &key.to_string()])?).await?;
        match Sha256::of(&bytes) {
            hash if hash == key => Ok(bytes),
            found => Err(Error::Failed(format!("the API's answer for the blob {key} has the hash {found}"))),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let body = self.answer(request).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Failed(format!("the API's answer does not decode: {error}")))
    }

    /// The same where the answer says nothing but that it is done.
    async fn done(&self, request: RequestBuilder) -> Result<(), Error> {
        self.answer(request).await.map(drop)
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Vec<u8>, Error> {
        let unreachable =
            |error: reqwest::Error| Error::Unreachable { url: self.url.clone(), reason: root_cause(&error) };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unreachable)?;
        if status.is_success() { Ok(body.to_vec()) } else { Err(self.problem(status, &body)) }
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> Error {
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        let text = match (problem.title.as_str(), problem.detail.as_str()) {
            ("", "") => format!("the API answers {status}"),
            (title, "") => title.to_owned(),
            ("", detail) => detail.to_owned(),
            (title, detail) => format!("{title}: {detail}"),
        };
        match (status, problem.exit) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => {
                Error::Token { file: self.token_file.clone(), reason: text }
            }
            (StatusCode::NOT_FOUND, _) => Error::NotFound(text),
            (_, Some(64)) => Error::Refused(text),
            (status, None) if status.is_client_error() => Error::Refused(text),
            _ => Error::Failed(text),
        }
    }
}

/// The innermost of an error's sources says why; the outer ones only that.
fn root_cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
