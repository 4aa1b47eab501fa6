//! Retention: the oldest of the history goes, and the contents that nothing points to any more.
//!
//! ```text
//!  facts:  the gateway writes what stays into a fresh store, and that is the history from then on
//!  blobs:  what facts point to, and what their documents point to, stays ─▶ of the rest, what is old goes
//! ```
//!
//! The gateway's part is `datomic/src/evalfleet/gateway/retention.clj`, which says what stays.

mod contents;

use evalfleet_datomic::{Client, Error as Refusal, Retention};
use evalfleet_proto::Timestamp;
use evalfleet_service::blobs::{self, Blobs};
use evalfleet_service::settings::Settings;
use serde::Serialize;
use std::time::Duration;

/// How often is asked how far it is.
const GLANCE: Duration = Duration::from_millis(250);
/// Tries, when what was to go is written to meanwhile.
const TRIES: u32 = 3;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// What was last written to before that moment.
    pub before: Timestamp,
    /// Evaluations.
    pub evaluations: u64,
    /// Dead letters that were handled.
    pub dead_letters: u64,
    /// Entities, those two and all their parts among them.
    pub entities: u64,
    /// Of so many.
    pub of_entities: u64,
    /// Contents that nothing pointed to; null when it was only counted.
    pub blobs: Option<u64>,
    /// Their bytes.
    pub blob_bytes: Option<u64>,
    /// Whether it was only counted.
    pub dry_run: bool,
}

/// Why nothing went.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] Refusal),
    /// The contents cannot be read.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// The gateway tried, and changed nothing.
    #[error("nothing went: {0}")]
    Failed(String),
    /// There is no such moment.
    #[error("{days} days before now is no moment")]
    Days {
        /// What was asked for.
        days: u32,
    },
}

/// The moment so many days ago.
///
/// # Errors
/// When there is none.
pub fn days_ago(days: u32) -> Result<Timestamp, Error> {
    Timestamp::now().checked_sub(DAY.saturating_mul(days)).map_err(|_| Error::Days { days })
}

/// Lets what was last written to before `before` go, or counts it; tells `tell` how far it is.
///
/// # Errors
/// When the store or the folder of contents does not answer, or the gateway can change nothing: then the history is
/// as it was.
pub async fn retain(
    settings: &Settings,
    store: &Client,
    before: Timestamp,
    dry_run: bool,
    mut tell: impl FnMut(&Retention),
) -> Result<Gone, Error> {
    let mut tries = 1;
    let done = loop {
        store.retain(before, dry_run).await?;
        let done = until_done(store, &mut tell).await?;
        match &done.failed {
            None => break done,
            Some((_, true)) if tries < TRIES => tries += 1,
            Some((why, _)) => return Err(Error::Failed(why.clone())),
        }
    };
    let blobs = match dry_run {
        true => None,
        false => Some(contents::collect(store, &Blobs::open(settings).await?, before).await?),
    };
    Ok(Gone {
        before,
        evaluations: done.evaluations,
        dead_letters: done.letters,
        entities: done.entities,
        of_entities: done.of,
        blobs: blobs.map(|(count, _)| count),
        blob_bytes: blobs.map(|(_, bytes)| bytes),
        dry_run,
    })
}

async fn until_done(store: &Client, tell: &mut impl FnMut(&Retention)) -> Result<Retention, Error> {
    loop {
        let now = store.retention().await?;
        tell(&now);
        if !now.running {
            return Ok(now);
        }
        tokio::time::sleep(GLANCE).await;
    }
}
