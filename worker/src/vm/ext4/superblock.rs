//! The superblock, and where it says that inodes are.

use super::{Error, u16_at, u32_at};

pub(super) const OFFSET: u64 = 1024;
pub(super) const BYTES: usize = 1024;

const MAGIC: u16 = 0xEF53;
/// Directory entries with types, extents, flexible groups, 64-bit descriptors, an unclean stop, a seed for
/// checksums.
const READABLE: u32 = 0x2 | 0x40 | 0x200 | 0x80 | 0x4 | 0x2000;
const FEATURE_64BIT: u32 = 0x80;

/// What is needed of the superblock.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) block_bytes: u64,
    pub(super) inode_bytes: usize,
    pub(super) descriptor_bytes: usize,
    first_block: u32,
    inodes: u32,
    inodes_per_group: u32,
    wide: bool,
}

/// Where an inode is described.
pub(super) struct Place {
    /// The group descriptor's offset on the disk.
    pub(super) descriptor: u64,
    /// The inode's offset in its group's table.
    pub(super) in_table: u64,
}

impl Superblock {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if u16_at(bytes, 56)? != MAGIC {
            return Err(Error::Foreign("no ext4 superblock"));
        }
        let features = u32_at(bytes, 96)?;
        if features & !READABLE != 0 {
            return Err(Error::Foreign("a feature that the image builder does not use"));
        }
        let wide = features & FEATURE_64BIT != 0;
        let log = u32_at(bytes, 24)?;
        if log > 6 {
            return Err(Error::Damaged("block size"));
        }
        let inode_bytes = usize::from(u16_at(bytes, 88)?);
        if !(128..=4096).contains(&inode_bytes) || !inode_bytes.is_power_of_two() {
            return Err(Error::Damaged("inode size"));
        }
        let descriptor_bytes = if wide { usize::from(u16_at(bytes, 254)?) } else { 32 };
        if !(32..=1024).contains(&descriptor_bytes) || (wide && descriptor_bytes < 64) {
            return Err(Error::Damaged("descriptor size"));
        }
        let inodes_per_group = u32_at(bytes, 40)?;
        if inodes_per_group == 0 {
            return Err(Error::Damaged("inodes per group"));
        }
        Ok(Self {
            block_bytes: 1024 << log,
            inode_bytes,
            descriptor_bytes,
            first_block: u32_at(bytes, 20)?,
            inodes: u32_at(bytes, 0)?,
            inodes_per_group,
            wide,
        })
    }

    pub(super) fn locate_inode(&self, number: u32) -> Result<Place, Error> {
        if number == 0 || number > self.inodes {
            return Err(Error::Damaged("inode number"));
        }
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let table = (u64::from(self.first_block) + 1) * self.block_bytes;
        Ok(Place {
            descriptor: table + u64::from(group) * self.descriptor_bytes as u64,
            in_table: u64::from(index) * self.inode_bytes as u64,
        })
    }

    /// The offset on the disk of the inode table that a group descriptor names.
    pub(super) fn inode_table(&self, descriptor: &[u8]) -> Result<u64, Error> {
        let low = u64::from(u32_at(descriptor, 8)?);
        let high = if self.wide { u64::from(u32_at(descriptor, 40)?) } else { 0 };
        self.offset_of(high << 32 | low)
    }

    pub(super) fn offset_of(&self, block: u64) -> Result<u64, Error> {
        block.checked_mul(self.block_bytes).ok_or(Error::Damaged("block number"))
    }
}
