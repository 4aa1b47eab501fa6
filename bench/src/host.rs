//! The machine that numbers were taken on: without it they say nothing.

use anyhow::Context as _;
use evalfleet_proto::Timestamp;
use serde::Serialize;

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

/// The bytes that this process has in memory now.
///
/// # Errors
/// When the kernel does not say.
pub fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS")?;
    Ok(kib * 1024)
}

fn model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_model_is_the_first_processors() {
        assert_eq!(
            super::model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags : a\n"),
            "Some CPU @ 2 GHz"
        );
        assert_eq!(super::model(""), "unknown");
    }
}
