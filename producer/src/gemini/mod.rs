//! A conversation with a model over the Gemini API's function calling, in which every call runs in a clean VM.
//!
//! ```text
//! question ──▶ Chat ──Request──▶ Model ──▶ transport: the service (service), or what it once said (recorded)
//!               ▲                  │
//!               │ functionResponse │ functionCall
//!               └──── Hands ◀──────┘    (SecureEvaluator: a VM that is clean for each call)
//! ```
//!
//! [`chat`] goes on until the model answers in words, or a bound is reached. [`Model`] asks again what failed for no
//! reason of its own; whose doing it is that there is no answer, its [`Error`] says. The notation of declarations and
//! calls is [`functions::gemini`](crate::functions::gemini)'s.

pub mod chat;
pub mod recorded;
pub mod service;

use crate::functions::gemini;
use evalfleet_proto::job::FunctionCall;
use evalfleet_proto::status::Cause;
use evalfleet_service::retry::Delays;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest wait between two tries, whatever the service asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The longest part of a refusal that is told, in characters.
const MESSAGE_MAX: usize = 500;

/// What is put to a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// What it is told before everything else.
    pub system: Option<String>,
    /// The conversation so far, oldest first.
    pub contents: Vec<Value>,
    /// What it may call, as [`gemini::declarations`] has it; null for nothing.
    pub tools: Value,
}

impl Request {
    /// As `generateContent` takes it.
    pub fn body(&self) -> Value {
        let mut body = json!({"contents": self.contents});
        if !self.tools.is_null() {
            body["tools"] = self.tools.clone();
        }
        if let Some(text) = &self.system {
            body["systemInstruction"] = json!({"parts": [{"text": text}]});
        }
        body
    }
}

/// What a model said.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The content that goes into the conversation.
    pub content: Value,
    /// Its words, joined.
    pub text: String,
    /// What it calls.
    pub calls: Vec<FunctionCall>,
}

impl Reply {
    /// Reads an answer of `generateContent`: its first candidate.
    ///
    /// # Errors
    /// When there is none, or its calls have no form. A candidate without parts is an answer without words.
    pub fn read(body: &Value) -> Result<Self, Error> {
        if let Some(reason) = body["promptFeedback"]["blockReason"].as_str() {
            return Err(Error::Blocked(reason.to_owned()));
        }
        let candidate = &body["candidates"][0];
        let reason = candidate["finishReason"].as_str().unwrap_or_default();
        if matches!(reason, "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII") {
            return Err(Error::Blocked(reason.to_owned()));
        }
        if !candidate.is_object() {
            return Err(Error::Unreadable(format!("no candidate: {}", beginning(&body.to_string()))));
        }
        let calls =
            gemini::calls(&candidate["content"]).map_err(|error| Error::Unreadable(error.to_string()))?;
        let mut content = candidate["content"].clone();
        if !content["parts"].is_array() {
            content = json!({"parts": []});
        }
        content["role"] = "model".into();
        let parts = content["parts"].as_array().map_or(&[][..], |parts| parts);
        // Thoughts are no part of the answer.
        let words = parts.iter().filter(|part| part["thought"] != Value::Bool(true));
        let text: String = words.filter_map(|part| part["text"].as_str()).collect();
        Ok(Self { content, text, calls })
    }
}

/// Why a model did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be asked as things are set up.
    #[error("{0}")]
    Setup(String),
    /// The service finds the request wrong.
    #[error("API request failed with status {status}: {message}")]
    Refused {
        /// HTTP's.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The service was too busy, or broken, each time.
    #[error("API request failed with status {status} at {tries} tries: {message}")]
    Failing {
        /// HTTP's, the last time.
        status: u16,
        /// How often it was asked.
        tries: u32,
        /// What it says.
        message: String,
    },
    /// The service was not reached, or did not answer in time.
    #[error("no answer of {model} at {tries} tries: {reason}")]
    Silent {
        /// The model.
        model: String,
        /// How often it was asked.
        tries: u32,
        /// What came instead, the last time.
        reason: String,
    },
    /// It answered something that cannot be read.
    #[error("failed to parse the answer: {0}")]
    Unreadable(String),
    /// The service answers this with nothing.
    #[error("the service blocks this: {0}")]
    Blocked(String),
}

impl Error {
    /// Whose doing it is.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Failing { .. } | Self::Silent { .. } => Cause::Infrastructure,
            Self::Setup(_) | Self::Refused { .. } | Self::Unreadable(_) => Cause::Harness,
            Self::Blocked(_) => Cause::Subject,
        }
    }
}

/// What came back, whatever it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// How long to wait before asking again, where the service says so.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// The way to a model.
pub trait Transport: std::fmt::Debug + Send + Sync {
    /// Asks once. The error is why nothing came back.
    fn ask<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, String>>;

    /// Whether waiting between two tries makes sense.
    fn waits(&self) -> bool;
}

/// A model that can be asked.
#[derive(Debug)]
pub struct Model {
    name: String,
    transport: Box<dyn Transport>,
    tries: u32,
    recorder: Option<recorded::Recorder>,
}

impl Model {
    /// The model `name` at the end of `transport`, asked `tries` times at most, once at least.
    pub fn new(name: &str, transport: impl Transport + 'static, tries: u32) -> Self {
        Self { name: name.to_owned(), transport: Box::new(transport), tries: tries.max(1), recorder: None }
    }

