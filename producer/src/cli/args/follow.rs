//! The arguments of what follows jobs that were submitted: `logs`, `wait`, `cancel`, `batch`.

use clap::{Args, Subcommand};
use evalfleet_proto::ids::{BatchId, JobId};
use evalfleet_proto::units::parse_duration;
use std::time::Duration;

/// `logs`
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The job.
    pub id: JobId,
    /// Show what it writes until it is done, from its beginning; then its report.
    #[arg(short, long)]
    pub follow: bool,
    /// Follow no longer than this; as long as a job may run when missing.
    #[arg(long, value_parser = parse_duration, requires = "follow")]
    pub patience: Option<Duration>,
}

/// `wait`
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// The jobs.
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    pub ids: Vec<JobId>,
    /// Jobs of this batch instead, until so many are recorded as --count says.
    #[arg(long, requires = "count")]
    pub batch: Option<BatchId>,
    /// How many jobs of the batch.
    #[arg(long, requires = "batch", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: Option<u32>,
    /// No longer than this; client.patience when missing.
    #[arg(long, value_parser = parse_duration)]
    pub patience: Option<Duration>,
}

/// `cancel`
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// The jobs.
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    pub ids: Vec<JobId>,
    /// All jobs of a batch that were submitted until now, instead.
    #[arg(long)]
    pub batch: Option<BatchId>,
    /// Why; their records say it.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Wait until they are reported, and show the reports.
    #[arg(long, conflicts_with = "batch")]
    pub wait: bool,
    /// Wait no longer than this; client.patience when missing.
    #[arg(long, value_parser = parse_duration, requires = "wait")]
    pub patience: Option<Duration>,
}

/// `batch`
#[derive(Debug, Clone, Subcommand)]
pub enum BatchCommand {
    /// Show what a batch has come to so far.
    #[command(
        after_help = "Examples:\n  evalfleet batch show night\n  evalfleet batch show night --watch --count 500"
    )]
    Show {
        /// Which.
        batch: BatchId,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME", conflicts_with = "watch")]
        as_of: Option<String>,
        /// Show it again whenever something is recorded.
        #[arg(long)]
        watch: bool,
        /// Watch until so many of its jobs are recorded.
        #[arg(long, requires = "watch")]
        count: Option<usize>,
    },
}
