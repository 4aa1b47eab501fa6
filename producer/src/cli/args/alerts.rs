//! The arguments of `alerts`.

use clap::{Args, Subcommand, ValueEnum};
use evalfleet_proto::alert::Said;
use evalfleet_proto::ids::AlertId;

/// `alerts`
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AlertsArgs {
    /// Something else than to list them.
    #[command(subcommand)]
    pub command: Option<AlertsCommand>,
    /// Those in this state: confirming, raised, closed, dismissed, or any. Those that people were told of when missing.
    #[arg(long, value_name = "STATE", value_parser = ["confirming", "raised", "closed", "dismissed", "any"])]
    pub state: Option<String>,
    /// Those about this subject, such as tool=word_count.
    #[arg(long, value_name = "ATTRIBUTE=VALUE")]
    pub subject: Option<String>,
    /// As they were known then: a time, or a transaction.
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// How many, the newest.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
}

/// What else there is to do with alerts.
#[derive(Debug, Clone, Subcommand)]
pub enum AlertsCommand {
    /// Show one whole: its numbers, what was run again, the evaluations it rests on, what changed when it began.
    Show {
        /// Which.
        id: AlertId,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Say whether an alert was right. What people say makes the alerts' precision.
    #[command(
        after_help = "Examples:\n  evalfleet alerts judge 0198c1c2-… right --reason 'the parser was rewritten'"
    )]
    Judge {
        /// Which.
        id: AlertId,
        /// Whether there was something to do.
        said: Word,
        /// Why; the history says it.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// What can be said of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Word {
    /// There was something to do.
    Right,
    /// There was not.
    Wrong,
}

impl From<Word> for Said {
    fn from(word: Word) -> Self {
        match word {
            Word::Right => Self::Right,
            Word::Wrong => Self::Wrong,
        }
    }
}
