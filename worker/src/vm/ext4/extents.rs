//! From a file's blocks to the disk's.

use super::superblock::Superblock;
use super::{Error, Inode, ReadAt, u16_at, u32_at};

const MAGIC: u16 = 0xF30A;
const EXTENTS_FLAG: u32 = 0x8_0000;
/// The kernel's own bound on the depth of the tree.
const DEPTH_MAX: u16 = 5;
/// The most extents of one file: 8 GiB of a file written a block at a time.
const EXTENTS_MAX: usize = 1 << 21;
/// Longer extents are allocated but not written: they read as zeros.
const WRITTEN_MAX: u16 = 32_768;

/// Where a file's blocks are, sorted by its own numbering.
pub(super) struct Map(Vec<Extent>);

struct Extent {
    logical: u64,
    count: u64,
    physical: u64,
}

impl Map {
    /// The disk's block for the file's block, or `None` in a hole.
    pub(super) fn physical(&self, logical: u64) -> Option<u64> {
        let behind = self.0.partition_point(|extent| extent.logical <= logical);
        let extent = self.0.get(behind.checked_sub(1)?)?;
        let inside = logical - extent.logical;
        (inside < extent.count).then(|| extent.physical.saturating_add(inside))
    }
}

/// Reads the whole tree of `inode`.
pub(super) fn map(disk: &impl ReadAt, superblock: &Superblock, inode: &Inode) -> Result<Map, Error> {
    if inode.size == 0 {
        return Ok(Map(Vec::new()));
    }
    if inode.flags & EXTENTS_FLAG == 0 {
        return Err(Error::Foreign("a file without extents"));
    }
    let mut extents = Vec::new();
    node(disk, superblock, &inode.block, DEPTH_MAX + 1, &mut extents)?;
    extents.sort_by_key(|extent: &Extent| extent.logical);
    Ok(Map(extents))
}

/// Reads one node; `below` is what its depth must be less than, so that no loop can be followed.
fn node(
    disk: &impl ReadAt,
    superblock: &Superblock,
    bytes: &[u8],
    below: u16,
    extents: &mut Vec<Extent>,
) -> Result<(), Error> {
    if u16_at(bytes, 0)? != MAGIC {
        return Err(Error::Damaged("extent tree"));
    }
    let (count, depth) = (usize::from(u16_at(bytes, 2)?), u16_at(bytes, 6)?);
    if depth >= below {
        return Err(Error::Damaged("extent tree's depth"));
    }
    for entry in bytes.get(12..).unwrap_or_default().chunks_exact(12).take(count) {
        if extents.len() >= EXTENTS_MAX {
            return Err(Error::TooLarge("an extent tree"));
        }
        let logical = u64::from(u32_at(entry, 0)?);
        if depth == 0 {
            let length = u16_at(entry, 4)?;
            if length <= WRITTEN_MAX {
                let physical = u64::from(u16_at(entry, 6)?) << 32 | u64::from(u32_at(entry, 8)?);
                extents.push(Extent { logical, count: u64::from(length), physical });
            }
        } else {
            let child = u64::from(u16_at(entry, 8)?) << 32 | u64::from(u32_at(entry, 4)?);
            let mut block = vec![0; superblock.block_bytes as usize];
            disk.read_at(superblock.offset_of(child)?, &mut block)?;
            node(disk, superblock, &block, depth, extents)?;
        }
    }
    Ok(())
}
