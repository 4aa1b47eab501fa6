//! The first moments of a clone: it takes the time, fresh randomness, a name and a hardware address of its own.

use crate::{entropy, network};
use evalfleet_proto::guest::{Awake, Hello};
use rustix::time::{ClockId, Timespec};

const NANOS: u64 = 1_000_000_000;
/// What tells one system from another.
pub(crate) const MACHINE_ID: &str = "/etc/machine-id";

/// Does as the greeting says, and tells what did not work: the host decides whether that matters.
pub(crate) fn wake(hello: Hello) -> Awake {
    let mut errors = Vec::new();
    let time = Timespec { tv_sec: (hello.clock_ns / NANOS) as i64, tv_nsec: (hello.clock_ns % NANOS) as i64 };
    if let Err(error) = rustix::time::clock_settime(ClockId::Realtime, time) {
        errors.push(format!("clock: {error}"));
    }
    if let Err(error) = entropy::feed(&hello.entropy) {
        errors.push(format!("entropy: {error}"));
    }
    if let Err(error) = rustix::system::sethostname(hello.hostname.as_bytes()) {
        errors.push(format!("hostname: {error}"));
    }
    // After the reseeding: drawn before, it would be every clone's.
    if let Err(error) = entropy::draw::<16>().and_then(|id| std::fs::write(MACHINE_ID, machine_id(&id))) {
        errors.push(format!("machine-id: {error}"));
    }
    if let Some(mac) = hello.mac
        && let Err(error) = network::set_mac(mac)
    {
        errors.push(format!("hardware address: {error}"));
    }
    let random = entropy::draw::<32>().map_or_else(
        |error| {
            errors.push(format!("random: {error}"));
            Vec::new()
        },
        |bytes| bytes.to_vec(),
    );
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    Awake {
        nonce: hello.nonce,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        random,
        clock_ns: now.tv_sec as u64 * NANOS + now.tv_nsec as u64,
        errors,
    }
}

/// As machine-id(5) has it: 32 lower-case digits and a line's end.
fn machine_id(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits + "\n"
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_id_has_32_digits() {
        assert_eq!(super::machine_id(&[0xab; 16]), format!("{}\n", "ab".repeat(16)));
    }
}
