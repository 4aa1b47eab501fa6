//! The end of everything that is not ours: root in a guest can leave the cgroup that it was born in.

use rustix::process::{Pid, Signal};
use std::fs;
use std::time::{Duration, Instant};

/// How long to go on: whoever forks faster than it is killed ends with the VM.
const PATIENCE: Duration = Duration::from_secs(5);
/// The flag of the kernel's own threads, in `include/linux/sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Kills every process but this one, which is all there is beside a run.
pub(crate) fn end_all() {
    let begun = Instant::now();
    loop {
        let others = others();
        if others.is_empty() || begun.elapsed() > PATIENCE {
            return;
        }
        for pid in others {
            // It may be gone by now, which is what was wanted.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn others() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let alive = numbers.filter(|pid| {
        *pid != 1 && fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| counts(&stat))
    });
    alive.filter_map(Pid::from_raw).collect()
}

/// Whether a line of `/proc/<pid>/stat` is of a process that still has to be ended: no thread of the
/// kernel's, and not dead already. The name in it may hold anything.
fn counts(stat: &str) -> bool {
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let dead = matches!(fields.next(), None | Some("Z" | "X"));
    let flags: u64 = fields.nth(5).and_then(|flags| flags.parse().ok()).unwrap_or(KERNEL_THREAD);
    !dead && flags & KERNEL_THREAD == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_and_the_dead_are_left_alone() {
        assert!(counts("70 (a) b) S 1 70 70 0 -1 4194560 101 0"));
        assert!(!counts("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0"));
        assert!(!counts("71 (sh) Z 1 70 70 0 -1 4194560 101 0"));
        assert!(!counts("nonsense"));
    }
}
