//! What is in the upper layer of a scratch disk: everything a job (or its template) wrote.
//!
//! The disk was in the subject's hands. Whatever is read is bounded, in objects, depth, text, bytes and
//! time; what lies beyond a bound, and what is damaged, is counted.

use super::ext4::{self, Error, Ext4, Inode, Kind, ROOT_INODE, ReadAt};
use super::names::printable;
use evalfleet_proto::effect::ObjectType;
use evalfleet_proto::ids::Sha256;
use sha2::Digest as _;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// The folder of the upper layer on the disk.
const UPPER: &[u8] = b"upper";
/// How long reading a disk may take in all.
const TIME_MAX: Duration = Duration::from_secs(20);
/// How many damaged objects are told of; the rest is counted.
const DAMAGED_MAX: usize = 16;

/// How much of a layer is read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Objects.
    pub objects: usize,
    /// Directories in each other.
    pub depth: usize,
    /// Bytes of paths and of links' targets.
    pub text: usize,
    /// Bytes of one file whose content is hashed.
    pub file: u64,
    /// Bytes of all of them.
    pub hashed: u64,
    /// What the disk is asked for.
    pub disk: ext4::Bounds,
}

impl Bounds {
    /// Those of a worker, from now on.
    pub fn begin() -> Self {
        let until = Some(Instant::now() + TIME_MAX);
        Self {
            objects: 100_000,
            depth: 128,
            text: 64 << 20,
            file: 256 << 20,
            hashed: 1 << 30,
            disk: ext4::Bounds { bytes: 2 << 30, until },
        }
    }
}

/// One object, as far as effects go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectType,
    /// Its permission bits.
    pub mode: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its length.
    pub size: u64,
    /// The hash of its content, where it was read.
    pub sha256: Option<Sha256>,
    /// Where a link points.
    pub target: Option<String>,
    /// A device's major and minor number.
    pub device: Option<(u32, u32)>,
    /// When its content was last written, in seconds since 1970.
    pub mtime: i64,
    /// A hash of its extended attributes but overlayfs's own, if it has any.
    pub xattrs: Option<Sha256>,
    /// Number and generation of its inode, for what lies on a scratch disk: a clone's disk begins as a
    /// copy of its template's, so that the same identity on both is the same object.
    pub identity: Option<(u32, u32)>,
}

/// What the upper layer says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// What was below is gone.
    Whiteout,
    /// This is there now.
    There {
        /// What.
        object: Object,
        /// Whether it hides the directory of the same name below.
        opaque: bool,
    },
}

impl Upper {
    /// Whether what the image has below this path is not to be seen.
    pub(super) fn hides(&self) -> bool {
        match self {
            Self::Whiteout => true,
            Self::There { object, opaque } => *opaque || object.kind != ObjectType::Directory,
        }
    }
}

/// An upper layer.
#[derive(Debug, Default)]
pub struct Layer {
    /// By absolute path in the guest, the root's own `/` included; parents come before their children.
    pub objects: BTreeMap<String, Upper>,
    /// How many objects at least are not there, for the bounds' sake or because they are damaged.
    pub omitted: u64,
    /// What was too damaged to be read: the first few.
    pub damaged: Vec<String>,
}

/// Reads the upper layer of the scratch disk in `file`.
///
/// # Errors
/// When the disk has no readable upper layer at all; damage further down is listed.
pub fn read(file: &Path) -> Result<Layer, Error> {
    read_from(File::open(file)?, Bounds::begin())
}

/// Reads the upper layer of any disk, within `bounds`.
///
/// # Errors
/// As [`read`].
pub fn read_from<D: ReadAt>(disk: D, bounds: Bounds) -> Result<Layer, Error> {
    let fs = Ext4::open_within(disk, bounds.disk)?;
    let upper = upper_directory(&fs)?;
    let mut reading = Reading {
        fs: &fs,
        bounds,
        layer: Layer::default(),
        seen: 0,
        directories: HashSet::from([ROOT_INODE]),
        hashes: HashMap::new(),
    };
    reading.object(&upper, "/".to_owned(), 0);
    Ok(reading.layer)
}

/// Reads one file of the upper layer.
///
/// # Errors
/// When it is not there, is no file, or has more than `bytes_max` bytes.
pub fn read_file(disk: &Path, path: &str, bytes_max: u64) -> Result<Vec<u8>, Error> {
    read_file_from(File::open(disk)?, path, bytes_max, Bounds::begin())
}

