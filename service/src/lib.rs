//! What every long-running part stands on, so that each says only what is its own: [`settings`] from
//! one file, logs in one form ([`logging`]), a drain on the first signal ([`shutdown`]), the
//! [`blobs`] store, and one place each for [`retry`] delays and clients of [`http`].

pub mod blobs;
pub mod http;
pub mod logging;
pub mod part;
pub mod permit;
pub mod ready;
pub mod retry;
pub mod settings;
pub mod shutdown;

/// The version that every part reports: the release and, where it was built from a checkout, its commit.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("EVALFLEET_COMMIT"));
