//! The machine that numbers were taken on: without it they say nothing.

use anyhow::Context as _;
use evalfleet_proto::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// The machine, at the beginning of a measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// When.
    pub date: String,
    /// The version of evalfleet.
    pub version: String,
    /// How it was compiled.
    pub profile: &'static str,
    /// Processors that this process may use.
    pub cores: usize,
    /// Their name.
    pub model: String,
    /// Load averages over 1, 5 and 15 minutes.
    pub load: String,
}

impl Host {
    /// Looks at this machine.
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let load: Vec<_> = read("/proc/loadavg").split(' ').take(3).map(ToOwned::to_owned).collect();
        Self {
            date: Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            version: evalfleet_service::VERSION.to_owned(),
            profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            model: model(&read("/proc/cpuinfo")),
            load: load.join(" "),
        }
    }
}

/// The bytes that a process has in memory now, this one where none is named.
///
/// # Errors
/// When it is gone.
pub fn resident(pid: Option<u32>) -> anyhow::Result<u64> {
    let path = pid.map_or_else(|| "/proc/self/status".to_owned(), |pid| format!("/proc/{pid}/status"));
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kib * 1024)
}

/// The bytes of memory that a process has for itself: written by it, and shared with nobody.
///
/// # Errors
/// When it is gone, or belongs to somebody else.
pub fn private(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line =
        rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).context("Private_Dirty")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().with_context(|| path.clone())?;
    Ok(kib * 1024)
}

/// The processor time of this process, of all its children that have ended, and of `other`.
///
/// # Errors
/// When the kernel does not say.
pub fn processor_time(other: Option<u32>) -> anyhow::Result<Duration> {
    let own = ticks("/proc/self/stat", 4)?;
    let other = other.map_or(Ok(0), |pid| ticks(&format!("/proc/{pid}/stat"), 2))?;
    Ok(Duration::from_millis((own + other) * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Sums fields 14 and following of a process's `stat`: its time in user mode and in the kernel's, then that
/// of its children.
fn ticks(path: &str, fields: usize) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    // The name in field 2 may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("a process's stat")?;
    let times = rest.split_ascii_whitespace().skip(11).take(fields);
    times.map(|field| field.parse::<u64>().with_context(|| path.to_owned())).sum()
}

fn model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_works_uses_time_and_has_memory() {
        let before = super::processor_time(None).unwrap();
        let begun = std::time::Instant::now();
        while super::processor_time(None).unwrap() == before {
            assert!(begun.elapsed().as_secs() < 60, "no time passes");
        }
        assert!(super::private(std::process::id()).unwrap() > 0);
        let other = super::processor_time(Some(std::process::id())).unwrap();
        assert!(other > super::processor_time(None).unwrap());
    }

    #[test]
    fn the_model_is_the_first_processors() {
        assert_eq!(
            super::model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags : a\n"),
            "Some CPU @ 2 GHz"
        );
        assert_eq!(super::model(""), "unknown");
    }
}
