//! A POST to one address.

use super::{Error, Tried, secret};
use crate::tell::notice::Notice;
use evalfleet_service::VERSION;
use evalfleet_service::settings::Alerts;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

const SETTING: &str = "webhook_secret_file";

/// Posts notices.
#[derive(Debug)]
pub(super) struct Webhook {
    http: Client,
    url: String,
    secret: Option<HeaderValue>,
}

impl Webhook {
    pub(super) fn new(settings: &Alerts) -> Result<Self, Error> {
        let file = &settings.webhook_secret_file;
        let header = |text: String| {
            let mut header = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| Error::Secret {
                setting: SETTING,
                file: file.clone(),
                why: "it holds what no header may".to_owned(),
            })?;
            header.set_sensitive(true);
            Ok::<_, Error>(header)
        };
        let secret = secret(SETTING, file)?.map(header).transpose()?;
        let http = evalfleet_service::http::outside()
            .timeout(settings.send_timeout)
            // What is posted elsewhere than it was meant to is told to others.
            .redirect(Policy::none())
            .user_agent(format!("evalfleet/{VERSION}"))
            .build()?;
        Ok(Self { http, url: settings.webhook.clone(), secret })
    }

    pub(super) async fn post(&self, notice: &Notice) -> Tried {
        let (id, revision) = notice.key();
        let key = format!("{id}/{revision}");
        let mut request = self.http.post(&self.url).json(&notice.json()).header("idempotency-key", key);
        if let Some(secret) = &self.secret {
            request = request.header(AUTHORIZATION, secret.clone());
        }
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Tried::Taken,
            Ok(answer) if is_final(answer.status()) => Tried::Refused(answer.status().to_string()),
            Ok(answer) => Tried::Failed(answer.status().to_string()),
            Err(error) => Tried::Failed(error.to_string()),
        }
    }
}

/// Whether an answer would be the same to the same request.
fn is_final(status: StatusCode) -> bool {
    let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    (status.is_client_error() && !passing.contains(&status)) || status.is_redirection()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_otherwise_later_is_tried_again() {
        for (status, is) in
            [(400, true), (401, true), (301, true), (408, false), (429, false), (500, false), (503, false)]
        {
            assert_eq!(is_final(StatusCode::from_u16(status).unwrap()), is, "{status}");
        }
    }
}
