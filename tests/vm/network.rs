//! What a guest may reach, and what the host sees of its attempts. Only this machine's loopback is used.

use super::Test;
use super::yard::Yard;
use evalfleet_proto::network::{Contact, Protocol, link};
use evalfleet_tests::machine::patience;
use evalfleet_worker::vm::Active;
use evalfleet_worker::vm::effects::{self, Expected};
use evalfleet_worker::vm::net::{Bounds, Policy, Tally};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("network::nothing_is_reached_and_every_attempt_is_seen", nothing_is_reached),
    ("network::a_listed_address_is_reached_and_no_other", a_listed_address_is_reached),
    ("network::each_way_of_a_connection_ends_on_its_own", each_way_ends_on_its_own),
    ("network::a_name_leads_inside_only_where_the_address_is_listed", names_lead_inside_only_if_listed),
    ("network::a_flood_is_bounded_and_the_job_goes_on", a_flood_is_bounded),
    ("network::what_may_be_carried_has_an_end", what_may_be_carried_has_an_end),
    ("network::loopback_and_identity_are_the_guests_own", loopback_and_identity),
];

/// What scripts in the guest begin with. `try_tcp` prints how a connection went.
const PRELUDE: &str = r#"
import socket, struct, sys, time
GATEWAY = "192.0.2.1"
def try_tcp(host, port):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    s.settimeout(10)
    try:
        s.connect((host, port)); print("connected", flush=True); return s
    except OSError as e:
        print(type(e).__name__, flush=True)
def ask(name):
    q = struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + struct.pack(">BHH", 0, 1, 1)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
    s.sendto(q, (GATEWAY, 53)); a = s.recv(512)
    return a[3] & 15, socket.inet_ntoa(a[-4:]) if a[7] else None
"#;

fn policy(list: &[String]) -> Policy {
    Policy {
        allow: list.iter().map(|text| text.parse().expect("a destination")).collect(),
        ..Policy::default()
    }
}

/// Runs a script in the guest; gives what it printed, line by line.
fn python(yard: &Yard, active: &mut Active, script: &str) -> Vec<String> {
    let script = format!("{PRELUDE}\n{script}");
    let ran = yard.run(active, &["python3", "-EsS", "-c", &script], super::yard::METER).expect(0);
    ran.text().lines().map(ToOwned::to_owned).collect()
}

fn end(yard: &Yard, active: Active) -> Tally {
    let spent = yard.stop(active);
    let tally = spent.network.clone();
    yard.wait(spent.destroy()).expect("QEMU dies");
    tally
}

fn find(tally: &Tally, protocol: Protocol, port: Option<u16>) -> &Contact {
    let found = tally.contacts.iter().find(|contact| contact.protocol == protocol && contact.port == port);
    found.unwrap_or_else(|| panic!("no {protocol:?} at {port:?} in {tally:?}"))
}

/// A listener on this machine's loopback that serves one connection.
fn listen<T: Send + 'static>(
    serve: impl FnOnce(std::net::TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (port, std::thread::spawn(move || serve(listener.accept().expect("somebody comes").0)))
}

fn nothing_is_reached(yard: &Yard) {
    // Somebody who must not be reached.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let mut active = yard.claim();
    let begun = Instant::now();
    let said = python(
        yard,
        &mut active,
        &format!(
            r#"
for _ in range(3): try_tcp("93.184.216.34", 443)
try_tcp(GATEWAY, {port})
try_tcp("2606:4700::1111", 443)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(10)
u.connect(("8.8.8.8", 123)); u.send(b"x")
try: u.recv(1)
except OSError as e: print(type(e).__name__)
try: socket.getaddrinfo(b"example.com", 80)
except OSError as e: print(type(e).__name__)
"#
        ),
    );
    assert!(begun.elapsed() < Duration::from_secs(15) * patience(), "it took {:?}", begun.elapsed());
    let refused = "ConnectionRefusedError";
    assert_eq!(said, [refused, refused, refused, refused, refused, refused, "gaierror"]);
    let tally = end(yard, active);
    let tcp = find(&tally, Protocol::Tcp, Some(443));
    assert_eq!((tcp.destination.as_deref(), tcp.attempts, tcp.allowed), (Some("93.184.216.34"), 3, false));
    assert!(!find(&tally, Protocol::Tcp, Some(port)).allowed);
    assert_eq!(find(&tally, Protocol::Udp, Some(123)).destination.as_deref(), Some("8.8.8.8"));
    let dns = find(&tally, Protocol::Dns, None);
    assert_eq!((dns.name.as_deref(), dns.allowed), (Some("example.com"), false));
    assert!(tally.contacts.iter().any(|contact| contact.destination.as_deref() == Some("2606:4700::1111")));
    assert!(tally.sent_bytes > 300 && tally.received_bytes > 300, "{tally:?}");
    listener.set_nonblocking(true).expect("a socket's flag");
    assert!(listener.accept().is_err(), "somebody was let through");
}

