//! The arguments, and the job that they describe.

mod amend;
mod backup;
pub mod change;
mod dead;
mod replay;

pub use amend::AmendArgs;
pub use backup::BackupCommand;
pub use dead::{DeadCommand, DeadListArgs, DeadReplayArgs, DeadWhich};
pub use replay::ReplayArgs;

use clap::{Args, Parser, Subcommand};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::{BatchId, ImageRef, JobId, Lane, ToolName};
use evalfleet_proto::job::{Limits, Network};
use evalfleet_proto::submission::Submission;
use evalfleet_proto::units::{ByteSize, parse_duration};
use std::path::PathBuf;
use std::time::Duration;

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
    /// Past results in and out.
    #[command(subcommand)]
    History(HistoryCommand),
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

/// `run`
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// What the job may use, and more.
    #[command(flatten)]
    pub job: JobArgs,
    /// What it reads on standard input; `-` is ours.
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// A variable of its environment.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// Where it starts in the guest.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The guest's user that runs it.
    #[arg(long)]
    pub user: Option<String>,
    /// The program and its arguments, without a shell around them.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGV")]
    pub argv: Vec<String>,
}

/// `call`
#[derive(Debug, Clone, Args)]
pub struct CallArgs {
    /// What the job may use, and more.
    #[command(flatten)]
    pub job: JobArgs,
    /// The tool.
    pub tool: ToolName,
    /// Its arguments as JSON; `-` reads them from standard input.
    #[arg(default_value = "{}", value_name = "JSON")]
    pub args: String,
    /// Call it though it is in quarantine.
    #[arg(long)]
    pub force: bool,
}

/// `logs`
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The job.
    pub id: JobId,
    /// Show what it writes until it is done, from its beginning; then its report.
    #[arg(short, long)]
    pub follow: bool,
    /// Follow no longer than this; as long as a job may run when missing.
    #[arg(long, value_parser = parse_duration, requires = "follow")]
    pub patience: Option<Duration>,
}

/// `batch`
#[derive(Debug, Clone, Subcommand)]
pub enum BatchCommand {
    /// Show what a batch has come to so far.
    #[command(
        after_help = "Examples:\n  evalfleet batch show night\n  evalfleet batch show night --watch --count 500"
    )]
    Show {
        /// Which.
        batch: BatchId,
        /// As it was known then: a time, or a transaction.
        #[arg(long, value_name = "TIME", conflicts_with = "watch")]
        as_of: Option<String>,
        /// Show it again whenever something is recorded.
        #[arg(long)]
        watch: bool,
        /// Watch until so many of its jobs are recorded.
        #[arg(long, requires = "watch")]
        count: Option<usize>,
    },
}

/// `submit`
#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    /// A file with one job a line; `-` is standard input.
    #[arg(value_name = "FILE", required_unless_present = "named", conflicts_with = "named")]
    pub given: Option<PathBuf>,
    /// The same, named by a flag.
    #[arg(long = "file", value_name = "FILE")]
    pub named: Option<PathBuf>,
    /// The batch they belong to, where they name none.
    #[arg(long)]
    pub batch: Option<BatchId>,
}

impl SubmitArgs {
    /// The file.
    pub fn file(&self) -> &std::path::Path {
        self.given.as_deref().or(self.named.as_deref()).unwrap_or(std::path::Path::new("-"))
    }
}

/// `wait`
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// The jobs.
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    pub ids: Vec<JobId>,
    /// Jobs of this batch instead, until so many are recorded as --count says.
    #[arg(long, requires = "count")]
    pub batch: Option<BatchId>,
    /// How many jobs of the batch.
    #[arg(long, requires = "batch", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: Option<u32>,
    /// No longer than this; client.patience when missing.
    #[arg(long, value_parser = parse_duration)]
    pub patience: Option<Duration>,
}

/// `cancel`
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// The jobs.
    #[arg(required_unless_present = "batch", conflicts_with = "batch")]
    pub ids: Vec<JobId>,
    /// All jobs of a batch that were submitted until now, instead.
    #[arg(long)]
    pub batch: Option<BatchId>,
    /// Why; their records say it.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Wait until they are reported, and show the reports.
    #[arg(long, conflicts_with = "batch")]
    pub wait: bool,
    /// Wait no longer than this; client.patience when missing.
    #[arg(long, value_parser = parse_duration, requires = "wait")]
    pub patience: Option<Duration>,
}

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

/// What an imported image is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Channel {
    /// Whichever answers first.
    Auto,
    /// An sshd.
    Ssh,
    /// The QEMU guest agent.
    Qga,
}

