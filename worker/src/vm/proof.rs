//! Proof of reset: before a clone's first instruction, its memory is its template's.
//!
//! A clone maps the template's memory file privately, and loading the devices' state changes next to
//! none of it. Pages are sampled over the whole memory and read out of the clone's process, where the
//! guest cannot lie, and compared with the file.

use super::Error;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const PAGE: u64 = 4096;
/// How many pages are compared.
pub(super) const SAMPLE: u32 = 256;
/// How many of them may differ: QEMU itself touches a few when it loads the devices (their rings, the
/// clock page), always fewer than these.
const TOUCHED_BY_DEVICES_MAX: u32 = 8;

/// Compares a sample of the pages of process `pid`, which maps `ram`, with that file.
pub(super) fn check(pid: u32, ram: &Path, memory: u64, seed: u64) -> Result<u32, Error> {
    let maps_path = format!("/proc/{pid}/maps");
    let maps = std::fs::read_to_string(&maps_path).map_err(Error::host(format!("reading {maps_path}")))?;
    let base =
        mapping(&maps, ram).ok_or_else(|| Error::NotClean("it does not map its template".to_owned()))?;
    let mem_path = format!("/proc/{pid}/mem");
    let process = File::open(&mem_path).map_err(Error::host(format!("opening {mem_path}")))?;
    let template = File::open(ram).map_err(Error::host("opening the template's memory"))?;
    let (mut ours, mut theirs) = ([0; PAGE as usize], [0; PAGE as usize]);
    let mut differing = 0;
    for page in sample(memory / PAGE, seed) {
        process
            .read_exact_at(&mut theirs, base + page * PAGE)
            .map_err(Error::host("reading a clone's memory"))?;
        template
            .read_exact_at(&mut ours, page * PAGE)
            .map_err(Error::host("reading the template's memory"))?;
        differing += u32::from(ours != theirs);
    }
    if differing > TOUCHED_BY_DEVICES_MAX {
        return Err(Error::NotClean(format!("{differing} of {SAMPLE} sampled pages are not its template's")));
    }
    Ok(SAMPLE)
}

/// Finds where a process maps the beginning of `file`.
fn mapping(maps: &str, file: &Path) -> Option<u64> {
    let line = maps.lines().find(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields.nth(2) == Some("00000000") && line.ends_with(&*file.to_string_lossy())
    })?;
    u64::from_str_radix(line.split('-').next()?, 16).ok()
}

/// One page out of each of [`SAMPLE`] equal stretches, at a place that `seed` decides.
fn sample(pages: u64, seed: u64) -> impl Iterator<Item = u64> {
    let stretch = (pages / u64::from(SAMPLE)).max(1);
    (0..u64::from(SAMPLE).min(pages)).map(move |index| {
        // Knuth's multiplicative hash: any spread will do, it only has to differ from clone to clone.
        let spread = (seed ^ index).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 17;
        index * stretch + spread % stretch
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_covers_the_whole_memory_and_nothing_behind_it() {
        let pages: Vec<u64> = sample(131_072, 7).collect();
        assert_eq!(pages.len(), SAMPLE as usize);
        assert!(pages.is_sorted() && pages[255] >= 130_560 && pages[255] < 131_072);
        assert_ne!(pages, sample(131_072, 8).collect::<Vec<_>>());
    }

    #[test]
    fn the_memory_is_found_among_the_mappings() {
        let maps = "7f0000000000-7f0020000000 rw-p 00000000 fe:00 12 /t/ram\n7f0020000000-7f0020001000 r--p 00001000 fe:00 12 /t/ram\n";
        assert_eq!(mapping(maps, Path::new("/t/ram")), Some(0x7f00_0000_0000));
        assert_eq!(mapping(maps, Path::new("/t/other")), None);
    }
}
