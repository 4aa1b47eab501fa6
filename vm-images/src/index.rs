//! The index of a root: every object in it, so that what a job left in its overlay can be told from what was there.
//!
//! Stored as JSON Lines: a header, then one object a line, sorted by path. Sorted lines load into a vector and are
//! looked up by bisection; ten thousand take a few milliseconds, so nothing cleverer is needed.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The version of the file's form.
const FORMAT: u32 = 1;

/// The most entries that are read: a bound, far above any real image.
const ENTRIES_MAX: usize = 4_000_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: {what}")]
    Form { path: PathBuf, line: usize, what: String },
}

/// What an object of the root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// One object of the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Absolute; the root itself is `/`.
    pub path: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The permission bits alone, with set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// In bytes; zero for all but files and symbolic links.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Seconds since 1970, as the guest sees it.
    pub mtime: i64,
    /// Where a symbolic link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Major and minor number of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(u32, u32)>,
    /// Of a file's content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

fn is_zero(size: &u64) -> bool {
    *size == 0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    entries: usize,
}

/// Every object of one root, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Sorted by path, bytewise, without duplicates.
    entries: Vec<Entry>,
}

impl Index {
    /// An index of these objects, in any order. A path that occurs twice keeps one of them.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        Self { entries }
    }

    /// Reads an index file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text =
            fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|(line, what)| Error::Form { path: path.to_owned(), line, what })
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut lines = text.lines();
        let header: Header = serde_json::from_str(lines.next().unwrap_or_default())
            .map_err(|error| (1, format!("no index: {error}")))?;
        if header.format != FORMAT {
            return Err((1, format!("form {} is not known to this version", header.format)));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(header.entries.min(ENTRIES_MAX));
        for (number, line) in lines.enumerate() {
            let entry: Entry = serde_json::from_str(line).map_err(|error| (number + 2, error.to_string()))?;
            if number == ENTRIES_MAX {
                return Err((number + 2, format!("more than {ENTRIES_MAX} entries")));
            }
            if entries.last().is_some_and(|last| last.path >= entry.path) {
                return Err((number + 2, format!("`{}` is out of order", entry.path)));
            }
            entries.push(entry);
        }
        if entries.len() != header.entries {
            return Err((1, format!("{} entries, where {} were written", entries.len(), header.entries)));
        }
        Ok(Self { entries })
    }

    /// The content of the index's file.
    pub fn to_text(&self) -> String {
        let header = Header { format: FORMAT, entries: self.entries.len() };
        let mut text = serde_json::to_string(&header).expect("a header has nothing that JSON lacks");
        for entry in &self.entries {
            let line = serde_json::to_string(entry).expect("an entry has nothing that JSON lacks");
            write!(text, "\n{line}").expect("a String takes every write");
        }
        text.push('\n');
        text
    }

    /// The object at `path`, which is absolute and has no trailing slash.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[at])
    }

    pub fn contains(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// Everything below the directory `path`, at any depth, sorted by path: what goes when the directory goes.
    pub fn below(&self, path: &str) -> &[Entry] {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let begin = self.entries.partition_point(|entry| entry.path.as_str() <= prefix.as_str());
        let length = self.entries[begin..].partition_point(|entry| entry.path.starts_with(&prefix));
        let range: Range<usize> = begin..begin + length;
        &self.entries[range]
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            path: path.to_owned(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 3,
            mtime: 1,
            target: None,
            device: None,
            sha256: Some(Digest::of(path.as_bytes())),
        }
    }

    fn index(paths: &[&str]) -> Index {
        Index::new(paths.iter().map(|path| entry(path)).collect())
    }

    #[test]
    fn what_was_written_is_read() {
        let index = index(&["/b", "/a", "/a\n\"", "/ä"]);
        assert_eq!(Index::parse(&index.to_text()).unwrap(), index);
        assert_eq!(index.get("/a").unwrap().path, "/a");
        assert!(!index.contains("/c") && !index.contains(""));
    }

    #[test]
    fn below_a_directory_is_not_beside_it() {
        let index = index(&["/", "/a", "/a b", "/a/x", "/a/x/y", "/a-", "/ab", "/b"]);
        let paths = |path| index.below(path).iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>();
        assert_eq!(paths("/a"), ["/a/x", "/a/x/y"]);
        assert_eq!(paths("/b"), [""; 0]);
        assert_eq!(paths("/").len(), 7);
    }

    #[test]
    fn a_cut_or_disordered_file_is_refused_with_the_line() {
        let text = index(&["/a", "/b"]).to_text();
        let lines: Vec<_> = text.lines().collect();
        let (line, _) = Index::parse(&lines[..2].join("\n")).unwrap_err();
        assert_eq!(line, 1);
        let (line, what) = Index::parse(&[lines[0], lines[2], lines[1]].join("\n")).unwrap_err();
        assert_eq!((line, what.as_str()), (3, "`/a` is out of order"));
        assert_eq!(Index::parse("").unwrap_err().0, 1);
        assert_eq!(Index::parse("{\"format\":2,\"entries\":0}").unwrap_err().0, 1);
    }

    #[test]
    fn ten_thousand_entries_load_at_once() {
        let paths: Vec<_> = (0..10_000).map(|number| format!("/usr/lib/python3/file-{number}")).collect();
        let text = index(&paths.iter().map(String::as_str).collect::<Vec<_>>()).to_text();
        let begun = std::time::Instant::now();
        assert_eq!(Index::parse(&text).unwrap().len(), 10_000);
        assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
    }
}
