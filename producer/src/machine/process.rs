//! Processes as the kernel shows them: an identity that survives the reuse of pids, and groups.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// One process of this boot, and no other: a pid and the clock tick at which it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its pid; also its group's, for parts.
    pub pid: i32,
    /// When it began, in ticks since the boot.
    pub began: u64,
}

/// What the kernel tells of a process.
struct Stat {
    zombie: bool,
    group: i32,
    began: u64,
}

impl Process {
    /// The process that has `pid` now.
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, began: stat.began })
    }

    /// This very process.
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.began == self.began && !stat.zombie)
    }

    /// Asks it to end, if it is still itself.
    pub fn terminate(self) {
        if self.is_alive() {
            signal(self.pid, Signal::TERM);
        }
    }

    /// Whether it, or anything else in the group that it led, still runs. The kernel gives no new
    /// process a pid that still names a group, so a group whose leader is gone is its own.
    pub fn group_is_alive(self) -> bool {
        match stat(self.pid) {
            Some(leader) if leader.began != self.began => false,
            Some(_) | None => !members(self).is_empty(),
        }
    }

    /// Ends it and its whole group at once.
    pub fn kill_group(self) {
        if self.group_is_alive() {
            kill_group(self.pid);
        }
    }

    /// Asks it to end, and after `grace` ends what is left of its group.
    pub async fn stop(self, grace: Duration) {
        self.terminate();
        let until = Instant::now() + grace;
        while self.is_alive() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.kill_group();
        let until = Instant::now() + Duration::from_secs(5);
        while self.group_is_alive() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asks the process of a child that is not reaped yet to end.
pub(super) fn terminate(pid: i32) {
    signal(pid, Signal::TERM);
}

/// Ends a whole group at once.
pub(super) fn kill_group(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid)
        && let Err(error) = kill_process_group(pid, Signal::KILL)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, ?pid, "a process group cannot be killed");
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid)
        && let Err(error) = kill_process(pid, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, ?pid, "a process cannot be signalled");
    }
}

/// Names this boot of the machine: a pid of another means nothing.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

fn members(leader: Process) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let belongs = |pid: &i32| {
        stat(*pid).is_some_and(|stat| stat.group == leader.pid && stat.began >= leader.began && !stat.zombie)
    };
    pids.filter(belongs).collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads `/proc/<pid>/stat`. The name in parentheses may hold anything, parentheses too.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        group: fields.get(2)?.parse().ok()?,
        began: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let text = "42 (a) S 1 (b) S 1 77 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.group, stat.began, stat.zombie), (77, 12345, false));
    }

    #[test]
    fn this_process_is_alive_and_another_of_its_pid_is_not() {
        let own = Process::own().unwrap();
        assert!(own.is_alive());
        assert!(!Process { began: own.began + 1, ..own }.is_alive());
        assert!(!boot_id().is_empty());
    }
}
