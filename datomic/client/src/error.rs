//! What can go wrong between here and Datomic, each with its cause and what to do about it.

use std::time::Duration;

use crate::guard::Refusal;

/// Why the gateway gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection. Nothing was done.
    #[error(
        "the Datomic gateway at {url} cannot be reached: {cause}; start it with `evalfleet up` or datomic/run.sh"
    )]
    Unreachable { url: String, cause: String },
    /// The store is still opening. Nothing was done: ask again later.
    #[error("the store is still opening: {message}")]
    Opening { message: String },
    /// The store cannot be opened, and waiting does not help.
    #[error("the store cannot be opened: {message}")]
    Failed { message: String },
    /// The token is not the gateway's.
    #[error("the Datomic gateway at {url} refuses the token: give the one of its --token-file")]
    Unauthorized { url: String },
    /// Our own guard refuses the form.
    #[error(transparent)]
    Guard(#[from] Refusal),
    /// Permanently refused, nothing was written: the request is at fault.
    #[error("refused ({kind}): {message}")]
    Refused { kind: String, message: String },
    /// The transaction time is older than the newest transaction's. Nothing was written.
    #[error("too old: {message}")]
    TooOld { message: String },
    /// The request or its answer exceeds a bound of the gateway. Nothing was written.
    #[error("too large: {message}")]
    TooLarge { message: String },
    /// No answer in time: *unknown* whether a transaction was written. The same batch id asks.
    #[error("no answer within {limit:?}: {message}")]
    TimedOut { limit: Duration, message: String },
    /// As many requests as it takes are running. Nothing was done: ask again shortly.
    #[error("the Datomic gateway is busy: {message}")]
    Busy { message: String },
    /// The connection broke after the request was sent: *unknown* whether it was done.
    #[error("the connection to the Datomic gateway broke: {cause}; what was asked may or may not be done")]
    Broken { cause: String },
    /// A defect, of the gateway or in its talk with us.
    #[error("a defect in the Datomic gateway: {message}")]
    Defect { message: String },
}

impl Error {
    /// Whether the same request may succeed later, unchanged. With a batch id it is safe to repeat.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Opening { .. }
                | Self::TimedOut { .. }
                | Self::Busy { .. }
                | Self::Broken { .. }
        )
    }

    /// What an answer with an error status says.
    pub(crate) fn of_answer(kind: &str, message: String, url: &str, limit: Duration) -> Self {
        match kind {
            "opening" => Self::Opening { message },
            "unauthorized" => Self::Unauthorized { url: url.to_owned() },
            "tx-instant-past" => Self::TooOld { message },
            "too-large" => Self::TooLarge { message },
            "timed-out" => Self::TimedOut { limit, message },
            "busy" => Self::Busy { message },
            "bad-request" | "bad-query" | "refused" => Self::Refused { kind: kind.to_owned(), message },
            _ => Self::Defect { message: format!("{kind}: {message}") },
        }
    }
}
