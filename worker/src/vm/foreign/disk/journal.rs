//! ext4's journal: what a guest that was stopped had committed and not yet written to its place.
//!
//! A kernel would write it there when it mounts the disk. Here it is looked up while reading. The journal
//! is as hostile as the rest: it is walked once around at most, and whatever does not fit ends the walk.
//!
//! Source: the kernel's `Documentation/filesystems/ext4/journal.rst`.

use super::super::super::ext4::{Error, Ext4, ReadAt};
use super::Ranges;
use std::collections::HashMap;
use std::io;

const MAGIC: u32 = 0xc03b_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// The journal's features.
const BIT64: u32 = 2;
const CHECKSUM_2: u32 = 8;
const CHECKSUM_3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
/// A tag's flags.
const ESCAPED: u32 = 1;
const SAME_UUID: u32 = 2;
const LAST: u32 = 8;
/// The file system's own flag that there is something to recover.
const RECOVER: u32 = 4;
/// The longest journal that is walked, in blocks: 4 GiB of the usual ones.
const BLOCKS_MAX: u64 = 1 << 20;

/// A disk whose journal is looked up first.
#[derive(Debug)]
pub struct Journaled<D> {
    disk: D,
    block_bytes: u64,
    /// The file system's block, where its newest content is, and whether that lost its first word.
    moved: HashMap<u64, (u64, bool)>,
}

impl<D: ReadAt> Journaled<D> {
    /// Reads the journal of the file system on `disk`, if it has one to be recovered.
    ///
    /// # Errors
    /// When the file system or its journal cannot be read.
    pub(super) fn open(disk: D) -> Result<Self, Error> {
        let mut superblock = [0; 1024];
        disk.read_at(1024, &mut superblock)?;
        let u32_le = |at: usize| {
            superblock[at..at + 4].iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
        };
        let block_bytes = 1024_u64 << u32_le(24).min(6);
        let (features, inode) = (u32_le(96), u32_le(224));
        let mut journaled = Self { disk, block_bytes, moved: HashMap::new() };
        if features & RECOVER != 0 && inode != 0 {
            journaled.moved = walk(&journaled.disk, block_bytes, inode)?;
        }
        Ok(journaled)
    }

    /// The bytes that are not in their place.
    pub(super) fn moved(&self) -> Ranges {
        let mut moved = Ranges::default();
        for block in self.moved.keys() {
            moved.add(block.saturating_mul(self.block_bytes), self.block_bytes);
        }
        moved
    }
}

impl<D: ReadAt> ReadAt for Journaled<D> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.moved.is_empty() {
            return self.disk.read_at(offset, buffer);
        }
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (block, inside) = (at / self.block_bytes, at % self.block_bytes);
            let count = (buffer.len() - done).min((self.block_bytes - inside) as usize);
            let part = &mut buffer[done..done + count];
            match self.moved.get(&block) {
                None => self.disk.read_at(at, part)?,
                Some((place, escaped)) => {
                    self.disk.read_at(place + inside, part)?;
                    if *escaped {
                        let magic = MAGIC.to_be_bytes();
                        for (byte, at) in part.iter_mut().zip(inside..) {
                            if let Some(original) = magic.get(at as usize) {
                                *byte = *original;
                            }
                        }
                    }
                }
            }
            done += count;
        }
        Ok(())
    }
}

/// A block of the journal.
struct Block(Vec<u8>);

impl Block {
    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..at + 4)?;
        Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }
}

/// What one transaction holds.
#[derive(Default)]
struct Transaction {
    blocks: Vec<(u64, (u64, bool))>,
    revoked: Vec<u64>,
}

fn walk<D: ReadAt>(disk: &D, block_bytes: u64, inode: u32) -> Result<HashMap<u64, (u64, bool)>, Error> {
    let fs = Ext4::open(disk)?;
    let journal = fs.inode(inode)?;
    let places = fs.places(&journal)?;
    let place = |block: u64| places.run(block).0.and_then(|block| block.checked_mul(block_bytes));
    let read = |block: u64| -> Option<Block> {
        let mut bytes = vec![0; block_bytes as usize];
        disk.read_at(place(block)?, &mut bytes).ok()?;
        Some(Block(bytes))
    };
    let damaged = || Error::Damaged("the journal");
    let head = read(0).ok_or_else(damaged)?;
    let field = |at: usize| head.u32(at).ok_or_else(damaged);
    if field(0)? != MAGIC {
        return Err(damaged());
    }
    let (length, first, start) = (u64::from(field(16)?), u64::from(field(20)?), u64::from(field(28)?));
    let features = field(40)?;
    let fast = if features & FAST_COMMIT != 0 { u64::from(field(84)?.max(256)) } else { 0 };
    let end = length.saturating_sub(fast).min(BLOCKS_MAX);
    if start == 0 {
        return Ok(HashMap::new());
    }
    if first == 0 || start < first || start >= end {
        return Err(damaged());
    }
    let next = |block: u64| if block + 1 >= end { first } else { block + 1 };
    let (mut at, mut sequence, mut left) = (start, field(24)?, end);
    let (mut committed, mut open) = (Vec::new(), Transaction::default());
    while left > 0 {
        left -= 1;
        let Some(block) = read(at) else { break };
        if block.u32(0) != Some(MAGIC) || block.u32(8) != Some(sequence) {
            break;
        }
        at = next(at);
        match block.u32(4) {
            Some(DESCRIPTOR) => {
                for (number, escaped) in tags(&block, features) {
                    let Some(there) = place(at) else { break };
                    open.blocks.push((number, (there, escaped)));
                    at = next(at);
                    left = left.saturating_sub(1);
                }
            }
            Some(REVOKE) => open.revoked.extend(revoked(&block, features)),
            Some(COMMIT) => {
                committed.push(std::mem::take(&mut open));
                sequence = sequence.wrapping_add(1);
            }
            Some(_) | None => break,
        }
    }
    Ok(newest(committed))
}

