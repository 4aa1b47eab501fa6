//! The initramfs: a newc cpio archive with the agent as `/init` and the modules that it loads.
//!
//! ```text
//! /dev /proc /sys               empty, to mount on
//! /init                         the agent, a static binary
//! /modules/order                the modules' file names, one a line, in the order in which to load them
//! /modules/00-virtio_mmio.ko    uncompressed, so that finit_module takes it as it is
//! ```
//!
//! The archive is not compressed: unpacking it is a copy, and emulated guests pay dearly for more than that. The same
//! entries give the same bytes: no times, no owners but root, inode numbers by position.

use std::io::Write as _;

const MAGIC: &[u8; 6] = b"070701";
const HEADER_BYTES: usize = 110;
const TRAILER: &str = "TRAILER!!!";

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// One object of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root, without a leading slash.
    pub path: String,
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    pub content: Vec<u8>,
}

/// A kernel module, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// With underscores, as the kernel itself spells it.
    pub name: String,
    /// The uncompressed ELF file.
    pub content: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("not a newc cpio archive: {what} at byte {at}")]
pub struct Error {
    what: &'static str,
    at: usize,
}

/// The entries of an initramfs with this agent and these modules, which are in load order.
pub fn entries(agent: Vec<u8>, modules: Vec<Module>) -> Vec<Entry> {
    let directory = |path: &str| Entry { path: path.to_owned(), mode: DIRECTORY, content: Vec::new() };
    let file_names: Vec<String> = modules
        .iter()
        .enumerate()
        .map(|(number, module)| format!("{number:02}-{}.ko", module.name))
        .collect();
    let order = file_names.iter().flat_map(|name| [name.as_str(), "\n"]).collect::<String>().into_bytes();
    let mut entries = ["dev", "proc", "sys", "modules"].map(directory).to_vec();
    entries.push(Entry { path: "init".to_owned(), mode: PROGRAM, content: agent });
    entries.push(Entry { path: "modules/order".to_owned(), mode: FILE, content: order });
    entries.extend(file_names.into_iter().zip(modules).map(|(name, module)| Entry {
        path: format!("modules/{name}"),
        mode: FILE,
        content: module.content,
    }));
    entries
}

/// The modules among `entries`, in load order: what [`entries()`] was given.
pub fn modules(entries: &[Entry]) -> Vec<Module> {
    let module = |entry: &Entry| {
        let (_number, name) = entry.path.strip_prefix("modules/")?.strip_suffix(".ko")?.split_once('-')?;
        Some(Module { name: name.to_owned(), content: entry.content.clone() })
    };
    entries.iter().filter_map(module).collect()
}

/// Writes the archive of `entries`.
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        put(&mut archive, number + 1, entry);
    }
    put(&mut archive, 0, &Entry { path: TRAILER.to_owned(), mode: 0, content: Vec::new() });
    archive
}

/// Reads the entries of an archive that [`write()`] wrote.
pub fn read(archive: &[u8]) -> Result<Vec<Entry>, Error> {
    let (mut entries, mut at) = (Vec::new(), 0);
    loop {
        let fail = |what| Error { what, at };
        let header = archive.get(at..at + HEADER_BYTES).ok_or(fail("a header is cut off"))?;
        if &header[..6] != MAGIC {
            return Err(fail("no magic number"));
        }
        let field = |number: usize| {
            let digits = std::str::from_utf8(&header[6 + 8 * number..14 + 8 * number]).ok();
            digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or(fail("no number"))
        };
        let (mode, size, name_size) = (field(1)?, field(6)? as usize, field(11)? as usize);
        let name = archive.get(at + HEADER_BYTES..at + HEADER_BYTES + name_size).ok_or(fail("a cut name"))?;
        let path =
            std::str::from_utf8(name).map_err(|_| fail("a strange name"))?.trim_end_matches('\0').to_owned();
        if path == TRAILER {
            return Ok(entries);
        }
        let begin = aligned(at + HEADER_BYTES + name_size);
        let content = archive.get(begin..begin + size).ok_or(fail("a cut content"))?.to_vec();
        entries.push(Entry { path, mode, content });
        at = aligned(begin + size);
    }
}

fn put(archive: &mut Vec<u8>, inode: usize, entry: &Entry) {
    let links = if entry.mode == DIRECTORY { 2 } else { 1 };
    let (uid, gid, mtime, device, check) = (0, 0, 0, 0, 0);
    let fields = [
        inode,
        entry.mode as usize,
        uid,
        gid,
        links,
        mtime,
        entry.content.len(),
        device,
        device,
        device,
        device,
        entry.path.len() + 1,
        check,
    ];
    archive.extend_from_slice(MAGIC);
    for field in fields {
        write!(archive, "{field:08X}").expect("a Vec takes every write");
    }
    archive.extend_from_slice(entry.path.as_bytes());
    archive.push(0);
    archive.resize(aligned(archive.len()), 0);
    archive.extend_from_slice(&entry.content);
    archive.resize(aligned(archive.len()), 0);
}

/// The next multiple of four, to which newc pads both names and contents.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Entry> {
        let module = |name: &str| Module { name: name.to_owned(), content: name.repeat(3).into_bytes() };
        entries(b"agent".to_vec(), vec![module("netfs"), module("erofs")])
    }

    #[test]
    fn what_was_written_is_read() {
        let archive = write(&sample());
        assert_eq!(archive.len() % 4, 0);
        assert_eq!(read(&archive).unwrap(), sample());
        assert!(read(&archive[..archive.len() / 2]).is_err());
        assert!(read(b"").is_err());
    }

    #[test]
    fn modules_are_numbered_and_listed_in_load_order() {
        let entries = sample();
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths[4..], ["init", "modules/order", "modules/00-netfs.ko", "modules/01-erofs.ko"]);
        assert_eq!(entries[5].content, b"00-netfs.ko\n01-erofs.ko\n");
        assert_eq!(super::entries(b"agent".to_vec(), modules(&entries)), entries);
    }

    #[test]
    fn cpio_itself_reads_it() {
        let mut cpio = crate::command::command("cpio");
        cpio.args(["--quiet", "-t"]);
        let listed = crate::command::filter(cpio, &write(&sample())).unwrap();
        assert!(String::from_utf8(listed).unwrap().ends_with("modules/00-netfs.ko\nmodules/01-erofs.ko\n"));
    }
}
