//! No-op jobs one after the other, as many as go: a worker, with all that it does for a job, against a loop
//! of `snapshot-load` and `true` in one QEMU.
//!
//! Blocks of both take turns. Processor time is what counts where cores are shared: this process's, and that
//! of all QEMUs, from a spare that stands to a spare that stands.

use crate::host::{self, Host};
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use crate::stand::{self, Stand, argv};
use anyhow::{Context as _, ensure};
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use evalfleet_worker::job::{Run as _, Runner};
use evalfleet_worker::vm::Snapshot;
use evalfleet_worker::vm::template::Timeouts;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Jobs of one block.
const BLOCK: u32 = 10;
/// How long a spare may take to stand.
const SPARE: Duration = Duration::from_secs(120);

/// What a block took.
#[derive(Debug, Clone, Copy)]
struct Spent {
    wall: Duration,
    cpu: Duration,
}

/// Measures `blocks` of both, after one of each that does not count.
///
/// # Errors
/// When there is no VM, a job does not pass, or it is interrupted.
pub async fn measure(
    settings: &Settings,
    blocks: usize,
    interrupted: &CancellationToken,
) -> anyhow::Result<Report> {
    let (host, settings) = (Host::look(), Arc::new(settings.clone()));
    let mut stand = Box::pin(Stand::raise(&settings, "pace")).await?;
    let limits = Timeouts { boot: settings.qemu.boot_timeout, reset: settings.qemu.reset_timeout };
    let folder = stand.folder();
    let mut snapshot = Snapshot::boot(&stand.template, &folder, limits).await?;
    let mut runner = stand::worker(&settings, &format!("pace-{}", std::process::id())).await?;
    let mut series: [Series; 4] = Default::default();
    for block in 0..=blocks {
        ensure!(!interrupted.is_cancelled(), "interrupted");
        let worker = Box::pin(jobs(&mut runner, &settings)).await?;
        let looped = resets(&mut snapshot, limits.reset).await?;
        if block > 0 {
            let taken = [worker.wall, worker.cpu, looped.wall, looped.cpu];
            series.iter_mut().zip(taken).for_each(|(series, taken)| series.push(taken / BLOCK));
        }
    }
    runner.put_away().await;
    snapshot.destroy().await?;
    Ok(report(host, &stand, &series))
}

async fn jobs(runner: &mut Runner, settings: &Settings) -> anyhow::Result<Spent> {
    spare_stands(runner).await?;
    let (begun, before) = (Instant::now(), host::processor_time(None)?);
    for _ in 0..BLOCK {
        let job = Submission::command(["true"]).into_job(&stand::defaults(settings))?;
        let evaluation = stand::evaluate(runner, job).await?;
        ensure!(evaluation.status == Status::Passed, "{evaluation:?}");
    }
    spare_stands(runner).await?;
    Ok(Spent { wall: begun.elapsed(), cpu: host::processor_time(None)?.saturating_sub(before) })
}

async fn spare_stands(runner: &Runner) -> anyhow::Result<()> {
    let mut status = runner.supply();
    let stands = status.wait_for(|status| status.spare == "ready");
    tokio::time::timeout(SPARE, stands).await.context("no spare stands")?.context("the supply ended")?;
    Ok(())
}

async fn resets(snapshot: &mut Snapshot, limit: Duration) -> anyhow::Result<Spent> {
    let qemu = Some(snapshot.pid());
    let (begun, before) = (Instant::now(), host::processor_time(qemu)?);
    for _ in 0..BLOCK {
        snapshot.reset(limit).await?;
        snapshot.run(argv(&["true"]), limit).await?;
    }
    let spent = Spent { wall: begun.elapsed(), cpu: host::processor_time(qemu)?.saturating_sub(before) };
    snapshot.hold().await?;
    Ok(spent)
}

fn report(host: Host, stand: &Stand, series: &[Series; 4]) -> Report {
    let what = [
        "a worker: a job, on the clock",
        "a worker: a job, processor time",
        "snapshot-load loop: a job, on the clock",
        "snapshot-load loop: a job, processor time",
    ];
    let times: Vec<Row> = what
        .into_iter()
        .zip(series)
        .map(|(what, series)| Row { what, milliseconds: series.summary() })
        .collect();
    let median = |at: usize| times[at].milliseconds.median;
    let figure = |what: &str, value: f64, unit| Figure { what: what.to_owned(), value, unit };
    Report {
        benchmark: "pace: no-op jobs, one after the other, each in a clean VM",
        host,
        conditions: stand.conditions().into(),
        figures: vec![
            figure("a worker: jobs a second", 1000.0 / median(0), ""),
            figure("a worker: jobs a second and core", 1000.0 / median(1), ""),
            figure("snapshot-load loop: jobs a second", 1000.0 / median(2), ""),
            figure("snapshot-load loop: jobs a second and core", 1000.0 / median(3), ""),
            figure("a worker / snapshot-load loop, jobs a second", median(2) / median(0), "times"),
            figure("a worker / snapshot-load loop, jobs a second and core", median(3) / median(1), "times"),
        ],
        times,
    }
}
