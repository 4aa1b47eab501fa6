//! Who is told of alerts: the log, standard output, whoever a webhook reaches, and people by e-mail.
//!
//! Each channel has a courier. Its notices come out of the [`Outbox`] one after the other, so that nobody hears of an
//! end before its beginning. One that no try delivers is named in the log and let go: the alert itself is in the
//! history.

mod email;
mod webhook;

use super::outbox::Outbox;
use email::Email;
use evalfleet_proto::alert::{Alert, State};
use evalfleet_service::retry::Delays;
use evalfleet_service::settings::Alerts;
use serde_json::json;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use webhook::Webhook;

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why a channel cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its secret cannot be read, or cannot be sent.
    #[error("insight.alerts.{setting} {file}: {why}")]
    Secret {
        /// What names the file.
        setting: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no HTTP client.
    #[error("no HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// Nobody can be written to so.
    #[error("insight.alerts.{setting}: {address:?} is no address: {why}")]
    Address {
        /// What names it.
        setting: &'static str,
        /// What it says.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no TLS.
    #[error("insight.alerts.email_server: {0}")]
    Smtp(#[from] lettre::transport::smtp::Error),
}

/// A way of telling people.
#[derive(Debug)]
enum Channel {
    Log,
    Stdout,
    Webhook(Webhook),
    Email(Box<Email>),
}

/// What became of one try.
enum Tried {
    Taken,
    /// It is no use to say it again.
    Refused(String),
    Failed(String),
}

/// Where alerts are told.
#[derive(Debug)]
pub struct Channels {
    channels: Vec<Channel>,
    tries: u32,
}

impl Channels {
    /// The channels that `settings` name.
    ///
    /// # Errors
    /// When a secret cannot be read, or an address is none.
    pub fn new(settings: &Alerts) -> Result<Self, Error> {
        let mut channels = Vec::new();
        channels.extend(settings.log.then_some(Channel::Log));
        channels.extend(settings.stdout.then_some(Channel::Stdout));
        if !settings.webhook.is_empty() {
            channels.push(Channel::Webhook(Webhook::new(settings)?));
        }
        if let Some(server) = settings.mail_server() {
            channels.push(Channel::Email(Box::new(Email::new(settings, &server)?)));
        }
        Ok(Self { channels, tries: settings.send_tries })
    }

    /// What they are called, in the outbox and in the log.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.channels.iter().map(Channel::name).collect()
    }

    /// Sends what is in the outbox, for ever.
    pub(super) async fn serve(&self, outbox: &Outbox) {
        let couriers = self.channels.iter().map(|channel| async {
            loop {
                let alert = outbox.next(channel.name()).await;
                channel.deliver(&alert, self.tries).await;
                outbox.done(&alert, channel.name());
            }
        });
        futures::future::join_all(couriers).await;
    }
}

impl Channel {
    fn name(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Stdout => "stdout",
            Self::Webhook(_) => "webhook",
            Self::Email(_) => "email",
        }
    }

    async fn deliver(&self, alert: &Alert, tries: u32) {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        let channel = self.name();
        for nth in 1..=tries {
            match self.send(alert).await {
                Tried::Taken => return,
                Tried::Refused(why) => {
                    tracing::error!(alert = %alert.id, channel, why, "refused: this alert is not told");
                    return;
                }
                Tried::Failed(why) if nth == tries => {
                    tracing::error!(alert = %alert.id, channel, why, "no try succeeded: this alert is not told");
                    return;
                }
                Tried::Failed(why) => tracing::debug!(alert = %alert.id, channel, why, "told once more"),
            }
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn send(&self, alert: &Alert) -> Tried {
        match self {
            Self::Log => {
                match alert.state {
                    State::Raised => tracing::warn!(alert = %alert.id, "{}", alert.message),
                    State::Closed | State::Confirming | State::Dismissed | State::Unknown => {
                        tracing::info!(alert = %alert.id, "{}", alert.message);
                    }
                }
                Tried::Taken
            }
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                let written = writeln!(out, "{}", notice(alert)).and_then(|()| out.flush());
                written.map_or_else(|error| Tried::Failed(error.to_string()), |()| Tried::Taken)
            }
            Self::Webhook(webhook) => webhook.post(alert).await,
            Self::Email(email) => email.send(alert).await,
        }
    }
}

/// A notice as programs read it.
fn notice(alert: &Alert) -> serde_json::Value {
    json!({ "event": alert.state.as_str(), "alert": alert })
}

/// What names a notice: one that was taken and whose answer was lost comes twice, with the same key.
fn key(alert: &Alert) -> String {
    format!("{}/{}", alert.id, alert.revision)
}

/// The secret in a file; none where none is named.
fn secret(setting: &'static str, file: &Path) -> Result<Option<String>, Error> {
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let wrong = |why: String| Error::Secret { setting, file: file.to_owned(), why };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    match text.trim() {
        "" => Err(wrong("it is empty".to_owned())),
        text => Ok(Some(text.to_owned())),
    }
}

#[cfg(test)]
mod tests;