/// `image`
#[derive(Debug, Clone, Subcommand)]
pub enum ImageCommand {
    /// Build an image, or find it built. Minutes, for the first time.
    ///
    /// The same packages, recipe and agent give the same digest, wherever it is built. Folders with recipes are looked
    /// for in EVALFLEET_RECIPES, then in vm-images beside this program.
    #[command(
        after_help = "Examples:\n  evalfleet image build base\n  evalfleet image build rust --force --json | jq -r .digest\n  \
        EVALFLEET_RECIPES=~/recipes evalfleet image build mine"
    )]
    Build {
        /// Which: base, eval, rust, or the folder of a recipe of your own.
        #[arg(default_value = "base")]
        name: String,
        /// Build everything anew: Debian's packages may be newer.
        #[arg(long)]
        force: bool,
    },
    /// Import a qcow2 or raw disk of your own: a cloud image with sshd and cloud-init, or with the QEMU guest
    /// agent. Boots it once to find which.
    #[command(after_help = "Examples:\n  evalfleet image import ubuntu-22.04-minimal.qcow2\n  \
        evalfleet image import gemini-eval-env.qcow2 --name evaluation --channel ssh --user ubuntu\n  \
        evalfleet run --image evaluation -- uname -a")]
    Import {
        /// The file. One that stands on another file is refused.
        file: std::path::PathBuf,
        /// The image's name; made from the file's when missing.
        #[arg(long)]
        name: Option<String>,
        /// What its inside is reached by.
        #[arg(long, default_value = "auto")]
        channel: Channel,
        /// Who enters over ssh; others than root need sudo without a password there, which cloud-init gives them.
        #[arg(long, default_value = "root")]
        user: String,
        /// Only import: the first job finds out how it is reached.
        #[arg(long)]
        no_boot: bool,
    },
    /// Open a shell in a throw-away VM of an imported image, or run a command there.
    #[command(
        after_help = "Examples:\n  evalfleet image ssh evaluation\n  evalfleet image ssh evaluation -- journalctl -b"
    )]
    Ssh {
        /// Which: NAME or NAME@DIGEST.
        name: ImageRef,
        /// The command; a shell when missing.
        #[arg(last = true)]
        argv: Vec<String>,
    },
    /// Show the images that are here: size, age, scenarios, and the templates that were made of each.
    ///
    /// A star marks the one that the bare name means.
    #[command(
        after_help = "Examples:\n  evalfleet image list\n  evalfleet image list --json | jq .templates"
    )]
    List,
    /// Read one image whole, compare it with its digests, and show it with its templates.
    #[command(
        after_help = "Examples:\n  evalfleet image show base\n  evalfleet image show base@3f2a91 | jq .scenarios\n  \
        evalfleet image show rust --packages | grep '^rustc '\n  \
        diff <(evalfleet image show base --packages) <(evalfleet image show base@3f2a91 --packages)"
    )]
    Show {
        /// Which: NAME or NAME@DIGEST.
        #[arg(default_value = "base")]
        name: String,
        /// Its Debian packages with their versions instead, one a line.
        #[arg(long)]
        packages: bool,
    },
    /// Remove templates: failed ones, those of images that are gone, and the least recently used beyond a size;
    /// then the images that a newer one of their name has replaced and of which no template is left.
    ///
    /// Never a template that a worker has open or that is being made, nor the image that client.image pins. What is
    /// removed is made again when a job wants it, but an old image only if its packages are still what they were.
    #[command(
        after_help = "Examples:\n  evalfleet image gc --dry-run\n  evalfleet image gc --max 2G\n  evalfleet image gc --max 0"
    )]
    Gc {
        /// What the rest may take on the disk; qemu.templates_max when missing.
        #[arg(long)]
        max: Option<ByteSize>,
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
    },
}

