//! A cgroup for one VM: what its QEMU may use of the host, and what it used.
//!
//! Own code rather than a library: the one that is kept up (`cgroups-rs`) brings a D-Bus client along and
//! leaves open what this needs most, finding a place where groups may be made at all ([`super::place`]).

use super::place::{self, Place, Version};
use rustix::process::{Pid, Signal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

/// The length of a period that processor time is dealt out in, in microseconds.
const PERIOD_US: u64 = 100_000;
/// How long a dead process may keep its cgroup busy.
const SETTLE: Duration = Duration::from_secs(2);

/// What a VM may use of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory, QEMU's own and what it reads of files included.
    pub memory: u64,
    /// Hundredths of a processor.
    pub cpu_percent: u64,
    /// Processes and threads.
    pub threads: u64,
}

/// What a cgroup has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Processor time in user mode.
    pub cpu_user: Duration,
    /// Processor time in the kernel.
    pub cpu_system: Duration,
    /// The most memory at one moment, where that is counted.
    pub memory_peak: Option<u64>,
    /// How often the kernel killed for want of memory.
    pub oom_kills: u64,
}

/// Where VMs' cgroups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroups {
    version: Version,
    places: Vec<Place>,
    prefix: String,
}

/// One VM's cgroup, in every tree; gone when dropped.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: Version,
    dirs: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds the place for the VMs of `worker`, and clears what a killed predecessor left there.
    ///
    /// # Errors
    /// When there are no cgroups, or none may be made.
    pub(super) fn find(worker: &str) -> io::Result<Self> {
        let (own, mounts) =
            (fs::read_to_string("/proc/self/cgroup")?, fs::read_to_string("/proc/self/mountinfo")?);
        let none = || io::Error::new(io::ErrorKind::NotFound, "no cgroups are mounted");
        let (version, mut places) = place::own(&own, &mounts).ok_or_else(none)?;
        match version {
            Version::Two => places = vec![place::ready(&places[0].dir)?],
            Version::One => {
                let mut last = none();
                places.retain(|place| {
                    let probe = place.dir.join(format!("evalfleet-probe.{}", std::process::id()));
                    let made = fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe));
                    made.map_err(|error| {
                        last = io::Error::new(error.kind(), format!("{}: {error}", place.dir.display()))
                    })
                    .is_ok()
                });
                if places.is_empty() {
                    return Err(last);
                }
            }
        }
        let found = Self { version, places, prefix: format!("evalfleet.{worker}.") };
        found.clear();
        Ok(found)
    }

    /// What can be limited and counted.
    pub(super) fn controllers(&self) -> Vec<&str> {
        self.places.iter().flat_map(|place| &place.controllers).map(String::as_str).collect()
    }

    /// Whether threads can be limited.
    pub(super) fn counts_threads(&self) -> bool {
        self.controllers().contains(&"pids")
    }

    /// How cgroups work here, in words.
    pub(super) fn describe(&self) -> String {
        let version = if self.version == Version::One { 1 } else { 2 };
        format!("version {version}: {}", self.controllers().join(", "))
    }

    fn clear(&self) {
        for place in &self.places {
            let Ok(entries) = fs::read_dir(&place.dir) else { continue };
            for entry in entries.flatten() {
                if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                    tracing::info!(cgroup = %entry.path().display(), "clearing what a killed worker left");
                    clear(&entry.path());
                }
            }
        }
    }

    /// Makes the cgroup of one VM.
    ///
    /// # Errors
    /// When the kernel refuses; nothing stays then.
    pub(super) fn make(&self, vm: &str, bounds: Bounds) -> io::Result<Cgroup> {
        let mut group = Cgroup { version: self.version, dirs: Vec::new() };
        for place in &self.places {
            let dir = place.dir.join(format!("{}{vm}", self.prefix));
            fs::create_dir(&dir)?;
            group.dirs.push(dir.clone());
            for controller in &place.controllers {
                limit(self.version, controller, &dir, bounds).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {controller}: {error}", dir.display()))
                })?;
            }
        }
        Ok(group)
    }
}

