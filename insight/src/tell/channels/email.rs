//! E-mail to people, by one server: with TLS, or without it to one of this machine.

use super::{Error, Tried, secret};
use crate::tell::notice::Notice;
use evalfleet_service::settings::Alerts;
use evalfleet_service::settings::alerts::{MailServer, Security};
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Mailboxes};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use std::time::Duration;

/// A subject is a line that mailers show; what is cut off stands in the body.
const SUBJECT_CHARS_MAX: usize = 120;

/// Writes notices.
pub(super) struct Email {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailboxes,
    limit: Duration,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Email {
    pub(super) fn new(settings: &Alerts, server: &MailServer) -> Result<Self, Error> {
        let to = settings.email_to.iter().map(|one| address("email_to", one)).collect::<Result<_, _>>()?;
        let parameters = || TlsParameters::new(server.host.clone());
        let tls = match server.security {
            Security::Tls => Tls::Wrapper(parameters()?),
            Security::StartTls => Tls::Required(parameters()?),
            Security::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .tls(tls)
            .timeout(Some(settings.send_timeout));
        if let Some(password) = secret("email_password_file", &settings.email_password_file)? {
            transport = transport.credentials(Credentials::new(settings.email_user.clone(), password));
        }
        let from = address("email_from", &settings.email_from)?;
        Ok(Self { server: transport.build(), from, to, limit: settings.send_timeout })
    }

    pub(super) async fn send(&self, notice: &Notice) -> Tried {
        let message = match message(&self.from, &self.to, notice) {
            Ok(message) => message,
            Err(error) => return Tried::Refused(error.to_string()),
        };
        // The server's own limit is one on each word.
        match tokio::time::timeout(self.limit, self.server.send(message)).await {
            Ok(Ok(_)) => Tried::Taken,
            Ok(Err(error)) if error.is_permanent() => Tried::Refused(error.to_string()),
            Ok(Err(error)) => Tried::Failed(error.to_string()),
            Err(_) => Tried::Failed(format!("no end after {} s", self.limit.as_secs())),
        }
    }
}

fn address(setting: &'static str, text: &str) -> Result<Mailbox, Error> {
    let wrong = |error: lettre::address::AddressError| Error::Address {
        setting,
        address: text.to_owned(),
        why: error.to_string(),
    };
    text.parse().map_err(wrong)
}

fn message(from: &Mailbox, to: &Mailboxes, notice: &Notice) -> Result<Message, lettre::error::Error> {
    let (id, revision) = notice.key();
    let id = format!("<{id}.{revision}@{}>", from.email.domain());
    let mut message = Message::builder().from(from.clone()).message_id(Some(id));
    for one in to.iter() {
        message = message.to(one.clone());
    }
    message.subject(subject(notice)).header(ContentType::TEXT_PLAIN).body(body(notice))
}

fn subject(notice: &Notice) -> String {
    let line = format!("[evalfleet] {}: {}", notice.state(), notice.message());
    let mut line: String =
        line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if let Some((cut, _)) = line.char_indices().nth(SUBJECT_CHARS_MAX) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

fn body(notice: &Notice) -> String {
    let facts = notice.facts().into_iter().map(|(name, what)| format!("{name}: {what}\n"));
    std::iter::once(format!("{}\n\n", notice.message())).chain(facts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::alert;

    #[test]
    fn it_says_what_it_is_about_and_what_to_do_in_lines_that_servers_take() {
        let mut alert = alert(0, 2);
        alert.message = format!("read fails\r\nBcc: <everyone@a.example> {}", "ä".repeat(300));
        let id = alert.id;
        let notice = Notice::Alert(Box::new(alert));
        let line = subject(&notice);
        assert!(line.starts_with("[evalfleet] raised: read fails") && line.chars().count() <= 121, "{line}");
        assert!(!line.contains(['\r', '\n']));
        let [from, to] = ["Fleet <fleet@a.example>", "me@b.example"].map(|one| address("x", one).unwrap());
        let message = message(&from, &Mailboxes::new().with(to), &notice).unwrap();
        assert_eq!(message.envelope().to().len(), 1, "nobody else is written to");
        let text = String::from_utf8(message.formatted()).unwrap();
        assert!(text.contains(&format!("Message-ID: <{id}.2@a.example>")), "{text}");
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(text.lines().all(|line| line.len() < 999), "{text}");
        let error = address("email_to", "nobody").unwrap_err().to_string();
        assert!(error.contains("email_to") && error.contains("nobody"), "{error}");
    }
}
