//! The arguments of `change`.

use clap::{Args, Subcommand};
use evalfleet_proto::ids::ImageRef;
use std::path::PathBuf;

/// `change`
#[derive(Debug, Clone, Subcommand)]
pub enum ChangeCommand {
    /// Evaluate changes in clean VMs, and say whether they may be made.
    ///
    /// A change is built and tested beside its base, by the base's own suite (safety.toml) and tests: what passed
    /// before must still pass. What it does to the suite, what it writes outside of the workspace, whom it tries to
    /// reach, what it leaves running and what more it uses are told with their evidence. The repository is only read.
    #[command(after_help = "Examples:\n  evalfleet change eval --patch fix.patch\n  \
        evalfleet change eval --repo ~/tool --rev topic --commit\n  \
        evalfleet change eval --patch a.patch --patch b.patch --json | jq -c '{name: .change.name, verdict, violations}'\n\n\
        Exit codes: 0 safe, 1 unsafe, 2 unsafe by a budget alone, 3 undecided, 4 the request itself.")]
    Eval(EvalArgs),
}

/// `change eval`
#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// The repository, or a bundle of it.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub repo: PathBuf,
    /// What the change stands on.
    #[arg(long, default_value = "HEAD", value_name = "REV")]
    pub base: String,
    /// A patch, as `git diff --binary` or `git format-patch` writes it; `-` is standard input. Several are candidates,
    /// each for itself.
    #[arg(long, value_name = "FILE", required_unless_present = "rev")]
    pub patch: Vec<PathBuf>,
    /// A revision that stands on the base.
    #[arg(long, value_name = "REV")]
    pub rev: Vec<String>,
    /// The suite of the base's safety.toml.
    #[arg(long, value_name = "NAME")]
    pub suite: Option<String>,
    /// The image: NAME or NAME@sha256:DIGEST. The suite's when missing.
    #[arg(long)]
    pub image: Option<ImageRef>,
    /// Make the change, if it is safe and the branch is still at the base.
    #[arg(long)]
    pub commit: bool,
    /// The commit's message, where the patch brings none.
    #[arg(long, short, default_value = "", requires = "commit")]
    pub message: String,
}
