//! Why a change was not evaluated.

use super::{git, source, suite, tree};
use crate::client;
use evalfleet_proto::status::Exit;
use evalfleet_service::blobs;

/// Why a change was not evaluated, or not committed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is at fault.
    #[error(transparent)]
    Request(#[from] source::Error),
    /// The base does not pass its own suite, so that nothing can be held against the change.
    #[error("the base {commit} cannot be held against anything: {why}")]
    Base {
        /// The base.
        commit: String,
        /// What is wrong with it.
        why: String,
    },
    /// The fleet could not be reached, or did not answer.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// The machines failed, after their tries.
    #[error("the {look} look at the {tree} was not made: {why}")]
    Machines {
        /// Which look.
        look: &'static str,
        /// At what.
        tree: &'static str,
        /// Why.
        why: String,
    },
    /// It was safe, and was not committed.
    #[error("the change is safe, and was not committed: {0}")]
    NotCommitted(String),
}

impl Error {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Request(_) | Self::Base { .. } | Self::NotCommitted(_) => Exit::Harness,
            Self::Client(error) => error.exit(),
            Self::Blobs(_) => Exit::Unreachable,
            Self::Machines { .. } => Exit::Infrastructure,
        }
    }
}

impl From<suite::Error> for Error {
    fn from(error: suite::Error) -> Self {
        Self::Request(error.into())
    }
}

impl From<tree::Error> for Error {
    fn from(error: tree::Error) -> Self {
        Self::Request(error.into())
    }
}

impl From<git::Error> for Error {
    fn from(error: git::Error) -> Self {
        Self::Request(error.into())
    }
}
