//! A tree of files as Git has it: listed, compared, read, and packed for a VM.
//!
//! Nothing is checked out on this machine. `git archive` would obey the tree's own attributes
//! (`export-ignore`), by which a change could hide files from its evaluation: so the tree is packed here.

use super::git::{self, Git};
use serde::Serialize;
use std::collections::BTreeMap;

/// Files and links that a tree may have.
const ENTRIES_MAX: usize = 100_000;
/// What all of them may hold together.
const BYTES_MAX: u64 = 256 << 20;

const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;

/// Why a tree cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Git does not give it.
    #[error(transparent)]
    Git(#[from] git::Error),
    /// It is too large.
    #[error("the tree has {found} {what}, and may have {max}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// Git answers otherwise than it should.
    #[error("git answers what is no list of a tree: {0}")]
    Strange(String),
    /// It cannot be packed.
    #[error("packing {path}: {source}")]
    Pack {
        /// What.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// One file, link or submodule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: u32,
    pub(super) oid: String,
    pub(super) size: u64,
}

impl Entry {
    pub(super) fn is_link(&self) -> bool {
        self.mode == LINK
    }

    pub(super) fn is_submodule(&self) -> bool {
        self.mode == SUBMODULE
    }
}

/// A tree, by path. Paths are bytes: Git's names need not be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tree(pub(super) BTreeMap<Vec<u8>, Entry>);

/// What a change does to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) path: Vec<u8>,
    pub(super) old: Option<Entry>,
    pub(super) new: Option<Entry>,
}

impl Touched {
    /// The path as people read it.
    pub(super) fn name(&self) -> String {
        shown(&self.path)
    }
}

/// A path as people read it.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

impl Tree {
    /// Lists the tree `id`.
    pub(super) async fn read(git: &Git, id: &str) -> Result<Self, Error> {
        let listing = git.ask(&["ls-tree", "-r", "-z", "-l", "--full-tree", id], Vec::new()).await?;
        let tree = Self::parse(&listing)?;
        let bytes = tree.0.values().map(|entry| entry.size).sum();
        for (what, found, max) in
            [("files", tree.0.len() as u64, ENTRIES_MAX as u64), ("bytes", bytes, BYTES_MAX)]
        {
            if found > max {
                return Err(Error::TooLarge { what, found, max });
            }
        }
        Ok(tree)
    }

    /// Reads `<mode> <type> <oid> <size>\t<path>\0…`.
    fn parse(listing: &[u8]) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for record in listing.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
            let strange = || Error::Strange(shown(record));
            let tab = record.iter().position(|byte| *byte == b'\t').ok_or_else(strange)?;
            let head = std::str::from_utf8(&record[..tab]).map_err(|_| strange())?;
            let mut fields = head.split_ascii_whitespace();
            let mode =
                fields.next().and_then(|mode| u32::from_str_radix(mode, 8).ok()).ok_or_else(strange)?;
            let oid = fields.nth(1).ok_or_else(strange)?.to_owned();
            // A submodule has none.
            let size = fields.next().and_then(|size| size.parse().ok()).unwrap_or(0);
            entries.insert(record[tab + 1..].to_vec(), Entry { mode, oid, size });
        }
        Ok(Self(entries))
    }

    /// What `self` became in `new`, by path.
    pub(super) fn changes_to(&self, new: &Self) -> Vec<Touched> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(new.0.keys()).collect();
        let touched = paths.into_iter().map(|path| Touched {
            path: path.clone(),
            old: self.0.get(path).cloned(),
            new: new.0.get(path).cloned(),
        });
        touched.filter(|touched| touched.old != touched.new).collect()
    }

    /// One file's content, if it is there.
    pub(super) async fn file(&self, git: &Git, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(entry) = self.0.get(path.as_bytes()).filter(|entry| !entry.is_submodule()) else {
            return Ok(None);
        };
        Ok(contents(git, std::iter::once(entry)).await?.remove(&entry.oid))
    }

    /// What all its files and links hold.
    pub(super) async fn contents(&self, git: &Git) -> Result<Contents, Error> {
        contents(git, self.0.values().filter(|entry| !entry.is_submodule())).await
    }

    /// The tree file by file, where it is small. Times are as in [`Tree::pack`].
    pub(super) fn laid(&self, contents: &Contents, base: &Self, now: u64) -> Option<Vec<Laid>> {
        let bytes: u64 = self.0.iter().map(|(path, entry)| path.len() as u64 + entry.size).sum();
        if self.0.len() > LAID_ENTRIES_MAX || bytes > LAID_BYTES_MAX {
            return None;
        }
        let characters = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        let files = self.0.iter().filter_map(|(path, entry)| {
            let content = contents.get(&entry.oid)?;
            let time = if base.0.get(path) == Some(entry) { OLD } else { now };
            Some(Laid(characters(path), permissions(entry), time, characters(content), entry.is_link()))
        });
        Some(files.collect())
    }

    /// Packs the tree as a tar. What `base` has as well is as old as time, so that what was built of it stays
    /// valid; what it has not is of `now`.
    pub(super) fn pack(&self, contents: &Contents, base: &Self, now: u64) -> Result<Vec<u8>, Error> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let failed = |source| Error::Pack { path: shown(path), source };
            let Some(content) = contents.get(&entry.oid) else { continue };
            let known = base.0.get(path) == Some(entry);
            add(&mut archive, path, entry, content, if known { OLD } else { now }).map_err(failed)?;
        }
        archive.into_inner().map_err(|source| Error::Pack { path: "the end".to_owned(), source })
    }
}

