//! Ports of this machine's own: found free once, and kept, so that addresses stay from one `up` to the
//! next. They lie below the range from which the kernel gives ports to outgoing connections.

use evalfleet_proto::ids::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;
const FILE: &str = "ports.json";

/// The ports of one machine, all on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// AMQP.
    pub broker: u16,
    /// The Erlang port mapper.
    pub epmd: u16,
    /// Erlang distribution.
    pub dist: u16,
    /// The gateway's HTTP.
    pub gateway: u16,
    /// The API's HTTP.
    pub api: u16,
}

impl Ports {
    /// The ports that the state directory remembers, where they are still free, else others.
    ///
    /// # Errors
    /// When the file cannot be written, or no port is free.
    pub fn claim(state_dir: &Path) -> std::io::Result<Self> {
        let file = state_dir.join(FILE);
        let kept = std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok());
        let ports = Self::choose(kept, seed(state_dir), is_free)
            .ok_or_else(|| std::io::Error::other(format!("no port is free from {FIRST} on 127.0.0.1")))?;
        if kept != Some(ports) {
            super::files::write_atomically(&file, serde_json::to_string_pretty(&ports)?.as_bytes(), 0o600)?;
        }
        Ok(ports)
    }

    fn choose(kept: Option<Self>, seed: u16, free: impl Fn(u16) -> bool) -> Option<Self> {
        let all = |ports: Self| [ports.broker, ports.epmd, ports.dist, ports.gateway, ports.api];
        let reserved: BTreeSet<u16> = kept.map(all).into_iter().flatten().collect();
        let mut taken = BTreeSet::new();
        let mut next = (0..COUNT).map(|step| FIRST + (seed + step) % COUNT);
        let mut pick = |kept: Option<u16>| {
            let port = match kept.filter(|port| free(*port) && !taken.contains(port)) {
                Some(port) => port,
                None => next.find(|port| !taken.contains(port) && !reserved.contains(port) && free(*port))?,
            };
            taken.insert(port);
            Some(port)
        };
        Some(Self {
            broker: pick(kept.map(|ports| ports.broker))?,
            epmd: pick(kept.map(|ports| ports.epmd))?,
            dist: pick(kept.map(|ports| ports.dist))?,
            gateway: pick(kept.map(|ports| ports.gateway))?,
            api: pick(kept.map(|ports| ports.api))?,
        })
    }
}

/// Two machines on one host begin their search at different places.
fn seed(state_dir: &Path) -> u16 {
    let digest = Sha256::of(state_dir.as_os_str().as_encoded_bytes()).to_string();
    u16::from_str_radix(&digest[..4], 16).unwrap_or(0) % COUNT
}

/// Whether a listener could have `port` now.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_ports_stay_unless_they_are_taken() {
        let first = Ports::choose(None, 42, |_| true).unwrap();
        assert_eq!(first.broker, 20_042);
        assert_eq!(Ports::choose(Some(first), 7, |_| true), Some(first));
        let moved = Ports::choose(Some(first), 42, |port| port != first.gateway).unwrap();
        assert_eq!((moved.broker, moved.api), (first.broker, first.api));
        assert!(moved.gateway != first.gateway && moved.gateway != first.api);
    }

    #[test]
    fn no_two_are_the_same_and_none_left_is_said() {
        let ports = Ports::choose(None, COUNT - 1, |port| port % 3 == 0).unwrap();
        let all = BTreeSet::from([ports.broker, ports.epmd, ports.dist, ports.gateway, ports.api]);
        assert_eq!(all.len(), 5);
        assert_eq!(Ports::choose(None, 0, |_| false), None);
    }
}
