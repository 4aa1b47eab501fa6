//! Disks in a few kilobytes, so that a corpus is small and a fuzzer's changes hit what is on the disk:
//! the size in KiB (two bytes, little endian), then runs of an offset (four bytes), a length (two bytes)
//! and that many bytes. Between the runs is nothing but zeros; later runs overwrite earlier ones.

/// The largest disk.
const DISK_KIB_MAX: usize = 1024;

/// Reads the form; what is cut short or lies behind the disk's end is left out.
pub fn expand(data: &[u8]) -> Vec<u8> {
    let Some((size, mut runs)) = data.split_first_chunk::<2>() else { return Vec::new() };
    let mut disk = vec![0; usize::from(u16::from_le_bytes(*size)).min(DISK_KIB_MAX) << 10];
    while let Some((&[a, b, c, d, low, high], rest)) = runs.split_first_chunk::<6>() {
        let (at, length) =
            (u32::from_le_bytes([a, b, c, d]) as usize, usize::from(u16::from_le_bytes([low, high])));
        let (run, rest) = rest.split_at(rest.len().min(length));
        if let Some(place) = disk.get_mut(at..at + run.len()) {
            place.copy_from_slice(run);
        }
        runs = rest;
    }
    disk
}

/// Writes the form: runs of bytes between at least eight zeros.
pub fn pack(disk: &[u8]) -> Vec<u8> {
    const ZEROS: usize = 8;
    let mut packed = ((disk.len() >> 10) as u16).to_le_bytes().to_vec();
    let mut at = 0;
    while let Some(begin) = disk[at..].iter().position(|byte| *byte != 0).map(|skip| at + skip) {
        let longest = &disk[begin..disk.len().min(begin + usize::from(u16::MAX))];
        let end = longest.windows(ZEROS).position(|window| window.iter().all(|byte| *byte == 0));
        let run = &longest[..end.unwrap_or(longest.len())];
        packed.extend((begin as u32).to_le_bytes());
        packed.extend((run.len() as u16).to_le_bytes());
        packed.extend(run);
        at = begin + run.len();
    }
    packed
}
