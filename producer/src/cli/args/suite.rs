//! The arguments of `suite`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `suite`
#[derive(Debug, Clone, Subcommand)]
pub enum SuiteCommand {
    /// Put the questions of a file to a model; run every call that it makes in a clean VM; record what came of it.
    ///
    /// FILE is a suite (TOML or JSON, see the README), or a result file of the REPL, whose questions are put again. A
    /// question passes when the model calls the tools that it should, and no others, and does what else the suite
    /// states. What the service does wrong (429, 5xx, silence) is put again, and counts as infrastructure's doing.
    #[command(after_help = "Examples:\n  \
        GEMINI_API_KEY=… evalfleet suite run questions.toml --model gemini-2.0-flash --record said.jsonl\n  \
        evalfleet suite run questions.toml --model gemini-2.0-flash --exchanges said.jsonl --json | jq .attributed\n  \
        evalfleet suite run results_batch_001_1753935915.json --model gemini-2.0-flash --resume\n\n\
        Exit codes: 0 every question passed, 1 some did not, 3 infrastructure kept some from being put.")]
    Run(RunSuiteArgs),
    /// Compare two runs: where both put the same questions, pair by pair.
    #[command(
        after_help = "Examples:\n  evalfleet suite compare basics-0a1b2c3d-1769838000 basics-4e5f6a7b-1769841600\n\n\
        Exit codes: 0 no regression that is sure, 1 HEAD is a regression."
    )]
    Compare {
        /// The run that HEAD is measured by: its batch, as `suite run` prints it, or its result file.
        base: String,
        /// The run that is judged.
        head: String,
    },
}

/// `suite run`
#[derive(Debug, Clone, Args)]
pub struct RunSuiteArgs {
    /// The suite.
    pub file: PathBuf,
    /// Who is asked.
    #[arg(long)]
    pub model: String,
    /// Replay what the model said once, out of this file, and reach no service.
    #[arg(long, value_name = "FILE")]
    pub exchanges: Option<PathBuf>,
    /// Write down what the model says, for --exchanges.
    #[arg(long, value_name = "FILE", conflicts_with = "exchanges")]
    pub record: Option<PathBuf>,
    /// Questions under way at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub parallel: u8,
    /// How often a question is put again that failed for no doing of the model.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=10))]
    pub retries: u32,
    /// How often the service is asked for one answer before that is given up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub tries: u32,
    /// Answers of the model that one question may take.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub turns: u8,
    /// Go on with the newest run of this suite and model that was stopped.
    #[arg(long)]
    pub resume: bool,
    /// Where journals and result files are kept; suites/ in the state directory when missing.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