    /// Has all that is said written down.
    #[must_use]
    pub fn recording(mut self, recorder: recorded::Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks until there is an answer, and reads it. Too many requests (429) and what the service did wrong (5xx) are
    /// asked again, after the wait that the service wants or a growing one.
    ///
    /// # Errors
    /// When there is none, or none that can be read.
    pub async fn generate(&self, request: &Request) -> Result<Reply, Error> {
        let mut delays = Delays::up_to(WAIT_MAX);
        let mut tries = 0;
        loop {
            tries += 1;
            let asked = self.transport.ask(request).await;
            if let (Some(recorder), Ok(answer)) = (&self.recorder, &asked) {
                recorder.note(&self.name, request, answer);
            }
            let (error, wanted) = match asked {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    let body = serde_json::from_slice(&answer.body)
                        .map_err(|error| Error::Unreadable(error.to_string()))?;
                    return Reply::read(&body);
                }
                Ok(answer) => {
                    let (status, message) = (answer.status, message(&answer.body));
                    if !matches!(status, 408 | 429 | 500..=599) {
                        return Err(Error::Refused { status, message });
                    }
                    let wanted = answer.retry_after.or_else(|| retry_delay(&answer.body));
                    (Error::Failing { status, tries, message }, wanted)
                }
                Err(reason) => (Error::Silent { model: self.name.clone(), tries, reason }, None),
            };
            if tries >= self.tries {
                return Err(error);
            }
            if self.transport.waits() {
                let wait = wanted.map_or_else(|| delays.next_delay(), |wanted| wanted.min(WAIT_MAX));
                tracing::info!(%error, ?wait, "the model is asked again");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// What a refusal says.
fn message(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body).ok();
    let said = said.as_ref().and_then(|said| said["error"]["message"].as_str());
    said.map_or_else(|| beginning(&String::from_utf8_lossy(body)), beginning)
}

fn beginning(text: &str) -> String {
    text.chars().take(MESSAGE_MAX).collect()
}

/// The wait that a refusal asks for in its body: `{"@type": "…RetryInfo", "retryDelay": "37s"}`.
fn retry_delay(body: &[u8]) -> Option<Duration> {
    let said: Value = serde_json::from_slice(body).ok()?;
    let delay =
        said["error"]["details"].as_array()?.iter().find_map(|detail| detail["retryDelay"].as_str())?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Says one thing after the other, the last from then on.
    #[derive(Debug)]
    struct Script(Mutex<Vec<Result<Answer, String>>>);

    impl Transport for Script {
        fn ask<'a>(&'a self, _: &'a Request) -> BoxFuture<'a, Result<Answer, String>> {
            let mut left = self.0.lock().unwrap();
            let next = if left.len() > 1 { left.remove(0) } else { left[0].clone() };
            Box::pin(async move { next })
        }

        fn waits(&self) -> bool {
            false
        }
    }

    fn answer(status: u16, body: &Value) -> Result<Answer, String> {
        Ok(Answer { status, retry_after: None, body: body.to_string().into_bytes() })
    }

    fn said(text: &str) -> Value {
        json!({"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}]})
    }

    async fn asked(script: Vec<Result<Answer, String>>) -> Result<Reply, Error> {
        Model::new("m", Script(Mutex::new(script)), 3).generate(&Request::default()).await
    }

    #[tokio::test]
    async fn what_the_service_did_wrong_is_asked_again_and_what_we_did_is_not() {
        let busy = || answer(429, &json!({"error": {"message": "too many"}}));
        assert_eq!(asked(vec![busy(), busy(), answer(200, &said("yes"))]).await.unwrap().text, "yes");
        let error = asked(vec![busy()]).await.unwrap_err();
        assert_eq!(
            (error.cause(), error.to_string().contains("429 at 3 tries: too many")),
            (Cause::Infrastructure, true)
        );
        let error =
            asked(vec![Err("refused".to_owned()), answer(400, &json!({"error": {"message": "malformed"}}))])
                .await;
        let error = error.unwrap_err();
        assert_eq!((error.cause(), error.to_string().contains("400: malformed")), (Cause::Harness, true));
        assert_eq!(asked(vec![Err("silence".to_owned())]).await.unwrap_err().cause(), Cause::Infrastructure);
    }

    #[test]
    fn an_answer_is_read_with_its_words_and_its_calls() {
        let parts = json!([{"text": "Let me ", "thought": true}, {"text": "I look."}, {"functionCall": {"name": "read_file"}}]);
        let reply = Reply::read(&json!({"candidates": [{"content": {"parts": parts}}]})).unwrap();
        assert_eq!((reply.text.as_str(), reply.calls.len()), ("I look.", 1));
        assert_eq!((&reply.content["role"], &reply.content["parts"]), (&json!("model"), &parts));
        let empty = Reply::read(&json!({"candidates": [{"finishReason": "STOP"}]})).unwrap();
        assert!(empty.text.is_empty() && empty.calls.is_empty());
        for (body, cause) in [
            (json!({}), Cause::Harness),
            (json!({"promptFeedback": {"blockReason": "OTHER"}}), Cause::Subject),
            (json!({"candidates": [{"finishReason": "SAFETY"}]}), Cause::Subject),
            (
                json!({"candidates": [{"content": {"parts": [{"functionCall": {"args": {}}}]}}]}),
                Cause::Harness,
            ),
        ] {
            assert_eq!(Reply::read(&body).unwrap_err().cause(), cause, "{body}");
        }
    }

    #[test]
    fn the_wait_that_a_refusal_asks_for_is_found() {
        let body =
            json!({"error": {"details": [{"@type": "x"}, {"@type": "RetryInfo", "retryDelay": "1.5s"}]}});
        assert_eq!(retry_delay(body.to_string().as_bytes()), Some(Duration::from_millis(1500)));
        assert_eq!(retry_delay(b"not even JSON"), None);
    }
}
