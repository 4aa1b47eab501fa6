//! What a packet of the guest's wants: read out of its headers, pure.

use evalfleet_proto::network::link;
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, IpVersion, Ipv4Packet,
    Ipv6Packet, TcpPacket, UdpPacket,
};
use std::net::{IpAddr, SocketAddr};

/// The port of name servers.
pub(super) const DNS_PORT: u16 = 53;

/// A guest's end of a connection, and its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) guest: SocketAddr,
    pub(super) other: SocketAddr,
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// A new connection.
    Connection(Ends),
    /// To go on with one, or to end it.
    More,
    /// The address of a name.
    Name,
    /// To send a datagram.
    Datagram(SocketAddr),
    /// To ping.
    Echo(IpAddr),
    /// The link's own business.
    Upkeep,
    /// Something that leads nowhere.
    Other(IpAddr),
    /// Nothing that can be understood.
    Nonsense,
}

/// Reads a packet.
pub(super) fn wants(packet: &[u8]) -> Wants {
    match IpVersion::of_packet(packet) {
        Ok(IpVersion::Ipv4) => of_v4(packet),
        Ok(IpVersion::Ipv6) => of_v6(packet),
        Err(_) => Wants::Nonsense,
    }
}

fn of_v4(packet: &[u8]) -> Wants {
    let Ok(packet) = Ipv4Packet::new_checked(packet) else { return Wants::Nonsense };
    // The guest has one address. What pretends to come from another gets no answer.
    if packet.src_addr() != link::GUEST {
        return Wants::Nonsense;
    }
    let (from, to) = (IpAddr::V4(packet.src_addr()), IpAddr::V4(packet.dst_addr()));
    if packet.more_frags() || packet.frag_offset() != 0 {
        return Wants::Other(to);
    }
    let protocol = packet.next_header();
    if protocol == IpProtocol::Igmp {
        return Wants::Upkeep;
    }
    if protocol == IpProtocol::Icmp {
        return match Icmpv4Packet::new_checked(packet.payload()).map(|icmp| icmp.msg_type()) {
            Ok(Icmpv4Message::EchoRequest) => Wants::Echo(to),
            // What it complains of to us.
            Ok(Icmpv4Message::DstUnreachable | Icmpv4Message::TimeExceeded | Icmpv4Message::ParamProblem) => {
                Wants::Upkeep
            }
            Ok(_) | Err(_) => Wants::Other(to),
        };
    }
    transport(protocol, packet.payload(), from, to)
}

fn of_v6(packet: &[u8]) -> Wants {
    let Ok(packet) = Ipv6Packet::new_checked(packet) else { return Wants::Nonsense };
    let (from, to) = (IpAddr::V6(packet.src_addr()), IpAddr::V6(packet.dst_addr()));
    // Reports of groups on the link begin with options.
    if packet.dst_addr().is_multicast() && packet.next_header() == IpProtocol::HopByHop {
        return Wants::Upkeep;
    }
    if packet.next_header() == IpProtocol::Icmpv6
        && let Ok(icmp) = Icmpv6Packet::new_checked(packet.payload())
    {
        let kind = icmp.msg_type();
        if kind.is_ndisc() || kind.is_mld() || kind.is_error() {
            return Wants::Upkeep;
        }
        if kind == Icmpv6Message::EchoRequest && packet.src_addr() == link::GUEST_V6 {
            return Wants::Echo(to);
        }
    }
    if packet.src_addr() != link::GUEST_V6 {
        return Wants::Nonsense;
    }
    transport(packet.next_header(), packet.payload(), from, to)
}

fn transport(protocol: IpProtocol, payload: &[u8], from: IpAddr, to: IpAddr) -> Wants {
    if protocol == IpProtocol::Tcp {
        tcp(payload, from, to)
    } else if protocol == IpProtocol::Udp {
        udp(payload, to)
    } else {
        Wants::Other(to)
    }
}

fn tcp(segment: &[u8], from: IpAddr, to: IpAddr) -> Wants {
    let Ok(segment) = TcpPacket::new_checked(segment) else { return Wants::Nonsense };
    if segment.src_port() == 0 || segment.dst_port() == 0 {
        return Wants::Nonsense;
    }
    if segment.syn() && !segment.ack() && !segment.rst() {
        return Wants::Connection(Ends {
            guest: SocketAddr::new(from, segment.src_port()),
            other: SocketAddr::new(to, segment.dst_port()),
        });
    }
    Wants::More
}

fn udp(datagram: &[u8], to: IpAddr) -> Wants {
    let Ok(datagram) = UdpPacket::new_checked(datagram) else { return Wants::Nonsense };
    match datagram.dst_port() {
        0 => Wants::Nonsense,
        DNS_PORT if !to.is_multicast() => Wants::Name,
        port => Wants::Datagram(SocketAddr::new(to, port)),
    }
}

/// The address in smoltcp's words.
pub(super) fn endpoint(address: SocketAddr) -> (IpAddress, u16) {
    (IpAddress::from(address.ip()), address.port())
}
