//! How to reach the broker.

use evalfleet_service::settings;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to reach the broker, and how long to wait for it.
#[derive(Clone)]
pub struct Options {
    /// Nodes, tried in turn.
    pub urls: Vec<String>,
    /// For nodes that are reached by TLS.
    pub tls: Tls,
    /// AMQP heartbeat.
    pub heartbeat: Duration,
    /// Limit on making a connection.
    pub connect_timeout: Duration,
    /// Limit on a publish and its confirm.
    pub confirm_timeout: Duration,
    /// What the broker shows of us.
    pub name: String,
}

/// Files in PEM that a connection by TLS is made with. They are read for each, so that what is renewed counts.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The certificates that are trusted; those that the host trusts when missing.
    pub ca: Option<PathBuf>,
    /// Our own certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

fn named(path: &Path) -> Option<PathBuf> {
    Some(path.to_owned()).filter(|path| !path.as_os_str().is_empty())
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("nodes", &self.nodes())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Takes the `[broker]` settings for a part called `name`.
    pub fn new(settings: &settings::Broker, name: impl Into<String>) -> Self {
        Self {
            urls: settings.urls.clone(),
            tls: Tls {
                ca: named(&settings.ca_file),
                identity: named(&settings.cert_file).zip(named(&settings.key_file)),
            },
            heartbeat: settings.heartbeat,
            connect_timeout: settings.connect_timeout,
            confirm_timeout: settings.confirm_timeout,
            name: name.into(),
        }
    }

    /// The nodes without user and password, for messages.
    pub(crate) fn nodes(&self) -> String {
        self.urls.iter().map(|url| without_password(url)).collect::<Vec<_>>().join(", ")
    }
}

pub(crate) fn without_password(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    host.split(['/', '?']).next().unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_message_shows_no_password() {
        assert_eq!(without_password("amqp://user:s3cret@127.0.0.1:5672/%2f"), "127.0.0.1:5672");
        assert_eq!(without_password("amqp://user:p@ss@host/vhost?heartbeat=1"), "host");
        assert_eq!(without_password("amqp://host"), "host");
    }
}