/// A file or link as it is laid by itself: path, permissions, seconds since 1970, content or target, and whether it is a
/// link. Bytes are told as the characters of their numbers, for they need not be text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Laid(pub(super) String, u32, u64, pub(super) String, bool);

/// Beyond this a tree is packed: in a VM, one program that unpacks is slower than a few files and faster than many.
const LAID_ENTRIES_MAX: usize = 64;
/// The order has to have room in a message, in which a byte may take six characters.
const LAID_BYTES_MAX: u64 = 24 << 10;

fn permissions(entry: &Entry) -> u32 {
    if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 }
}

/// The time of what did not change: a day that no build came before.
const OLD: u64 = 1_000_000_000;

fn add(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &[u8],
    entry: &Entry,
    content: &[u8],
    time: u64,
) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
    let mut header = tar::Header::new_gnu();
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    if entry.is_link() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        let target = std::path::Path::new(std::ffi::OsStr::from_bytes(content));
        return archive.append_link(&mut header, path, target);
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(permissions(entry));
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

/// Contents by the ids of those that hold them.
pub(super) type Contents = BTreeMap<String, Vec<u8>>;

/// The contents of these entries.
pub(super) async fn contents(git: &Git, entries: impl Iterator<Item = &Entry>) -> Result<Contents, Error> {
    let ids: std::collections::BTreeSet<&str> = entries.map(|entry| entry.oid.as_str()).collect();
    let asked = ids.iter().map(|id| format!("{id}\n")).collect::<String>();
    let answer = git.ask(&["cat-file", "--batch"], asked.into_bytes()).await?;
    split(&answer)
}

/// Reads `<oid> <type> <size>\n<content>\n…`.
fn split(mut answer: &[u8]) -> Result<Contents, Error> {
    let mut found = BTreeMap::new();
    while !answer.is_empty() {
        let end = answer.iter().position(|byte| *byte == b'\n').unwrap_or(answer.len());
        let head = shown(&answer[..end]);
        let fields: Vec<&str> = head.split(' ').collect();
        let length = fields.get(2).and_then(|length| length.parse::<usize>().ok());
        let content = length.and_then(|length| answer.get(end + 1..(end + 1).checked_add(length)?));
        let (Some(content), Some(oid)) = (content, fields.first()) else { return Err(Error::Strange(head)) };
        found.insert((*oid).to_owned(), content.to_vec());
        answer = answer.get(end + 1 + content.len() + 1..).unwrap_or_default();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(listing: &[u8]) -> Tree {
        Tree::parse(listing).unwrap()
    }

    #[test]
    fn a_listing_is_read_with_names_of_any_bytes() {
        let tree = tree(
            b"100644 blob aa      5\ta b\x00120000 blob bb      3\tl\xff\x00160000 commit cc      -\tsub\0",
        );
        assert_eq!(tree.0.len(), 3);
        assert!(tree.0[b"l\xff".as_slice()].is_link() && tree.0[b"sub".as_slice()].is_submodule());
        assert_eq!(tree.0[b"a b".as_slice()].size, 5);
        assert!(Tree::parse(b"nonsense\0").is_err());
    }

    #[test]
    fn what_changed_is_told_by_path() {
        let old = tree(b"100644 blob aa 1\ta\x00100644 blob bb 1\tb\x00100644 blob cc 1\tc\0");
        let new = tree(b"100644 blob aa 1\ta\x00100755 blob bb 1\tb\x00100644 blob dd 1\td\0");
        let names: Vec<_> = old.changes_to(&new).iter().map(Touched::name).collect();
        assert_eq!(names, ["b", "c", "d"]);
    }

    #[test]
    fn contents_are_split_by_their_lengths() {
        let found = split(b"aa blob 3\na\nb\nbb blob 0\n\n").unwrap();
        assert_eq!((found["aa"].as_slice(), found["bb"].as_slice()), (b"a\nb".as_slice(), b"".as_slice()));
        assert!(split(b"aa missing\n").is_err());
    }
}
