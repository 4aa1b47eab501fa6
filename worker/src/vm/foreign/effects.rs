//! Side effects in a foreign image: two file systems, as the template left them and as the job did,
//! walked side by side and compared.
//!
//! Most of it cannot have changed, and which part can is known: the clusters that the job's overlay has,
//! and the blocks that either journal holds. An object is read only if its inode or one of its blocks is
//! among them; a directory is always entered, for what is in it may have changed without it.
//!
//! What a booted system writes by itself (its journal, its logs, the state of its timers) is on the disk
//! like everything else, and is told like everything else; [`NOISE`] marks it expected.

use super::super::effects::Expected;
use super::super::ext4::{Entry, Error, Inode, Kind, ROOT_INODE};
use super::disk::{self, Filesystem, Partition, Ranges, Stack};
use super::tree::{Bounds, Object, Reader, printable};
use evalfleet_proto::effect::{Change, Effect};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// What systems write by themselves while they run.
pub const NOISE: [&str; 6] = [
    "/var/log/**",
    "/var/lib/systemd/**",
    "/var/lib/cloud/**",
    "/var/lib/dhcp/**",
    "/run/**",
    "/tmp/systemd-private-*/**",
];

/// How many objects are looked at, and how deep.
const OBJECTS_MAX: u64 = 2_000_000;
const DEPTH_MAX: usize = 128;
/// How many damaged objects are named.
const DAMAGED_MAX: usize = 16;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The effects, by path.
    pub effects: Vec<Effect>,
    /// How many more there are or may be.
    pub omitted: u64,
    /// What was too damaged to be read.
    pub damaged: Vec<String>,
}

