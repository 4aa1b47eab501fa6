//! The stream between QEMU and the gateway: frames with their length in front, bounded both ways.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// The largest frame: what QEMU itself passes on.
pub(super) const FRAME_BYTES_MAX: usize = 68 << 10;
/// How much may wait to be taken by QEMU; more is not made.
const WAITING_BYTES_MAX: usize = 512 << 10;
const LENGTH_BYTES: usize = 4;

/// QEMU announced a frame that it cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// Bytes from QEMU, to be cut into frames.
#[derive(Debug, Default)]
pub(super) struct Incoming(pub(super) BytesMut);

impl Incoming {
    /// Takes the next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<BytesMut>, Broken> {
        let Some(length) = self.0.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Broken);
        }
        if self.0.len() < LENGTH_BYTES + length {
            self.0.reserve(LENGTH_BYTES + length - self.0.len());
            return Ok(None);
        }
        self.0.advance(LENGTH_BYTES);
        Ok(Some(self.0.split_to(length)))
    }
}

/// Frames for QEMU.
#[derive(Debug, Default)]
pub(super) struct Outgoing(pub(super) BytesMut);

impl Outgoing {
    /// Whether one more frame may be put.
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < WAITING_BYTES_MAX
    }

    /// Appends a frame of `length` bytes, which `fill` writes.
    pub(super) fn put<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.0.put_u32(length as u32);
        let from = self.0.len();
        self.0.resize(from + length, 0);
        fill(&mut self.0[from..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_out_of_bounds_ends_the_stream() {
        let mut incoming = Incoming(BytesMut::from(&[0, 2, 0, 0][..]));
        assert_eq!(incoming.next(), Err(Broken));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..9), cut in 1usize..50) {
            let mut outgoing = Outgoing::default();
            for frame in &frames {
                outgoing.put(frame.len(), |to| to.copy_from_slice(frame));
            }
            let (mut incoming, mut got) = (Incoming::default(), Vec::new());
            for piece in outgoing.0.chunks(cut) {
                incoming.0.extend_from_slice(piece);
                while let Some(frame) = incoming.next().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, frames);
        }
    }
}
