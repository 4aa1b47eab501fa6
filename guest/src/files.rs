//! Laying files into the guest, chunk by chunk.

use evalfleet_proto::guest::Put;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Writes one chunk; the first one makes the file and the folders above it.
pub(crate) fn put(chunk: &Put) -> io::Result<()> {
    let path = Path::new(&chunk.path);
    let first = chunk.offset == 0;
    if first && let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(first).mode(chunk.mode).open(path)?;
    file.write_all_at(&chunk.data, chunk.offset)?;
    file.set_permissions(Permissions::from_mode(chunk.mode))
}
