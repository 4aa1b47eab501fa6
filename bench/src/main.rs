//! `evalfleet-bench`: measures, prints, and judges nothing.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use evalfleet_bench::report::Report;
use evalfleet_bench::soak::Plan;
use evalfleet_bench::{backlog, effects, entrust, history, pace, queue, reset, soak, stream, submit};
use evalfleet_service::settings::Settings;
use evalfleet_service::{VERSION, logging, shutdown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
#[command(name = "evalfleet-bench", version = VERSION, about = "Measures what evalfleet costs on this machine")]
struct Arguments {
    /// The configuration file.
    #[arg(long, env = "EVALFLEET_CONFIG", global = true)]
    config: Option<PathBuf>,
    /// Print JSON, one document for each measurement.
    #[arg(long, global = true)]
    json: bool,
    /// Where tables go when everything is measured.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
    /// What to measure; everything, with its defaults, if nothing is said.
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Time to a clean VM's first command, ten ways.
    Reset {
        /// Rounds that count.
        #[arg(long, default_value_t = 15)]
        runs: usize,
    },
    /// No-op jobs one after the other: a worker against a loop of `snapshot-load`.
    Pace {
        /// Blocks of ten jobs that count.
        #[arg(long, default_value_t = 5)]
        blocks: usize,
    },
    /// A job's output, from the VM to the worker.
    Stream {
        /// Runs of each size that count.
        #[arg(long, default_value_t = 5)]
        runs: usize,
    },
    /// Jobs that leave marks and look for those of all jobs before them, in a worker's own way.
    Soak {
        /// Jobs in all.
        #[arg(long, default_value_t = 10_000)]
        jobs: u64,
        /// Workers side by side, each with a VM and its spare.
        #[arg(long, default_value_t = 2)]
        workers: u64,
        /// Every so many jobs, one looks through all memory, too.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
        deep_every: u64,
        /// When to stop and say how far it came, in minutes.
        #[arg(long, default_value_t = 180)]
        minutes: u64,
    },
    /// Time from a job's end to the list of what it left, stage by stage.
    Effects {
        /// Rounds that count.
        #[arg(long, default_value_t = 15)]
        runs: usize,
    },
    /// Time of a no-op job without a VM, on a RabbitMQ of its own.
    Queue {
        /// Jobs, one at a time and then again several at a time.
        #[arg(long, default_value_t = 300)]
        jobs: usize,
        /// Jobs under way at once in the second part.
        #[arg(long, default_value_t = 32)]
        window: usize,
    },
    /// As many jobs as a queue may hold, that nobody takes: the rate, and whose memory grows.
    Backlog {
        /// Jobs.
        #[arg(long, default_value_t = 1_000_000)]
        jobs: usize,
    },
    /// A long history: what recording costs as it grows, how long its pages take, and its memory.
    History {
        /// Evaluations.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(10..))]
        evaluations: u64,
        /// Dead letters.
        #[arg(long, default_value_t = 100_000)]
        letters: u64,
        /// How often each page is asked for.
        #[arg(long, default_value_t = 100)]
        rounds: usize,
    },
    /// What recording costs as a history in memory grows, in Datomic's peer.
    Growth {
        /// Evaluations.
        #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(10..))]
        evaluations: u64,
    },
    /// A tool's cases against bare jobs, patches from a prepared prefix against cold ones, and whether verdicts stay.
    Entrust {
        /// Rounds that count.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// How often one change is evaluated; none leaves that out.
        #[arg(long, default_value_t = 20)]
        repeats: usize,
        /// Patches of one base, and as many of bases that nobody knows; none leaves that out.
        #[arg(long, default_value_t = 10)]
        patches: usize,
    },
    /// Jobs submitted and confirmed a second, beside the AMQP library alone, on a RabbitMQ of its own.
    Submit {
        /// Jobs of a round.
        #[arg(long, default_value_t = 5_000)]
        messages: usize,
        /// Rounds that count.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
}

/// What is measured if nothing is said, and the files of its tables.
const EVERYTHING: [(&str, What); 10] = [
    ("reset.txt", What::Reset { runs: 15 }),
    ("pace.txt", What::Pace { blocks: 5 }),
    ("stream.txt", What::Stream { runs: 5 }),
    ("effects.txt", What::Effects { runs: 15 }),
    ("queue.txt", What::Queue { jobs: 300, window: 32 }),
    ("submit.txt", What::Submit { messages: 5_000, rounds: 5 }),
    ("backlog.txt", What::Backlog { jobs: 1_000_000 }),
    ("history.txt", What::History { evaluations: 100_000, letters: 100_000, rounds: 100 }),
    ("entrust.txt", What::Entrust { rounds: 5, repeats: 20, patches: 10 }),
    ("growth.txt", What::Growth { evaluations: 300_000 }),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { config, json, results, what } = Arguments::parse();
    logging::init();
    let settings = Settings::load(config.as_deref())?;
    let interrupted = shutdown::on_signal()?;
    if let Some(what) = what {
        return print(&measure(&settings, &what, &interrupted).await?, json);
    }
    for (file, what) in EVERYTHING {
        let report = measure(&settings, &what, &interrupted).await?;
        print(&report, json)?;
        write(&results, file, &report)?;
    }
    Ok(())
}

async fn measure(
    settings: &Settings,
    what: &What,
    interrupted: &CancellationToken,
) -> anyhow::Result<Report> {
    match *what {
        What::Reset { runs } => {
            Box::pin(reset::measure(settings, runs, interrupted)).await.context("measuring resets")
        }
        What::Pace { blocks } => {
            Box::pin(pace::measure(settings, blocks, interrupted)).await.context("measuring the pace")
        }
        What::Stream { runs } => {
            Box::pin(stream::measure(settings, runs, interrupted)).await.context("measuring a stream")
        }
        What::Soak { jobs, workers, deep_every, minutes } => {
            let plan = Plan { jobs, workers, deep_every, limit: Duration::from_secs(minutes * 60) };
            Box::pin(soak::measure(settings, plan, interrupted)).await.context("the soak")
        }
        What::Effects { runs } => {
            Box::pin(effects::measure(settings, runs, interrupted)).await.context("measuring effects")
        }
        What::Queue { jobs, window } => {
            Box::pin(queue::measure(jobs, window, interrupted)).await.context("measuring the queue")
        }
        What::Backlog { jobs } => {
            Box::pin(backlog::measure(jobs, interrupted)).await.context("measuring a backlog")
        }
        What::History { evaluations, letters, rounds } => {
            let plan = history::Plan { evaluations, letters, rounds };
            Box::pin(history::measure(plan, interrupted)).await.context("measuring a history")
        }
        What::Growth { evaluations } => {
            Box::pin(history::growth::measure(evaluations, interrupted)).await.context("measuring growth")
        }
        What::Entrust { rounds, repeats, patches } => {
            let plan = entrust::Plan { rounds, repeats, patches };
            Box::pin(entrust::measure(plan, interrupted)).await.context("measuring what is entrusted")
        }
        What::Submit { messages, rounds } => {
            Box::pin(submit::measure(messages, rounds, interrupted)).await.context("measuring submissions")
        }
    }
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

fn write(dir: &Path, file: &str, report: &Report) -> anyhow::Result<()> {
    let path = dir.join(file);
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    std::fs::write(&path, report.to_string()).with_context(|| format!("writing {}", path.display()))
}
