//! Fresh randomness: clones of one template share their random state until they are told otherwise.
//!
//! The one module with `unsafe`: the two `ioctl`s have no safe form. Both take what is stated in
//! `drivers/char/random.c`, on a file that is /dev/urandom.

#![expect(unsafe_code, reason = "RNDADDENTROPY and RNDRESEEDCRNG have no safe wrapper")]

use rustix::ioctl::{NoArg, Setter, ioctl, opcode};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};

/// `_IOW('R', 3, int[2])`: mix bytes in and credit them.
const ADD_ENTROPY: rustix::ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 3);
/// `_IO('R', 7)`: make the generator take up what was mixed in, now.
const RESEED: rustix::ioctl::Opcode = opcode::none(b'R', 7);

/// What `ADD_ENTROPY` takes.
#[repr(C)]
struct PoolInfo {
    entropy_bits: i32,
    bytes: i32,
    data: [u8; 64],
}

/// Mixes up to 64 bytes into the kernel's generator and reseeds it at once.
pub(crate) fn feed(fresh: &[u8]) -> io::Result<()> {
    let mut info = PoolInfo { entropy_bits: 0, bytes: 0, data: [0; 64] };
    let count = fresh.len().min(info.data.len());
    info.data[..count].copy_from_slice(&fresh[..count]);
    info.bytes = count as i32;
    info.entropy_bits = info.bytes * 8;
    let urandom = OpenOptions::new().read(true).write(true).open("/dev/urandom")?;
    // SAFETY: the operation reads a `struct rand_pool_info`, two ints and `bytes` bytes, which
    // `PoolInfo` is in C's layout, with `bytes` no more than its array holds.
    unsafe { ioctl(&urandom, Setter::<ADD_ENTROPY, PoolInfo>::new(info)) }?;
    // SAFETY: the operation takes no argument.
    unsafe { ioctl(&urandom, NoArg::<RESEED>::new()) }?;
    Ok(())
}

/// Draws bytes, as any program would.
pub(crate) fn draw<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
