//! What a job may reach, and what it tried to reach.
//!
//! A destination is written `HOST[:PORT]`: a name (`pypi.org:443`), every name below one
//! (`*.pythonhosted.org`), or an address (`10.0.0.5:5432`, `[2001:db8::1]:443`). Without a port it
//! stands for all of them. TCP only: a gateway on the host answers for names, and nothing else leaves.

use crate::ids::ParseError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The most destinations that a job may list.
pub const DESTINATIONS_MAX: usize = 64;
/// The longest name that DNS knows.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const FORM: &str = "a destination (such as pypi.org:443, *.example.org, 10.0.0.5:5432 or [2001:db8::1]:443)";

/// What a job may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Network {
    /// Nothing: every attempt is refused at once, and recorded.
    #[default]
    None,
    /// These, as far as the operator allows them too; everything else is refused and recorded.
    Allow(Vec<Destination>),
}

impl Network {
    /// What is on the list.
    pub fn destinations(&self) -> &[Destination] {
        match self {
            Self::None => &[],
            Self::Allow(destinations) => destinations,
        }
    }
}

impl FromStr for Network {
    type Err = ParseError;

    /// Reads `none` or `allow=HOST[:PORT],…`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "none" {
            return Ok(Self::None);
        }
        let list = text
            .strip_prefix("allow=")
            .ok_or_else(|| ParseError::new(text, "none or allow=HOST[:PORT],…"))?;
        list.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::Allow)
    }
}

/// Where something may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Destination {
    /// Who.
    pub host: Host,
    /// At which TCP port; `None` is any.
    pub port: Option<u16>,
}

/// Who a destination is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name, in lower case and without a dot at its end.
    Name(String),
    /// Every name below this one, and not itself.
    Below(String),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Whether this is, or covers, the name `name`, whose letters are small.
    pub fn covers_name(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(parent) => {
                name.strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::Address(_) => false,
        }
    }
}

impl Destination {
    /// Whether `port` is meant.
    pub fn covers_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }
}

impl FromStr for Destination {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new(text, FORM);
        // Only an address of IPv6 has more than one colon, and with a port it stands in brackets.
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Address(address.into()), port: None });
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (inside, port) = rest.split_once(']').ok_or_else(error)?;
            let address: Ipv6Addr = inside.parse().map_err(|_| error())?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(error)?) };
            (Host::Address(address.into()), port)
        } else {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (host_of(host).ok_or_else(error)?, port)
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or_else(error));
        Ok(Self { host, port: port.transpose()? })
    }
}

fn host_of(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Host::Address(address));
    }
    match text.strip_prefix("*.") {
        Some(parent) => name_of(parent).map(Host::Below),
        None => name_of(text).map(Host::Name),
    }
}

/// Reads a host's name: `None` when it is none.
pub fn name_of(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(letter);
    // What ends in digits is a mistyped address.
    let last_is_number = name.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit());
    (name.len() <= NAME_BYTES_MAX && name.split('.').all(label) && !last_is_number).then_some(name)
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Name(name), _) => f.write_str(name)?,
            (Host::Below(name), _) => write!(f, "*.{name}")?,
            (Host::Address(IpAddr::V6(address)), Some(_)) => write!(f, "[{address}]")?,
            (Host::Address(address), _) => write!(f, "{address}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl TryFrom<String> for Destination {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        destination.to_string()
    }
}

/// Something outside of its VM that a job tried to reach, as the host saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Contact {
    /// How.
    pub protocol: Protocol,
    /// Its address; null where only a name is known.
    pub destination: Option<String>,
    /// Its port, where the protocol has ports.
    pub port: Option<u16>,
    /// The name that was asked for, or under which it was reached.
    pub name: Option<String>,
    /// How often.
    pub attempts: u64,
    /// Whether it was let through.
    pub allowed: bool,
    /// Why nothing came of it, where that is more than not being listed.
    #[serde(default)]
    pub error: Option<String>,
}

/// How something was tried to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Protocol {
    /// A connection.
    Tcp,
    /// A datagram, which never leaves.
    Udp,
    /// A ping or its like, which never leaves.
    Icmp,
    /// The address of a name.
    Dns,
    /// Anything else, which never leaves.
    Other,
}

impl Protocol {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Dns => "dns",
            Self::Other => "other",
        }
    }
}

/// The link between a VM and its gateway on the host: the same in every VM, since no two share one.
/// The addresses are kept for documentation (RFC 5737) and private use (RFC 4193), so that they hide
/// nothing a job could want to reach.
pub mod link {
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// The guest's interface.
    pub const INTERFACE: &str = "eth0";
    /// The gateway, which is also the name server; the host's loopback is reached at it, where listed.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// The guest.
    pub const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    /// The length of the link's prefix.
    pub const PREFIX: u8 = 30;
    /// The gateway's address of IPv6.
    pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd65, 0x7661, 0x6c66, 0, 0, 0, 0, 1);
    /// The guest's.
    pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0xfd65, 0x7661, 0x6c66, 0, 0, 0, 0, 2);
    /// The length of that prefix.
    pub const PREFIX_V6: u8 = 64;
    /// The gateway's hardware address.
    pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x65, 0x76, 0x01];
    /// The guest's, until its clone has one of its own.
    pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x65, 0x76, 0x02];
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Destination {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn destinations_are_read_and_written_alike() {
        for text in ["pypi.org:443", "a-b.c_d.example", "*.pythonhosted.org:443", "10.0.0.5:5432", "10.0.0.5"]
        {
            assert_eq!(read(text).to_string(), text);
        }
        for text in ["[2001:db8::1]:443", "2001:db8::1"] {
            assert_eq!(read(text).to_string(), text);
        }
        assert_eq!(read("PyPI.org.:443"), read("pypi.org:443"));
        assert_eq!(read("[::1]"), read("::1"));
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in [
            "",
            ":443",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "*",
            "*:443",
            "a.*.b",
            "a..b",
            "-:-",
            "1.2.3",
            "10.0.0.5/8",
            "[::1",
            "[::1]443",
            "[10.0.0.1]:1",
            "a b",
            "http://a",
            "256.1.1.1",
            "é.org",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_name_covers_itself_and_a_star_what_is_below() {
        let (name, below) = (read("a.org").host, read("*.a.org").host);
        assert!(name.covers_name("a.org") && !name.covers_name("b.a.org"));
        assert!(below.covers_name("b.a.org") && below.covers_name("c.b.a.org"));
        assert!(!below.covers_name("a.org") && !below.covers_name("ba.org") && !below.covers_name(".a.org"));
    }

    #[test]
    fn networks_are_read_from_the_command_line() {
        assert_eq!("none".parse(), Ok(Network::None));
        let network: Network = "allow=a.org:443,10.0.0.5".parse().unwrap();
        assert_eq!(network, Network::Allow(vec![read("a.org:443"), read("10.0.0.5")]));
        for text in ["", "all", "allow", "allow=", "allow=a,,b"] {
            assert!(text.parse::<Network>().is_err(), "{text:?} was taken");
        }
        assert_eq!(serde_json::to_string(&network).unwrap(), r#"{"allow":["a.org:443","10.0.0.5"]}"#);
        assert_eq!(serde_json::from_str::<Network>(r#""none""#).unwrap(), Network::None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_so_that_it_reads_the_same(text in "[a-z0-9.:*\\[\\]-]{0,20}") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse(), Ok(destination));
            }
        }
    }
}
