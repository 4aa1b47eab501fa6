//! How fast a job's output comes out of its VM, and what that costs the worker in memory.

use crate::host::{self, Host};
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::ensure;
use evalfleet_proto::guest::Run;
use evalfleet_proto::ids::WorkerId;
use evalfleet_service::settings::Settings;
use evalfleet_worker::supply::Supply;
use evalfleet_worker::vm::{Active, Ending, Event, Meter};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Streams of these sizes: were memory to grow with what was streamed, it would show between them.
const SIZES: [u64; 2] = [32 << 20, 256 << 20];
const METER: Meter =
    Meter { wall: Duration::from_secs(300), cpu: Duration::from_secs(300), output: u64::MAX, disk: 1 << 30 };

/// Streams each size `runs` times out of one VM, after one run that does not count.
///
/// # Errors
/// When there is no VM, bytes are lost, or it is interrupted.
pub async fn measure(
    settings: &Settings,
    runs: usize,
    interrupted: &CancellationToken,
) -> anyhow::Result<Report> {
    let host = Host::look();
    let name: WorkerId = format!("bench-{}", std::process::id()).parse()?;
    let mut supply = Supply::new(settings, &name)?;
    let supplied = Box::pin(supply.clean(&settings.client.image, None)).await?;
    let accelerator = supplied.clean.template().machine().accelerator.as_str();
    let mut active = supplied.clean.claim(settings.qemu.reset_timeout).await?;
    stream(&mut active, SIZES[0]).await?;
    let mut series = [Series::default(), Series::default()];
    let mut grown = [0, 0];
    for _ in 0..runs {
        for (at, size) in SIZES.into_iter().enumerate() {
            ensure!(!interrupted.is_cancelled(), "interrupted");
            let before = host::resident(None)?;
            series[at].push(stream(&mut active, size).await?);
            grown[at] = grown[at].max(host::resident(None)?.saturating_sub(before));
        }
    }
    active.stop().await?.destroy().await?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let rows: Vec<Row> = ["32 MiB out of a VM", "256 MiB out of a VM"]
        .into_iter()
        .zip(&series)
        .map(|(what, series)| Row { what, milliseconds: series.summary() })
        .collect();
    let rate = |at: usize| mib(SIZES[at]) / (rows[at].milliseconds.median / 1000.0);
    let figures = vec![
        Figure { what: "32 MiB, by the median".to_owned(), value: rate(0), unit: "MiB/s" },
        Figure { what: "256 MiB, by the median".to_owned(), value: rate(1), unit: "MiB/s" },
        Figure { what: "most that memory grew by in 32 MiB".to_owned(), value: mib(grown[0]), unit: "MiB" },
        Figure { what: "most that memory grew by in 256 MiB".to_owned(), value: mib(grown[1]), unit: "MiB" },
    ];
    Ok(Report {
        benchmark: "stream: a job's output, from the VM to the worker",
        host,
        conditions: [("accelerator", accelerator.to_owned())].into(),
        times: rows,
        figures,
    })
}

async fn stream(active: &mut Active, size: u64) -> anyhow::Result<Duration> {
    let argv = ["head", "-c", &size.to_string(), "/dev/zero"].map(str::to_owned).to_vec();
    let order = Run { argv, cwd: "/".to_owned(), ..Run::default() };
    let (never, mut heard) = (CancellationToken::new(), 0);
    let mut count = |event| {
        if let Event::Output { data, .. } = event {
            heard += data.len() as u64;
        }
    };
    let begun = Instant::now();
    let ending = active.run(order, &[], METER, &never, &mut count).await?;
    let took = begun.elapsed();
    ensure!(matches!(&ending, Ending::Exited(exited) if exited.code == Some(0)), "{ending:?}");
    ensure!(heard == size, "{heard} of {size} bytes came out");
    Ok(took)
}
