//! Frames out of the bytes that an agent sent. Pure, so that it can be fuzzed; the bytes are hostile.
//!
//! What is held is bounded by whoever pushes: a frame is refused at its announcement when it is too
//! long, so that no more than one frame and what was read with it ever waits.

use bytes::{Buf as _, BytesMut};
use evalfleet_proto::guest::{FRAME_BYTES_MAX, FromGuest, LENGTH_BYTES};
use evalfleet_proto::wire::{self, DecodeError};

/// Why there will be no more frames: after an error nobody knows where the next one begins.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A frame longer than there may be.
    #[error("announced a frame of {0} bytes")]
    TooLong(usize),
    /// A frame that does not decode.
    #[error("makes no sense: {0}")]
    Senseless(#[from] DecodeError),
}

/// What was read and is not yet taken.
#[derive(Debug, Default)]
pub struct Frames {
    pending: BytesMut,
}

impl Frames {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Where a reader may put the next bytes, at the end of what waits.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.pending
    }

    /// Takes the next whole frame, or `None` until more bytes came.
    ///
    /// # Errors
    /// When a frame is too long or does not decode.
    pub fn take(&mut self) -> Result<Option<FromGuest>, Error> {
        let Some((length, rest)) = self.pending.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Error::TooLong(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.pending.advance(LENGTH_BYTES);
        // Both steps move a mark and no bytes, so that many small frames cost no more than a large one.
        let frame = self.pending.split_to(length);
        Ok(Some(wire::decode(&frame)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(message: &FromGuest) -> Vec<u8> {
        let body = wire::encode(message);
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.extend(body);
        frame
    }

    fn output(size: usize) -> FromGuest {
        FromGuest::Output { stderr: size % 2 == 1, data: vec![b'x'; size] }
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_same_frames_come_out(
            sizes in prop::collection::vec(0usize..300, 1..20),
            cuts in prop::collection::vec(1usize..700, 1..60),
        ) {
            let sent: Vec<_> = sizes.iter().map(|size| output(*size)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(frame).collect();
            let (mut frames, mut heard, mut left) = (Frames::default(), Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (now, later) = left.split_at(left.len().min(*cut));
                frames.push(now);
                while let Some(frame) = frames.take().unwrap() {
                    heard.push(frame);
                }
                left = later;
                if left.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(heard, sent);
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_at_its_announcement() {
        let mut frames = Frames::default();
        frames.push(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
        assert!(matches!(frames.take(), Err(Error::TooLong(_))));
    }

    #[test]
    fn a_frame_of_nonsense_is_refused() {
        let mut frames = Frames::default();
        frames.push(&[1, 0, 0, 0, 0xC1]);
        assert!(matches!(frames.take(), Err(Error::Senseless(_))));
    }
}