fn limit(version: Version, controller: &str, dir: &Path, bounds: Bounds) -> io::Result<()> {
    let write = |file: &str, value: &str| fs::write(dir.join(file), value);
    // Swap is a controller of its own that a kernel may lack.
    let maybe = |file: &str, value: &str| if dir.join(file).exists() { write(file, value) } else { Ok(()) };
    let (memory, quota) = (bounds.memory.to_string(), bounds.cpu_percent * PERIOD_US / 100);
    match (version, controller) {
        (Version::Two, "memory") => {
            write("memory.max", &memory)?;
            maybe("memory.swap.max", "0")
        }
        (Version::One, "memory") => {
            write("memory.limit_in_bytes", &memory)?;
            maybe("memory.memsw.limit_in_bytes", &memory)
        }
        (Version::Two, "cpu") => write("cpu.max", &format!("{quota} {PERIOD_US}")),
        (Version::One, "cpu") => {
            maybe("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            maybe("cpu.cfs_quota_us", &quota.to_string())
        }
        (_, "pids") => write("pids.max", &bounds.threads.to_string()),
        (_, _) => Ok(()),
    }
}

impl Cgroup {
    /// Its folders, one in every tree.
    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Reads what was used so far, if processor time is counted here.
    pub(crate) fn books(&self) -> Option<Tally> {
        let read = |file: &str| self.dirs.iter().find_map(|dir| fs::read_to_string(dir.join(file)).ok());
        let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
        let (cpu_user, cpu_system) = match self.version {
            Version::Two => {
                let stat = read("cpu.stat")?;
                let time = |name| value(&stat, name).map(Duration::from_micros);
                (time("user_usec")?, time("system_usec")?)
            }
            Version::One => (
                Duration::from_nanos(number("cpuacct.usage_user")?),
                Duration::from_nanos(number("cpuacct.usage_sys")?),
            ),
        };
        let (peak, events) = match self.version {
            Version::Two => ("memory.peak", "memory.events"),
            Version::One => ("memory.max_usage_in_bytes", "memory.oom_control"),
        };
        let oom_kills = read(events).and_then(|text| value(&text, "oom_kill")).unwrap_or(0);
        Some(Tally { cpu_user, cpu_system, memory_peak: number(peak), oom_kills })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.dirs.iter().for_each(|dir| clear(dir));
    }
}

/// Ends what is in a cgroup, and removes it.
fn clear(dir: &Path) {
    let begun = Instant::now();
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if begun.elapsed() > SETTLE => {
                tracing::warn!(cgroup = %dir.display(), %error, "a VM's cgroup stays behind");
                return;
            }
            Err(_) => {}
        }
        let inside = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines().filter_map(|line| line.trim().parse().ok().and_then(Pid::from_raw)) {
            // It may be gone by now, which is what was wanted.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The number after `name` in a file of `name number` lines.
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = "oom 3\noom_kill 2\noom_kill_disable 0\n";
        assert_eq!(value(text, "oom_kill"), Some(2));
        assert_eq!(value(text, "kill"), None);
    }

    #[test]
    fn a_group_is_limited_counted_and_gone_where_this_host_lets_us() {
        let Ok(cgroups) = Cgroups::find("unit-test") else { return };
        let bounds = Bounds { memory: 64 << 20, cpu_percent: 150, threads: 20 };
        let group = cgroups.make("1", bounds).unwrap();
        let dirs = group.dirs().to_vec();
        assert!(dirs.iter().all(|dir| dir.is_dir()));
        assert!(cgroups.make("1", bounds).is_err(), "no two VMs share one");
        if cgroups.counts_threads() {
            let read = |dir: &PathBuf| fs::read_to_string(dir.join("pids.max")).ok();
            assert_eq!(dirs.iter().find_map(read).unwrap().trim(), "20");
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        for dir in &dirs {
            fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        // As a worker of the same name would that comes after a killed one.
        std::mem::forget(group);
        Cgroups::find("unit-test").unwrap();
        assert!(dirs.iter().all(|dir| !dir.exists()), "{dirs:?}");
        assert!(!child.wait().unwrap().success());
    }
}
