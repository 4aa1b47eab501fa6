//! What is in the upper layer of a scratch disk: everything a job (or its template) wrote.

use super::ext4::{Entry, Error, Ext4, Inode, Kind, ROOT_INODE, ReadAt};
use evalfleet_proto::effect::ObjectType;
use evalfleet_proto::ids::Sha256;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// The folder of the upper layer on the disk.
const UPPER: &[u8] = b"upper";
/// Bounds of one reading: what lies beyond them is counted, not read.
const OBJECTS_MAX: usize = 100_000;
const DEPTH_MAX: usize = 128;
const HASHED_BYTES_MAX: u64 = 1 << 30;
const FILE_BYTES_MAX: u64 = 256 << 20;

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
    /// Extended attributes, but for overlayfs's own.
    pub xattrs: Vec<(String, Vec<u8>)>,
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

/// An upper layer.
#[derive(Debug, Default)]
pub struct Layer {
    /// By absolute path in the guest; parents come before their children.
    pub objects: BTreeMap<String, Upper>,
    /// How many objects were not read for the bounds' sake.
    pub omitted: u64,
    /// What was too damaged to be read.
    pub damaged: Vec<String>,
}

/// Reads the upper layer of the scratch disk in `file`.
///
/// # Errors
/// When the disk has no readable upper layer at all; damage further down is listed.
pub fn read(file: &Path) -> Result<Layer, Error> {
    let fs = Ext4::open(File::open(file)?)?;
    let mut reading = Reading { fs: &fs, layer: Layer::default(), hashed: 0 };
    let upper = upper_directory(&fs)?;
    reading.directory(&upper, "", 0);
    Ok(reading.layer)
}

/// Reads one file of the upper layer.
///
/// # Errors
/// When it is not there, is no file, or has more than `bytes_max` bytes.
pub fn read_file(disk: &Path, path: &str, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let fs = Ext4::open(File::open(disk)?)?;
    let mut inode = upper_directory(&fs)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
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
    child(fs, &fs.inode(ROOT_INODE)?, UPPER)
}

fn child<D: ReadAt>(fs: &Ext4<D>, directory: &Inode, name: &[u8]) -> Result<Inode, Error> {
    let entries = fs.read_dir(directory)?;
    let entry = entries.iter().find(|entry| entry.name == name).ok_or(Error::Damaged("no such entry"))?;
    fs.inode(entry.inode)
}

struct Reading<'a> {
    fs: &'a Ext4<File>,
    layer: Layer,
    hashed: u64,
}

impl Reading<'_> {
    fn directory(&mut self, directory: &Inode, path: &str, depth: usize) {
        match self.fs.read_dir(directory) {
            Ok(mut entries) => {
                entries.sort_by(|one, other| one.name.cmp(&other.name));
                for entry in &entries {
                    self.entry(entry, path, depth);
                }
            }
            Err(error) => self.layer.damaged.push(format!("{path}/: {error}")),
        }
    }

    fn entry(&mut self, entry: &Entry, above: &str, depth: usize) {
        let path = format!("{above}/{}", printable(&entry.name));
        if self.layer.objects.len() >= OBJECTS_MAX || depth >= DEPTH_MAX {
            self.layer.omitted += 1;
            return;
        }
        let read = self.fs.inode(entry.inode).and_then(|inode| Ok((self.upper(&inode)?, inode)));
        match read {
            Ok((upper, inode)) => {
                self.layer.objects.insert(path.clone(), upper);
                if inode.kind == Kind::Directory {
                    self.directory(&inode, &path, depth + 1);
                }
            }
            Err(error) => self.layer.damaged.push(format!("{path}: {error}")),
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
        let size = if matches!(inode.kind, Kind::File | Kind::Symlink) { inode.size } else { 0 };
        let (mode, uid, gid) = (inode.mode, inode.uid, inode.gid);
        let object = Object { kind: kind(inode.kind), mode, uid, gid, size, sha256, target, xattrs };
        Ok(Upper::There { object, opaque })
    }

    /// Hashes a file's content, within the bounds.
    fn hash(&mut self, inode: &Inode) -> Result<Option<Sha256>, Error> {
        if inode.size > FILE_BYTES_MAX || self.hashed + inode.size > HASHED_BYTES_MAX {
            return Ok(None);
        }
        self.hashed += inode.size;
        let mut hasher = sha2::Sha256::new();
        self.fs.read_file(inode, FILE_BYTES_MAX, &mut |block| {
            hasher.update(block);
            Ok(())
        })?;
        Ok(Some(Sha256::from_bytes(hasher.finalize().into())))
    }
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

/// A name as text: bytes that are not UTF-8 as `\xHH`, so that no two names look alike.
fn printable(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
