//! How long a job's effects take to be known: from asking the guest to flush its disk to the list, for a
//! job that did a hundred things to it and for one that did nothing, in turns.
//!
//! The stages are those of a worker, on its own path: the guest flushes, QEMU is held, the host reads
//! its books about QEMU, then reads and hashes what is on the disk, then compares.

use crate::host::Host;
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use crate::stand::{self, Stand};
use anyhow::ensure;
use evalfleet_service::settings::Settings;
use evalfleet_worker::vm::effects::{self, Expected};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

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
    let mut stand = Box::pin(Stand::raise(settings, "effects")).await?;
    let mut series: [[Series; 6]; 2] = Default::default();
    let mut written = [0, 0];
    for run in 0..=runs {
        for (at, work) in WORKS.iter().enumerate() {
            ensure!(!interrupted.is_cancelled(), "interrupted");
            let (stages, bytes) = Box::pin(job(&mut stand, *work)).await?;
            if run > 0 {
                series[at].iter_mut().zip(stages).for_each(|(series, took)| series.push(took));
                written[at] = bytes;
            }
        }
    }
    Ok(report(host, &stand, &series, written))
}

/// Runs one job in a VM of its own; gives the whole, its stages, and what QEMU wrote to the disk.
async fn job(stand: &mut Stand, work: Work) -> anyhow::Result<([Duration; 6], u64)> {
    let mut active = stand.clean().await?.claim(stand.limit).await?;
    let program = work.script.map_or(vec!["true"], |script| vec!["python3", "-EsSB", "-c", script]);
    let (_, said) = stand::run(&mut active, &program, "/workspace", Instant::now()).await?;

    let begun = Instant::now();
    let spent = active.stop().await?;
    let reading = Instant::now();
    let (disk, template) = (spent.scratch().to_owned(), stand.template.clone());
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
    let count: usize = said.trim().parse().unwrap_or(0);
    ensure!((list.len(), omitted) == (count, 0), "{} effects where the job made {count}", list.len());
    let (halt, bytes) = (spent.halt, spent.disk_written);
    spent.destroy().await?;
    Ok(([whole, halt.flush, halt.hold, halt.books, read, compared], bytes))
}

fn report(host: Host, stand: &Stand, series: &[[Series; 6]; 2], written: [u64; 2]) -> Report {
    let rows = WORKS.iter().zip(series).flat_map(|(work, series)| work.names.into_iter().zip(series));
    let figure = |what: &str, bytes: u64| Figure {
        what: format!("written to the disk by the job that {what}"),
        value: bytes as f64 / 1024.0,
        unit: "KiB",
    };
    Report {
        benchmark: "effects: from asking the guest to flush its disk to the list of effects",
        host,
        conditions: stand.conditions().into(),
        times: rows.map(|(what, series)| Row { what, milliseconds: series.summary() }).collect(),
        figures: vec![figure("did a hundred operations", written[0]), figure("touched nothing", written[1])],
    }
}
