//! The gateway without its sockets: frames go in, frames and wishes come out. No I/O, no waiting.
//!
//! What a guest may have is decided here, and recorded here; [`super::gateway`] makes the wishes come
//! true.

use super::Shared;
use super::dns::{Answer, Question};
use super::ether::{Carried, Ether};
use super::ledger::Attempt;
use super::names::Names;
use super::packet::{DNS_PORT, Ends, Wants, endpoint, wants};
use super::policy::Policy;
use super::queue::Incoming;
use super::refusal::prohibit;
use evalfleet_proto::network::{Protocol, link};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::{Duration as StackDuration, Instant as StackInstant};
use smoltcp::wire::{HardwareAddress, IpCidr, IpListenEndpoint};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one connection that wait on either side.
const BUFFER_BYTES: usize = 128 << 10;
/// Questions that are looked up at one moment.
const LOOKUPS_MAX: usize = 16;
/// How long a guest may leave a connection's data unacknowledged.
const SILENCE: StackDuration = StackDuration::from_secs(60);
/// How often smoltcp is asked in a row whether it has more to send.
const PASSES_MAX: usize = 64;
/// The largest packet of IP on the link.
const MTU: usize = 1500;

/// What the gateway is asked to do.
#[derive(Debug)]
pub(super) enum Wish {
    /// To make a connection on the host.
    Dial(Dial),
    /// To find out whether a name is there.
    Lookup(Lookup),
}

/// A connection that may be made.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) ends: Ends,
    pub(super) to: Target,
    /// The guest's first packet, which waits for its answer.
    first: Vec<u8>,
}

/// Where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

/// A name that may be resolved.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) question: Question,
    from: udp::UdpMetadata,
}

pub(super) struct Relay {
    shared: Arc<Shared>,
    pub(super) policy: Arc<Policy>,
    stack: Interface,
    sockets: SocketSet<'static>,
    dns: SocketHandle,
    names: Names,
    pub(super) ether: Ether,
    pub(super) wishes: VecDeque<Wish>,
    dialing: Vec<Ends>,
    connected: Vec<(SocketHandle, Ends)>,
    lookups: usize,
    /// Whether the job has used up what its connections may carry.
    pub(super) spent: bool,
    began: Instant,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("connected", &self.connected).finish_non_exhaustive()
    }
}

