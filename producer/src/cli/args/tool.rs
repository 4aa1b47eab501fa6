//! The arguments of `tool`.

use clap::Subcommand;
use evalfleet_proto::ids::{ImageRef, ToolName};

/// `tool`
#[derive(Debug, Clone, Subcommand)]
pub enum ToolCommand {
    /// Show what there is.
    List {
        /// The image; client.image when missing.
        #[arg(long)]
        image: Option<ImageRef>,
        /// As Gemini function declarations.
        #[arg(long)]
        gemini: bool,
        /// As tools of OpenAI's APIs.
        #[arg(long, conflicts_with = "gemini")]
        openai: bool,
    },
    /// Show one with its parameters.
    Show {
        /// Which.
        name: ToolName,
        /// The image; client.image when missing.
        #[arg(long)]
        image: Option<ImageRef>,
        /// As a Gemini function declaration.
        #[arg(long)]
        gemini: bool,
    },
    /// Evaluate a tool by its cases, each in clean VMs, and recommend what to do with it.
    ///
    /// What is recommended rests on Wilson's bounds of its rate, on its own past, and on its last version at the same
    /// cases. One that is to be quarantined is no longer called, until it proves itself or is released.
    #[command(after_help = "Examples:\n  evalfleet tool eval ./tools/word_count\n  \
        evalfleet tool eval word_count --runs 12 --json | jq .recommendation\n\n\
        Exit codes: 0 promote, keep, or nothing failed; 1 quarantine, or something failed and more evidence is needed.")]
    Eval {
        /// A tool's folder, or the name of one that the image has.
        #[arg(value_name = "PATH")]
        tool: String,
        /// How often each case is run; one that fails is run twice more.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        runs: u32,
        /// The image; the tool's own, else client.image, when missing.
        #[arg(long)]
        image: Option<ImageRef>,
    },
    /// Show the tools that are not called because they were found bad.
    Quarantined,
    /// Let a tool out of quarantine.
    Release {
        /// Which.
        name: ToolName,
    },
}
