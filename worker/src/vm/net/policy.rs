//! What a job may reach: pure decisions.

use evalfleet_proto::network::{Destination, Host, link};
use evalfleet_proto::units::ByteSize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a job may reach, and how much of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which destinations; none: nothing.
    pub allow: Vec<Destination>,
    /// How much.
    pub bounds: Bounds,
}

/// How much a job may use of what it may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at one moment.
    pub connections: usize,
    /// Bytes of all connections together, both ways.
    pub bytes: ByteSize,
    /// The same in one second.
    pub rate: ByteSize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 32, bytes: ByteSize::mib(1024), rate: ByteSize::mib(64) }
    }
}

impl Policy {
    /// Whether the name `name` is on the list at all: then it may be resolved.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.allow.iter().any(|entry| entry.host.covers_name(name))
    }

    /// Whether `name` may be reached at `port`.
    pub(super) fn allows_name(&self, name: &str, port: u16) -> bool {
        self.allow.iter().any(|entry| entry.host.covers_name(name) && entry.covers_port(port))
    }

    /// Whether an address may be reached at `port`, because it is listed itself.
    pub(super) fn allows_address(&self, address: IpAddr, port: u16) -> bool {
        let listed = |entry: &&Destination| entry.host == Host::Address(address) && entry.covers_port(port);
        self.allow.iter().find(listed).is_some()
    }

    /// Where on the host a guest's connection to an address leads. The guest's own loopback is its own:
    /// the host's, where it is listed, is reached at the gateway.
    pub(super) fn address(&self, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let own: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let gateway = address == link::GATEWAY || address == link::GATEWAY_V6;
        let candidates = if gateway { own } else { std::slice::from_ref(&address) };
        let found = candidates.iter().find(|address| self.allows_address(**address, port));
        found.map(|address| SocketAddr::new(*address, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(list: &[&str]) -> Policy {
        Policy { allow: list.iter().map(|text| text.parse().unwrap()).collect(), ..Policy::default() }
    }

    #[test]
    fn without_a_list_nothing_is_allowed() {
        let none = Policy::default();
        assert!(!none.knows("a.org") && !none.allows_name("a.org", 1));
        assert_eq!(none.address("8.8.8.8".parse().unwrap(), 53), None);
        assert_eq!(none.address(link::GATEWAY.into(), 80), None);
    }

    #[test]
    fn names_addresses_and_ports_are_kept_apart() {
        let some = policy(&["a.org:443", "*.b.org", "10.0.0.5:5432"]);
        assert!(some.knows("a.org") && some.allows_name("a.org", 443) && !some.allows_name("a.org", 80));
        assert!(some.allows_name("x.b.org", 7) && !some.knows("b.org"));
        let (listed, other) = ("10.0.0.5".parse().unwrap(), "10.0.0.6".parse().unwrap());
        assert_eq!(some.address(listed, 5432), Some("10.0.0.5:5432".parse().unwrap()));
        assert_eq!((some.address(listed, 22), some.address(other, 5432)), (None, None));
    }

    #[test]
    fn the_hosts_loopback_is_at_the_gateway_only_where_it_is_listed() {
        let some = policy(&["127.0.0.1:8000", "[::1]:9000"]);
        assert_eq!(some.address(link::GATEWAY.into(), 8000), Some("127.0.0.1:8000".parse().unwrap()));
        assert_eq!(some.address(link::GATEWAY.into(), 9000), Some("[::1]:9000".parse().unwrap()));
        assert_eq!(some.address(link::GATEWAY.into(), 22), None);
        // That the gateway's own address is listed opens nothing on the host.
        assert_eq!(policy(&["192.0.2.1:22"]).address(link::GATEWAY.into(), 22), None);
    }
}
