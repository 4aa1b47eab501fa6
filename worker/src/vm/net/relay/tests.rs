//! Frames as a guest makes them, and as no guest should.

use super::*;
use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, Icmpv4Repr, IpProtocol,
    Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};
use std::net::Ipv4Addr;

fn relay(list: &[&str]) -> Relay {
    let shared = Arc::new(Shared::default());
    let allow = list.iter().map(|text| text.parse().unwrap()).collect();
    *shared.policy.lock().unwrap() = Arc::new(Policy { allow, ..Policy::default() });
    Relay::new(shared)
}

fn frame(to: Ipv4Addr, protocol: IpProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: link::GUEST,
        dst_addr: to,
        next_header: protocol,
        payload_len: length,
        hop_limit: 64,
    };
    let mut bytes = vec![0; 14 + ip.buffer_len() + length];
    let ether = EthernetRepr {
        src_addr: EthernetAddress([2, 0, 0, 0, 0, 9]),
        dst_addr: EthernetAddress(link::GATEWAY_MAC),
        ethertype: EthernetProtocol::Ipv4,
    };
    ether.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[14..]), &ChecksumCapabilities::default());
    fill(&mut bytes[14 + ip.buffer_len()..]);
    bytes
}

fn syn(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: 40_000,
        dst_port: port,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(7),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let sums = ChecksumCapabilities::default();
    frame(to, IpProtocol::Tcp, tcp.buffer_len(), |bytes| {
        tcp.emit(&mut TcpPacket::new_unchecked(bytes), &link::GUEST.into(), &to.into(), &sums);
    })
}

fn datagram(to: Ipv4Addr, port: u16, message: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: 40_000, dst_port: port };
    frame(to, IpProtocol::Udp, 8 + message.len(), |bytes| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let fill = |payload: &mut [u8]| payload.copy_from_slice(message);
        udp.emit(
            &mut packet,
            &link::GUEST.into(),
            &to.into(),
            message.len(),
            fill,
            &ChecksumCapabilities::default(),
        );
    })
}

fn question(name: &str) -> Vec<u8> {
    use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, TYPE};
    let mut packet = Packet::new_query(7);
    let name = Name::new(name).unwrap();
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().unwrap()
}

/// What was sent to the guest: the packets of IP.
fn answers(relay: &mut Relay) -> Vec<Vec<u8>> {
    relay.send();
    let mut incoming = super::super::queue::Incoming(std::mem::take(&mut relay.ether.out.0));
    let mut packets = Vec::new();
    while let Some(frame) = incoming.next().unwrap() {
        let frame = EthernetFrame::new_checked(&frame[..]).unwrap();
        assert_eq!(frame.dst_addr(), EthernetAddress([2, 0, 0, 0, 0, 9]), "to where the guest is");
        packets.push(frame.payload().to_vec());
    }
    packets
}

fn tcp_flags(packet: &[u8]) -> (bool, bool) {
    let packet = Ipv4Packet::new_checked(packet).unwrap();
    let tcp = TcpPacket::new_checked(packet.payload()).unwrap();
    (tcp.rst(), tcp.syn() && tcp.ack())
}

/// Protocol, destination, port, name, attempts, whether they were allowed.
type Noted = (Protocol, Option<String>, Option<u16>, Option<String>, u64, bool);

fn contacts(relay: &Relay) -> Vec<Noted> {
    let tally = relay.shared.ledger().tally();
    let of = |c: evalfleet_proto::network::Contact| {
        (c.protocol, c.destination, c.port, c.name, c.attempts, c.allowed)
    };
    tally.contacts.into_iter().map(of).collect()
}

const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

#[test]
fn what_is_not_allowed_is_reset_at_once_and_recorded() {
    let mut relay = relay(&[]);
    for _ in 0..3 {
        relay.take(&syn(ELSEWHERE, 443));
    }
    assert!(relay.wishes.is_empty());
    let answers = answers(&mut relay);
    assert_eq!(answers.iter().map(|packet| tcp_flags(packet)).collect::<Vec<_>>(), [(true, false); 3]);
    let expected = (Protocol::Tcp, Some("93.184.216.34".to_owned()), Some(443), None, 3, false);
    assert_eq!(contacts(&relay), [expected]);
}

#[test]
fn what_is_allowed_is_accepted_only_when_the_host_has_it() {
    let mut relay = relay(&["93.184.216.34:443"]);
    relay.take(&syn(ELSEWHERE, 443));
    relay.take(&syn(ELSEWHERE, 443));
    assert_eq!(answers(&mut relay).len(), 0, "nothing is said before the host knows");
    let Some(Wish::Dial(dial)) = relay.wishes.pop_front() else { panic!("no wish") };
    assert!(relay.wishes.is_empty(), "a repeated packet is no second connection");
    assert_eq!(dial.to, Target::Address("93.184.216.34:443".parse().unwrap()));
    assert!(relay.accept(dial).is_some());
    assert_eq!(tcp_flags(&answers(&mut relay)[0]), (false, true));

    relay.take(&syn(ELSEWHERE, 80));
    assert_eq!(tcp_flags(&answers(&mut relay)[0]), (true, false));
}

