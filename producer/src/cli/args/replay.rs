//! The arguments of `replay`.

use clap::Args;
use evalfleet_proto::units::parse_duration;
use std::time::Duration;

/// `replay`
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// The evaluation: a job's id.
    pub id: String,
    /// How often, to tell what does not do the same each time.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub times: u32,
    /// Wait no longer than this for each; its own limit and client.patience when missing.
    #[arg(long, value_parser = parse_duration)]
    pub patience: Option<Duration>,
}