/// What every command that submits takes.
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    /// Time on the clock.
    #[arg(long, value_parser = parse_duration, help_heading = "Limits")]
    pub wall: Option<Duration>,
    /// Time on the processors.
    #[arg(long, value_parser = parse_duration, help_heading = "Limits")]
    pub cpu: Option<Duration>,
    /// Memory of all its processes together.
    #[arg(long, help_heading = "Limits")]
    pub memory: Option<ByteSize>,
    /// Processes and threads at one moment.
    #[arg(long, help_heading = "Limits")]
    pub processes: Option<u32>,
    /// Growth of the disk.
    #[arg(long, help_heading = "Limits")]
    pub disk: Option<ByteSize>,
    /// Standard output and standard error together.
    #[arg(long, help_heading = "Limits")]
    pub output: Option<ByteSize>,
    /// What it may reach over TCP: none, or allow=HOST[:PORT],… (names, *.names or addresses), as far as
    /// the setting worker.network_allow covers it.
    #[arg(long, value_name = "NETWORK", default_value = "none", help_heading = "Limits")]
    pub network: Network,
    /// The image: NAME or NAME@sha256:DIGEST.
    #[arg(long)]
    pub image: Option<ImageRef>,
    /// The image's scenario.
    #[arg(long)]
    pub scenario: Option<String>,
    /// 0 to 9, larger first.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: u8,
    /// Overtake the others: the lane urgent.
    #[arg(long, conflicts_with = "lane")]
    pub urgent: bool,
    /// The lane, one of broker.lanes: jobs with a need of their own may have workers of their own
    /// (worker.lanes).
    #[arg(long)]
    pub lane: Option<Lane>,
    /// Not to be started after this moment.
    #[arg(long, value_name = "TIME")]
    pub deadline: Option<Timestamp>,
    /// What it belongs to: suite, case, run, model, …
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// The same key, the same job.
    #[arg(long, value_name = "IDEMPOTENCY_KEY")]
    pub key: Option<String>,
    /// The batch it belongs to.
    #[arg(long)]
    pub batch: Option<BatchId>,
    /// A glob of paths that it is meant to change.
    #[arg(long, value_name = "GLOB")]
    pub expect: Vec<String>,
    /// A file to lay into the VM.
    #[arg(long, value_name = "LOCAL:GUEST", value_parser = file_pair)]
    pub file: Vec<(PathBuf, String)>,
    /// A guest file to fetch after the run, into the current folder or to LOCAL.
    #[arg(long, value_name = "GUEST[:LOCAL]", value_parser = out_pair)]
    pub out: Vec<(String, Option<PathBuf>)>,
}

impl JobArgs {
    /// Puts what was given into `submission`. Files are laid in later: they may be large, or not text.
    pub fn apply(&self, submission: &mut Submission) {
        submission.limits = self.limits();
        submission.network.clone_from(&self.network);
        submission.image.clone_from(&self.image);
        submission.scenario.clone_from(&self.scenario);
        submission.priority = self.priority;
        submission.urgent = self.urgent;
        submission.lane.clone_from(&self.lane);
        submission.deadline = self.deadline;
        submission.labels = self.label.iter().cloned().collect();
        submission.key.clone_from(&self.key);
        submission.batch.clone_from(&self.batch);
        submission.expected_effects.clone_from(&self.expect);
        submission.out = self.out.iter().map(|(guest, _)| guest.clone()).collect();
    }

    fn limits(&self) -> Limits {
        let default = Limits::default();
        let wall = self.wall.unwrap_or(default.wall);
        Limits {
            wall,
            // Whoever grants more time on the clock and says nothing of the processors means both.
            cpu: self.cpu.unwrap_or_else(|| default.cpu.max(wall)),
            memory: self.memory.unwrap_or(default.memory),
            processes: self.processes.unwrap_or(default.processes),
            disk: self.disk.unwrap_or(default.disk),
            output: self.output.unwrap_or(default.output),
        }
    }
}

impl RunArgs {
    /// The job that the arguments describe, without its files and its standard input.
    pub fn submission(&self) -> Submission {
        let mut submission = Submission::command(self.argv.clone());
        submission.env = self.env.iter().cloned().collect();
        submission.cwd.clone_from(&self.cwd);
        submission.user.clone_from(&self.user);
        self.job.apply(&mut submission);
        submission
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

fn file_pair(text: &str) -> Result<(PathBuf, String), String> {
    match text.rsplit_once(':') {
        Some((local, guest)) if !local.is_empty() && guest.starts_with('/') => {
            Ok((PathBuf::from(local), guest.to_owned()))
        }
        _ => {
            Err("must be LOCAL:GUEST with an absolute guest path, such as ./a.py:/workspace/a.py".to_owned())
        }
    }
}

fn out_pair(text: &str) -> Result<(String, Option<PathBuf>), String> {
    let (guest, local) = match text.split_once(':') {
        Some((guest, local)) if !local.is_empty() => (guest, Some(PathBuf::from(local))),
        Some(_) => return Err("must be GUEST or GUEST:LOCAL".to_owned()),
        None => (text, None),
    };
    if guest.starts_with('/') {
        Ok((guest.to_owned(), local))
    } else {
        Err("must begin with an absolute guest path, such as /workspace/a".to_owned())
    }
}

#[cfg(test)]
mod tests;
