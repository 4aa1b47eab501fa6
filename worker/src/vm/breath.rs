//! Files on their way into a guest: chunks of several are said in one breath, since each waking of the guest costs
//! more than the bytes. Pure; [`Active::lay`](super::Active::lay) says it.

use evalfleet_proto::guest::{CHUNK_BYTES, Put, ToGuest};

/// Bytes of content in one breath.
const BYTES_MAX: usize = 4 * CHUNK_BYTES;
/// Chunks in one breath: as many answers wait in the channel while nobody hears them.
const CHUNKS_MAX: usize = 64;

/// Chunks that are said together.
#[derive(Debug, Default)]
pub struct Breath {
    chunks: Vec<ToGuest>,
    bytes: usize,
}

impl Breath {
    /// Takes a chunk; where both have no room in one breath, gives back what is to be said before it.
    #[must_use]
    pub fn add(&mut self, chunk: Put) -> Option<Self> {
        let full = self.chunks.len() >= CHUNKS_MAX || self.bytes + chunk.data.len() > BYTES_MAX;
        let before = (full && !self.chunks.is_empty()).then(|| std::mem::take(self));
        self.bytes += chunk.data.len();
        self.chunks.push(ToGuest::Put(chunk));
        before
    }

    /// What is said.
    pub(super) fn words(&self) -> &[ToGuest] {
        &self.chunks
    }
}

/// The chunks of one file, at least one.
pub fn chunks<'f>(path: &'f str, mode: u32, content: &'f [u8]) -> impl Iterator<Item = Put> + 'f {
    let count = content.len().div_ceil(CHUNK_BYTES).max(1);
    (0..count).map(move |at| {
        let offset = at * CHUNK_BYTES;
        let data = content[offset..content.len().min(offset + CHUNK_BYTES)].to_vec();
        Put { path: path.to_owned(), mode, offset: offset as u64, data }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_laid_is_said_whole_in_order_and_in_bounded_breaths(
            sizes in prop::collection::vec(prop_oneof![0_usize..200, 0..3 * CHUNK_BYTES], 0..120),
        ) {
            let files: Vec<(String, Vec<u8>)> =
                sizes.iter().enumerate().map(|(at, size)| (format!("/{at}"), vec![at as u8; *size])).collect();
            let (mut breath, mut said) = (Breath::default(), Vec::new());
            for (path, content) in &files {
                said.extend(chunks(path, 0o644, content).filter_map(|chunk| breath.add(chunk)));
            }
            said.push(breath);
            let mut laid: Vec<(String, Vec<u8>)> = Vec::new();
            for breath in &said {
                prop_assert!(breath.words().len() <= CHUNKS_MAX);
                let mut bytes = 0;
                for word in breath.words() {
                    let ToGuest::Put(put) = word else { panic!("only chunks are laid") };
                    bytes += put.data.len();
                    if put.offset == 0 {
                        laid.push((put.path.clone(), Vec::new()));
                    }
                    let (path, content) = laid.last_mut().expect("its first chunk came");
                    prop_assert_eq!((&*path, content.len() as u64), (&put.path, put.offset));
                    content.extend(&put.data);
                }
                prop_assert!(bytes <= BYTES_MAX);
            }
            prop_assert_eq!(laid, files);
        }
    }
}
