//! From a file's blocks to the disk's.

use super::budget::Metered;
use super::superblock::Superblock;
use super::{Error, Inode, ReadAt, u16_at, u32_at};

const MAGIC: u16 = 0xF30A;
const EXTENTS_FLAG: u32 = 0x8_0000;
/// The kernel's own bound on the depth of the tree.
const DEPTH_MAX: u16 = 5;
/// The most extents of one file: a gigabyte of a file written a block of 4 KiB at a time.
const EXTENTS_MAX: usize = 1 << 18;
/// Longer extents are allocated but not written: they read as zeros.
const WRITTEN_MAX: u16 = 32_768;

/// Where a file's blocks are, sorted by its own numbering.
#[derive(Debug)]
pub struct Map {
    extents: Vec<Extent>,
    /// The blocks that say so, where there are more than fit into the inode.
    nodes: Vec<u64>,
}

#[derive(Debug)]
struct Extent {
    logical: u64,
    count: u64,
    physical: u64,
}

impl Map {
    /// Every block that the file has, its own and those that say where they are: begin and count.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, u64)> {
        let own = self.extents.iter().map(|extent| (extent.physical, extent.count));
        own.chain(self.nodes.iter().map(|node| (*node, 1)))
    }

    /// Where the file's block `logical` is on the disk, or `None` in a hole, and for how many blocks from
    /// there on that holds; never none.
    pub fn run(&self, logical: u64) -> (Option<u64>, u64) {
        let behind = self.extents.partition_point(|extent| extent.logical <= logical);
        if let Some(extent) = behind.checked_sub(1).and_then(|at| self.extents.get(at)) {
            let inside = logical - extent.logical;
            if inside < extent.count {
                return (Some(extent.physical.saturating_add(inside)), extent.count - inside);
            }
        }
        (None, self.extents.get(behind).map_or(u64::MAX, |next| next.logical - logical))
    }
}

/// Reads the whole tree of `inode`.
pub(super) fn map(disk: &Metered<impl ReadAt>, superblock: &Superblock, inode: &Inode) -> Result<Map, Error> {
    let mut map = Map { extents: Vec::new(), nodes: Vec::new() };
    if inode.size == 0 {
        return Ok(map);
    }
    if inode.flags & EXTENTS_FLAG == 0 {
        return Err(Error::Foreign("a file without extents"));
    }
    node(disk, superblock, &inode.block, DEPTH_MAX + 1, &mut map)?;
    map.extents.sort_by_key(|extent| extent.logical);
    if map.extents.windows(2).any(|pair| pair[0].logical + pair[0].count > pair[1].logical) {
        return Err(Error::Damaged("extents that overlap"));
    }
    Ok(map)
}

/// Reads one node; `below` is what its depth must be less than, so that no loop can be followed.
fn node(
    disk: &Metered<impl ReadAt>,
    superblock: &Superblock,
    bytes: &[u8],
    below: u16,
    map: &mut Map,
) -> Result<(), Error> {
    if u16_at(bytes, 0)? != MAGIC {
        return Err(Error::Damaged("extent tree"));
    }
    let (count, depth) = (usize::from(u16_at(bytes, 2)?), u16_at(bytes, 6)?);
    if depth >= below {
        return Err(Error::Damaged("extent tree's depth"));
    }
    for entry in bytes.get(12..).unwrap_or_default().chunks_exact(12).take(count) {
        if map.extents.len() + map.nodes.len() >= EXTENTS_MAX {
            return Err(Error::TooLarge("an extent tree"));
        }
        let logical = u64::from(u32_at(entry, 0)?);
        if depth == 0 {
            let length = u16_at(entry, 4)?;
            if length <= WRITTEN_MAX {
                let physical = u64::from(u16_at(entry, 6)?) << 32 | u64::from(u32_at(entry, 8)?);
                map.extents.push(Extent { logical, count: u64::from(length), physical });
            }
        } else {
            let child = u64::from(u16_at(entry, 8)?) << 32 | u64::from(u32_at(entry, 4)?);
            map.nodes.push(child);
            let mut block = vec![0; superblock.block_bytes as usize];
            disk.read_at(superblock.offset_of(child)?, &mut block)?;
            node(disk, superblock, &block, depth, map)?;
        }
    }
    Ok(())
}