/// Compares the disk of a job with its template's.
///
/// # Errors
/// When one of them has no readable file system.
pub fn compare(
    (image, frozen): (&Path, &Path),
    scratch: &Path,
    expected: &Expected,
    effects_max: usize,
) -> Result<Found, Error> {
    let was = Arc::new(Stack::open(image, &[frozen])?);
    let is = Arc::new(Stack::open(image, &[frozen, scratch])?);
    let noise = Expected::new(&NOISE).map_err(|_| Error::Foreign("a pattern of ours"))?;
    let mut found = Found::default();
    let partitions = mounted(&was)?;
    for partition in &partitions {
        // A mount point is nothing that its own file system knows; its parent has the same name.
        let above = if partition.mounted == "/" { "" } else { partition.mounted.as_str() };
        let mut comparison = Comparison::open(&was, &is, partition)?;
        comparison.directory(above, ROOT_INODE, ROOT_INODE, 0);
        found.omitted += comparison.omitted;
        found.damaged.extend(comparison.damaged);
        for (path, change, object) in comparison.changes {
            if found.effects.len() >= effects_max {
                found.omitted += 1;
                continue;
            }
            let expected = expected.covers(&path) || noise.covers(&path);
            found.effects.push(object.effect(path, change, expected));
        }
    }
    found.effects.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// Reads one file of the disk of a job, following no link.
///
/// # Errors
/// When it is not there, is no file, or has more than `bytes_max` bytes.
pub fn read_file(
    (image, frozen): (&Path, &Path),
    scratch: &Path,
    path: &str,
    bytes_max: u64,
) -> Result<Vec<u8>, Error> {
    let was = Arc::new(Stack::open(image, &[frozen])?);
    let is = Arc::new(Stack::open(image, &[frozen, scratch])?);
    read_in(&is, &mounted(&was)?, path, bytes_max)
}

/// Reads one file as a job finds it, following no link.
///
/// # Errors
/// As [`read_file`].
pub fn read_before((image, frozen): (&Path, &Path), path: &str, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let was = Arc::new(Stack::open(image, &[frozen])?);
    read_in(&was, &mounted(&was)?, path, bytes_max)
}

fn read_in(
    disks: &Arc<Stack>,
    partitions: &[Partition],
    path: &str,
    bytes_max: u64,
) -> Result<Vec<u8>, Error> {
    // The longest mount point that the path is under.
    let under = |partition: &&Partition| {
        partition.mounted == "/" || path.starts_with(&format!("{}/", partition.mounted))
    };
    let partition = partitions.iter().filter(under).max_by_key(|partition| partition.mounted.len());
    let partition = partition.ok_or(Error::Foreign("no file system mounted there"))?;
    let inside = if partition.mounted == "/" { path } else { &path[partition.mounted.len()..] };
    let (fs, _) = disk::open(disks, partition)?;
    let mut inode = fs.inode(ROOT_INODE)?;
    for name in inside.split('/').filter(|name| !name.is_empty()) {
        let entries = fs.read_dir(&inode)?;
        let entry = entries.iter().find(|entry| entry.name == name.as_bytes());
        inode = fs.inode(entry.ok_or(Error::Damaged("no such entry"))?.inode)?;
    }
    if inode.kind != Kind::File {
        return Err(Error::Foreign("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs.read_file(&inode, bytes_max, &mut |block| {
        bytes.extend_from_slice(block);
        Ok(())
    })?;
    Ok(bytes)
}

/// The file systems that the template had mounted.
fn mounted(was: &Arc<Stack>) -> Result<Vec<Partition>, Error> {
    let mut partitions = disk::partitions(was.as_ref(), was.bytes())?;
    partitions.retain(|partition| partition.mounted.starts_with('/'));
    match partitions.is_empty() {
        true => Err(Error::Foreign("no ext4 that was mounted")),
        false => Ok(partitions),
    }
}

/// Two states of one file system.
struct Comparison {
    was: Filesystem,
    is: Filesystem,
    /// What can differ.
    changed: Ranges,
    reader: Reader,
    changes: Vec<(String, Change, Object)>,
    omitted: u64,
    damaged: Vec<String>,
    left: u64,
    /// Directories that were entered: in a hostile file system one may be in itself.
    entered: HashSet<u32>,
}

/// The names in a directory.
type Names = BTreeMap<Vec<u8>, u32>;

impl Comparison {
    fn open(was: &Arc<Stack>, is: &Arc<Stack>, partition: &Partition) -> Result<Self, Error> {
        let mut changed = is.written().within(partition.start, partition.bytes);
        let (was, was_moved) = disk::open(was, partition)?;
        let (is, is_moved) = disk::open(is, partition)?;
        changed.extend(&was_moved);
        changed.extend(&is_moved);
        Ok(Self {
            was,
            is,
            changed,
            reader: Reader::new(Bounds::default()),
            changes: Vec::new(),
            omitted: 0,
            damaged: Vec::new(),
            left: OBJECTS_MAX,
            entered: HashSet::new(),
        })
    }

    fn directory(&mut self, path: &str, was: u32, is: u32, depth: usize) {
        if depth > DEPTH_MAX || !self.entered.insert(is) {
            self.damage(path, &Error::Damaged("a directory without end"));
            return;
        }
        let names = self.names(was, is);
        let (was, is) = match names {
            Ok(names) => names,
            Err(error) => return self.damage(path, &error),
        };
        let all: std::collections::BTreeSet<&Vec<u8>> = was.keys().chain(is.keys()).collect();
        for name in all {
            if self.left == 0 {
                self.omitted += 1;
                continue;
            }
            self.left -= 1;
            let path = format!("{path}/{}", printable(name));
            let done = match (was.get(name), is.get(name)) {
                (Some(was), Some(is)) => self.both(&path, *was, *is, depth),
                (None, Some(is)) => self.created(&path, *is, depth),
                (Some(was), None) => self.deleted(&path, *was),
                (None, None) => Ok(()),
            };
            if let Err(error) = done {
                self.damage(&path, &error);
            }
        }
    }

    /// The names of a directory then and now; read once where they cannot differ.
    fn names(&self, was: u32, is: u32) -> Result<(Names, Names), Error> {
        let names =
            |entries: Vec<Entry>| entries.into_iter().map(|entry| (entry.name, entry.inode)).collect();
        let now = self.is.inode(is)?;
        let read: Names = names(self.is.read_dir(&now)?);
        if was == is && !self.may_differ(is, &now)? {
            return Ok((read.clone(), read));
        }
        let then = self.was.inode(was)?;
        Ok((names(self.was.read_dir(&then)?), read))
    }

    /// Whether the object in inode `number` can differ from what it was under the same number.
    fn may_differ(&self, number: u32, now: &Inode) -> Result<bool, Error> {
        let (offset, bytes) = self.is.place_of_inode(number)?;
        if self.changed.touch(offset, bytes as u64) {
            return Ok(true);
        }
        if !matches!(now.kind, Kind::File | Kind::Directory) || now.size == 0 {
            return Ok(now.kind == Kind::Symlink && now.size >= 60);
        }
        let block = self.is.block_bytes();
        let places = self.is.places(now)?;
        Ok(places
            .blocks()
            .any(|(at, count)| self.changed.touch(at.saturating_mul(block), count.saturating_mul(block))))
    }

    fn both(&mut self, path: &str, was: u32, is: u32, depth: usize) -> Result<(), Error> {
        let now = self.is.inode(is)?;
        if was == is && !self.may_differ(is, &now)? {
            if now.kind == Kind::Directory {
                self.directory(path, was, is, depth + 1);
            }
            return Ok(());
        }
        let then = self.was.inode(was)?;
        let same_directory = now.kind == Kind::Directory
            && then.kind == Kind::Directory
            && (was, then.generation) == (is, now.generation);
        let (old, new) = (self.reader.object(&self.was, &then)?, self.reader.object(&self.is, &now)?);
        if then.kind != now.kind || (now.kind == Kind::Directory && !same_directory) {
            self.changes.push((path.to_owned(), Change::Replaced, new));
        } else if old.differs(&new) {
            self.changes.push((path.to_owned(), Change::Changed, new));
        }
        if now.kind == Kind::Directory {
            if then.kind == Kind::Directory {
                self.directory(path, was, is, depth + 1);
            } else {
                self.children(path, is, depth);
            }
        }
        Ok(())
    }

    fn created(&mut self, path: &str, is: u32, depth: usize) -> Result<(), Error> {
        let now = self.is.inode(is)?;
        let object = self.reader.object(&self.is, &now)?;
        self.changes.push((path.to_owned(), Change::Created, object));
        if now.kind == Kind::Directory {
            self.children(path, is, depth);
        }
        Ok(())
    }

    /// Every object of a directory that was not there.
    fn children(&mut self, path: &str, is: u32, depth: usize) {
        if depth >= DEPTH_MAX || !self.entered.insert(is) {
            return self.damage(path, &Error::Damaged("a directory without end"));
        }
        let entries = match self.is.inode(is).and_then(|inode| self.is.read_dir(&inode)) {
            Ok(entries) => entries,
            Err(error) => return self.damage(path, &error),
        };
        for entry in entries {
            if self.left == 0 {
                self.omitted += 1;
                continue;
            }
            self.left -= 1;
            let path = format!("{path}/{}", printable(&entry.name));
            if let Err(error) = self.created(&path, entry.inode, depth + 1) {
                self.damage(&path, &error);
            }
        }
    }

    /// A directory that is gone is one effect.
    fn deleted(&mut self, path: &str, was: u32) -> Result<(), Error> {
        let then = self.was.inode(was)?;
        let object = self.reader.object(&self.was, &then)?;
        self.changes.push((path.to_owned(), Change::Deleted, object));
        Ok(())
    }

    fn damage(&mut self, path: &str, error: &Error) {
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.push(format!("{path}: {error}"));
        } else {
            self.omitted += 1;
        }
    }
}
