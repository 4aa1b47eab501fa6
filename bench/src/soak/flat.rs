//! What this process holds at one moment: it must not grow with the number of jobs.

use crate::host;
use crate::report::Figure;
use anyhow::Context as _;
use std::fmt::{Display, Formatter};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What two looks may differ by although nothing grows: an allocator's slack, and a VM that is just there.
const SLACK: Flat = Flat { jobs: 0, memory_bytes: 8 << 20, files: 32, disk_bytes: 64 << 20 };

/// Memory, open files and disk after so many jobs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flat {
    jobs: u64,
    memory_bytes: u64,
    files: u64,
    disk_bytes: u64,
}

impl Flat {
    /// Looks at this process and at the folder of its VMs.
    pub(super) fn look(jobs: u64, vms: &Path) -> anyhow::Result<Self> {
        let files = std::fs::read_dir("/proc/self/fd").context("/proc/self/fd")?.count() as u64;
        Ok(Self { jobs, memory_bytes: host::resident(None)?, files, disk_bytes: allocated(vms) })
    }

    /// What has grown since an earlier look, by more than two looks may differ.
    pub(super) fn grown_since(&self, earlier: &Self) -> Option<String> {
        let grown = [
            ("memory", self.memory_bytes, earlier.memory_bytes, SLACK.memory_bytes),
            ("open files", self.files, earlier.files, SLACK.files),
            ("disk", self.disk_bytes, earlier.disk_bytes, SLACK.disk_bytes),
        ]
        .into_iter()
        .find(|(_, now, then, slack)| *now > then + slack);
        grown.map(|(what, now, then, _)| {
            format!("{what} grew from {then} to {now} between {} and {} jobs", earlier.jobs, self.jobs)
        })
    }

    /// The same as figures of a report.
    pub(super) fn figures(&self) -> [Figure; 3] {
        let mib = |bytes: u64| (bytes as f64 / f64::from(1 << 20) * 10.0).round() / 10.0;
        [
            ("memory", mib(self.memory_bytes), "MiB"),
            ("open files", self.files as f64, ""),
            ("disk of its VMs", mib(self.disk_bytes), "MiB"),
        ]
        .map(|(what, value, unit)| Figure {
            what: format!("after {} jobs: {what}", self.jobs),
            value,
            unit,
        })
    }
}

impl Display for Flat {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let (memory, disk) = (mib(self.memory_bytes), mib(self.disk_bytes));
        write!(f, "{} jobs: {memory} MiB of memory, {} open files, {disk} MiB of disk", self.jobs, self.files)
    }
}

/// What a folder takes on its disk; what vanishes meanwhile takes nothing.
fn allocated(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(file) if file.is_dir() => allocated(&entry.path()),
            Ok(file) => file.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{Flat, SLACK};

    #[test]
    fn what_grows_is_named() {
        let early = Flat { jobs: 1000, memory_bytes: 20 << 20, files: 50, disk_bytes: 0 };
        let late = Flat { jobs: 10_000, memory_bytes: early.memory_bytes + SLACK.memory_bytes, ..early };
        assert_eq!(late.grown_since(&early), None);
        let leaking = Flat { files: early.files + SLACK.files + 1, ..late };
        let grown = leaking.grown_since(&early).unwrap();
        assert!(grown.starts_with("open files") && grown.contains("1000 and 10000 jobs"), "{grown}");
    }

    #[test]
    fn this_process_has_memory_and_open_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), [1; 8192]).unwrap();
        let flat = Flat::look(7, dir.path()).unwrap();
        assert!(flat.memory_bytes > 1 << 20 && flat.files >= 3 && flat.disk_bytes >= 8192, "{flat}");
    }
}
