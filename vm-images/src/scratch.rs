//! The scratch disk's template: an empty ext4 in a sparse file, of which every VM gets a copy of its own.
//!
//! It lives for one job and is deleted, so it has no journal and no checksums. What the host's reader of hostile disks
//! need not know is off too: 64-bit block numbers, inline data, resizing. Nothing is left for the guest's kernel to
//! initialise in the background. Few inodes and large groups keep the bitmaps small: what is allocated is what a copy
//! costs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::command::{self, command};
use crate::digest::for_each_block;
use crate::recipe::Scratch;

/// Fixed, so that the same recipe gives the same bytes. Clones of one template share it, and never a guest.
const UUID: &str = "6b1f1a0e-6c2c-4f3c-9a5e-5c7a7c6e0001";

const FEATURES: &str = "none,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,\
                        ext_attr,dir_index";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the scratch disk: {0}")]
    File(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] command::Error),
}

/// Writes the template to `path`.
pub(crate) fn write(scratch: &Scratch, path: &Path) -> Result<(), Error> {
    let formatted = path.with_extension("formatted");
    File::create(&formatted)?.set_len(scratch.size.bytes())?;
    let mut format = command("mke2fs");
    format.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-L", "scratch"]);
    format.args(["-U", UUID, "-N", &scratch.inodes.to_string(), "-O", FEATURES, "-G", "64"]);
    format.args(["-E", &format!("hash_seed={UUID},lazy_itable_init=0,nodiscard,root_owner=0:0")]);
    format.arg(&formatted);
    // Nothing of the host's own settings, and no time but the beginning's.
    format.env("MKE2FS_CONFIG", "/dev/null").env("E2FSPROGS_FAKE_TIME", "1").env("SOURCE_DATE_EPOCH", "1");
    command::run(format, |_| ())?;
    copy_data(&formatted, path)?;
    fs::remove_file(&formatted)?;
    Ok(())
}

/// Copies only blocks that are not all zeros: mke2fs writes out the empty inode tables.
fn copy_data(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    to.set_len(from.metadata()?.len())?;
    for_each_block(&from, |position, block| to.write_all_at(block, position))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_template_is_small_reproducible_and_sound() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch { size: "4G".to_owned().try_into().unwrap(), inodes: 65536 };
        let (one, two) = (folder.path().join("one.ext4"), folder.path().join("two.ext4"));
        write(&scratch, &one).unwrap();
        write(&scratch, &two).unwrap();
        assert_eq!(Digest::of_sparse_file(&one).unwrap(), Digest::of_sparse_file(&two).unwrap());
        let metadata = fs::metadata(&one).unwrap();
        assert_eq!(metadata.len(), 4 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} bytes are allocated", metadata.blocks() * 512);
        let mut check = command("e2fsck");
        check.arg("-fn").arg(&one);
        command::run(check, |_| ()).unwrap();
        let mut features = String::new();
        let mut show = command("dumpe2fs");
        show.arg("-h").arg(&one);
        command::run(show, |line| {
            if let Some(listed) = line.strip_prefix("Filesystem features:") {
                features = listed.to_owned();
            }
        })
        .unwrap();
        for absent in ["has_journal", "metadata_csum", "64bit", "inline_data", "uninit_bg"] {
            assert!(!features.contains(absent), "{absent} in {features}");
        }
        assert!(features.contains("extent") && features.contains("filetype"));
    }
}
