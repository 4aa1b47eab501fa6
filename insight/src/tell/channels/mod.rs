//! Who is told: the log, standard output, whoever a webhook reaches, and people by e-mail.
//!
//! Each channel has a courier. Its notices come out of the [`Outbox`] one after the other, so that nobody hears of an
//! end before its beginning. One that no try delivers is named in the log and let go: what it tells is in the history.

mod email;
mod webhook;

use super::notice::Notice;
use super::outbox::Outbox;
use email::Email;
use evalfleet_service::retry::Delays;
use evalfleet_service::settings::Alerts;
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

/// Where notices are told.
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
    pub fn names(&self) -> Vec<&'static str> {
        self.channels.iter().map(Channel::name).collect()
    }

    /// Sends what is in the outbox, for ever.
    pub async fn serve(&self, outbox: &Outbox) {
        let couriers = self.channels.iter().map(|channel| async {
            loop {
                let notice = outbox.next(channel.name()).await;
                channel.deliver(&notice, self.tries).await;
                outbox.done(&notice, channel.name());
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

    async fn deliver(&self, notice: &Notice, tries: u32) {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        let (channel, id) = (self.name(), notice.key().0);
        for nth in 1..=tries {
            match self.send(notice).await {
                Tried::Taken => return,
                Tried::Refused(why) => {
                    tracing::error!(id, channel, why, "refused: this is not told");
                    return;
                }
                Tried::Failed(why) if nth == tries => {
                    tracing::error!(id, channel, why, "no try succeeded: this is not told");
                    return;
                }
                Tried::Failed(why) => tracing::debug!(id, channel, why, "told once more"),
            }
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn send(&self, notice: &Notice) -> Tried {
        match self {
            Self::Log => {
                let (id, message) = (notice.key().0, notice.message());
                if notice.is_bad() {
                    tracing::warn!(id, "{message}");
                } else {
                    tracing::info!(id, "{message}");
                }
                Tried::Taken
            }
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                let written = writeln!(out, "{}", notice.json()).and_then(|()| out.flush());
                written.map_or_else(|error| Tried::Failed(error.to_string()), |()| Tried::Taken)
            }
            Self::Webhook(webhook) => webhook.post(notice).await,
            Self::Email(email) => email.send(notice).await,
        }
    }
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
