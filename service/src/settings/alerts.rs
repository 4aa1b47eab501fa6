//! `[insight.alerts]`: what is watched, and who is told.

use evalfleet_proto::units;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The most jobs that one suspicion may have run again.
const RERUNS_MAX: u32 = 100;
/// The most tries of one notice.
const TRIES_MAX: u32 = 20;
/// The longest that one of them may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The most people that are written to.
const PEOPLE_MAX: usize = 50;

/// `[insight.alerts]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Whether anything is watched.
    pub watch: bool,
    /// Jobs that one suspicion may have run again; 0 for none.
    pub reruns_max: u32,
    /// How long a suspicion may stay undecided.
    #[serde(with = "units::duration")]
    pub confirm_within: Duration,
    /// Whether alerts are told in the log.
    pub log: bool,
    /// Whether they are told on standard output, as lines of JSON.
    pub stdout: bool,
    /// Where they are posted to; empty for nowhere.
    pub webhook: String,
    /// The file with the secret that is sent along; empty for none.
    pub webhook_secret_file: PathBuf,
    /// Who sends e-mail (`smtps://…`, `smtp://…`); empty for nobody.
    pub email_server: String,
    /// Whom it comes from.
    pub email_from: String,
    /// Whom it goes to.
    pub email_to: Vec<String>,
    /// Who the server is told that we are; empty for nobody.
    pub email_user: String,
    /// The file with the password for that.
    pub email_password_file: PathBuf,
    /// Limit on one try to tell somebody.
    #[serde(with = "units::duration")]
    pub send_timeout: Duration,
    /// Tries in all.
    pub send_tries: u32,
}

/// A server that sends e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken with.
    pub security: Security,
}

/// How a mail server is spoken with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// By TLS from the first byte on.
    Tls,
    /// By TLS once both have agreed to, and not at all without.
    StartTls,
    /// As it is: a server of this machine.
    None,
}

impl Alerts {
    /// The server that sends e-mail, if one is named.
    pub fn mail_server(&self) -> Option<MailServer> {
        mail_server(&self.email_server)
    }

    /// All that does not go together, or exceeds a bound.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |is: bool, what: String| wrong.extend((!is).then(|| format!("insight.alerts.{what}")));
        must(self.reruns_max <= RERUNS_MAX, format!("reruns_max must be {RERUNS_MAX} or less"));
        must(!self.confirm_within.is_zero(), "confirm_within must be longer than nothing".to_owned());
        must(
            self.webhook.is_empty()
                || ["http://", "https://"].iter().any(|start| self.webhook.starts_with(start)),
            format!("webhook is {:?}, and must begin with https:// or http://", self.webhook),
        );
        must(
            !self.webhook.is_empty() || self.webhook_secret_file.as_os_str().is_empty(),
            "webhook_secret_file is named, and no webhook that it is for".to_owned(),
        );
        must(
            self.email_server.is_empty() || self.mail_server().is_some(),
            format!(
                "email_server is {:?}, and must be smtps://HOST[:PORT] or smtp://HOST[:PORT]",
                self.email_server
            ),
        );
        let named = [!self.email_server.is_empty(), !self.email_from.is_empty(), !self.email_to.is_empty()];
        must(
            named == [true; 3] || named == [false; 3],
            "email_server, email_from and email_to go together: name all of them, or none".to_owned(),
        );
        must(self.email_to.len() <= PEOPLE_MAX, format!("email_to must name {PEOPLE_MAX} or fewer"));
        must(
            self.email_user.is_empty() == self.email_password_file.as_os_str().is_empty(),
            "email_user and email_password_file go together: name both, or neither".to_owned(),
        );
        must(
            (1..=TRIES_MAX).contains(&self.send_tries),
            format!("send_tries must be between 1 and {TRIES_MAX}"),
        );
        must(
            !self.send_timeout.is_zero() && self.send_timeout <= TIMEOUT_MAX,
            format!("send_timeout must be more than nothing, and {} s at most", TIMEOUT_MAX.as_secs()),
        );
        wrong
    }
}

fn mail_server(url: &str) -> Option<MailServer> {
    let (is_tls, place) = match url.strip_prefix("smtps://") {
        Some(place) => (true, place),
        None => (false, url.strip_prefix("smtp://")?),
    };
    let place = place.trim_end_matches('/');
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        Some(_) | None => (place, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let names = |letter: char| letter.is_ascii_alphanumeric() || ".-:".contains(letter);
    if host.is_empty() || !host.chars().all(names) {
        return None;
    }
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let (security, usual) = match (is_tls, is_here) {
        (true, _) => (Security::Tls, 465),
        (false, true) => (Security::None, 25),
        (false, false) => (Security::StartTls, 587),
    };
    Some(MailServer { host: host.to_owned(), port: port.unwrap_or(usual), security })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_goes_without_tls_within_this_machine_only() {
        let of = |url| mail_server(url).map(|server| (server.host, server.port, server.security));
        let is = |host: &str, port, security| Some((host.to_owned(), port, security));
        assert_eq!(of("smtps://mail.a.example"), is("mail.a.example", 465, Security::Tls));
        assert_eq!(of("smtp://mail.a.example:25/"), is("mail.a.example", 25, Security::StartTls));
        assert_eq!(of("smtp://localhost"), is("localhost", 25, Security::None));
        assert_eq!(of("smtp://127.0.0.1:2525"), is("127.0.0.1", 2525, Security::None));
        assert_eq!(of("smtp://[::1]:2525"), is("::1", 2525, Security::None));
        for wrong in
            ["", "mail.a.example", "smtp://", "smtp://a b", "smtp://me:secret@a.example", "smtps://a:port"]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
