//! The arguments of `healing`.

use clap::{Args, Subcommand};
use evalfleet_proto::ids::HealingId;

/// What there is to do with healings.
#[derive(Debug, Clone, Subcommand)]
pub enum HealingCommand {
    /// List them, the newest first: what was not well, and what was done about it.
    List(HealingListArgs),
    /// Show one whole: its evidence, what was done by whom and when, how long it took.
    Show {
        /// Which.
        id: HealingId,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Have one done that is only proposed.
    #[command(
        after_help = "Examples:\n  evalfleet healing apply 0198c1c2-… --reason 'its disk is broken indeed'"
    )]
    Apply(HealingDecideArgs),
    /// Have one taken back that was done, or decline one that is proposed. What was seen before is not held against its
    /// subject again.
    #[command(after_help = "Examples:\n  evalfleet healing undo 0198c1c2-… --reason 'the disk was changed'")]
    Undo(HealingDecideArgs),
}

/// `healing list`
#[derive(Debug, Clone, Args)]
pub struct HealingListArgs {
    /// Those in this state: proposed, applied, failed, undone, over, open (the first two), or any. All when missing.
    #[arg(long, value_name = "STATE", value_parser = ["proposed", "applied", "failed", "undone", "over", "open", "any"])]
    pub state: Option<String>,
    /// Those of this subject, such as worker=worker-1.
    #[arg(long, value_name = "ATTRIBUTE=VALUE")]
    pub subject: Option<String>,
    /// As they were known then: a time, or a transaction.
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// How many, the newest.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
}

/// `healing apply`, `healing undo`
#[derive(Debug, Clone, Args)]
pub struct HealingDecideArgs {
    /// Which.
    pub id: HealingId,
    /// Why; the history says it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}
