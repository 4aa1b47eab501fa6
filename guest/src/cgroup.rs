//! A cgroup for one run: what its whole process tree may use, what it used, and its end.

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

/// Where they all are.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// One run's cgroup; removed when dropped, which takes its processes along.
pub(crate) struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup.
    pub(crate) fn make(number: u64) -> io::Result<Self> {
        let dir = PathBuf::from(format!("{ROOT}/run-{number}"));
        fs::create_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Limits the memory of all its processes together, before the first of them is born. There is no
    /// swap in a guest.
    pub(crate) fn limit_memory(&self, memory: u64) -> io::Result<()> {
        if memory > 0 { self.write("memory.max", &memory.to_string()) } else { Ok(()) }
    }

    /// Runs `spawn` with this process inside the cgroup, so that the child is born in it.
    pub(crate) fn born_inside<T>(&self, spawn: impl FnOnce() -> T) -> io::Result<T> {
        self.write("cgroup.procs", "0")?;
        let child = spawn();
        fs::write(format!("{ROOT}/cgroup.procs"), "0")?;
        Ok(child)
    }

    /// Limits the number of processes and threads. Set after the birth: until then the agent counts.
    pub(crate) fn limit_processes(&self, processes: u32) -> io::Result<()> {
        if processes > 0 { self.write("pids.max", &processes.to_string()) } else { Ok(()) }
    }

    /// The processes that are in it now.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        processes_in(&self.dir)
    }

    /// Kills everything in it and waits until it is empty.
    pub(crate) fn kill(&self) {
        let begun = Instant::now();
        while !self.processes().is_empty() && begun.elapsed() < Duration::from_secs(5) {
            if self.write("cgroup.kill", "1").is_err() {
                for pid in self.processes() {
                    // It may be gone by now, which is what was wanted.
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            // A zombie is not listed any more: nothing has to be reaped for the list to empty.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads `name value` lines of a file of the cgroup.
    pub(crate) fn counters<const N: usize>(&self, file: &str, names: [&str; N]) -> [u64; N] {
        let text = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        names.map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        })
    }

    /// Reads a file of the cgroup that holds one number.
    pub(crate) fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.dir.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.dir.join(file), value)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        // An orphan that is not reaped yet keeps it for a moment; the number is never used again.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The processes of the cgroup `dir`, without those of the cgroups below it.
pub(crate) fn processes_in(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.trim().parse().ok().and_then(Pid::from_raw)).collect()
}

/// Reads one `name value` line of a file of the cgroup `dir`.
pub(crate) fn counter(dir: &Path, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(dir.join(file)).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// Reaps every child that has ended, orphans included: process 1 inherits them all, and as long as they
/// are not reaped they count as processes of their cgroup.
pub(crate) fn reap(mut ended: impl FnMut(Pid, WaitStatus)) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        ended(pid, status);
    }
}
