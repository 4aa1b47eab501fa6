//! Dead letters: looked at without loss, replayed without doubling, dropped for a reason.
//!
//! ```text
//!  eval.dead ── a letter at a time ──▶ meant? ── no ──▶ held, and given back at the end
//!                                        │ yes
//!                     replay: publish the new job ─▶ tell the recorder ─▶ settle the letter
//!                     drop:                          tell the recorder ─▶ settle the letter
//! ```
//!
//! The history knows every letter and what was done with it ([`crate::api::Api::dead_letters`]); the
//! queue holds those that wait. Each arrow awaits the broker's confirm, and a letter is settled only with
//! the proof of the arrow before. Killed anywhere, the letter is back in its queue, and the same command
//! goes on: the new job's id is derived from the dead one's, so that a replay which is interrupted or
//! repeated cannot make two jobs.

mod ledger;
mod office;
mod replay;

pub use evalfleet_proto::dead::{Card, Filter, Letter, State};
pub use ledger::Ledger;
pub use office::{AT_ONCE, Office, Order, Outcome};
pub use replay::{Changes, replay_id, replay_of};

use crate::api;
use evalfleet_broker::Error as BrokerError;
use evalfleet_service::blobs;

/// Why the letters are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker does not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The history does not answer.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// What the history knows of a letter cannot be fetched.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// What cannot be asked of a replay.
    #[error(transparent)]
    Client(#[from] crate::client::Error),
    /// There is no such letter.
    #[error(
        "no dead letter of {id}, neither in the queue nor in the history: `evalfleet dead list --where state=any` shows what there is"
    )]
    Missing {
        /// What was asked for.
        id: String,
    },
}

/// Which letters are meant.
#[derive(Debug, Clone)]
pub enum Which {
    /// All that fit.
    Fitting(Box<Filter>),
    /// Those of these names.
    Of(Vec<String>),
}

impl Which {
    /// All that wait.
    pub fn all() -> Self {
        Self::Fitting(Box::default())
    }

    fn has(&self, card: &Card) -> bool {
        match self {
            Self::Fitting(filter) => filter.has(card),
            Self::Of(ids) => ids.contains(&card.id),
        }
    }
}

/// What is to be done with the letters that are meant.
#[derive(Debug, Clone)]
pub enum Action {
    /// A new job asks the same again.
    Replay {
        /// What it asks otherwise.
        changes: Changes,
        /// Also if that was done before.
        again: bool,
    },
    /// It is given up for good.
    Drop {
        /// Why.
        reason: String,
    },
}
