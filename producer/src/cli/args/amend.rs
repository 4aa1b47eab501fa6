//! The arguments of `amend`.

use clap::{ArgGroup, Args};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::{Cause, Status};

/// `amend`
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("verdict").required(true).multiple(true).args(["status", "cause"]))]
pub struct AmendArgs {
    /// The job.
    pub id: JobId,
    /// How it ended: passed, failed, timed_out, out_of_memory, limit_exceeded, crashed.
    #[arg(long, value_parser = parse_status)]
    pub status: Option<Status>,
    /// Whose doing it was: subject, infrastructure, budget, harness.
    #[arg(long, value_parser = parse_cause)]
    pub cause: Option<Cause>,
    /// Why; the history says it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

fn parse_status(word: &str) -> Result<Status, String> {
    Status::parse(word).ok_or_else(|| {
        "it must be one of passed, failed, timed_out, out_of_memory, limit_exceeded, crashed".to_owned()
    })
}

fn parse_cause(word: &str) -> Result<Cause, String> {
    Cause::parse(word).ok_or_else(|| "it must be one of subject, infrastructure, budget, harness".to_owned())
}
