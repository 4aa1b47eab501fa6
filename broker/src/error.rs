//! What can go wrong with a broker, in words that name the cause and the fix.

/// Why the broker did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No node can be reached.
    #[error(
        "no RabbitMQ node answers at {nodes}: {reason}. Start one with `evalfleet up`, or name yours in broker.urls"
    )]
    Unreachable {
        /// The nodes that were tried, without their passwords.
        nodes: String,
        /// What the last one said.
        reason: String,
    },
    /// The node refuses the name or the password.
    #[error("RabbitMQ at {node} refuses the login: check the user and password in broker.urls")]
    Denied {
        /// The node.
        node: String,
    },
    /// A file that TLS needs cannot be read.
    #[error("{path} cannot be read: {reason}. See broker.ca_file, broker.cert_file and broker.key_file")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// An exchange or a queue is missing.
    #[error(
        "RabbitMQ lacks {what}: declare the topology with `evalfleet up`, or with the definitions in deploy/"
    )]
    Missing {
        /// What is missing.
        what: String,
    },
    /// The connection broke while something was under way: it may or may not have happened.
    #[error("the connection to RabbitMQ broke: {0}")]
    Broken(String),
    /// The broker did not confirm in time.
    #[error("RabbitMQ did not confirm {what} within {seconds} s{}{}", if *.blocked { ": " } else { "" }, if *.blocked { Self::BLOCKED } else { "" })]
    Unconfirmed {
        /// What was published.
        what: String,
        /// How long was waited.
        seconds: u64,
        /// Whether the broker has blocked its publishers.
        blocked: bool,
    },
    /// The user may not do that.
    #[error("RabbitMQ forbids it: {0}. deploy/rabbitmq/roles.sh gives each part the rights that it needs")]
    Forbidden(String),
    /// A queue was declared before, with other bounds.
    #[error("RabbitMQ has {queue} with other arguments: {reason}")]
    Unlike {
        /// Which.
        queue: String,
        /// How it differs.
        reason: String,
    },
    /// The broker said no: a queue is full.
    #[error("RabbitMQ refuses {what}: its queue is full. Start more workers, or wait")]
    Refused {
        /// What was published.
        what: String,
    },
    /// A message larger than any may be.
    #[error("the message has {bytes} bytes, and may have {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most there may be.
        max: usize,
    },
}

impl Error {
    /// What is said when the broker has blocked its publishers.
    pub(crate) const BLOCKED: &str =
        "RabbitMQ has blocked its publishers, most likely for lack of memory or disk space";

    /// Whether trying again, on a new connection, may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken(_) | Self::Unconfirmed { .. } | Self::Refused { .. } => {
                true
            }
            Self::Denied { .. }
            | Self::File { .. }
            | Self::Missing { .. }
            | Self::Forbidden(_)
            | Self::Unlike { .. }
            | Self::TooLarge { .. } => false,
        }
    }

    /// Reads what lapin says of something that was under way.
    pub(crate) fn of(error: &lapin::Error) -> Self {
        let text = error.to_string();
        // A queue that its node has not started yet, after a crash: it is there.
        if text.contains("is down or inaccessible") {
            return Self::Broken(text);
        }
        if text.contains("NOT_FOUND") || text.contains("NOT-FOUND") {
            let what = text.split('\'').nth(1).map_or_else(|| text.clone(), |name| format!("{name:?}"));
            return Self::Missing { what };
        }
        if text.contains("ACCESS_REFUSED") || text.contains("ACCESS-REFUSED") {
            return Self::Forbidden(text);
        }
        Self::Broken(text)
    }
}
