//! Who is left when a run's first process is gone.
//!
//! Usually nobody, or some in the run's cgroup: a process that made itself a daemon is there as well. A
//! subject that is root can also move processes into cgroups of its own, below that one or beside it, or
//! back to where the agent is; there they are told from the kernel's threads and from who was there first.

use crate::cgroup::{Cgroup, ROOT, counter, processes_in};
use rustix::process::{Pid, Signal};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, io};

/// How many cgroups are looked into.
const CGROUPS_MAX: usize = 1000;
/// How long ending them may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The kernel's own mark of its threads: `PF_KTHREAD`.
const KERNEL_THREAD: u64 = 0x20_0000;

/// The processes of the run whose first process was `first`.
pub(crate) fn processes(cgroup: &Cgroup, first: Pid) -> Vec<Pid> {
    // One for the run itself.
    let mut found = if counter(ROOT.as_ref(), "cgroup.stat", "nr_descendants") > 1 {
        all_cgroups().unwrap_or_default().iter().flat_map(|dir| processes_in(dir)).collect()
    } else {
        cgroup.processes()
    };
    let at_home = processes_in(ROOT.as_ref()).into_iter();
    found.extend(at_home.filter(|pid| pid.as_raw_nonzero() > first.as_raw_nonzero() && is_program(*pid)));
    found
}

/// Ends them all, and waits until they are gone.
pub(crate) fn end(cgroup: &Cgroup, first: Pid) {
    let begun = Instant::now();
    loop {
        let left = processes(cgroup, first);
        if left.is_empty() || begun.elapsed() > PATIENCE {
            return;
        }
        for pid in left {
            // It may be gone by now, which is what was wanted.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every cgroup but the root.
fn all_cgroups() -> io::Result<Vec<PathBuf>> {
    let (mut all, mut next) = (vec![PathBuf::from(ROOT)], 0);
    while next < all.len() && all.len() < CGROUPS_MAX {
        for entry in fs::read_dir(&all[next])? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                all.push(entry.path());
            }
        }
        next += 1;
    }
    all.remove(0);
    Ok(all)
}

/// Whether `pid` is neither one of the kernel's threads nor dead already.
fn is_program(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    program_by(&stat).unwrap_or(false)
}

/// Reads that of `/proc/<pid>/stat`: the name in field 2 may hold anything, field 3 is the state, field 9
/// are the flags.
fn program_by(stat: &str) -> Option<bool> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    Some(!matches!(state, "Z" | "X") && flags & KERNEL_THREAD == 0)
}

#[cfg(test)]
mod tests {
    use super::program_by;

    #[test]
    fn programs_are_told_from_kernel_threads_and_the_dead() {
        assert_eq!(program_by("812 (a) Z) b) S 1 812 812 0 -1 4194560 103 0"), Some(true));
        assert_eq!(program_by("31 (kworker/0:1) I 2 0 0 0 -1 69238880 0 0"), Some(false));
        assert_eq!(program_by("813 (sleep) Z 1 813 813 0 -1 4194560 103 0"), Some(false));
        assert_eq!(program_by(""), None);
    }
}
