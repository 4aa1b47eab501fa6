//! Exchanges with a model that were written down, and their replay: a model that costs nothing and says the same
//! every time. A file has one exchange on each line.
//!
//! An exchange is told by its model, the question that the conversation began with, and how many contents it had
//! by then: what tools answered is not compared, for it may differ in what does not matter. Where one was recorded
//! several times (the service was too busy, and then was not), it is replayed in that order, the last from then on.

use super::{Answer, Error, Request, Transport};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The largest file of exchanges, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// One exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The model that was asked.
    pub model: String,
    /// What the conversation began with.
    pub question: String,
    /// How many contents the request had, from 1.
    pub contents: usize,
    /// HTTP's status of the answer.
    pub status: u16,
    /// The answer; a text where it was no JSON.
    pub answer: Value,
}

/// The words that a conversation began with.
fn question(request: &Request) -> &str {
    request.contents.first().and_then(|first| first["parts"][0]["text"].as_str()).unwrap_or_default()
}

type Key = (String, usize);

/// A model's part of the exchanges of a file.
#[derive(Debug)]
pub struct Recorded {
    model: String,
    left: Mutex<HashMap<Key, VecDeque<Exchange>>>,
}

impl Recorded {
    /// What `model` said, as it stands in a file.
    ///
    /// # Errors
    /// Names the line that is no exchange, or the models that there are.
    pub fn load(file: &Path, model: &str) -> Result<Self, Error> {
        let setup = |what: &dyn std::fmt::Display| Error::Setup(format!("{}: {what}", file.display()));
        let bytes = std::fs::metadata(file).map_err(|error| setup(&error))?.len();
        if bytes > FILE_MAX {
            return Err(setup(&format!("it has {bytes} bytes, and may have {FILE_MAX}")));
        }
        Self::parse(&std::fs::read_to_string(file).map_err(|error| setup(&error))?, model)
            .map_err(|error| setup(&error))
    }

    /// The same of a text.
    ///
    /// # Errors
    /// As [`Recorded::load`].
    pub fn parse(text: &str, model: &str) -> Result<Self, String> {
        let mut left: HashMap<Key, VecDeque<Exchange>> = HashMap::new();
        let mut models = Vec::new();
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let exchange: Exchange = serde_json::from_str(line)
                .map_err(|error| format!("line {number} is no recorded exchange: {error}"))?;
            if exchange.model == model {
                left.entry((exchange.question.clone(), exchange.contents)).or_default().push_back(exchange);
            } else if !models.contains(&exchange.model) {
                models.push(exchange.model);
            }
        }
        if left.is_empty() {
            return Err(format!("it has nothing of {model}, but of: {}", models.join(", ")));
        }
        Ok(Self { model: model.to_owned(), left: Mutex::new(left) })
    }

    /// The next answer to a request. The error names what was not recorded.
    ///
    /// # Errors
    /// When there is none.
    pub fn answer(&self, request: &Request) -> Result<(u16, Value), String> {
        let (question, contents) = (question(request), request.contents.len());
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let exchanges = left.get_mut(&(question.to_owned(), contents)).ok_or_else(|| {
            format!(
                "no recorded exchange of {} has {contents} contents and the question {question:?}",
                self.model
            )
        })?;
        let next = if exchanges.len() > 1 { exchanges.pop_front() } else { exchanges.front().cloned() };
        next.map(|exchange| (exchange.status, exchange.answer)).ok_or_else(|| "nothing is left".to_owned())
    }
}

impl Transport for Recorded {
    fn ask<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, String>> {
        let answer = match self.answer(request) {
            Ok((status, Value::String(text))) => (status, text),
            Ok((status, answer)) => (status, answer.to_string()),
            // Whoever asks what nobody recorded is at fault, and not the service.
            Err(missing) => (404, missing),
        };
        let (status, body) = answer;
        Box::pin(async move { Ok(Answer { status, retry_after: None::<Duration>, body: body.into_bytes() }) })
    }

    fn waits(&self) -> bool {
        false
    }
}

/// A file that exchanges are written to.
#[derive(Debug)]
pub struct Recorder(Mutex<File>);

impl Recorder {
    /// Writes to the end of `file`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn append(file: &Path) -> std::io::Result<Self> {
        Ok(Self(Mutex::new(File::options().create(true).append(true).open(file)?)))
    }

    /// Writes an exchange down. Keys are no part of one.
    pub(super) fn note(&self, model: &str, request: &Request, answer: &Answer) {
        let text = || Value::String(String::from_utf8_lossy(&answer.body).into_owned());
        let exchange = Exchange {
            model: model.to_owned(),
            question: question(request).to_owned(),
            contents: request.contents.len(),
            status: answer.status,
            answer: serde_json::from_slice(&answer.body).unwrap_or_else(|_| text()),
        };
        let Ok(line) = serde_json::to_string(&exchange) else { return };
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::warn!(%error, "an exchange is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemini::Model;
    use serde_json::json;

    fn request(question: &str) -> Request {
        Request {
            contents: vec![json!({"role": "user", "parts": [{"text": question}]})],
            ..Request::default()
        }
    }

    fn line(question: &str, status: u16, answer: &Value) -> String {
        let (model, question) = ("m".to_owned(), question.to_owned());
        serde_json::to_string(&Exchange { model, question, contents: 1, status, answer: answer.clone() })
            .unwrap()
    }

    #[tokio::test]
    async fn what_was_written_down_is_said_again_in_its_order() {
        let said = json!({"candidates": [{"content": {"parts": [{"text": "yes"}]}}]});
        let text = [line("a", 429, &json!("busy")), line("a", 200, &said), line("b", 500, &json!("broken"))]
            .join("\n");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("exchanges.jsonl");
        std::fs::write(&file, &text).unwrap();
        let again = dir.path().join("again.jsonl");
        let model = || Model::new("m", Recorded::load(&file, "m").unwrap(), 2);
        let model = model().recording(Recorder::append(&again).unwrap());
        assert_eq!(model.generate(&request("a")).await.unwrap().text, "yes");
        assert_eq!(model.generate(&request("a")).await.unwrap().text, "yes");
        assert!(model.generate(&request("b")).await.unwrap_err().to_string().contains("500 at 2 tries"));
        let missing = model.generate(&request("c")).await.unwrap_err().to_string();
        assert!(missing.contains("no recorded exchange") && missing.contains("\"c\""), "{missing}");
        let again = std::fs::read_to_string(&again).unwrap();
        assert!(again.starts_with(&format!(
            "{}\n{}\n",
            line("a", 429, &json!("busy")),
            line("a", 200, &said)
        )));
        assert_eq!(again.lines().count(), 6);
    }

    #[test]
    fn what_is_no_exchange_is_named() {
        let error = |text: &str, model: &str| Recorded::parse(text, model).unwrap_err();
        assert!(error("\n{}", "m").contains("line 2"));
        assert!(error(&line("a", 200, &json!({})), "other").contains("but of: m"));
    }
}
