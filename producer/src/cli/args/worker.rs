//! The arguments of `worker`.

use clap::{Args, Subcommand};
use evalfleet_proto::ids::WorkerId;

/// `worker`
#[derive(Debug, Clone, Subcommand)]
pub enum WorkerCommand {
    /// Show the workers: what each ran, how often its machine failed, whether it takes jobs.
    #[command(
        after_help = "Examples:\n  evalfleet worker list\n  evalfleet worker list --as-of 2026-01-31 --json"
    )]
    List {
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Have a worker finish its job and take no other until it is told to resume.
    ///
    /// Its jobs stay in their queues, where other workers take them. The last word to a worker stands, also for one that
    /// starts later, within two days.
    #[command(
        after_help = "Examples:\n  evalfleet worker drain worker-2 --reason 'its disk is being exchanged'\n  evalfleet worker drain --all"
    )]
    Drain {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
        /// Why; its status says it.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Have a worker that was drained take jobs again.
    #[command(after_help = "Examples:\n  evalfleet worker resume worker-2")]
    Resume {
        /// Whom.
        #[command(flatten)]
        whom: Whom,
    },
}

/// One worker, or all.
#[derive(Debug, Clone, Args)]
pub struct Whom {
    /// The worker.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub name: Option<WorkerId>,
    /// All workers, those included that start later.
    #[arg(long)]
    pub all: bool,
}
