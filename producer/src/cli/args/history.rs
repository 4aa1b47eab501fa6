//! The arguments of `query` and `history`: questions on what was recorded; past results in and out.

use clap::{Args, Subcommand};
use evalfleet_proto::Timestamp;
use std::path::PathBuf;

/// `query`
#[derive(Debug, Clone, Args)]
pub struct QueryArgs {
    /// The query, as EDN; `@FILE` reads it from a file, `@-` from standard input.
    pub query: String,
    /// As it was known then: a time, or a transaction.
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
    /// A further input of the query, as EDN.
    #[arg(long, value_name = "EDN")]
    pub arg: Vec<String>,
}

/// `history`
#[derive(Debug, Clone, Subcommand)]
pub enum HistoryCommand {
    /// Import result files of past batches, with their own times, oldest first.
    #[command(after_help = "Examples:\n  evalfleet history import results_batch_*.json")]
    Import {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Write the history out: every evaluation's whole document, or imported batches as the files they came from.
    ///
    /// Documents are in the blob store: where that is a folder, this runs where the recorder does.
    #[command(after_help = "Examples:\n  evalfleet history export > evaluations.jsonl\n  \
        evalfleet history export --as-of 2026-01-31 --out january.jsonl\n  \
        evalfleet history export --format parquet --out evaluations.parquet\n  \
        evalfleet history export --format gemini --out batches/")]
    Export(ExportArgs),
    /// Let the oldest go: evaluations and handled dead letters that were last written to so long ago, and the
    /// contents that nothing points to any more. It cannot be undone: take a backup first.
    ///
    /// What stays keeps its whole history, and every moment means what it did. `up` does this every day where the
    /// EDN file has :retention-days.
    #[command(after_help = "Examples:\n  evalfleet history retain --days 365 --dry-run\n  \
        evalfleet backup now && evalfleet history retain --days 365")]
    Retain(RetainArgs),
}

/// `history retain`
#[derive(Debug, Clone, Args)]
pub struct RetainArgs {
    /// Keep so many days.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500), required_unless_present = "before")]
    pub days: Option<u32>,
    /// Keep what was written to since then.
    #[arg(long, value_name = "TIME", conflicts_with = "days")]
    pub before: Option<Timestamp>,
    /// Only count what would go.
    #[arg(long)]
    pub dry_run: bool,
}

/// `history export`
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// As what.
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    pub format: ExportFormat,
    /// A file, or for `gemini` a folder; standard output when missing.
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// As it was known then: a time, or a transaction.
    #[arg(long, value_name = "TIME")]
    pub as_of: Option<String>,
}

/// What the history is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// A JSON document on each line, the oldest first.
    Jsonl,
    /// An Apache Parquet file, a row for each evaluation.
    Parquet,
    /// The Gemini REPL's result files, one for each imported batch.
    Gemini,
}
