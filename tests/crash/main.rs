//! The real delivery under `kill -9`: three RabbitMQ nodes, the Datomic gateway, recorders, workers and a
//! producer, all killed at random while jobs flow, the leader of the jobs' queue among them. In the end every
//! job whose publish was confirmed must be in the history once, as it was meant to end, or be a dead letter.
//!
//! ```text
//!   course ── starts, kills ──▶ producer ─▶ node 1, 2, 3 ─▶ workers ─▶ node … ─▶ recorders ─▶ gateway
//!     │                            │ confirmed                                                  │
//!     └───── reckons up ◀──────────┴────────────────────────────────────────── history ◀────────┘
//! ```
//!
//! `make crash` runs it with the host's RabbitMQ and with a newer one out of another root. The simulation
//! (`tests/simulation`) tries far more schedules; this shows that the real parts keep what it assumes of them.

mod cluster;
mod course;
mod history;
mod plan;
mod producer;
mod worker;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use evalfleet_proto::status::Exit;
use evalfleet_service::part as service;
use evalfleet_tests::stand_in;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "crash", about = "The real delivery, with every part killed while jobs flow")]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Runs a course, and says what was lost, doubled or changed: exits with 1 where something was.
    Run(Plan),
    /// A worker without VMs, of a course.
    #[command(hide = true)]
    Worker,
    /// The producer of a course.
    #[command(hide = true)]
    Producer(producer::Order),
}

/// How much is asked for.
#[derive(Debug, Clone, clap::Args)]
struct Plan {
    /// Jobs to submit.
    #[arg(long, default_value_t = 10_000)]
    jobs: u64,
    /// Jobs to submit a second, at most.
    #[arg(long, default_value_t = 25.0)]
    rate: f64,
    /// Workers.
    #[arg(long, default_value_t = 3)]
    workers: u32,
    /// Workers have real VMs; else stand-ins, whose results are as planned.
    #[arg(long)]
    real: bool,
    /// What the course is drawn from; else by chance. The same seed strikes in the same order.
    #[arg(long, default_value_t = fastrand::u64(..1_000_000))]
    seed: u64,
    /// A root with another RabbitMQ than the host's (see tests/crash/rabbitmq.sh).
    #[arg(long)]
    rabbitmq: Option<PathBuf>,
    /// After how many minutes nobody is killed any more.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Keeps logs and data.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    match Arguments::parse().role {
        Role::Run(plan) => match runtime.block_on(course::run(plan)).context("the course broke off") {
            Ok(sound) => ExitCode::from(u8::from(!sound)),
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::from(Exit::Unreachable.code())
            }
        },
        Role::Worker => runtime.block_on(service::run(None, async |settings| {
            stand_in::work(settings, worker::AsPlanned).await?;
            Ok(Exit::Passed)
        })),
        Role::Producer(order) => {
            runtime.block_on(service::run(None, async |settings| producer::produce(settings, order).await))
        }
    }
}
