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
    /// What was in the file and what is in it now, where its worker kept that (`worker.contents`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content: Option<Contents>,
    /// Whether the job had declared it.
    pub expected: bool,
}

/// A file's content on both sides of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Contents {
    /// Before the job: as it laid the file in, or as its template had it.
    pub before: Content,
    /// After it.
    pub after: Content,
}

/// What is known of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Content {
    /// What it is, and whether it was kept.
    pub is: Kept,
    /// Its length in bytes; 0 where there was no file.
    pub bytes: u64,
    /// Its key in the blob store, for a text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<Sha256>,
}

impl Content {
    /// No file.
    pub const ABSENT: Self = Self { is: Kept::Absent, bytes: 0, sha256: None };

    /// One of `bytes` bytes that is not kept, because it `is` no short text.
    pub fn without(is: Kept, bytes: u64) -> Self {
        Self { is, bytes, sha256: None }
    }
}

/// What a content is, and whether it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Kept {
    /// There was no file.
    Absent,
    /// UTF-8 without a zero byte, kept under its hash.
    Text,
    /// Anything else: not kept.
    Binary,
    /// Longer than `worker.contents`, or beyond what is kept for one job.
    TooLong,
    /// It is the image's own, or could not be read.
    NotAtHand,
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
