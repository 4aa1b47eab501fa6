//! Where the file systems of a disk are: on the whole of it, or in partitions (GPT, or the MBR's four).

use super::super::super::ext4::ReadAt;
use std::io;

const SECTOR: u64 = 512;
/// How many partitions are looked at.
const PARTITIONS_MAX: usize = 128;

/// A part of a disk that holds an ext4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Where it begins, in bytes.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
    /// Where it was mounted last: `/`, `/boot`.
    pub mounted: String,
}

/// Finds the partitions of `disk` that hold an ext4. Asked of a template's disk, whose guest had run
/// nothing of anybody's.
///
/// # Errors
/// When the disk cannot be read.
pub fn partitions(disk: &impl ReadAt, bytes: u64) -> io::Result<Vec<Partition>> {
    let mut found = Vec::new();
    for (start, length) in table(disk, bytes)?.into_iter().take(PARTITIONS_MAX) {
        let sound = length > 0 && start.checked_add(length).is_some_and(|end| end <= bytes);
        if sound && let Some(mounted) = ext4(disk, start) {
            found.push(Partition { start, bytes: length, mounted });
        }
    }
    Ok(found)
}

/// Begin and length of each partition; of the whole disk where it has none.
fn table(disk: &impl ReadAt, bytes: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut first = [0; 1024];
    disk.read_at(0, &mut first)?;
    let u32_at = |bytes: &[u8], at: usize| {
        bytes[at..at + 4].iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
    };
    let u64_at =
        |bytes: &[u8], at: usize| u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at));
    if &first[512..520] == b"EFI PART" {
        let header = &first[512..];
        let (at, count, size) = (u64_at(header, 72), u32_at(header, 80), u32_at(header, 84) as usize);
        if !(128..=4096).contains(&size) {
            return Ok(Vec::new());
        }
        let mut entries = vec![0; size * (count as usize).min(PARTITIONS_MAX)];
        disk.read_at(at.saturating_mul(SECTOR), &mut entries)?;
        let place = |entry: &[u8]| {
            let (from, to) = (u64_at(entry, 32), u64_at(entry, 40));
            let sectors = to.checked_sub(from)?.checked_add(1)?;
            Some((from.checked_mul(SECTOR)?, sectors.checked_mul(SECTOR)?))
        };
        let used = entries.chunks_exact(size).filter(|entry| entry[..16] != [0; 16]);
        return Ok(used.filter_map(place).collect());
    }
    if ext4(disk, 0).is_none() && first[510..512] == [0x55, 0xaa] {
        let entries = first[446..510].chunks_exact(16).filter(|entry| entry[4] != 0);
        let place =
            |entry: &[u8]| (u64::from(u32_at(entry, 8)) * SECTOR, u64::from(u32_at(entry, 12)) * SECTOR);
        return Ok(entries.map(place).collect());
    }
    Ok(vec![(0, bytes)])
}

/// Where the ext4 that begins at `start` was mounted last, if it is one.
fn ext4(disk: &impl ReadAt, start: u64) -> Option<String> {
    let mut superblock = [0; 256];
    disk.read_at(start.checked_add(1024)?, &mut superblock).ok()?;
    if superblock[56..58] != [0x53, 0xef] {
        return None;
    }
    let mounted = superblock[136..200].split(|byte| *byte == 0).next().unwrap_or_default();
    Some(String::from_utf8_lossy(mounted).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ext4(disk: &mut [u8], start: usize, mounted: &str) {
        disk[start + 1024 + 56..start + 1024 + 58].copy_from_slice(&[0x53, 0xef]);
        disk[start + 1024 + 136..start + 1024 + 136 + mounted.len()].copy_from_slice(mounted.as_bytes());
    }

    fn found(disk: &[u8]) -> Vec<(u64, u64, String)> {
        let found = partitions(&disk, disk.len() as u64).unwrap();
        found.into_iter().map(|part| (part.start, part.bytes, part.mounted)).collect()
    }

    #[test]
    fn a_disk_without_a_table_is_one_file_system() {
        let mut disk = vec![0; 1 << 16];
        assert_eq!(found(&disk), []);
        with_ext4(&mut disk, 0, "/");
        assert_eq!(found(&disk), [(0, 1 << 16, "/".to_owned())]);
    }

    #[test]
    fn the_mbrs_partitions_are_found_within_the_disk() {
        let mut disk = vec![0; 1 << 16];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[446 + 4] = 0x83;
        disk[446 + 8] = 8;
        disk[446 + 12] = 64;
        disk[462 + 4] = 0x83;
        disk[462 + 8..462 + 16].fill(0xff);
        with_ext4(&mut disk, 4096, "/");
        assert_eq!(found(&disk), [(4096, 32768, "/".to_owned())]);
    }

    #[test]
    fn a_gpts_partitions_are_found_and_nonsense_in_it_is_not() {
        let mut disk = vec![0; 1 << 16];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72] = 2;
        disk[512 + 80] = 4;
        disk[512 + 84] = 128;
        for (at, from, to) in [(1024, 8_u64, 71_u64), (1152, 9, 3), (1280, u64::MAX, u64::MAX)] {
            disk[at] = 1;
            disk[at + 32..at + 40].copy_from_slice(&from.to_le_bytes());
            disk[at + 40..at + 48].copy_from_slice(&to.to_le_bytes());
        }
        with_ext4(&mut disk, 4096, "/boot");
        assert_eq!(found(&disk), [(4096, 32768, "/boot".to_owned())]);
    }
}
