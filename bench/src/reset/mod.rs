//! Ways to a clean VM, in one run and in turns: the clock starts when the VM is asked for and stops when
//! the first command's result is there.
//!
//! The comparison leans towards `snapshot-load` in one QEMU: the others pay for their proof of reset, their
//! metrics and a worker's whole path of a run, that one for none of these.

mod way;

use crate::host::{self, Host};
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use crate::stand::{self, Stand, argv};
use anyhow::{Context as _, ensure};
use evalfleet_proto::units::ByteSize;
use evalfleet_service::settings::Settings;
use evalfleet_worker::vm::Snapshot;
use evalfleet_worker::vm::template::Timeouts;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use way::{Kind, Way};

const WAYS: usize = Way::ALL.len();
/// Translations so few that the rest of an idle spare shows.
const FEW: ByteSize = ByteSize::mib(4);

struct Bench {
    stands: Vec<Stand>,
    snapshot: Snapshot,
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
    let mut stands = Vec::new();
    for kind in Kind::ALL {
        let stand = Box::pin(Stand::raise(&kind.settings(settings), kind.name())).await;
        stands.push(stand.with_context(|| format!("the template for {kind:?}"))?);
    }
    let spare = idle_spare(&mut stands[0]).await?;
    let mut few = Kind::Clone.settings(settings);
    few.qemu.translations_max = FEW;
    // With so few, everything is translated again and again: how long that takes is no matter here.
    few.qemu.reset_timeout *= 4;
    let small_spare = idle_spare(&mut Box::pin(Stand::raise(&few, "few")).await?).await?;
    let limits = Timeouts { boot: settings.qemu.boot_timeout, reset: settings.qemu.reset_timeout };
    let folder = stands[0].folder();
    let snapshot = Snapshot::boot(&stands[0].template, &folder, limits).await?;
    let mut bench = Bench { stands, snapshot, limit: limits.reset };
    let series = Box::pin(bench.rounds(runs, interrupted)).await;
    bench.snapshot.destroy().await?;
    let mut report = report(host, &bench.stands[0], &series?);
    let translations = settings.qemu.translations_max;
    for (memory, translations) in [(spare, translations), (small_spare, FEW)] {
        report.figures.push(Figure {
            what: format!("private memory of an idle spare, {translations} for translations"),
            value: memory as f64 / f64::from(1 << 20),
            unit: "MiB",
        });
    }
    Ok(report)
}

/// What a clone that waits for its job has for itself.
async fn idle_spare(stand: &mut Stand) -> anyhow::Result<u64> {
    let clean = stand.clean().await?;
    let bytes = host::private(clean.pid());
    clean.destroy().await?;
    bytes
}

impl Bench {
    async fn rounds(
        &mut self,
        runs: usize,
        interrupted: &CancellationToken,
    ) -> anyhow::Result<[Series; WAYS]> {
        let mut series: [Series; WAYS] = Default::default();
        for run in 0..=runs {
            for turn in 0..WAYS {
                ensure!(!interrupted.is_cancelled(), "interrupted");
                // Back and forth, and from another start each time: none always follows the same other.
                let forth = (run + turn) % WAYS;
                let index = if run % 2 == 0 { forth } else { WAYS - 1 - forth };
                let way = Way::ALL[index];
                let took = Box::pin(self.first_command(way)).await.with_context(|| way.name())?;
                tracing::debug!(run, way = way.name(), ms = took.as_millis() as u64, "measured");
                if run > 0 {
                    series[index].push(took);
                }
            }
        }
        Ok(series)
    }

    async fn first_command(&mut self, way: Way) -> anyhow::Result<Duration> {
        if way == Way::OneQemu {
            return self.snapshot().await;
        }
        let stand = &mut self.stands[way.kind() as usize];
        let mut begun = Instant::now();
        let clean = if way.is_ahead() {
            let clean = stand.clean().await?;
            begun = Instant::now();
            clean
        } else {
            stand.clean_now().await?
        };
        let mut active = clean.claim(stand.limit).await?;
        let next = (way == Way::SpareAtWork).then(|| tokio::spawn(stand.clean()));
        let (mut took, _) = stand::run(&mut active, &["true"], "/", begun).await?;
        if way == Way::Running {
            (took, _) = stand::run(&mut active, &["true"], "/", Instant::now()).await?;
        }
        if let Some(next) = next {
            next.await??.destroy().await?;
        }
        active.stop().await?.destroy().await?;
        Ok(took)
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

fn report(host: Host, stand: &Stand, series: &[Series; WAYS]) -> Report {
    let times: Vec<Row> = Way::ALL
        .iter()
        .zip(series)
        .map(|(way, series)| Row { what: way.name(), milliseconds: series.summary() })
        .collect();
    let ratio = |of: Way, to: Way| Figure {
        what: format!("{} / {}, of medians", of.name(), to.name()),
        value: times[of as usize].milliseconds.median / times[to as usize].milliseconds.median,
        unit: "times",
    };
    Report {
        benchmark: "reset: from asking for a clean VM to its first command's result",
        host,
        conditions: stand.conditions().into(),
        figures: vec![
            ratio(Way::Spare, Way::Running),
            ratio(Way::SpareAtWork, Way::Running),
            ratio(Way::OneQemu, Way::Spare),
            ratio(Way::OneQemu, Way::SpareAtWork),
            ratio(Way::OneQemu, Way::OnDemand),
            ratio(Way::SnapshotLoad, Way::OnDemand),
            ratio(Way::MappedRam, Way::OnDemand),
            ratio(Way::ColdBoot, Way::OnDemand),
            ratio(Way::LargeOnDemand, Way::OnDemand),
            ratio(Way::LargeSpare, Way::Spare),
        ],
        times,
    }
}
