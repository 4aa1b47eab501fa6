//! Backups of the history: taken while nothing is written, and believed once a store that was made of one says the
//! same as the one it was taken from.
//!
//! ```text
//!  take:  gateway copies its files ─▶ blobs are copied, the new ones ─▶ check ─▶ manifest ─▶ the oldest go
//!  check: a copy of the copy ─▶ a gateway of its own on it ─▶ its log read ─┐
//!                               the log of the store that it was taken of ──┴─▶ the same?
//! ```
//!
//! A backup is a folder with Datomic Local's files and a [`Manifest`]. The contents that facts point to lie beside all
//! backups, once each, by their hash. A database in memory has nothing to keep, and one behind a transactor has
//! Datomic's own `backup-db`.

mod check;
mod contents;
mod fingerprint;
mod restore;
mod schedule;
mod shelf;

pub use check::check;
pub use restore::restore;
pub use schedule::keep;
pub use shelf::{Shelf, take};

use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::Sha256;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The version of a manifest.
const SCHEMA: u16 = 1;
/// A manifest's file.
const MANIFEST: &str = "manifest.json";
/// Datomic Local's own folder, in a backup as in a state directory's `datomic`.
const STORE: &str = "evalfleet";

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this document.
    pub schema: u16,
    /// Its name: when it was taken, in UTC.
    pub name: String,
    /// When it was taken.
    pub taken: Timestamp,
    /// The database, as the gateway names it.
    pub uri: String,
    /// The newest transaction in it.
    pub basis_t: u64,
    /// Its size, without blobs.
    pub bytes: u64,
    /// What its log came to when it was restored to be checked; null when that was not done.
    pub checked: Option<Checked>,
}

/// That a backup was restored into a store of its own, and what that held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// When.
    pub at: Timestamp,
    /// Up to the backup's newest.
    pub transactions: u64,
    /// Facts asserted or retracted in them.
    pub datoms: u64,
    /// The hash of all of them, in their order.
    pub digest: Sha256,
    /// Documents that they point to, all of which are there.
    pub documents: u64,
}

/// Why a backup was not taken, checked or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not answer, or refuses.
    #[error(transparent)]
    Store(#[from] evalfleet_datomic::Error),
    /// A gateway cannot be started.
    #[error(transparent)]
    Machine(#[from] crate::machine::Error),
    /// A file cannot be read or written.
    #[error("{what} {}: {source}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The contents that facts point to are not to be had.
    #[error(transparent)]
    Blobs(#[from] evalfleet_service::blobs::Error),
    /// There is no such backup.
    #[error("there is no backup {name} in {}: `evalfleet backup list` shows those that are", .dir.display())]
    Missing {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The restored store says otherwise.
    #[error("the backup {name} is no good: {why}. It stays where it is; take another")]
    Differs {
        /// The backup.
        name: String,
        /// How.
        why: String,
    },
    /// The fleet uses the store.
    #[error("the fleet of {} is up: `evalfleet down` first", .dir.display())]
    Up {
        /// Its state directory.
        dir: PathBuf,
    },
}

fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::File { what, path: path.to_owned(), source }
}
