//! The guest's end of its link: loopback, an address, the way out, the name server.
//!
//! Set once, before a template is frozen, so that a clone's wake costs no more than a new hardware
//! address. All of it is fixed: the host's gateway is the only other party on the link.

use evalfleet_proto::network::link;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{AddressFamily as Family, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::{fs, io};

const NAME_SERVERS: &str = "/etc/resolv.conf";
/// IPv6 is set by hand: nothing is asked of the link, and nothing is waited for.
const QUIET: [(&str, &str); 4] =
    [("accept_ra", "0"), ("router_solicitations", "0"), ("accept_dad", "0"), ("addr_gen_mode", "1")];

/// Brings up loopback, and the device that leads to the gateway, if there is one.
pub(crate) fn configure() -> io::Result<()> {
    bring_up_loopback()?;
    let Some(index) = index()? else { return Ok(()) };
    for (name, value) in QUIET {
        // A kernel without IPv6 has none of these, and needs none.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{}/{name}", link::INTERFACE), value);
    }
    let route = Route::open()?;
    route.ask(RouteNetlinkMessage::SetLink(up(index)))?;
    route.ask(RouteNetlinkMessage::NewAddress(address(index, link::GUEST.into(), link::PREFIX)))?;
    route.ask(RouteNetlinkMessage::NewRoute(way_out(index, link::GATEWAY.into())))?;
    // A guest without IPv6 does without.
    let _ = route
        .ask(RouteNetlinkMessage::NewAddress(address(index, link::GUEST_V6.into(), link::PREFIX_V6)))
        .and_then(|()| route.ask(RouteNetlinkMessage::NewRoute(way_out(index, link::GATEWAY_V6.into()))));
    introduce_gateway(&route, index)?;
    name_server()
}

/// Gives the device a hardware address of its own, if there is a device.
pub(crate) fn set_mac(mac: [u8; 6]) -> io::Result<()> {
    let Some(index) = index()? else { return Ok(()) };
    let route = Route::open()?;
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Address(mac.to_vec()));
    route.ask(RouteNetlinkMessage::SetLink(message))?;
    // With a new address of its own, the kernel forgets those of its neighbours.
    introduce_gateway(&route, index)
}

/// The gateway's hardware address is known: the first packet need not ask for it.
fn introduce_gateway(route: &Route, index: u32) -> io::Result<()> {
    route.ask(RouteNetlinkMessage::NewNeighbour(gateway(index, link::GATEWAY.into())))?;
    let _ = route.ask(RouteNetlinkMessage::NewNeighbour(gateway(index, link::GATEWAY_V6.into())));
    Ok(())
}

/// Programs that talk to themselves over 127.0.0.1 work. The flags are 'up' and 'loopback'; the kernel
/// then sets the addresses itself.
fn bring_up_loopback() -> io::Result<()> {
    fs::write("/sys/class/net/lo/flags", "0x9")
}

/// The device's number; none where the machine has no such device.
fn index() -> io::Result<Option<u32>> {
    match fs::read_to_string(format!("/sys/class/net/{}/ifindex", link::INTERFACE)) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Part of the template's disk, and so no effect of any job.
fn name_server() -> io::Result<()> {
    let text = format!("nameserver {}\noptions attempts:1\n", link::GATEWAY);
    if !Path::new(NAME_SERVERS).is_symlink() && fs::read_to_string(NAME_SERVERS).is_ok_and(|old| old == text)
    {
        return Ok(());
    }
    // An image may have a link there, to a folder that only its own init system makes.
    match fs::remove_file(NAME_SERVERS) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::write(NAME_SERVERS, text)
}

fn up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn address(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.flags = AddressHeaderFlags::Permanent | AddressHeaderFlags::Nodad;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn way_out(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(gateway),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::from(gateway)), RouteAttribute::Oif(index)];
    message
}

fn gateway(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }),
        NeighbourAttribute::LinkLayerAddress(link::GATEWAY_MAC.to_vec()),
    ];
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The kernel's routing socket.
struct Route(OwnedFd);

impl Route {
    fn open() -> io::Result<Self> {
        // The protocol of routing has the number 0, which `None` stands for.
        let protocol = None;
        let flags = SocketFlags::CLOEXEC;
        Ok(Self(rustix::net::socket_with(Family::NETLINK, SocketType::RAW, flags, protocol)?))
    }

    /// Asks for one thing, and waits for the kernel's word that it is done.
    fn ask(&self, what: RouteNetlinkMessage) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(what));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        rustix::net::sendto(&self.0, &bytes, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 4096];
        let (count, _) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..count]);
        let payload = answer.map_err(|error| io::Error::other(error.to_string()))?.payload;
        let NetlinkPayload::Error(error) = payload else {
            return Err(io::Error::other(format!("the kernel answers {payload:?}")));
        };
        if error.code.is_some() { Err(error.to_io()) } else { Ok(()) }
    }
}
