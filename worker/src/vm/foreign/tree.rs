//! One object of a foreign file system, as far as effects go.

use super::super::ext4::{Error, Ext4, Inode, Kind, ReadAt};
use evalfleet_proto::effect::{Change, Effect, ObjectType};
use evalfleet_proto::ids::Sha256;
use sha2::Digest as _;

/// Bounds of the contents that are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Of one file.
    file: u64,
    /// Of all together.
    total: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { file: 256 << 20, total: 1 << 30 }
    }
}

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    kind: Kind,
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    /// Of a file's content; none where it was too much to be read.
    sha256: Option<Sha256>,
    target: Option<String>,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Object {
    /// Whether two objects at one place are not the same. A content that was not read counts as another:
    /// something of it was written.
    pub(super) fn differs(&self, other: &Self) -> bool {
        self != other || (self.kind == Kind::File && self.sha256.is_none())
    }

    pub(super) fn effect(self, path: String, change: Change, expected: bool) -> Effect {
        Effect {
            path,
            change,
            object: kind(self.kind),
            size: self.size,
            mode: format!("{:04o}", self.mode),
            uid: self.uid,
            gid: self.gid,
            sha256: self.sha256,
            target: self.target,
            renamed_from: None,
            content: None,
            expected,
        }
    }
}

/// Reads objects, within bounds.
#[derive(Debug)]
pub(super) struct Reader {
    bounds: Bounds,
    read: u64,
}

impl Reader {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, read: 0 }
    }

    pub(super) fn object<D: ReadAt>(&mut self, fs: &Ext4<D>, inode: &Inode) -> Result<Object, Error> {
        let (sha256, target) = match inode.kind {
            Kind::File => (self.hash(fs, inode)?, None),
            Kind::Symlink => (None, Some(printable(&fs.read_link(inode)?))),
            Kind::Directory | Kind::Fifo | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                (None, None)
            }
        };
        Ok(Object {
            kind: inode.kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: if matches!(inode.kind, Kind::File | Kind::Symlink) { inode.size } else { 0 },
            sha256,
            target,
            xattrs: fs.xattrs(inode)?,
        })
    }

    fn hash<D: ReadAt>(&mut self, fs: &Ext4<D>, inode: &Inode) -> Result<Option<Sha256>, Error> {
        if inode.size > self.bounds.file || self.read.saturating_add(inode.size) > self.bounds.total {
            return Ok(None);
        }
        self.read += inode.size;
        let mut hasher = sha2::Sha256::new();
        fs.read_file(inode, self.bounds.file, &mut |block| {
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
pub(super) fn printable(name: &[u8]) -> String {
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}
