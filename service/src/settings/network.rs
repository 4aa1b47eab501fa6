//! `qemu.network`: how the host reaches into VMs, in QEMU's own words.
//!
//! `none`, or `user` with options: `hostfwd=tcp:[address]:port-[address]:port`, as often as wanted, and
//! `restrict=on`. What a *job* reaches is its own setting and none of this.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// How the host reaches into VMs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    forwards: Vec<Forward>,
}

/// One port of the host that leads to one of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    tcp: bool,
    host: Option<IpAddr>,
    host_port: u16,
    guest: Option<Ipv4Addr>,
    guest_port: u16,
}

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A kind of network that there is not.
    #[error("{0:?} is neither `none` nor `user,hostfwd=tcp::2222-:22`")]
    Kind(String),
    /// An option that is not taken.
    #[error("the option {0:?} is not taken: hostfwd=tcp:[ADDRESS]:PORT-[ADDRESS]:PORT and restrict=on are")]
    Option(String),
    /// Letting VMs out.
    #[error("restrict=off is not taken: whether a job reaches a network is the job's own setting")]
    Open,
}

impl Network {
    /// The ports that lead in.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',').map(str::trim);
        match parts.next() {
            Some("none") if text.trim() == "none" => return Ok(Self::default()),
            Some("user") => {}
            Some(_) | None => return Err(Error::Kind(text.to_owned())),
        }
        let mut forwards = Vec::new();
        for part in parts {
            let unknown = || Error::Option(part.to_owned());
            match part.split_once('=').ok_or_else(unknown)? {
                ("hostfwd", rule) => forwards.push(Forward::parse(rule).ok_or_else(unknown)?),
                ("restrict", "on" | "yes" | "y") => {}
                ("restrict", _) => return Err(Error::Open),
                _ => return Err(unknown()),
            }
        }
        Ok(Self { forwards })
    }
}

impl Forward {
    /// A TCP port of this machine's loopback.
    pub fn tcp(host_port: u16, guest_port: u16) -> Self {
        Self { tcp: true, host: None, host_port, guest: None, guest_port }
    }

    fn parse(rule: &str) -> Option<Self> {
        let (protocol, rest) = rule.split_once(':')?;
        let tcp = match protocol {
            "tcp" | "" => true,
            "udp" => false,
            _ => return None,
        };
        let (host, guest) = rest.split_once('-')?;
        let (host, host_port) = host.rsplit_once(':')?;
        let (guest, guest_port) = guest.rsplit_once(':')?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        Some(Self {
            tcp,
            host: if host.is_empty() { None } else { Some(host.parse().ok()?) },
            host_port: port(host_port)?,
            guest: if guest.is_empty() { None } else { Some(guest.parse().ok()?) },
            guest_port: port(guest_port)?,
        })
    }

    /// Whether it is TCP rather than UDP.
    pub fn is_tcp(&self) -> bool {
        self.tcp
    }

    /// The host's address, if one is named.
    pub fn host_address(&self) -> Option<IpAddr> {
        self.host
    }

    /// The host's port that is wanted.
    pub fn host_port(&self) -> u16 {
        self.host_port
    }

    /// The guest's port.
    pub fn guest_port(&self) -> u16 {
        self.guest_port
    }

    /// The rule for another address and port of the host, in QEMU's words.
    pub fn rule(&self, address: IpAddr, port: u16) -> String {
        let protocol = if self.tcp { "tcp" } else { "udp" };
        let guest = self.guest.map(|address| address.to_string()).unwrap_or_default();
        format!("{protocol}:{address}:{port}-{guest}:{}", self.guest_port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_line_is_taken_as_written() {
        let network: Network = "user,hostfwd=tcp::2222-:22".parse().unwrap();
        assert_eq!(network.forwards(), [Forward::tcp(2222, 22)]);
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(network.forwards()[0].rule(loopback, 2223), "tcp:127.0.0.1:2223-:22");
        assert_eq!("none".parse::<Network>().unwrap(), Network::default());
    }

    #[test]
    fn addresses_protocols_and_several_forwards_are_taken() {
        let network: Network =
            "user,restrict=on,hostfwd=udp:0.0.0.0:53-10.0.2.15:53,hostfwd=tcp::80-:80".parse().unwrap();
        assert_eq!(network.forwards().len(), 2);
        let first = &network.forwards()[0];
        assert!(!first.is_tcp() && first.host_address() == Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        assert_eq!(first.rule(Ipv4Addr::UNSPECIFIED.into(), 53), "udp:0.0.0.0:53-10.0.2.15:53");
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (line, error) in [
            ("tap,ifname=x", Error::Kind("tap,ifname=x".to_owned())),
            ("user,hostfwd=tcp::x-:22", Error::Option("hostfwd=tcp::x-:22".to_owned())),
            ("user,smb=/", Error::Option("smb=/".to_owned())),
            ("user,restrict=off", Error::Open),
        ] {
            assert_eq!(line.parse::<Network>(), Err(error));
        }
    }
}
