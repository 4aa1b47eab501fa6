//! The host itself: room, memory, ports, clock.

use super::Check;
use crate::machine::{Machine, ports};
use evalfleet_proto::Timestamp;
use evalfleet_service::settings::Settings;
use std::path::Path;

/// An image, its template, the broker's log and some history.
const DISK_NEEDED: u64 = 4 << 30;
/// Broker and gateway, beside the VMs.
const SERVERS_MEMORY: u64 = 1 << 30;
/// No clock is right that shows a time before this program was written.
const NOT_BEFORE: i64 = 1_750_000_000;

pub(super) fn state_dir(settings: &Settings) -> Check {
    let dir = settings.state_dir();
    let probe = dir.join(".writable");
    let tried = std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&probe, b"x"))
        .and_then(|()| std::fs::remove_file(&probe));
    match tried {
        Ok(()) => Check::ok("state", dir.display().to_string()),
        Err(error) => Check::missing(
            "state",
            format!("{}: {error}", dir.display()),
            "name a folder that you may write in EVALFLEET_STATE__DIR",
        ),
    }
}

pub(super) fn disk(settings: &Settings) -> Check {
    let dir = settings.state_dir();
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = format!("{} free in {}", gib(free), existing.display());
            if free >= DISK_NEEDED {
                Check::ok("disk", found)
            } else {
                Check::missing("disk", found, format!("make room: {} are needed", gib(DISK_NEEDED)))
            }
        }
        Err(error) => Check::warning("disk", format!("{}: {error}", existing.display()), "look with `df -h`"),
    }
}

pub(super) fn memory(settings: &Settings) -> Check {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(available) = meminfo(&info, "MemAvailable") else {
        return Check::warning("memory", "not known", "look with `free -m`");
    };
    // A worker holds a template, a VM and the spare that follows it.
    let vms = u64::from(settings.worker.count.max(1)) * 2 * settings.qemu.memory.bytes();
    let needed = SERVERS_MEMORY + vms;
    let found = format!("{} available, {} wanted", gib(available), gib(needed));
    if available >= needed {
        Check::ok("memory", found)
    } else {
        Check::warning("memory", found, "lower qemu.memory or worker.count")
    }
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

pub(super) fn clock() -> Check {
    let now = Timestamp::now();
    if now.as_second() >= NOT_BEFORE {
        Check::ok("clock", now.to_string())
    } else {
        Check::missing("clock", now.to_string(), "set it: job ids and history order by it")
    }
}

pub(super) fn ports(settings: &Settings) -> Check {
    let running = Machine::read(&settings.state_dir()).filter(|machine| machine.supervisor.is_alive());
    if let Some(machine) = running {
        return Check::ok("ports", format!("in use by the supervisor {}", machine.supervisor.pid));
    }
    let free = (20_000..20_100).filter(|port| ports::is_free(*port)).count();
    if free >= 5 {
        Check::ok("ports", "free ones on 127.0.0.1; they are chosen at the first start and kept")
    } else {
        Check::missing("ports", "none free on 127.0.0.1", "look with `ss -ltn`: is loopback up?")
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       24577 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(1 << 20));
        assert_eq!(meminfo(text, "MemFree"), None);
    }
}