fn a_listed_address_is_reached(yard: &Yard) {
    let (port, served) = listen(|mut stream| {
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).expect("five bytes come");
        stream.write_all(b"world").expect("five bytes go");
        hello
    });
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let unlisted = other.local_addr().expect("it is bound").port();
    let mut active = yard.claim();
    active.permit(policy(&[format!("127.0.0.1:{port}")]));
    let said = python(
        yard,
        &mut active,
        &format!(
            "s = try_tcp(GATEWAY, {port}); s.sendall(b'hello'); print(s.recv(9).decode()); try_tcp(GATEWAY, {unlisted}); try_tcp('10.9.8.7', {port})"
        ),
    );
    assert_eq!(said, ["connected", "world", "ConnectionRefusedError", "ConnectionRefusedError"]);
    assert_eq!(&served.join().expect("it was served"), b"hello");
    let tally = end(yard, active);
    let reached = tally.contacts.iter().find(|contact| contact.allowed).expect("one was allowed");
    assert_eq!((reached.destination.as_deref(), reached.port), (Some("127.0.0.1"), Some(port)));
    assert!(!find(&tally, Protocol::Tcp, Some(unlisted)).allowed);
}

fn each_way_ends_on_its_own(yard: &Yard) {
    const BYTES: usize = 8 << 20;
    let (port, served) = listen(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("its end comes first");
        all.reverse();
        stream.write_all(&all).expect("it still listens");
        all.len()
    });
    let mut active = yard.claim();
    active.permit(policy(&[format!("127.0.0.1:{port}")]));
    let said = python(
        yard,
        &mut active,
        &format!(
            r#"
data = bytes(range(256)) * ({BYTES} // 256)
s = try_tcp(GATEWAY, {port}); s.settimeout(50)
t = time.monotonic(); s.sendall(data); s.shutdown(socket.SHUT_WR); out = time.monotonic() - t
t = time.monotonic(); back = bytearray()
while True:
    piece = s.recv(1 << 16)
    if not piece: break
    back += piece
print(len(back), bytes(back) == data[::-1])
print(f"out {{{BYTES} / out / 2**20:.1f}} MiB/s, back {{{BYTES} / (time.monotonic() - t) / 2**20:.1f}} MiB/s")
"#
        ),
    );
    assert_eq!(said[..2], ["connected".to_owned(), format!("{BYTES} True")]);
    eprintln!("network: an allowed connection carries {}", said[2]);
    assert_eq!(served.join().expect("it was served"), BYTES);
    let tally = end(yard, active);
    assert!(tally.sent_bytes > BYTES as u64 && tally.received_bytes > BYTES as u64, "{tally:?}");
}

fn names_lead_inside_only_if_listed(yard: &Yard) {
    // The one name that leads somewhere on every machine, and it leads inside.
    let (port, served) = listen(|mut stream| stream.write_all(b"in").is_ok());
    let script = format!(
        "code, address = ask('localhost'); print(code)\nif address: s = try_tcp(address, {port}); print(s.recv(9).decode())\nprint(ask('elsewhere.test')[0])"
    );
    let mut active = yard.claim();
    active.permit(policy(&[format!("localhost:{port}")]));
    assert_eq!(python(yard, &mut active, &script), ["5", "5"], "refused, both");
    let tally = end(yard, active);
    let asked =
        tally.contacts.iter().find(|contact| contact.name.as_deref() == Some("localhost")).expect("seen");
    assert!(!asked.allowed && asked.error.as_ref().is_some_and(|why| why.contains("private")), "{asked:?}");

    let mut active = yard.claim();
    active.permit(policy(&[format!("localhost:{port}"), format!("127.0.0.1:{port}")]));
    assert_eq!(python(yard, &mut active, &script), ["0", "connected", "in", "5"]);
    assert!(served.join().expect("it was served"));
    let tally = end(yard, active);
    let reached = find(&tally, Protocol::Tcp, Some(port));
    assert_eq!(
        (reached.name.as_deref(), reached.destination.as_deref()),
        (Some("localhost"), Some("127.0.0.1"))
    );
}

