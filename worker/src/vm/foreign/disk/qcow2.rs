//! An overlay that QEMU wrote for us: qcow2 without compression, encryption or snapshots. Which clusters
//! it has of its own is what a comparison wants to know, and what tools for people do not tell in time.
//!
//! Source: QEMU's `docs/interop/qcow2.rst`.

use super::Ranges;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MAGIC: u32 = 0x5146_49fb;
/// The bits of an entry that are an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
/// In a second table, of version 3: it reads as zeros, whatever is below.
const ZERO: u64 = 1;
/// The most tables that are held in memory: 64 MiB of them, for 512 GiB of disk.
const TABLES_MAX: u64 = 1024;

/// Where some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Not here.
    Below,
    /// Nowhere: they are zeros.
    Zero,
    /// At this offset of the overlay's file.
    At(u64),
}

/// One overlay.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    cluster_bits: u32,
    /// The second tables, by the disk's order.
    tables: Vec<Option<Vec<u64>>>,
}

impl Overlay {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut header = [0; 104];
        file.read_exact_at(&mut header, 0)?;
        let u32_at =
            |at: usize| header[at..at + 4].iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        let foreign = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the overlay: {what}"));
        // Version 3 with at most "not closed properly", as a killed QEMU leaves it.
        if u32_at(0) != MAGIC || u32_at(4) != 3 || u64_at(72) & !1 != 0 || u32_at(32) != 0 {
            return Err(foreign("not of the kind that is made here"));
        }
        let cluster_bits = u32_at(20);
        let tables = u64::from(u32_at(36));
        if !(9..=21).contains(&cluster_bits) || tables > TABLES_MAX {
            return Err(foreign("its tables are too large"));
        }
        let first = numbers(&file, u64_at(40), tables as usize)?;
        let entries = 1_usize << (cluster_bits - 3);
        let table = |entry: &u64| match entry & OFFSET {
            0 => Ok(None),
            offset => numbers(&file, offset, entries).map(Some),
        };
        let tables = first.iter().map(table).collect::<io::Result<_>>()?;
        Ok(Self { cluster_bits, tables, file })
    }

    fn entry(&self, offset: u64) -> u64 {
        let cluster = offset >> self.cluster_bits;
        let bits = self.cluster_bits - 3;
        let table = usize::try_from(cluster >> bits).ok().and_then(|at| self.tables.get(at)?.as_ref());
        table.and_then(|table| table.get((cluster & ((1 << bits) - 1)) as usize)).copied().unwrap_or(0)
    }

    /// Where the byte at `offset` of the disk is, and how many from there on are together.
    pub(super) fn locate(&self, offset: u64) -> io::Result<(Place, u64)> {
        let inside = offset & ((1 << self.cluster_bits) - 1);
        let left = (1 << self.cluster_bits) - inside;
        let entry = self.entry(offset);
        let place = match entry {
            _ if entry & COMPRESSED != 0 => return Err(io::ErrorKind::InvalidData.into()),
            _ if entry & ZERO != 0 => Place::Zero,
            _ if entry & OFFSET == 0 => Place::Below,
            _ => Place::At((entry & OFFSET) + inside),
        };
        Ok((place, left))
    }

    /// Whether it decides what the byte at `offset` of the disk is.
    pub(super) fn has(&self, offset: u64) -> bool {
        self.entry(offset) & (OFFSET | ZERO) != 0
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Everything it has.
    pub(super) fn written(&self) -> Ranges {
        let mut written = Ranges::default();
        let per_table = 1_u64 << (self.cluster_bits - 3);
        for (at, table) in self.tables.iter().enumerate() {
            for (index, entry) in table.iter().flatten().enumerate() {
                if entry & (OFFSET | ZERO) != 0 {
                    let cluster = at as u64 * per_table + index as u64;
                    written.add(cluster << self.cluster_bits, 1 << self.cluster_bits);
                }
            }
        }
        written
    }
}

/// Reads big-endian numbers.
fn numbers(file: &File, offset: u64, count: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes
        .chunks_exact(8)
        .map(|chunk| chunk.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        .collect())
}
