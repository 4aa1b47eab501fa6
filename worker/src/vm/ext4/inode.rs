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
    /// What it is.
    pub kind: Kind,
    /// Its permission bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its length in bytes.
    pub size: u64,
    /// The numbers of a device, as Linux's old encoding and its new one have them.
    pub device: (u32, u32),
    pub(super) flags: u32,
    /// Extents, or a short link's target, or a device's numbers.
    pub(super) block: [u8; 60],
    pub(super) xattr_block: u64,
    /// What lies between the inode's fields and its end: attributes.
    pub(super) extra: Vec<u8>,
}

impl Inode {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
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
        let extra = if bytes.len() > 130 {
            let start = 128 + usize::from(u16_at(bytes, 128)?);
            bytes.get(start..).ok_or(Error::Damaged("inode's extra size"))?.to_vec()
        } else {
            Vec::new()
        };
        Ok(Self {
            kind,
            mode: mode & 0o7777,
            uid: wide(2, 120)?,
            gid: wide(24, 122)?,
            size: u64::from(u32_at(bytes, 108)?) << 32 | u64::from(u32_at(bytes, 4)?),
            device: (u32_at(&block, 0)?, u32_at(&block, 4)?),
            flags: u32_at(bytes, 32)?,
            block,
            xattr_block: u64::from(u16_at(bytes, 118)?) << 32 | u64::from(u32_at(bytes, 104)?),
            extra,
        })
    }

    /// Whether this is how overlayfs writes that something is gone: character device 0/0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::CharDevice && self.device == (0, 0)
    }
}
