//! "Prohibited", said to a ping: smoltcp says the rest by itself.

use super::ether::Ether;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr,
    IpProtocol, IpVersion, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

/// How much of a packet is shown to its sender.
const SHOWN_BYTES_MAX: usize = 64;
const HOP_LIMIT: u8 = 64;

/// Tells the sender of `packet` that it may not.
pub(super) fn prohibit(packet: &[u8], ether: &mut Ether) {
    match IpVersion::of_packet(packet) {
        Ok(IpVersion::Ipv4) => prohibit_v4(packet, ether),
        Ok(IpVersion::Ipv6) => prohibit_v6(packet, ether),
        Err(_) => {}
    }
}

fn prohibit_v4(packet: &[u8], ether: &mut Ether) {
    let checksums = ChecksumCapabilities::default();
    let Ok(packet) = Ipv4Packet::new_checked(packet) else { return };
    let Ok(header) = Ipv4Repr::parse(&packet, &checksums) else { return };
    let data = &packet.payload()[..packet.payload().len().min(SHOWN_BYTES_MAX)];
    let icmp = Icmpv4Repr::DstUnreachable { reason: Icmpv4DstUnreachable::HostProhibited, header, data };
    let ip = Ipv4Repr {
        src_addr: header.dst_addr,
        dst_addr: header.src_addr,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: HOP_LIMIT,
    };
    ether.put(ip.buffer_len() + icmp.buffer_len(), |bytes| {
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut *bytes), &checksums);
        icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[ip.buffer_len()..]), &checksums);
    });
}

fn prohibit_v6(packet: &[u8], ether: &mut Ether) {
    let checksums = ChecksumCapabilities::default();
    let Ok(packet) = Ipv6Packet::new_checked(packet) else { return };
    let Ok(header) = Ipv6Repr::parse(&packet) else { return };
    let data = &packet.payload()[..packet.payload().len().min(SHOWN_BYTES_MAX)];
    let icmp = Icmpv6Repr::DstUnreachable { reason: Icmpv6DstUnreachable::AdminProhibit, header, data };
    let ip = Ipv6Repr {
        src_addr: header.dst_addr,
        dst_addr: header.src_addr,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: HOP_LIMIT,
    };
    ether.put(ip.buffer_len() + icmp.buffer_len(), |bytes| {
        ip.emit(&mut Ipv6Packet::new_unchecked(&mut *bytes));
        let mut to = Icmpv6Packet::new_unchecked(&mut bytes[ip.buffer_len()..]);
        icmp.emit(&ip.src_addr, &ip.dst_addr, &mut to, &checksums);
    });
}
