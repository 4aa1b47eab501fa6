//! Side effects: what a job left different on its disk, as the host read it.

use crate::ids::Sha256;
use serde::{Deserialize, Serialize};

/// One object that a job left different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Effect {
    /// Its absolute path in the guest; bytes that are not UTF-8 are written `\xHH`.
    pub path: String,
    /// What happened to it.
    pub change: Change,
    /// What it is now (for a deletion: what it was).
    #[serde(rename = "type")]
    pub object: ObjectType,
    /// Its length in bytes; 0 for what has no content.
    pub size: u64,
    /// Its permission bits in octal: `0644`.
    pub mode: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The hash of its content, for files whose content was read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Sha256>,
    /// Where it points, for symbolic links.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// Where it was before, for what was moved and not made. Told only where nothing else explains what
    /// is seen: the same inode, or an object that is gone and an equal one (type, size, content, target
    /// and time of writing) that is there now, each the only one of its kind; for directories, the same
    /// content. Not told for files that were changed after they were moved.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub renamed_from: Option<String>,
    /// Whether the job had declared it.
    pub expected: bool,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Change {
    /// It was not there before.
    Created,
    /// Its content, mode, owner or extended attributes differ.
    Changed,
    /// It is gone.
    Deleted,
    /// Something else is there under its name: another type, or a new directory for an old one.
    Replaced,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ObjectType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}
