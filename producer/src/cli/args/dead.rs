//! The arguments of `dead`.

use crate::dead::Changes;
use clap::{Args, Subcommand};
use evalfleet_proto::ids::{ImageRef, Lane};
use evalfleet_proto::units::{ByteSize, parse_duration};
use std::time::Duration;

/// `dead`
#[derive(Debug, Clone, Subcommand)]
pub enum DeadCommand {
    /// Show them, newest first, as the history knows them: listing takes nothing out of the queue.
    #[command(
        after_help = "Keys of --where: id (or its beginning), state (waiting, replayed, dropped, any), tool, cause, \
        reason, error (a part of it), worker, batch, model, image, lane, kind, since, until. Those that wait are meant \
        unless state says otherwise.\n\nExamples:\n  evalfleet dead list --where tool=cargo_test --where error='No space'\n  \
        evalfleet dead list --where state=any --where since=2026-01-31 --as-of 2026-02-01\n  \
        evalfleet dead list --json | jq -r .error | sort | uniq -c"
    )]
    List(DeadListArgs),
    /// Show one with every try, the evidence, its input, and the jobs before and after it.
    #[command(after_help = "Examples:\n  evalfleet dead show 0198c1c2-…")]
    Show {
        /// Its name: its job's id, or what `dead list` shows.
        id: String,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Make each a new job, which asks the same; it is gone from the queue when the broker holds that.
    ///
    /// The new job's id is derived from the dead one's: a replay that is interrupted goes on when it is given again, and
    /// makes no second job. What was replayed before is refused without --force.
    #[command(
        after_help = "Examples:\n  evalfleet dead replay 0198c1c2-…\n  evalfleet dead replay --all --dry-run\n  \
        evalfleet dead replay --where batch=night --where error=memory --memory 1G --rate 20"
    )]
    Replay(DeadReplayArgs),
    /// Give them up for good; the history keeps them, and why.
    #[command(
        after_help = "Examples:\n  evalfleet dead drop --where batch=night --reason 'inputs were wrong' --dry-run"
    )]
    Drop {
        /// Which.
        #[command(flatten)]
        which: DeadWhich,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `dead list`
#[derive(Debug, Clone, Args)]
pub struct DeadListArgs {
    /// Only those of which this is so; may be given several times.
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub terms: Vec<String>,
    /// As they were known then: a time, or a transaction.
    #[arg(long, value_name = "TIME", conflicts_with = "queue")]
    pub as_of: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// Leave out the first, newest ones.
    #[arg(long, default_value_t = 0, conflicts_with = "queue")]
    pub skip: usize,
    /// Look into the queue instead, oldest first: also while the history does not answer.
    #[arg(long)]
    pub queue: bool,
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
pub struct DeadWhich {
    /// Their names.
    #[arg(required_unless_present_any = ["all", "terms"], conflicts_with_all = ["all", "terms"])]
    pub ids: Vec<String>,
    /// All that wait.
    #[arg(long, conflicts_with = "terms")]
    pub all: bool,
    /// Those of which this is so; may be given several times.
    #[arg(long = "where", value_name = "KEY=VALUE")]
    pub terms: Vec<String>,
    /// No more than so many.
    #[arg(long)]
    pub limit: Option<usize>,
}

/// `dead replay`
#[derive(Debug, Clone, Args)]
pub struct DeadReplayArgs {
    /// Which.
    #[command(flatten)]
    pub which: DeadWhich,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Also what was replayed or dropped before.
    #[arg(long)]
    pub force: bool,
    /// At most so many a second.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// The lane of the new jobs.
    #[arg(long, help_heading = "What the new jobs ask otherwise")]
    pub lane: Option<Lane>,
    /// Their priority.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9), help_heading = "What the new jobs ask otherwise")]
    pub priority: Option<u8>,
    /// Their image.
    #[arg(long, help_heading = "What the new jobs ask otherwise")]
    pub image: Option<ImageRef>,
    /// Time on the clock.
    #[arg(long, value_parser = parse_duration, help_heading = "What the new jobs ask otherwise")]
    pub wall: Option<Duration>,
    /// Time on the processors.
    #[arg(long, value_parser = parse_duration, help_heading = "What the new jobs ask otherwise")]
    pub cpu: Option<Duration>,
    /// Memory of all processes together.
    #[arg(long, help_heading = "What the new jobs ask otherwise")]
    pub memory: Option<ByteSize>,
    /// Processes and threads at one moment.
    #[arg(long, help_heading = "What the new jobs ask otherwise")]
    pub processes: Option<u32>,
    /// Growth of the disk.
    #[arg(long, help_heading = "What the new jobs ask otherwise")]
    pub disk: Option<ByteSize>,
    /// Standard output and standard error together.
    #[arg(long, help_heading = "What the new jobs ask otherwise")]
    pub output: Option<ByteSize>,
}

impl DeadReplayArgs {
    /// What the new jobs ask otherwise.
    pub fn changes(&self) -> Changes {
        Changes {
            lane: self.lane.clone(),
            priority: self.priority,
            image: self.image.clone(),
            wall: self.wall,
            cpu: self.cpu,
            memory: self.memory,
            processes: self.processes,
            disk: self.disk,
            output: self.output,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        Ok(_) | Err(_) => Err("must be a number above 0, such as 20 or 0.5".to_owned()),
    }
}