/// The newest content of each block: what a later transaction, or the same, revoked does not count.
fn newest(committed: Vec<Transaction>) -> HashMap<u64, (u64, bool)> {
    let mut moved = HashMap::new();
    for transaction in committed {
        moved.extend(transaction.blocks);
        for block in transaction.revoked {
            moved.remove(&block);
        }
    }
    moved
}

/// The blocks that a descriptor announces.
fn tags(block: &Block, features: u32) -> Vec<(u64, bool)> {
    let wide = features & BIT64 != 0;
    let size = match (features & CHECKSUM_3 != 0, features & CHECKSUM_2 != 0, wide) {
        (true, _, _) => 16,
        (false, true, true) => 14,
        (false, true, false) => 10,
        (false, false, true) => 12,
        (false, false, false) => 8,
    };
    let (mut tags, mut at) = (Vec::new(), 12);
    while at + size <= block.0.len() {
        let Some(low) = block.u32(at) else { break };
        let (flags, high) = if features & CHECKSUM_3 != 0 {
            (block.u32(at + 4), block.u32(at + 8))
        } else {
            // Sixteen bits of checksum, sixteen of flags.
            (block.u32(at + 4).map(|both| both & 0xffff), if wide { block.u32(at + 8) } else { Some(0) })
        };
        let (Some(flags), Some(high)) = (flags, high) else { break };
        let high = if wide { high } else { 0 };
        tags.push((u64::from(high) << 32 | u64::from(low), flags & ESCAPED != 0));
        at += size + if flags & SAME_UUID == 0 { 16 } else { 0 };
        if flags & LAST != 0 {
            break;
        }
    }
    tags
}

/// The blocks that a revocation names.
fn revoked(block: &Block, features: u32) -> Vec<u64> {
    let used = (block.u32(12).unwrap_or(0) as usize).min(block.0.len());
    let size = if features & BIT64 != 0 { 8 } else { 4 };
    let entries = block.0.get(16..used).unwrap_or_default().chunks_exact(size);
    entries.map(|entry| entry.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(words: &[u32]) -> Block {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.resize(1024, 0);
        Block(bytes)
    }

    #[test]
    fn tags_are_read_in_both_forms() {
        let third = block(&[MAGIC, 1, 7, 5, SAME_UUID | ESCAPED, 1, 0, 9, SAME_UUID | LAST, 0, 0, 11]);
        assert_eq!(tags(&third, BIT64 | CHECKSUM_3), [(1 << 32 | 5, true), (9, false)]);
        let plain = block(&[MAGIC, 1, 7, 5, 0, 1, 2, 3, 4, 9, SAME_UUID | LAST]);
        assert_eq!(tags(&plain, 0), [(5, false), (9, false)]);
    }

    #[test]
    fn a_descriptor_without_an_end_stays_within_its_block() {
        assert!(tags(&block(&[MAGIC, 1, 7]), CHECKSUM_3).len() <= 1024 / 16);
        assert_eq!(revoked(&block(&[MAGIC, 5, 7, u32::MAX]), 0).len(), (1024 - 16) / 4);
        assert_eq!(revoked(&block(&[MAGIC, 5, 7, 24, 0, 3]), BIT64), [3]);
    }

    #[test]
    fn what_was_revoked_is_not_looked_up_unless_it_was_written_again() {
        let write = |block| Transaction { blocks: vec![(block, (block, false))], revoked: Vec::new() };
        let revoke = |block| Transaction { blocks: Vec::new(), revoked: vec![block] };
        let moved = newest(vec![write(1), write(2), revoke(1), write(3), revoke(2), write(2)]);
        let mut blocks: Vec<_> = moved.keys().copied().collect();
        blocks.sort_unstable();
        assert_eq!(blocks, [2, 3]);
    }
}
