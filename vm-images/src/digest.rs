//! SHA-256 of bytes and files, and of sparse files without reading their holes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::SeekFrom;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The granule in which a sparse file's content is told from emptiness.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is not a SHA-256.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a SHA-256: 64 hexadecimal digits, in lower case")]
pub struct NotADigest(String);

impl Digest {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// Hashes the content of a file.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(Self(hex::encode(hasher.finalize())));
            }
            hasher.update(&buffer[..count]);
        }
    }

    /// Hashes a sparse file: its length, then position and content of every block that is not all zeros.
    ///
    /// The same for the same content, wherever the holes lie, at the cost of the data alone. It is *not* what
    /// `sha256sum` says of the file.
    pub fn of_sparse_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut hasher = Sha256::new();
        hasher.update(file.metadata()?.size().to_le_bytes());
        for_each_block(&file, |position, block| {
            hasher.update(position.to_le_bytes());
            hasher.update(block);
            Ok(())
        })?;
        Ok(Self(hex::encode(hasher.finalize())))
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As many digits as people compare: 12.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// Calls `visit` with the position and content of every block of `file` that is not all zeros, in order.
pub(crate) fn for_each_block(
    file: &File,
    mut visit: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let length = file.metadata()?.size();
    let mut block = [0; BLOCK_BYTES];
    let mut position = next_data(file, 0, length)?;
    while position < length {
        let wanted = usize::try_from(length - position).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        file.read_exact_at(&mut block[..wanted], position)?;
        let content = &block[..wanted];
        if content.iter().all(|byte| *byte == 0) {
            position = next_data(file, position + wanted as u64, length)?;
        } else {
            visit(position, content)?;
            position += wanted as u64;
        }
    }
    Ok(())
}

/// The start of the block that holds the first data at or after `position`; `length` where there is none.
fn next_data(file: &File, position: u64, length: u64) -> io::Result<u64> {
    if position >= length {
        return Ok(length);
    }
    match rustix::fs::seek(file, SeekFrom::Data(position)) {
        Ok(found) => Ok((found - found % BLOCK_BYTES as u64).max(position)),
        Err(rustix::io::Errno::NXIO) => Ok(length),
        Err(error) => Err(error.into()),
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 64 && is_hex { Ok(Self(text)) } else { Err(NotADigest(text)) }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_lower_case_digits_are_a_digest() {
        let digest = Digest::of(b"");
        assert!(digest.as_str().starts_with("e3b0c44298fc1c14"));
        assert!(Digest::try_from(digest.as_str().to_uppercase()).is_err());
        assert!(Digest::try_from("abc".to_owned()).is_err());
        assert_eq!(Digest::try_from(digest.to_string()).unwrap(), digest);
    }

    #[test]
    fn where_the_holes_lie_does_not_change_a_sparse_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (holes, full, other) =
            (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        let mut content = vec![0; 10 * BLOCK_BYTES + 7];
        content[3 * BLOCK_BYTES + 5] = 1;
        content[10 * BLOCK_BYTES + 6] = 2;
        std::fs::write(&full, &content).unwrap();
        let file = File::create(&holes).unwrap();
        file.set_len(content.len() as u64).unwrap();
        file.write_all_at(&[1], 3 * BLOCK_BYTES as u64 + 5).unwrap();
        file.write_all_at(&[2], 10 * BLOCK_BYTES as u64 + 6).unwrap();
        assert_eq!(std::fs::read(&holes).unwrap(), content);
        content[0] = 1;
        std::fs::write(&other, &content).unwrap();
        let digest = |path: &Path| Digest::of_sparse_file(path).unwrap();
        assert_eq!(digest(&holes), digest(&full));
        assert_ne!(digest(&holes), digest(&other));
    }
}
