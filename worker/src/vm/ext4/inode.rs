//! An inode: what an object is, but not its name.

use super::{Error, u16_at, u32_at};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// An object's description.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Its number, which another object may have had before.
    pub number: u32,
    /// Drawn anew whenever the number is given to another object.
    pub generation: u32,
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// How many names it has.
    pub links: u16,
    /// Its length in bytes.
    pub size: u64,
    /// When its content was last written, in whole seconds since 1970.
    pub mtime: i64,
    pub(super) flags: u32,
    /// Extents, or a short link's target, or a device's numbers.
    pub(super) block: [u8; 60],
    pub(super) xattr_block: u64,
    /// What lies between the inode's fields and its end: attributes.
    pub(super) extra: Vec<u8>,
}

impl Inode {
    pub(super) fn parse(number: u32, bytes: &[u8]) -> Result<Self, Error> {
        let mode = u16_at(bytes, 0)?;
        let kind = match mode >> 12 {
            0x8 => Kind::File,
            0x4 => Kind::Directory,
            0xA => Kind::Symlink,
            0x1 => Kind::Fifo,
            0xC => Kind::Socket,
            0x2 => Kind::CharDevice,
            0x6 => Kind::BlockDevice,
            _ => return Err(Error::Damaged("file type")),
        };
        let wide = |low: usize, high: usize| {
            Ok::<u32, Error>(u32::from(u16_at(bytes, high)?) << 16 | u32::from(u16_at(bytes, low)?))
        };
        let block: [u8; 60] =
            bytes.get(40..100).and_then(|block| block.try_into().ok()).ok_or(Error::Damaged("inode"))?;
        let extra_bytes = if bytes.len() > 130 { usize::from(u16_at(bytes, 128)?) } else { 0 };
        let extra = if bytes.len() > 130 {
            bytes.get(128 + extra_bytes..).ok_or(Error::Damaged("inode's extra size"))?.to_vec()
        } else {
            Vec::new()
        };
        Ok(Self {
            number,
            generation: u32_at(bytes, 100)?,
            kind,
            mode: mode & 0o7777,
            uid: wide(2, 120)?,
            gid: wide(24, 122)?,
            links: u16_at(bytes, 26)?,
            size: u64::from(u32_at(bytes, 108)?) << 32 | u64::from(u32_at(bytes, 4)?),
            mtime: mtime(bytes, extra_bytes)?,
            flags: u32_at(bytes, 32)?,
            block,
            xattr_block: u64::from(u16_at(bytes, 118)?) << 32 | u64::from(u32_at(bytes, 104)?),
            extra,
        })
    }

    /// A device's major and minor number.
    pub fn device(&self) -> Option<(u32, u32)> {
        if !matches!(self.kind, Kind::CharDevice | Kind::BlockDevice) {
            return None;
        }
        let (old, new) = (self.word(0), self.word(4));
        Some(if old != 0 {
            (old >> 8 & 0xFF, old & 0xFF)
        } else {
            (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xF_FF00)
        })
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.block[at], self.block[at + 1], self.block[at + 2], self.block[at + 3]])
    }

    /// Whether this is how overlayfs writes that something is gone: character device 0/0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::CharDevice && self.word(0) == 0 && self.word(4) == 0
    }
}

/// 32 bits with a sign, and two more where the inode is long enough to have them.
fn mtime(bytes: &[u8], extra_bytes: usize) -> Result<i64, Error> {
    let seconds = i64::from(u32_at(bytes, 16)?.cast_signed());
    // The field ends at byte 140, the inode's fields at 128 and what it says more.
    let epoch = if extra_bytes >= 12 { i64::from(u32_at(bytes, 136)? & 3) } else { 0 };
    Ok(seconds + (epoch << 32))
}
