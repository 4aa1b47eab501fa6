//! Ways to a clean VM, in one run and in turns: the clock starts when the VM is asked for and stops when
//! the first command's result is there.
//!
//! The comparison leans towards `snapshot-load`: clones pay for their proof of reset, their metrics and
//! a worker's whole path of a run, the snapshot for none of these.

use crate::host::Host;
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::{Context as _, ensure};
use evalfleet_proto::guest::Run;
use evalfleet_proto::ids::WorkerId;
use evalfleet_service::settings::Settings;
use evalfleet_worker::supply::Supply;
use evalfleet_worker::vm::template::Timeouts;
use evalfleet_worker::vm::{Active, Clean, Ending, Meter, Snapshot, Template};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Far above what `true` needs.
const METER: Meter =
    Meter { wall: Duration::from_secs(60), cpu: Duration::from_secs(60), output: 1 << 20, disk: 1 << 30 };

/// A way to a clean VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A clone that is asked for only now.
    OnDemand,
    /// A clone that stands ready.
    Spare,
    /// The same, while its successor is being made: what a worker does.
    SpareAtWork,
    /// `snapshot-load` in one QEMU.
    Snapshot,
    /// No reset: one more command in a guest that runs, the floor under all of them.
    Running,
}

const WAYS: [Way; 5] = [Way::OnDemand, Way::Spare, Way::SpareAtWork, Way::Snapshot, Way::Running];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::OnDemand => "clone, made on demand",
            Self::Spare => "clone, spare ready",
            Self::SpareAtWork => "clone, spare ready, its successor being made",
            Self::Snapshot => "snapshot-load, same QEMU",
            Self::Running => "no reset, in a guest that runs",
        }
    }
}

struct Bench {
    template: Arc<Template>,
    snapshot: Snapshot,
    dir: PathBuf,
    made: u64,
    limit: Duration,
}

/// Measures `runs` rounds of all ways, after one round that does not count.
///
/// # Errors
/// When there is no image, no VM, a VM does not do as it must, or it is interrupted.
pub async fn measure(
    settings: &Settings,
    runs: usize,
    interrupted: &CancellationToken,
) -> anyhow::Result<Report> {
    let host = Host::look();
    let name: WorkerId = format!("bench-{}", std::process::id()).parse()?;
    let dir = settings.state_dir().join("vms").join(name.as_str());
    let mut supply = Supply::new(settings, &name)?;
    let template = Box::pin(supply.warm_up(&settings.client.image)).await?;
    supply.discard().await;
    let limits = Timeouts { boot: settings.qemu.boot_timeout, reset: settings.qemu.reset_timeout };
    let snapshot = Snapshot::boot(&template, &dir.join("snapshot"), limits).await?;
    let mut bench = Bench { template, snapshot, dir: dir.clone(), made: 0, limit: limits.reset };
    let series = Box::pin(bench.rounds(runs, interrupted)).await;
    let report = series.map(|series| report(host, &bench.template, &series));
    bench.snapshot.destroy().await?;
    std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    report
}

impl Bench {
    async fn rounds(&mut self, runs: usize, interrupted: &CancellationToken) -> anyhow::Result<[Series; 5]> {
        let mut series: [Series; 5] = Default::default();
        for run in 0..=runs {
            for turn in 0..WAYS.len() {
                ensure!(!interrupted.is_cancelled(), "interrupted");
                // Back and forth, and from another start each time: none always follows the same other.
                let forth = (run + turn) % WAYS.len();
                let index = if run % 2 == 0 { forth } else { WAYS.len() - 1 - forth };
                let took = Box::pin(self.first_command(WAYS[index])).await?;
                tracing::debug!(run, way = WAYS[index].name(), ms = took.as_millis() as u64, "measured");
                if run > 0 {
                    series[index].push(took);
                }
            }
        }
        Ok(series)
    }

    async fn first_command(&mut self, way: Way) -> anyhow::Result<Duration> {
        if way == Way::Snapshot {
            return self.snapshot().await;
        }
        let clean = self.clone();
        let (begun, clean) = if way == Way::OnDemand {
            (Instant::now(), clean.await?)
        } else {
            let spare = clean.await?;
            (Instant::now(), spare)
        };
        let mut active = clean.claim(self.limit).await?;
        let next = (way == Way::SpareAtWork).then(|| tokio::spawn(self.clone()));
        let mut took = run(&mut active, begun).await;
        if way == Way::Running {
            took = run(&mut active, Instant::now()).await;
        }
        if let Some(next) = next {
            next.await??.destroy().await?;
        }
        active.stop().await?.destroy().await?;
        took
    }

    /// A clone, to be made when it is awaited.
    fn clone(&mut self) -> impl Future<Output = Result<Clean, evalfleet_worker::vm::Error>> + use<> {
        self.made += 1;
        let (template, dir, limit) =
            (self.template.clone(), self.dir.join(self.made.to_string()), self.limit);
        async move { Clean::prepare(template, &dir, "bench", limit).await }
    }

    async fn snapshot(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.snapshot.reset(self.limit).await?;
        self.snapshot.run(argv(&["true"]), self.limit).await?;
        let took = begun.elapsed();
        // What this writes must be gone at the next turn, else nothing was reset.
        let leave = ["sh", "-c", "test ! -e /left && touch /left"];
        self.snapshot.run(argv(&leave), self.limit).await.context("a reset left what was written")?;
        self.snapshot.hold().await?;
        Ok(took)
    }
}

async fn run(active: &mut Active, begun: Instant) -> anyhow::Result<Duration> {
    let order = Run { argv: argv(&["true"]), cwd: "/".to_owned(), ..Run::default() };
    let never = CancellationToken::new();
    let ending = active.run(order, &[], METER, &never, &mut |_| ()).await?;
    let took = begun.elapsed();
    ensure!(
        matches!(&ending, Ending::Exited(exited) if exited.code == Some(0)),
        "`true` ended with {ending:?}"
    );
    Ok(took)
}

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn report(host: Host, template: &Template, series: &[Series; 5]) -> Report {
    let machine = template.machine();
    let conditions = [
        ("QEMU", template.qemu_version().to_owned()),
        ("accelerator", machine.accelerator.as_str().to_owned()),
        ("image", template.image().manifest.name.to_string()),
        (
            "machine",
            format!("{}, {} MiB, {} CPU", machine.machine, machine.memory.bytes() >> 20, machine.cpus),
        ),
    ];
    let times: Vec<Row> = WAYS
        .iter()
        .zip(series)
        .map(|(way, series)| Row { what: way.name(), milliseconds: series.summary() })
        .collect();
    let median = |index: usize| times[index].milliseconds.median;
    let ratio = |index: usize| Figure {
        what: format!("snapshot-load / {}, of medians", WAYS[index].name()),
        value: median(3) / median(index),
        unit: "times",
    };
    Report {
        benchmark: "reset: from asking for a clean VM to its first command's result",
        host,
        conditions: conditions.into(),
        figures: [0, 1, 2, 4].into_iter().map(ratio).collect(),
        times,
    }
}
