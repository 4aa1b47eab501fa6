//! The arguments of `backup`.

use clap::Subcommand;

/// `backup`
#[derive(Debug, Clone, Subcommand)]
pub enum BackupCommand {
    /// Take one of the running fleet's history, and check it.
    Now,
    /// Show those that there are, the newest first.
    List,
    /// Restore one into a store of its own, and see whether it holds what it held.
    Verify {
        /// Its name.
        name: String,
    },
    /// Put one in the place of the history; what is there is moved aside. The fleet must be down.
    Restore {
        /// Its name.
        name: String,
    },
    /// Take them on schedule and let the oldest of the history go, until told to end; `up` starts this where the EDN
    /// file has a :backup-schedule or :retention-days.
    #[command(hide = true)]
    Keep,
}
