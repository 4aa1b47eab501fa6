//! The way from the host into a foreign image: QEMU's user network, closed to the outside.
//!
//! The guest sees a network with nobody on it: it reaches neither the host nor anything beyond. What the
//! user's line forwards is opened on the host's side; where the port is taken, by another worker's VM or
//! by anybody, the next free one is. QEMU itself is asked to take it, so no two can think they have it.

use super::super::Error;
use super::super::qapi::qmp::Qmp;
use evalfleet_service::settings::network::{Forward, Network};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// QEMU's name for the network.
pub(super) const NETDEV: &str = "inward";
/// Where an sshd listens.
const SSH_PORT: u16 = 22;
/// Where the search begins for images that the user's line says nothing of.
const FIRST_PORT: u16 = 22_022;
/// How many ports are tried, the first included.
const TRIES: u16 = 1000;

/// Opens what `network` forwards, and a way to the guest's sshd in any case, which is given back.
pub(super) async fn open(qmp: &Qmp, network: &Network) -> Result<SocketAddr, Error> {
    let mut door = None;
    for forward in network.forwards() {
        let address = forward_one(qmp, forward).await?;
        if forward.is_tcp() && forward.guest_port() == SSH_PORT {
            door.get_or_insert(address);
        }
    }
    match door {
        Some(door) => Ok(door),
        None => forward_one(qmp, &Forward::tcp(FIRST_PORT, SSH_PORT)).await,
    }
}

async fn forward_one(qmp: &Qmp, forward: &Forward) -> Result<SocketAddr, Error> {
    let ip = forward.host_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut last = String::new();
    for port in (forward.host_port()..=u16::MAX).take(usize::from(TRIES)) {
        let command = format!("hostfwd_add {NETDEV} {}", forward.rule(ip, port));
        match qmp.monitor(command).await? {
            said if said.trim().is_empty() => {
                tracing::info!(
                    wanted = forward.host_port(),
                    taken = port,
                    guest = forward.guest_port(),
                    "a port of the host leads into a VM"
                );
                let ip = if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
                return Ok(SocketAddr::new(ip, port));
            }
            said => last = said.trim().to_owned(),
        }
    }
    let first = forward.host_port();
    Err(Error::Qemu(format!("no port is free from {first} on, {TRIES} were tried: {last}")))
}
