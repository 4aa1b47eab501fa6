//! The commands. Those that take more than a little have their arguments in a module of their own.

mod alerts;
mod amend;
mod backup;
pub mod change;
mod dead;
mod follow;
mod healing;
mod history;
mod image;
mod job;
mod replay;
pub mod suite;
mod tool;
mod worker;

pub use alerts::{AlertsArgs, AlertsCommand};
pub use amend::AmendArgs;
pub use backup::BackupCommand;
pub use dead::{DeadCommand, DeadListArgs, DeadReplayArgs, DeadWhich};
pub use follow::{BatchCommand, CancelArgs, LogsArgs, WaitArgs};
pub use healing::{HealingCommand, HealingDecideArgs, HealingListArgs};
pub use history::{ExportArgs, ExportFormat, HistoryCommand, QueryArgs, RetainArgs};
pub use image::{Channel, ImageCommand};
pub use job::{CallArgs, JobArgs, RunArgs, SubmitArgs};
pub use replay::ReplayArgs;
pub use tool::ToolCommand;
pub use worker::{Whom, WorkerCommand};

use clap::{Args, Parser, Subcommand};
use evalfleet_proto::ids::ImageRef;
use std::path::PathBuf;

/// Runs evaluations in clean virtual machines, and remembers them.
#[derive(Debug, Parser)]
#[command(
    name = "evalfleet",
    version = evalfleet_service::VERSION,
    after_help = "Exit codes: 0 passed, 1 the subject failed, 2 a budget was exceeded, 3 infrastructure, 4 the request \
                  itself, 5 cancelled, 64 usage or configuration, 69 a part is unreachable, 70 a defect.\n\n\
                  Examples:\n  evalfleet up --detach\n  evalfleet run -- sh -c 'echo hi > /workspace/a'\n  \
                  evalfleet call word_count '{\"text\": \"a b c\"}'\n  evalfleet query '[:find (count ?e) :where [?e :evaluation/id]]'"
)]
pub struct Cli {
    /// Your configuration file; `doctor --settings` prints every setting.
    #[arg(long, global = true, value_name = "FILE", env = "EVALFLEET_CONFIG")]
    pub config: Option<PathBuf>,
    /// Documents instead of text: one, or one a line where there are many.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start everything on this machine: broker, gateway, recorder, API, workers.
    #[command(
        after_help = "Examples:\n  evalfleet up --workers 2\n  evalfleet up --detach && evalfleet status"
    )]
    Up(UpArgs),
    /// Stop exactly what `up` started.
    Down,
    /// Show the parts, their states, and what waits in the queues.
    #[command(after_help = "Examples:\n  evalfleet status\n  evalfleet status --json | jq .queues")]
    Status,
    /// Check what this machine needs, each with its fix.
    #[command(after_help = "Examples:\n  evalfleet doctor\n  evalfleet doctor --settings > evalfleet.toml")]
    Doctor {
        /// Print every setting with its default instead.
        #[arg(long)]
        settings: bool,
    },
    /// Run a command in a clean VM, show its output, report.
    #[command(after_help = "Examples:\n  evalfleet run -- python3 -c 'print(1)'\n  \
        evalfleet run --wall 5s --memory 64M --file ./a.py:/workspace/a.py -- python3 a.py\n  \
        evalfleet run --out /workspace/result.json -- ./make-result")]
    Run(RunArgs),
    /// Call a tool of an image in a clean VM.
    #[command(after_help = "Examples:\n  evalfleet call word_count '{\"text\": \"a b c\"}' --json\n  \
        echo '{\"path\": \"notes.txt\"}' | evalfleet call read_file -")]
    Call(CallArgs),
    /// Submit many jobs, one JSON document a line; prints an id for each.
    #[command(after_help = "Examples:\n  evalfleet submit jobs.jsonl > ids\n  \
        echo '{\"kind\": \"command\", \"argv\": [\"true\"]}' | evalfleet submit -")]
    Submit(SubmitArgs),
    /// Wait for jobs and report each when it is done.
    ///
    /// The exit code is that of the worst: 0 when all passed.
    #[command(after_help = "Examples:\n  evalfleet wait $(evalfleet submit jobs.jsonl)\n  \
        evalfleet wait --batch night --count 500")]
    Wait(WaitArgs),
    /// Call jobs off: queued, waiting for another try, running, or not submitted yet.
    ///
    /// A running job's VM is killed; a queued job is reported as cancelled when a worker comes to it, and is not run.
    /// The word stands for two days, also for workers that start later. What is done already stays done.
    #[command(after_help = "Examples:\n  evalfleet cancel 0198c1c2-… --reason 'a newer revision' --wait\n  \
        evalfleet cancel --batch night")]
    Cancel(CancelArgs),
    /// Amend a verdict that turned out to be wrong.
    ///
    /// The history keeps both, each as of its time, with who amended it and why; rates and lists count the new one.
    #[command(
        after_help = "Examples:\n  evalfleet amend 0198c1c2-… --cause infrastructure --reason 'the disk of host-3 was failing'\n  \
        evalfleet amend 0198c1c2-… --status passed --reason 'the check itself was wrong'"
    )]
    Amend(AmendArgs),
    /// Run a recorded evaluation again, and tell the first thing that comes out otherwise.
    ///
    /// The job is asked again as it was kept: input, files, tool, limits, and the very image that it ran in. Compared are,
    /// in this order, how it ended, its value, exit status, output, effects on the disk, files kept, what it tried to reach,
    /// what it left running, and what it used, within what is usual of the same job. Times are told and decide nothing.
    #[command(
        after_help = "Examples:\n  evalfleet replay 0198c1c2-…\n  evalfleet replay 0198c1c2-… --times 10\n  \
        evalfleet replay 0198c1c2-… --json | jq '.replays[].first'\n\n\
        Exit codes: 0 the same, each time; 1 it diverged; 3 or 5 it was not put to the test; 4 it cannot be run again: \
        no job was kept, or its image is gone."
    )]
    Replay(ReplayArgs),
    /// Show what a job wrote; with -f also while it runs.
    #[command(
        after_help = "Examples:\n  evalfleet logs 0198c1c2-…\n  evalfleet logs -f $(evalfleet submit job.jsonl)"
    )]
    Logs(LogsArgs),
    /// Batches: jobs that were submitted together.
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Show one evaluation as it was recorded.
    #[command(
        after_help = "Examples:\n  evalfleet get 0198c1c2-… --json\n  evalfleet get 0198c1c2-… --as-of 2026-01-31"
    )]
    Get {
        /// The job, or the batch.
        id: String,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Show the newest evaluations.
    #[command(
        after_help = "Examples:\n  evalfleet list --limit 100 --json | jq -r .id\n  evalfleet list --as-of 2026-01-31"
    )]
    List {
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Ask the history in Datalog.
    #[command(
        after_help = "Examples:\n  evalfleet query '[:find ?m ?r :where [?e :evaluation/model ?m] [?e :evaluation/success-rate ?r]]'\n  \
        evalfleet query @rates.edn --as-of 2025-07-31T06:00:00Z --arg '\"word_count\"'"
    )]
    Query(QueryArgs),
    /// Back the history up, and restore it.
    ///
    /// A backup counts once it was restored into a store of its own and says the same: `now` does both.
    #[command(
        subcommand,
        after_help = "Examples:\n  evalfleet backup now\n  evalfleet backup list\n  \
        evalfleet down && evalfleet backup restore 20260131T020000Z && evalfleet up --detach"
    )]
    Backup(BackupCommand),
    /// Show what stands out in the history, what matters most first, each with its numbers.
    #[command(
        after_help = "Examples:\n  evalfleet insights\n  evalfleet insights --as-of 2026-01-31 --json | jq '.insights[].title'"
    )]
    Insights {
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Show alerts: what became worse, confirmed before anyone was told; and say whether they were right.
    #[command(
        after_help = "Examples:\n  evalfleet alerts\n  evalfleet alerts --state any --as-of 2026-01-31 --json | jq '.alerts[].message'\n  \
        evalfleet alerts show 0198c1c2-…\n  evalfleet alerts judge 0198c1c2-… wrong --reason 'the fixture was changed on purpose'"
    )]
    Alerts(AlertsArgs),
    /// Show what of the fleet was not well and what was done about it; have it done, or taken back.
    #[command(
        subcommand,
        after_help = "Examples:\n  evalfleet healing list --state open\n  evalfleet healing show 0198c1c2-…\n  \
        evalfleet healing undo 0198c1c2-… --reason 'the disk was changed'"
    )]
    Healing(HealingCommand),
    /// For continuous integration.
    #[command(subcommand)]
    Ci(CiCommand),
    /// Serve the REST API and the dashboard from this terminal, for a gateway that runs already.
    #[command(after_help = "Examples:\n  evalfleet serve --listen 127.0.0.1:8700\n  \
        EVALFLEET_DATOMIC__URL=http://127.0.0.1:8471 EVALFLEET_DATOMIC__TOKEN_FILE=token evalfleet serve")]
    Serve {
        /// Where; api.listen when missing.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
    },
    /// Print a link to the dashboard that logs one in. Whoever has it may do what you may.
    #[command(after_help = "Examples:\n  xdg-open \"$(evalfleet dashboard)\"")]
    Dashboard,
    /// Dead letters: jobs that could not be run.
    #[command(subcommand)]
    Dead(DeadCommand),
    /// The tools of an image.
    #[command(subcommand)]
    Tool(ToolCommand),
    /// Changes to a repository, evaluated before they are made.
    #[command(subcommand)]
    Change(change::ChangeCommand),
    /// Questions put to a model, every call of it run in a clean VM.
    #[command(subcommand)]
    Suite(suite::SuiteCommand),
    /// Past results in and out.
    #[command(subcommand)]
    History(HistoryCommand),
    /// Workers: what each does, and who takes no jobs for a while.
    #[command(subcommand)]
    Worker(WorkerCommand),
    /// VM images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// The broker's exchanges and queues, for a broker of your own.
    #[command(subcommand)]
    Topology(TopologyCommand),
    /// Call tools and run commands interactively; results arrive when they are ready.
    Repl,
    /// Serve the tools of an image to an agent that speaks MCP, over standard input and output.
    #[command(
        after_help = "Examples:\n  evalfleet mcp\n  claude mcp add evalfleet -- evalfleet mcp --image eval"
    )]
    Mcp {
        /// The image; client.image when missing.
        #[arg(long)]
        image: Option<ImageRef>,
    },
    /// Print the completions of a shell.
    #[command(after_help = "Examples:\n  evalfleet completions bash > /etc/bash_completion.d/evalfleet")]
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them into a folder.
    Man {
        /// The folder.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// `up`
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// How many workers; worker.count when missing.
    #[arg(long)]
    pub workers: Option<u32>,
    /// Return when everything is ready, and leave it running.
    #[arg(long)]
    pub detach: bool,
    /// Only these kinds of parts.
    #[arg(long, value_delimiter = ',', value_parser = ["broker", "gateway", "recorder", "keeper", "api", "worker"])]
    pub only: Vec<String>,
    /// Set by `--detach` for the process it leaves behind.
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// `ci`
#[derive(Debug, Clone, Subcommand)]
pub enum CiCommand {
    /// Compare two sets of evaluations; print a report in Markdown; exit with 1 when HEAD is a regression.
    ///
    /// A side is batch:ID, run:NAME, model:NAME, tool:NAME, image:DIGEST, worker:NAME, suite:NAME or label:KEY=VALUE,
    /// several joined by commas; or a bare name. Where both sides tried the same cases, those are compared pair by pair.
    #[command(after_help = "Examples:\n  evalfleet ci compare run:main run:pr-7 > report.md\n  \
            evalfleet ci compare tool:word_count,image:sha256:3f2a tool:word_count,image:sha256:9b11 --json | jq .because")]
    Compare {
        /// What HEAD is measured by.
        base: String,
        /// What is judged.
        head: String,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
}

/// `topology`
#[derive(Debug, Clone, Subcommand)]
pub enum TopologyCommand {
    /// Declare what is not there yet; `up` does this for its own node.
    Declare,
}

#[cfg(test)]
mod tests;