impl Relay {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut ether = Ether::default();
        let mut phy = Phy { packet: None, ether: &mut ether };
        let mut stack = Interface::new(Config::new(HardwareAddress::Ip), &mut phy, StackInstant::ZERO);
        stack.update_ip_addrs(|addresses| {
            let own = [
                IpCidr::new(link::GATEWAY.into(), link::PREFIX),
                IpCidr::new(link::GATEWAY_V6.into(), link::PREFIX_V6),
            ];
            for address in own {
                addresses.push(address).expect("room for two addresses is smoltcp's default");
            }
        });
        // Whatever address a guest sends to, it is answered from here.
        stack.set_any_ip(true);
        let routes = stack.routes_mut();
        routes.add_default_ipv4_route(link::GATEWAY).expect("room for two routes is smoltcp's default");
        routes.add_default_ipv6_route(link::GATEWAY_V6).expect("room for two routes is smoltcp's default");
        let mut sockets = SocketSet::new(Vec::new());
        let dns = sockets.add(name_server());
        Self {
            policy: shared.policy(),
            shared,
            stack,
            sockets,
            dns,
            names: Names::default(),
            ether,
            wishes: VecDeque::new(),
            dialing: Vec::new(),
            connected: Vec::new(),
            lookups: 0,
            spent: false,
            began: Instant::now(),
        }
    }

    /// Takes a frame of the guest's.
    pub(super) fn take(&mut self, frame: &[u8]) {
        self.shared.ledger().sent(frame.len());
        match self.ether.open(frame) {
            Carried::Ip(packet) => self.packet(packet),
            Carried::Upkeep => {}
            Carried::Other => self.note(Protocol::Other, Attempt::default()),
        }
    }

    fn packet(&mut self, packet: &[u8]) {
        let to = |address: IpAddr| Attempt { destination: Some(address.to_string()), ..Attempt::default() };
        match wants(packet) {
            Wants::Connection(ends) => self.connection(ends, packet),
            Wants::More => self.feed(packet),
            Wants::Name => {
                self.feed(packet);
                self.questions();
            }
            Wants::Datagram(other) => {
                let destination = Some(other.ip().to_string());
                let port = Some(other.port());
                self.note(Protocol::Udp, Attempt { destination, port, ..Attempt::default() });
                // Nobody listens there: it is told so.
                self.feed(packet);
            }
            Wants::Echo(address) => {
                self.note(Protocol::Icmp, to(address));
                prohibit(packet, &mut self.ether);
            }
            Wants::Upkeep | Wants::Nonsense => {}
            Wants::Other(address) => {
                self.note(Protocol::Other, to(address));
                self.feed(packet);
            }
        }
    }

    /// Decides on a new connection.
    fn connection(&mut self, ends: Ends, packet: &[u8]) {
        if self.dialing.contains(&ends) {
            return; // asked again, while it is being made
        }
        if self.connected.iter().any(|(_, known)| *known == ends) {
            return self.feed(packet);
        }
        let (address, port) = (ends.other.ip(), ends.other.port());
        let name = match address {
            IpAddr::V4(address) => self.names.name(address).map(ToOwned::to_owned),
            IpAddr::V6(_) => None,
        };
        let target = match &name {
            Some(name) => self.policy.allows_name(name, port).then(|| Target::Name(name.clone(), port)),
            None => self.policy.address(address, port).map(Target::Address),
        };
        let full = self.dialing.len() + self.connected.len() >= self.policy.bounds.connections;
        let error = match &target {
            Some(_) if self.spent => Some(format!(
                "its connections have carried {}, which is all they may",
                self.policy.bounds.bytes
            )),
            Some(_) if full => {
                Some(format!("{} connections are open, and no more may be", self.policy.bounds.connections))
            }
            Some(_) | None => None,
        };
        match target {
            Some(to) if error.is_none() => {
                self.dialing.push(ends);
                self.wishes.push_back(Wish::Dial(Dial { ends, to, first: packet.to_vec() }));
            }
            Some(_) | None => {
                let destination = name.is_none().then(|| address.to_string());
                let attempt = Attempt { destination, port: Some(port), name, allowed: false, error };
                self.note(Protocol::Tcp, attempt);
                // Nobody listens there: the connection is reset.
                self.feed(packet);
            }
        }
    }

    /// The host has its end of a connection: the guest gets its own. None when the guest's first packet
    /// was no good.
    pub(super) fn accept(&mut self, dial: Dial) -> Option<SocketHandle> {
        self.dialing.retain(|ends| *ends != dial.ends);
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_timeout(Some(SILENCE));
        let (address, port) = endpoint(dial.ends.other);
        socket.listen(IpListenEndpoint { addr: Some(address), port }).ok()?;
        let handle = self.sockets.add(socket);
        self.feed(&dial.first);
        if self.socket(handle).is_listening() {
            self.sockets.remove(handle);
            return None;
        }
        self.connected.push((handle, dial.ends));
        Some(handle)
    }

    /// The host has no such connection to give: the guest's is reset.
    pub(super) fn refuse(&mut self, dial: &Dial) {
        self.dialing.retain(|ends| *ends != dial.ends);
        self.feed(&dial.first);
    }

    /// Answers a question; whether its name is there was found out.
    pub(super) fn answer(&mut self, lookup: &Lookup, there: bool, refused: bool) {
        self.lookups = self.lookups.saturating_sub(1);
        let answer = match there {
            _ if refused => Answer::Refused,
            true => self.names.address(&lookup.question.name).map_or(Answer::Failed, Answer::Address),
            false => Answer::Failed,
        };
        self.reply(&lookup.question, lookup.from, answer);
    }

    fn reply(&mut self, question: &Question, from: udp::UdpMetadata, answer: Answer) {
        if let Some(message) = question.answer(answer) {
            // With no room for it, the guest asks again.
            let _ = self.sockets.get_mut::<udp::Socket<'_>>(self.dns).send_slice(&message, from);
        }
    }

    /// Reads what the name server was asked.
    fn questions(&mut self) {
        while let Ok((message, from)) = self.sockets.get_mut::<udp::Socket<'_>>(self.dns).recv() {
            let question = Question::read(message);
            let Some(question) = question else {
                self.note(
                    Protocol::Dns,
                    Attempt { error: Some("no question".to_owned()), ..Attempt::default() },
                );
                continue;
            };
            if !self.policy.knows(&question.name) {
                let name = Some(question.name.clone());
                self.note(Protocol::Dns, Attempt { name, ..Attempt::default() });
                self.reply(&question, from, Answer::Refused);
            } else if self.lookups >= LOOKUPS_MAX {
                self.reply(&question, from, Answer::Failed);
            } else {
                self.lookups += 1;
                self.wishes.push_back(Wish::Lookup(Lookup { question, from }));
            }
        }
    }

    pub(super) fn note(&self, protocol: Protocol, attempt: Attempt) {
        self.shared.ledger().note(protocol, attempt);
    }

    /// A connection's end on the guest's side.
    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Forgets a connection that is over.
    pub(super) fn forget(&mut self, handle: SocketHandle) {
        self.connected.retain(|(known, _)| *known != handle);
        self.sockets.remove(handle);
    }

    /// Lets everything go that belongs to a job before, and takes up the policy of the next.
    pub(super) fn renew(&mut self) {
        self.policy = self.shared.policy();
        for (handle, _) in self.connected.drain(..) {
            self.sockets.remove(handle);
        }
        self.dialing.clear();
        self.wishes.clear();
        self.names = Names::default();
        (self.lookups, self.spent) = (0, false);
    }

    /// Lets smoltcp send what it has.
    pub(super) fn send(&mut self) {
        let now = self.now();
        let mut phy = Phy { packet: None, ether: &mut self.ether };
        for _ in 0..PASSES_MAX {
            if self.stack.poll_egress(now, &mut phy, &mut self.sockets) == PollResult::None {
                break;
            }
        }
        let put = std::mem::take(&mut self.ether.put_bytes);
        if put > 0 {
            self.shared.ledger().received(put);
        }
    }

    /// How long smoltcp can be left alone.
    pub(super) fn rest(&mut self) -> Option<Duration> {
        let now = self.now();
        self.stack.poll_delay(now, &self.sockets).map(Into::into)
    }

    fn feed(&mut self, packet: &[u8]) {
        let now = self.now();
        let mut phy = Phy { packet: Some(packet), ether: &mut self.ether };
        self.stack.poll_ingress_single(now, &mut phy, &mut self.sockets);
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(self.began.elapsed().as_micros() as i64)
    }
}

