//! The first bytes of a disk's file: what it is, and what of it is refused before any program opens it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The largest disk that is imported, as its guest sees it.
pub const DISK_BYTES_MAX: u64 = 256 << 30;

const MAGIC: &[u8; 4] = b"QFI\xfb";
const HEADER_BYTES: usize = 104;
/// Version 3's features: an unclean end, a named compression, subclusters. What is not among them is a
/// damaged image, or one whose data are in another file.
const FEATURES: u64 = 1 | 1 << 3 | 1 << 4;

/// How a disk is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Qcow2,
    Raw,
}

impl Format {
    /// QEMU's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is neither a qcow2 nor a raw disk with a partition table")]
    Foreign,
    #[error("its guest would see {0} bytes, and at most {DISK_BYTES_MAX} are imported")]
    TooLarge(u64),
    #[error("it stands on another file ({0}): make it whole with `qemu-img convert -O qcow2`")]
    Backing(String),
    #[error("its data are in another file, or it is marked as damaged (features {0:#x})")]
    Features(u64),
    #[error("it is encrypted")]
    Encrypted,
    #[error("it is qcow2 of version {0}, and 2 and 3 are read")]
    Version(u32),
}

/// Looks at the file's first bytes.
pub(crate) fn look(path: &Path) -> Result<Format, Error> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; 512];
    if length < header.len() as u64 {
        return Err(Error::Foreign);
    }
    file.read_exact_at(&mut header, 0)?;
    if !header.starts_with(MAGIC) {
        if header[510..] != [0x55, 0xaa] {
            return Err(Error::Foreign);
        }
        return if length <= DISK_BYTES_MAX { Ok(Format::Raw) } else { Err(Error::TooLarge(length)) };
    }
    let backing = qcow2(&header)?;
    if let Some((offset, bytes)) = backing {
        let mut name = vec![0; bytes.min(1023) as usize];
        let read = file.read_exact_at(&mut name, offset);
        let name = if read.is_ok() { String::from_utf8_lossy(&name).into_owned() } else { "?".to_owned() };
        return Err(Error::Backing(name));
    }
    Ok(Format::Qcow2)
}

/// Checks a qcow2 header; gives where the name of the file below it stands, if there is one.
fn qcow2(header: &[u8; 512]) -> Result<Option<(u64, u32)>, Error> {
    let header = &header[..HEADER_BYTES];
    let u32_at = |at: usize| header[at..at + 4].iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
    let version = u32_at(4);
    if !(2..=3).contains(&version) {
        return Err(Error::Version(version));
    }
    let size = u64_at(24);
    if size > DISK_BYTES_MAX {
        return Err(Error::TooLarge(size));
    }
    if u32_at(32) != 0 {
        return Err(Error::Encrypted);
    }
    let features = if version == 3 { u64_at(72) } else { 0 };
    if features & !FEATURES != 0 {
        return Err(Error::Features(features));
    }
    let backing = u64_at(8);
    Ok((backing != 0).then(|| (backing, u32_at(16))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl Fn(&mut [u8])) -> Result<Format, Error> {
        let mut bytes = vec![0; 1024];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[7] = 3;
        bytes[29] = 1;
        change(&mut bytes);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        look(file.path())
    }

    #[test]
    fn a_whole_qcow2_and_a_disk_with_a_partition_table_are_taken() {
        assert_eq!(header(|_| ()).unwrap(), Format::Qcow2);
        let raw = header(|bytes| {
            bytes[0] = 0;
            bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        });
        assert_eq!(raw.unwrap(), Format::Raw);
        assert!(matches!(header(|bytes| bytes[0] = 0), Err(Error::Foreign)));
    }

    #[test]
    fn what_names_another_file_is_refused_and_named() {
        let backing = header(|bytes| {
            bytes[14] = 2;
            bytes[19] = 11;
            bytes[512..523].copy_from_slice(b"/etc/shadow");
        });
        assert!(matches!(backing, Err(Error::Backing(name)) if name == "/etc/shadow"));
        assert!(matches!(header(|bytes| bytes[79] = 4), Err(Error::Features(4))));
    }

    #[test]
    fn encrypted_huge_and_unknown_ones_are_refused() {
        assert!(matches!(header(|bytes| bytes[35] = 1), Err(Error::Encrypted)));
        assert!(matches!(header(|bytes| bytes[24] = 1), Err(Error::TooLarge(_))));
        assert!(matches!(header(|bytes| bytes[7] = 9), Err(Error::Version(9))));
    }
}
