//! The service itself, over HTTPS.

use super::{Answer, Error, Request, Transport};
use futures::future::BoxFuture;
use reqwest::Client;
use reqwest::header::{HeaderValue, RETRY_AFTER};
use std::time::Duration;

/// Where the service is when nobody says otherwise.
pub const ENDPOINT: &str = "https://generativelanguage.googleapis.com";
/// The environment variable with the key, as the REPL has it.
pub const KEY_VARIABLE: &str = "GEMINI_API_KEY";
/// The environment variable with another place of the service.
pub const ENDPOINT_VARIABLE: &str = "GEMINI_API_ENDPOINT";
/// Limit on one request, its answer included.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The largest answer, in bytes.
const ANSWER_MAX: usize = 8 << 20;

/// A model at the service.
#[derive(Debug)]
pub struct Service {
    http: Client,
    url: String,
    /// Marked as sensitive: it is shown nowhere.
    key: HeaderValue,
}

impl Service {
    /// The model `name`, with key and place from the environment.
    ///
    /// # Errors
    /// Names what is missing there, or wrong.
    pub fn from_environment(name: &str) -> Result<Self, Error> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let key = variable(KEY_VARIABLE).ok_or_else(|| {
            Error::Setup(format!(
                "{KEY_VARIABLE} is not set: a model at the service wants a key. Recorded exchanges want none (--exchanges)"
            ))
        })?;
        Self::new(variable(ENDPOINT_VARIABLE).as_deref().unwrap_or(ENDPOINT), &key, name)
    }

    /// The model `name` of the service at `endpoint`.
    ///
    /// # Errors
    /// When the key would travel in the clear to another machine, or name or key have characters that they cannot.
    pub fn new(endpoint: &str, key: &str, name: &str) -> Result<Self, Error> {
        let setup = |what: String| Error::Setup(what);
        let endpoint = endpoint.trim_end_matches('/');
        let url: reqwest::Url = endpoint
            .parse()
            .map_err(|error| setup(format!("{ENDPOINT_VARIABLE} is {endpoint:?}: {error}")))?;
        let near = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && near) {
            return Err(setup(format!(
                "{ENDPOINT_VARIABLE} is {endpoint}, and whoever is on the way would read the key: name it as https://…"
            )));
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
        if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
            return Err(setup(format!("{name:?} is no model's name: letters, digits, - . and _")));
        }
        let mut key = HeaderValue::from_str(key)
            .map_err(|_| setup(format!("{KEY_VARIABLE} has characters that no key has")))?;
        key.set_sensitive(true);
        let http = evalfleet_service::http::outside().timeout(TIMEOUT).build();
        let http = http.map_err(|error| setup(error.to_string()))?;
        Ok(Self { http, url: format!("{endpoint}/v1beta/models/{name}:generateContent"), key })
    }

    async fn post(&self, request: &Request) -> Result<Answer, String> {
        let post = self.http.post(&self.url).header("x-goog-api-key", self.key.clone()).json(&request.body());
        let mut response = post.send().await.map_err(|error| reason(&error))?;
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            if body.len() + chunk.len() > ANSWER_MAX {
                return Err(format!("the answer has more than {ANSWER_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body })
    }
}

/// What went wrong, to the bottom; the address is said elsewhere.
fn reason(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Transport for Service {
    fn ask<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(self.post(request))
    }

    fn waits(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_travels_in_the_clear_and_is_never_shown() {
        let service = Service::new("https://example.org/", "secret-key", "gemini-2.0-flash").unwrap();
        assert_eq!(service.url, "https://example.org/v1beta/models/gemini-2.0-flash:generateContent");
        assert!(!format!("{service:?}").contains("secret-key"));
        assert!(Service::new("http://127.0.0.1:8080", "k", "m").is_ok());
        for (endpoint, key, name, says) in [
            ("http://example.org", "k", "m", "https://"),
            ("nowhere", "k", "m", ENDPOINT_VARIABLE),
            ("https://example.org", "k\n", "m", KEY_VARIABLE),
            ("https://example.org", "k", "../m", "no model's name"),
        ] {
            let error = Service::new(endpoint, key, name).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
