//! Proof of reset: before a clone's first instruction, its memory is its template's.
//!
//! A clone maps the template's memory file privately, and loading the devices' state changes next to
//! none of it: a few pages, the same ones each time, which the template's probe found by looking at all of
//! them. Pages are sampled over the whole memory and read out of the clone's process, where the guest
//! cannot lie, and compared with the file. No other page may differ by one bit.

use super::Error;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const PAGE: u64 = 4096;
/// How many pages are compared.
pub(super) const SAMPLE: u32 = 256;
/// How many pages QEMU may touch when it loads the devices (their rings, the clock, the generation's id).
const TOUCHED_MAX: usize = 64;

/// Compares a sample of the pages of process `pid`, which maps `ram`, with that file.
///
/// # Errors
/// When one differs that loading does not touch.
pub(super) fn check(
    pid: u32,
    ram: &Path,
    memory: u64,
    seed: u64,
    touched: &BTreeSet<u64>,
) -> Result<u32, Error> {
    let differing = Memory::of(pid, ram)?.differing(sample(memory / PAGE, seed))?;
    match differing.iter().find(|page| !touched.contains(page)) {
        None => Ok(SAMPLE),
        Some(page) => Err(Error::NotClean(format!("page {page} of its memory is not its template's"))),
    }
}

/// Finds the pages that loading touches, by looking at all of them.
///
/// # Errors
/// When there are more than devices can account for.
pub(super) fn touched(pid: u32, ram: &Path, memory: u64) -> Result<BTreeSet<u64>, Error> {
    let touched: BTreeSet<u64> = Memory::of(pid, ram)?.differing(0..memory / PAGE)?.into_iter().collect();
    if touched.len() > TOUCHED_MAX {
        return Err(Error::NotClean(format!("{} pages of its memory are not its template's", touched.len())));
    }
    Ok(touched)
}

/// A clone's memory beside its template's.
struct Memory {
    clone: File,
    /// Where in `clone` it begins.
    base: u64,
    template: File,
}

impl Memory {
    fn of(pid: u32, ram: &Path) -> Result<Self, Error> {
        let maps_path = format!("/proc/{pid}/maps");
        let maps =
            std::fs::read_to_string(&maps_path).map_err(Error::host(format!("reading {maps_path}")))?;
        let base =
            mapping(&maps, ram).ok_or_else(|| Error::NotClean("it does not map its template".to_owned()))?;
        let mem_path = format!("/proc/{pid}/mem");
        let clone = File::open(&mem_path).map_err(Error::host(format!("opening {mem_path}")))?;
        let template = File::open(ram).map_err(Error::host("opening the template's memory"))?;
        Ok(Self { clone, base, template })
    }

    /// Those of `pages` that are not the same in both.
    fn differing(&self, pages: impl Iterator<Item = u64>) -> Result<Vec<u64>, Error> {
        let (mut ours, mut theirs) = ([0; PAGE as usize], [0; PAGE as usize]);
        let mut differing = Vec::new();
        for page in pages {
            self.clone
                .read_exact_at(&mut theirs, self.base + page * PAGE)
                .map_err(Error::host("reading a clone's memory"))?;
            self.template
                .read_exact_at(&mut ours, page * PAGE)
                .map_err(Error::host("reading the template's memory"))?;
            if ours != theirs {
                differing.push(page);
            }
        }
        Ok(differing)
    }
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
    fn one_flipped_byte_of_a_sampled_page_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![7; (512 * PAGE) as usize]).unwrap();
            File::options().read(true).write(true).open(path).unwrap()
        };
        let memory = Memory { clone: open("clone"), base: 0, template: open("template") };
        let pages: Vec<u64> = sample(512, 3).collect();
        assert_eq!(memory.differing(pages.iter().copied()).unwrap(), [0; 0]);
        for page in [pages[0], pages[100], pages[255]] {
            memory.clone.write_all_at(&[8], page * PAGE + 4095).unwrap();
            assert_eq!(memory.differing(pages.iter().copied()).unwrap(), [page]);
            memory.clone.write_all_at(&[7], page * PAGE + 4095).unwrap();
        }
    }

    #[test]
    fn the_memory_is_found_among_the_mappings() {
        let maps = "7f0000000000-7f0020000000 rw-p 00000000 fe:00 12 /t/ram\n7f0020000000-7f0020001000 r--p 00001000 fe:00 12 /t/ram\n";
        assert_eq!(mapping(maps, Path::new("/t/ram")), Some(0x7f00_0000_0000));
        assert_eq!(mapping(maps, Path::new("/t/other")), None);
    }
}