/// Reads one file of the upper layer of any disk, within `bounds`.
///
/// # Errors
/// As [`read_file`].
pub fn read_file_from<D: ReadAt>(
    disk: D,
    path: &str,
    bytes_max: u64,
    bounds: Bounds,
) -> Result<Vec<u8>, Error> {
    let fs = Ext4::open_within(disk, bounds.disk)?;
    let mut inode = upper_directory(&fs)?;
    for name in path.split('/').filter(|name| !name.is_empty()).take(bounds.depth) {
        inode = child(&fs, &inode, name.as_bytes())?;
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

fn upper_directory<D: ReadAt>(fs: &Ext4<D>) -> Result<Inode, Error> {
    let upper = child(fs, &fs.inode(ROOT_INODE)?, UPPER)?;
    if upper.kind == Kind::Directory { Ok(upper) } else { Err(Error::Damaged("no upper layer")) }
}

fn child<D: ReadAt>(fs: &Ext4<D>, directory: &Inode, name: &[u8]) -> Result<Inode, Error> {
    let mut found = None;
    fs.for_each_entry(directory, &mut |entry, inode| {
        if entry == name {
            found = Some(inode);
        }
    })?;
    fs.inode(found.ok_or(Error::Damaged("no such entry"))?)
}

struct Reading<'a, D> {
    fs: &'a Ext4<D>,
    /// Text and hashed bytes grow less as they are used.
    bounds: Bounds,
    layer: Layer,
    /// Names that were taken out of directories, whatever became of them.
    seen: usize,
    /// Directories that were entered: none has two names, and none is its own descendant.
    directories: HashSet<u32>,
    /// Contents that have several names are read once.
    hashes: HashMap<u32, Option<Sha256>>,
}

impl<D: ReadAt> Reading<'_, D> {
    fn directory(&mut self, directory: &Inode, path: &str, depth: usize) {
        if !self.directories.insert(directory.number) {
            return self.damaged(path, &Error::Damaged("a directory with two names"));
        }
        let (mut entries, mut omitted) = (Vec::new(), 0);
        let room = self.bounds.objects.saturating_sub(self.seen);
        let read = self.fs.for_each_entry(directory, &mut |name, inode| {
            if entries.len() < room && depth < self.bounds.depth {
                entries.push((name.to_vec(), inode));
            } else {
                omitted += 1;
            }
        });
        self.seen += entries.len();
        self.layer.omitted += omitted;
        if let Err(error) = read {
            self.damaged(path, &error);
        }
        let above = if path == "/" { "" } else { path };
        for (name, inode) in entries {
            let path = format!("{above}/{}", printable(&name));
            match self.fs.inode(inode) {
                Ok(inode) => self.object(&inode, path, depth + 1),
                Err(error) => self.damaged(&path, &error),
            }
        }
    }

    fn object(&mut self, inode: &Inode, path: String, depth: usize) {
        let upper = match self.upper(inode) {
            Ok(upper) => upper,
            Err(error) => return self.damaged(&path, &error),
        };
        let target = match &upper {
            Upper::There { object: Object { target: Some(target), .. }, .. } => target.len(),
            Upper::There { .. } | Upper::Whiteout => 0,
        };
        let Some(room) = self.bounds.text.checked_sub(path.len() + target) else {
            self.layer.omitted += 1;
            return;
        };
        self.bounds.text = room;
        let twice = self.layer.objects.insert(path.clone(), upper).is_some();
        if twice {
            self.damaged(&path, &Error::Damaged("a name that is there twice"));
        } else if inode.kind == Kind::Directory {
            self.directory(inode, &path, depth);
        }
    }

    fn damaged(&mut self, path: &str, error: &Error) {
        self.layer.omitted += 1;
        if self.layer.damaged.len() < DAMAGED_MAX {
            self.layer.damaged.push(format!("{}: {error}", shown(path)));
        }
    }

    fn upper(&mut self, inode: &Inode) -> Result<Upper, Error> {
        if inode.is_whiteout() {
            return Ok(Upper::Whiteout);
        }
        let (overlay, xattrs): (Vec<_>, Vec<_>) =
            self.fs.xattrs(inode)?.into_iter().partition(|(name, _)| name.starts_with("trusted.overlay."));
        let opaque = overlay.iter().any(|(name, value)| name == "trusted.overlay.opaque" && value == b"y");
        let (sha256, target) = match inode.kind {
            Kind::File => (self.hash(inode)?, None),
            Kind::Symlink => (None, Some(printable(&self.fs.read_link(inode)?))),
            Kind::Directory | Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                (None, None)
            }
        };
        let object = Object {
            kind: kind(inode.kind),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: if matches!(inode.kind, Kind::File | Kind::Symlink) { inode.size } else { 0 },
            sha256,
            target,
            device: inode.device(),
            mtime: inode.mtime,
            xattrs: digest_of(xattrs),
            identity: Some((inode.number, inode.generation)),
        };
        Ok(Upper::There { object, opaque })
    }

    /// Hashes a file's content, within the bounds.
    fn hash(&mut self, inode: &Inode) -> Result<Option<Sha256>, Error> {
        if let Some(known) = self.hashes.get(&inode.number) {
            return Ok(*known);
        }
        let Some(room) =
            self.bounds.hashed.checked_sub(inode.size).filter(|_| inode.size <= self.bounds.file)
        else {
            return Ok(None);
        };
        self.bounds.hashed = room;
        let mut hasher = sha2::Sha256::new();
        self.fs.read_file(inode, inode.size, &mut |block| {
            hasher.update(block);
            Ok(())
        })?;
        let hash = Some(Sha256::from_bytes(hasher.finalize().into()));
        if inode.links > 1 {
            self.hashes.insert(inode.number, hash);
        }
        Ok(hash)
    }
}

/// One hash for all attributes, in whatever order they are written.
fn digest_of(mut xattrs: Vec<(String, Vec<u8>)>) -> Option<Sha256> {
    if xattrs.is_empty() {
        return None;
    }
    xattrs.sort();
    let mut hasher = sha2::Sha256::new();
    for (name, value) in &xattrs {
        for part in [name.as_bytes(), value] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Some(Sha256::from_bytes(hasher.finalize().into()))
}

/// The beginning of a path that may be long.
fn shown(path: &str) -> &str {
    const SHOWN: usize = 256;
    path.char_indices().nth(SHOWN).map_or(path, |(end, _)| &path[..end])
}

fn kind(kind: Kind) -> ObjectType {
    match kind {
        Kind::File => ObjectType::File,
        Kind::Directory => ObjectType::Directory,
        Kind::Symlink => ObjectType::Symlink,
        Kind::Fifo => ObjectType::Fifo,
        Kind::Socket => ObjectType::Socket,
        Kind::CharDevice => ObjectType::CharDevice,
        Kind::BlockDevice => ObjectType::BlockDevice,
    }
}
