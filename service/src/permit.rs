//! What an operator lets jobs reach: `worker.network_allow`. Pure.
//!
//! Written like a job's own list, and wider: `*` is every name (and no address), `10.0.0.0/8` a whole
//! network. A job gets what it asks for only if all of it is covered.

use evalfleet_proto::network::{Destination, Host};
use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    who: Who,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    AnyName,
    Host(Host),
    Net(IpNet),
}

impl FromStr for Permit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || {
            format!(
                "{text:?} is none of NAME[:PORT], *.NAME[:PORT], *[:PORT], ADDRESS[:PORT] or NETWORK/BITS[:PORT]"
            )
        };
        let port = |text: &str| match text {
            "" => Ok(None),
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .map(Some)
                .ok_or_else(error),
        };
        if let Some(rest) = text.strip_prefix('*').filter(|rest| !rest.starts_with('.')) {
            return Ok(Self { who: Who::AnyName, port: port(rest)? });
        }
        if let Some((address, rest)) = text.split_once('/') {
            let (bits, rest) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
            let net = format!("{}/{bits}", address.trim_start_matches('[').trim_end_matches(']'));
            return Ok(Self { who: Who::Net(net.parse().map_err(|_| error())?), port: port(rest)? });
        }
        let Destination { host, port } = text.parse().map_err(|_| error())?;
        Ok(Self { who: Who::Host(host), port })
    }
}

impl Permit {
    /// Whether all of `asked` is within this.
    pub fn covers(&self, asked: &Destination) -> bool {
        let port = self.port.is_none_or(|port| asked.port == Some(port));
        port && match (&self.who, &asked.host) {
            (Who::AnyName, host) => !matches!(host, Host::Address(_)),
            (Who::Net(net), Host::Address(address)) => net.contains(address),
            (Who::Net(_), Host::Name(_) | Host::Below(_)) => false,
            (Who::Host(own), Host::Name(name)) => own.covers_name(name),
            (Who::Host(Host::Below(own)), Host::Below(parent)) => {
                own == parent || Host::Below(own.clone()).covers_name(parent)
            }
            (Who::Host(own), host) => own == host,
        }
    }
}

/// The first of `asked` that no permit covers.
pub fn beyond<'a>(permits: &[Permit], asked: &'a [Destination]) -> Option<&'a Destination> {
    asked.iter().find(|asked| !permits.iter().any(|permit| permit.covers(asked)))
}

/// Whether an address belongs to no one on the open internet: one's own machine or network, or nobody.
/// A name that resolves to such an address is not followed.
pub fn is_inner(address: IpAddr) -> bool {
    const INNER: [&str; 24] = [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
        "::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ];
    static NETS: std::sync::LazyLock<Vec<IpNet>> =
        std::sync::LazyLock::new(|| INNER.iter().filter_map(|net| net.parse().ok()).collect());
    // Some addresses of IPv6 only wrap one of IPv4.
    if let IpAddr::V6(v6) = address {
        let bytes = v6.octets();
        let wrapped = |at: usize| {
            let inner: [u8; 4] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            is_inner(IpAddr::from(inner))
        };
        let mapped = v6.to_ipv4_mapped().is_some();
        let translated = bytes[..12] == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
        if mapped || translated {
            return wrapped(12);
        }
        if bytes[..2] == [0x20, 0x02] {
            return wrapped(2);
        }
    }
    NETS.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(permit: &str, asked: &str) -> bool {
        permit.parse::<Permit>().unwrap().covers(&asked.parse().unwrap())
    }

    #[test]
    fn a_permit_covers_what_is_within_it_and_nothing_else() {
        for (permit, asked) in [
            ("*", "pypi.org:443"),
            ("*", "*.a.org"),
            ("*:443", "pypi.org:443"),
            ("pypi.org", "pypi.org:443"),
            ("*.a.org", "x.a.org:1"),
            ("*.a.org", "*.b.a.org"),
            ("*.a.org", "*.a.org:9"),
            ("10.0.0.0/8", "10.1.2.3:5432"),
            ("10.0.0.0/8:5432", "10.1.2.3:5432"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("2001:db8::/32", "[2001:db8::1]:9"),
            ("[fd00::1]:9", "[fd00::1]:9"),
        ] {
            assert!(covers(permit, asked), "{permit} covers {asked}");
        }
        for (permit, asked) in [
            ("*", "10.0.0.5:443"),
            ("*:443", "pypi.org"),
            ("*:443", "pypi.org:80"),
            ("pypi.org:443", "pypi.org"),
            ("a.org", "*.a.org"),
            ("*.a.org", "a.org"),
            ("*.b.a.org", "*.a.org"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "a.org"),
            ("127.0.0.1", "127.0.0.2"),
            ("127.0.0.1:80", "127.0.0.1"),
        ] {
            assert!(!covers(permit, asked), "{permit} does not cover {asked}");
        }
        for text in ["", "*x", "*:", "*:0", "10.0.0.0/33", "10.0.0.0/8:x", "a.org/8", "http://a"] {
            assert!(text.parse::<Permit>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn the_first_that_is_beyond_is_named() {
        let permits = ["a.org".parse().unwrap()];
        let asked = ["a.org:1".parse().unwrap(), "b.org:1".parse().unwrap()];
        assert_eq!(beyond(&permits, &asked), Some(&asked[1]));
        assert_eq!(beyond(&permits, &asked[..1]), None);
        assert_eq!(beyond(&[], &asked[..1]), Some(&asked[0]));
    }

    #[test]
    fn inner_addresses_are_known_in_every_guise() {
        for text in [
            "127.0.0.1",
            "10.0.0.5",
            "192.168.1.1",
            "172.31.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "2001:0:1::1",
        ] {
            assert!(is_inner(text.parse().unwrap()), "{text}");
        }
        for text in
            ["93.184.216.34", "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700::1", "172.32.0.1"]
        {
            assert!(!is_inner(text.parse().unwrap()), "{text}");
        }
    }
}