fn name_server() -> udp::Socket<'static> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 8 << 10]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(DNS_PORT).expect("an open socket has no port yet, and this one is not 0");
    socket
}

/// smoltcp's device: one packet in, frames out.
struct Phy<'a> {
    packet: Option<&'a [u8]>,
    ether: &'a mut Ether,
}

struct Received<'a>(&'a [u8]);
struct Sending<'a>(&'a mut Ether);

impl Device for Phy<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sending<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: StackInstant) -> Option<(Received<'_>, Sending<'_>)> {
        self.packet.take().map(|packet| (Received(packet), Sending(self.ether)))
    }

    fn transmit(&mut self, _now: StackInstant) -> Option<Sending<'_>> {
        self.ether.out.has_room().then_some(Sending(self.ether))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // A unix socket damages nothing on its way; the guest checks what it is sent.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        self.0.put(length, write)
    }
}

/// Has a gateway with something to allow take what QEMU sends, as if every connection could be made and
/// every name were there: whatever it is, this returns. For fuzzing.
pub fn swallow(stream: &[u8]) {
    let allow = ["*.org", "a.org:80", "10.0.0.1", "127.0.0.1:80", "[2001:db8::1]:80"];
    let allow = allow.iter().filter_map(|text| text.parse().ok()).collect();
    let shared = Arc::new(Shared::default());
    *shared.policy.lock().unwrap_or_else(PoisonError::into_inner) =
        Arc::new(Policy { allow, ..Policy::default() });
    let (mut relay, mut incoming) = (Relay::new(shared), Incoming(stream.into()));
    while let Ok(Some(frame)) = incoming.next() {
        relay.take(&frame);
        while let Some(wish) = relay.wishes.pop_front() {
            match wish {
                Wish::Dial(dial) => _ = relay.accept(dial),
                Wish::Lookup(lookup) => relay.answer(&lookup, true, false),
            }
        }
        relay.send();
        relay.ether.out.0.clear();
    }
}

#[cfg(test)]
mod tests;