#[test]
fn a_connection_the_host_cannot_make_is_reset() {
    let mut relay = relay(&["93.184.216.34"]);
    relay.take(&syn(ELSEWHERE, 443));
    let Some(Wish::Dial(dial)) = relay.wishes.pop_front() else { panic!("no wish") };
    relay.refuse(&dial);
    assert_eq!(tcp_flags(&answers(&mut relay)[0]), (true, false));
}

#[test]
fn only_so_many_connections_are_made() {
    let mut relay = relay(&["93.184.216.34"]);
    for port in 1..=100 {
        relay.take(&syn(ELSEWHERE, port));
    }
    assert_eq!(relay.wishes.len(), relay.policy.bounds.connections);
    assert!(contacts(&relay).len() >= 60);
}

#[test]
fn a_name_has_an_address_of_ours_and_is_reached_by_it() {
    let mut relay = relay(&["a.org:80"]);
    relay.take(&datagram(link::GATEWAY, 53, &question("b.org")));
    relay.take(&datagram(Ipv4Addr::new(8, 8, 8, 8), 53, &question("A.org")));
    let Some(Wish::Lookup(lookup)) = relay.wishes.pop_front() else { panic!("no wish") };
    relay.answer(&lookup, true, false);
    let replies = answers(&mut relay);
    let message = |packet: &[u8]| {
        let packet = Ipv4Packet::new_checked(packet).unwrap();
        (packet.src_addr(), UdpPacket::new_checked(packet.payload()).unwrap().payload().to_vec())
    };
    let (refused, found) = (message(&replies[0]), message(&replies[1]));
    assert_eq!(simple_dns::Packet::parse(&refused.1).unwrap().rcode(), simple_dns::RCODE::Refused);
    assert_eq!(found.0, Ipv4Addr::new(8, 8, 8, 8), "whoever was asked has answered");
    let found = simple_dns::Packet::parse(&found.1).unwrap();
    let simple_dns::rdata::RData::A(address) = &found.answers[0].rdata else { panic!("no address") };
    let address = Ipv4Addr::from(address.address);

    relay.take(&syn(address, 80));
    let Some(Wish::Dial(dial)) = relay.wishes.pop_front() else { panic!("no wish") };
    assert_eq!(dial.to, Target::Name("a.org".to_owned(), 80));
    relay.take(&syn(address, 81));
    let expected = [
        (Protocol::Dns, None, None, Some("b.org".to_owned()), 1, false),
        (Protocol::Tcp, None, Some(81), Some("a.org".to_owned()), 1, false),
    ];
    assert_eq!(contacts(&relay), expected);
}

#[test]
fn datagrams_and_pings_are_refused_and_recorded() {
    let mut relay = relay(&["93.184.216.34"]);
    relay.take(&datagram(ELSEWHERE, 123, b"x"));
    let ping = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 2, data: b"x" };
    relay.take(&frame(ELSEWHERE, IpProtocol::Icmp, ping.buffer_len(), |bytes| {
        ping.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
    }));
    relay.take(&frame(ELSEWHERE, IpProtocol::Unknown(132), 8, |_| {}));
    let replies = answers(&mut relay);
    assert_eq!(replies.len(), 3);
    for reply in &replies {
        let packet = Ipv4Packet::new_checked(&reply[..]).unwrap();
        let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
        let icmp = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap();
        assert!(matches!(icmp, Icmpv4Repr::DstUnreachable { .. }), "{icmp:?}");
    }
    let protocols: Vec<_> = contacts(&relay).into_iter().map(|contact| contact.0).collect();
    assert_eq!(protocols, [Protocol::Udp, Protocol::Icmp, Protocol::Other]);
}

#[test]
fn the_next_job_has_nothing_of_the_last() {
    let mut relay = relay(&["93.184.216.34"]);
    relay.take(&syn(ELSEWHERE, 443));
    relay.take(&syn(ELSEWHERE, 444));
    let Some(Wish::Dial(dial)) = relay.wishes.pop_front() else { panic!("no wish") };
    relay.accept(dial);
    *relay.shared.policy.lock().unwrap() = Arc::default();
    relay.renew();
    assert!(relay.wishes.is_empty() && relay.connected.is_empty());
    answers(&mut relay);
    relay.take(&syn(ELSEWHERE, 443));
    assert_eq!(tcp_flags(&answers(&mut relay)[0]), (true, false));
}

/// Frames that look like a guest's, with anything anywhere.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..200);
    let kinds = prop_oneof![
        Just(syn(ELSEWHERE, 443)),
        Just(syn(Ipv4Addr::new(10, 0, 0, 1), 80)),
        Just(syn(Ipv4Addr::new(198, 18, 0, 1), 80)),
        Just(datagram(link::GATEWAY, 53, &question("a.org"))),
        Just(datagram(ELSEWHERE, 9, b"x")),
    ];
    let damaged = (kinds, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(
        |(mut frame, damage)| {
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            frame
        },
    );
    let headed = (prop::sample::select(vec![[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06]]), any_bytes.clone())
        .prop_map(|(kind, rest)| [&[2; 12][..], &kind, &rest].concat());
    prop_oneof![any_bytes, damaged, headed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_frames_make_it_panic(frames in prop::collection::vec(hostile(), 0..40)) {
        let stream: Vec<u8> = frames
            .iter()
            .flat_map(|frame| [&(frame.len() as u32).to_be_bytes(), &frame[..]].concat())
            .collect();
        swallow(&stream);
    }
}
