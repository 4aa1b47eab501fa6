//! The link itself: two parties, and the one address that may be asked for.

use super::queue::Outgoing;
use evalfleet_proto::network::link;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

const HEADER_BYTES: usize = 14;
const GATEWAY: EthernetAddress = EthernetAddress(link::GATEWAY_MAC);

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carried<'a> {
    /// A packet of IP.
    Ip(&'a [u8]),
    /// Something that belongs to the link, and is dealt with.
    Upkeep,
    /// Something that leads nowhere.
    Other,
}

/// Frames around packets.
#[derive(Debug)]
pub(super) struct Ether {
    /// Where the last frame of the guest's came from.
    guest: EthernetAddress,
    /// Frames for it.
    pub(super) out: Outgoing,
    /// Bytes of frames that were put there.
    pub(super) put_bytes: usize,
}

impl Default for Ether {
    fn default() -> Self {
        Self { guest: EthernetAddress(link::GUEST_MAC), out: Outgoing::default(), put_bytes: 0 }
    }
}

impl Ether {
    /// Opens a frame of the guest's, and answers it where the link itself has the answer.
    pub(super) fn open<'a>(&mut self, frame: &'a [u8]) -> Carried<'a> {
        let Ok(frame) = EthernetFrame::new_checked(frame) else { return Carried::Other };
        if frame.src_addr().is_unicast() {
            self.guest = frame.src_addr();
        }
        match frame.ethertype() {
            // smoltcp looks at a packet's first byte without asking whether there is one.
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 if frame.payload().is_empty() => Carried::Other,
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => Carried::Ip(frame.payload()),
            EthernetProtocol::Arp => {
                self.answer(frame.payload());
                Carried::Upkeep
            }
            // QEMU itself says hello for a guest that was moved.
            EthernetProtocol::Unknown(0x8035) => Carried::Upkeep,
            EthernetProtocol::Unknown(_) => Carried::Other,
        }
    }

    /// Puts a packet of IP of `length` bytes, which `fill` writes, into a frame for the guest.
    pub(super) fn put<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.frame(length, |packet| {
            let done = fill(packet);
            let version = packet.first().map_or(0, |first| first >> 4);
            (if version == 6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 }, done)
        })
    }

    fn frame<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> (EthernetProtocol, R)) -> R {
        self.put_bytes += HEADER_BYTES + length;
        let dst_addr = self.guest;
        self.out.put(HEADER_BYTES + length, |bytes| {
            let (ethertype, done) = fill(&mut bytes[HEADER_BYTES..]);
            let header = EthernetRepr { src_addr: GATEWAY, dst_addr, ethertype };
            header.emit(&mut EthernetFrame::new_unchecked(bytes));
            done
        })
    }

    /// Says where the gateway is to who asks for it.
    fn answer(&mut self, packet: &[u8]) {
        let Ok(packet) = ArpPacket::new_checked(packet) else { return };
        let Ok(ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr: link::GATEWAY,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            return;
        };
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: GATEWAY,
            source_protocol_addr: link::GATEWAY,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        if self.out.has_room() {
            self.frame(reply.buffer_len(), |bytes| {
                reply.emit(&mut ArpPacket::new_unchecked(bytes));
                (EthernetProtocol::Arp, ())
            });
        }
    }
}
