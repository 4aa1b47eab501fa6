//! How long a job's effects take to be known: from asking the guest to flush its disk to the list, for a
//! job that did a hundred things to it and for one that did nothing, in turns.
//!
//! The stages are those of a worker, on its own path: the guest flushes, QEMU is held, the host reads
//! its books about QEMU, then reads and hashes what is on the disk, then compares.

use crate::host::Host;
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::{Context as _, ensure};
use evalfleet_proto::guest::Run;
use evalfleet_proto::ids::WorkerId;
use evalfleet_service::settings::Settings;
use evalfleet_worker::supply::Supply;
use evalfleet_worker::vm::effects::{self, Expected};
use evalfleet_worker::vm::{Clean, Ending, Meter, Template};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Far above what either job needs.
const METER: Meter =
    Meter { wall: Duration::from_secs(60), cpu: Duration::from_secs(60), output: 1 << 20, disk: 1 << 30 };

/// A hundred operations: two directories' worth of new files, some of them moved or removed again, links,
/// and changes of files of the image. Prints how many effects that makes.
const HUNDRED: &str = r#"
import os
os.mkdir("many")
for n in range(40): open(f"many/file-{n}", "w").write("x" * (100 * n + 1))
for n in range(20): os.mkdir(f"many/directory-{n}")
for n in range(10): os.symlink("file-39", f"many/link-{n}")
for n in range(10): os.rename(f"many/file-{n}", f"many/moved-{n}")
for n in range(10, 19): os.remove(f"many/file-{n}")
etc = sorted(e.path for e in os.scandir("/etc") if e.is_file(follow_symlinks=False))[:10]
for path in etc: os.chmod(path, 0o604)
print(1 + 40 + 20 + 10 - 9 + len(etc))
"#;

/// What is measured, with the name of the whole and of its stages.
#[derive(Debug, Clone, Copy)]
struct Work {
    script: Option<&'static str>,
    names: [&'static str; 6],
}

const WORKS: [Work; 2] = [
    Work {
        script: Some(HUNDRED),
        names: [
            "100 operations: flush to list",
            "  the guest flushes its disk",
            "  QEMU holds the guest",
            "  the host reads its books",
            "  the disk is read and hashed",
            "  before and after are compared",
        ],
    },
    Work {
        script: None,
        names: [
            "nothing touched: flush to list",
            "  the guest flushes its disk ",
            "  QEMU holds the guest ",
            "  the host reads its books ",
            "  the disk is read and hashed ",
            "  before and after are compared ",
        ],
    },
];

struct Bench {
    template: Arc<Template>,
    dir: PathBuf,
    made: u64,
    limit: Duration,
}

/// Measures `runs` rounds of both jobs, after one round that does not count.
///
/// # Errors
/// When there is no image, no VM, a list is not what the job did, or it is interrupted.
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
    let mut bench = Bench { template, dir: dir.join("effects"), made: 0, limit: settings.qemu.reset_timeout };
    let mut series: [[Series; 6]; 2] = Default::default();
    let mut written = [0, 0];
    for run in 0..=runs {
        for (at, work) in WORKS.iter().enumerate() {
            ensure!(!interrupted.is_cancelled(), "interrupted");
            let (stages, bytes) = Box::pin(bench.job(*work)).await?;
            if run > 0 {
                series[at].iter_mut().zip(stages).for_each(|(series, took)| series.push(took));
                written[at] = bytes;
            }
        }
    }
    std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    Ok(report(host, &bench.template, &series, written))
}

impl Bench {
    /// Runs one job in a VM of its own; gives the whole, its stages, and what QEMU wrote to the disk.
    async fn job(&mut self, work: Work) -> anyhow::Result<([Duration; 6], u64)> {
        self.made += 1;
        let dir = self.dir.join(self.made.to_string());
        let clean = Clean::prepare(self.template.clone(), &dir, "bench", self.limit).await?;
        let mut active = clean.claim(self.limit).await?;
        let argv = work.script.map_or(vec!["true"], |script| vec!["python3", "-EsSB", "-c", script]);
        let argv = argv.into_iter().map(ToOwned::to_owned).collect();
        let order = Run { argv, cwd: "/workspace".to_owned(), ..Run::default() };
        let (never, mut said) = (CancellationToken::new(), Vec::new());
        let mut listen = |event| {
            if let evalfleet_worker::vm::Event::Output { data, .. } = event {
                said.extend_from_slice(&data);
            }
        };
        let ending = active.run(order, &[], METER, &never, &mut listen).await?;
        let well = matches!(&ending, Ending::Exited(exited) if exited.code == Some(0));
        ensure!(well, "the job ended with {ending:?}: {}", String::from_utf8_lossy(&said));

        let begun = Instant::now();
        let spent = active.stop().await?;
        let reading = Instant::now();
        let (disk, template) = (spent.scratch().to_owned(), self.template.clone());
        let (list, omitted, read, compared) = tokio::task::spawn_blocking(move || {
            let nothing: [&str; 0] = [];
            let expected = Expected::new(&nothing)?;
            let layer = effects::read_upper(&disk)?;
            let read = reading.elapsed();
            let comparing = Instant::now();
            let (list, omitted) = effects::compare(template.before(), &layer, &expected, 10_000);
            anyhow::Ok((list, omitted, read, comparing.elapsed()))
        })
        .await??;
        let whole = begun.elapsed();
        let count: usize = String::from_utf8_lossy(&said).trim().parse().unwrap_or(0);
        ensure!((list.len(), omitted) == (count, 0), "{} effects where the job made {count}", list.len());
        let (halt, bytes) = (spent.halt, spent.disk_written);
        spent.destroy().await?;
        Ok(([whole, halt.flush, halt.hold, halt.books, read, compared], bytes))
    }
}

fn report(host: Host, template: &Template, series: &[[Series; 6]; 2], written: [u64; 2]) -> Report {
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
    let rows = WORKS.iter().zip(series).flat_map(|(work, series)| work.names.into_iter().zip(series));
    let figure = |what: &str, bytes: u64| Figure {
        what: format!("written to the disk by the job that {what}"),
        value: bytes as f64 / 1024.0,
        unit: "KiB",
    };
    Report {
        benchmark: "effects: from asking the guest to flush its disk to the list of effects",
        host,
        conditions: conditions.into(),
        times: rows.map(|(what, series)| Row { what, milliseconds: series.summary() }).collect(),
        figures: vec![figure("did a hundred operations", written[0]), figure("touched nothing", written[1])],
    }
}