fn a_flood_is_bounded(yard: &Yard) {
    let mut active = yard.claim();
    let said = python(
        yard,
        &mut active,
        r#"
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + 5; n = 0
while time.monotonic() < end:
    try: u.sendto(b"x" * 1400, ("203.0.113.9", 1 + n % 60000))
    except OSError: pass
    n += 1
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); raw.bind(("eth0", 0))
for i in range(2000): raw.send(bytes((i * j) % 251 for j in range(14 + i % 90)))
try_tcp("93.184.216.34", 443)
print(n)
"#,
    );
    assert_eq!(said[0], "ConnectionRefusedError", "it still answers");
    eprintln!("network: a flood of {} datagrams in 5 s", said[1]);
    let tally = end(yard, active);
    assert!(
        tally.contacts.len() <= 100 && tally.omitted > 100,
        "{} and {}",
        tally.contacts.len(),
        tally.omitted
    );
}

fn what_may_be_carried_has_an_end(yard: &Yard) {
    let (port, served) = listen(|mut stream| {
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all);
        (all.len(), end.is_err())
    });
    let mut active = yard.claim();
    let bounds = Bounds { bytes: evalfleet_proto::units::ByteSize::kib(64), ..Bounds::default() };
    active.permit(Policy { bounds, ..policy(&[format!("127.0.0.1:{port}")]) });
    let said = python(
        yard,
        &mut active,
        &format!(
            "s = try_tcp(GATEWAY, {port})\ntry: s.sendall(bytes(1 << 20)); s.recv(1); print('carried')\nexcept OSError as e: print(type(e).__name__)\ntry_tcp(GATEWAY, {port})"
        ),
    );
    assert_eq!(said[0], "connected");
    assert!(["ConnectionResetError", "BrokenPipeError"].contains(&said[1].as_str()), "{said:?}");
    assert_eq!(said[2], "ConnectionRefusedError");
    let (bytes, broken) = served.join().expect("it was served");
    assert!(bytes <= 64 << 10 && broken, "{bytes} bytes, broken: {broken}");
    let tally = end(yard, active);
    assert_eq!(tally.cut_off_at, Some(64 << 10));
    let refused = tally.contacts.iter().find(|contact| !contact.allowed).expect("the second try was refused");
    assert!(refused.error.as_ref().is_some_and(|why| why.contains("64K")), "{refused:?}");
}

fn loopback_and_identity(yard: &Yard) {
    let ask = r#"
l = socket.create_server(("127.0.0.1", 0)); c = try_tcp("127.0.0.1", l.getsockname()[1])
l.accept()[0].sendall(b"own"); print(c.recv(9).decode())
print(open("/sys/class/net/eth0/address").read().strip())
print(open("/etc/resolv.conf").read().split()[1])
"#;
    let mut active = yard.claim();
    let mut other = yard.claim();
    let (said, others) = (python(yard, &mut active, ask), python(yard, &mut other, ask));
    assert_eq!(
        (&said[..2], &said[3]),
        (&["connected", "own"].map(String::from)[..], &link::GATEWAY.to_string())
    );
    assert_ne!(said[2], others[2], "two clones have one hardware address");
    assert!(said[2].starts_with("02:"), "{}", said[2]);
    yard.end(other);
    let spent = yard.stop(active);
    assert!(spent.network.contacts.is_empty(), "{:?}", spent.network);
    let layer = effects::read_upper(spent.scratch()).expect("a disk that can be read");
    let expected = Expected::new::<&str>(&[]).expect("no globs");
    let (list, _) = effects::compare(yard.template().before(), &layer, &expected, 100);
    assert!(list.iter().all(|effect| !effect.path.contains("resolv")), "{list:?}");
    yard.wait(spent.destroy()).expect("QEMU dies");
}
