//! Against disks that the real `mke2fs` made, and against damaged ones.

use super::*;
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;

/// Makes an ext4 disk of the builder's kind out of a folder.
fn disk(folder: &Path) -> Vec<u8> {
    let image = folder.with_extension("ext4");
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum,^64bit", "-m", "0", "-d"])
        .arg(folder)
        .arg(&image)
        .arg("8M")
        .status()
        .expect("mke2fs (package e2fsprogs) makes the disks of these tests");
    assert!(made.success());
    std::fs::read(image).unwrap()
}

fn sample() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("upper/deep/er")).unwrap();
    std::fs::write(root.join("upper/hello"), "hello\n").unwrap();
    std::fs::write(root.join("upper/deep/er/large"), vec![7; 300_000]).unwrap();
    std::os::unix::fs::symlink("hello", root.join("upper/short")).unwrap();
    std::os::unix::fs::symlink("x".repeat(200), root.join("upper/long")).unwrap();
    for number in 0..600 {
        std::fs::write(root.join(format!("upper/deep/file-{number:04}")), "").unwrap();
    }
    disk(&root)
}

fn list<D: ReadAt>(fs: &Ext4<D>, directory: &Inode) -> Result<Vec<(String, u32)>, Error> {
    let name = |entry: Entry| (String::from_utf8_lossy(&entry.name).into_owned(), entry.inode);
    Ok(fs.read_dir(directory)?.into_iter().map(name).collect())
}

fn find<D: ReadAt>(fs: &Ext4<D>, path: &str) -> Inode {
    path.split('/').fold(fs.inode(ROOT_INODE).unwrap(), |directory, name| {
        let entries = list(fs, &directory).unwrap();
        let (_, inode) = entries.iter().find(|entry| entry.0 == name).unwrap_or_else(|| panic!("no {name}"));
        fs.inode(*inode).unwrap()
    })
}

fn content<D: ReadAt>(fs: &Ext4<D>, inode: &Inode) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs.read_file(inode, 1 << 20, &mut |block| {
        bytes.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    bytes
}

#[test]
fn files_links_and_large_directories_are_read() {
    let disk = sample();
    let fs = Ext4::open(disk.as_slice()).unwrap();
    assert_eq!(content(&fs, &find(&fs, "upper/hello")), b"hello\n");
    assert_eq!(content(&fs, &find(&fs, "upper/deep/er/large")), vec![7; 300_000]);
    assert_eq!(fs.read_link(&find(&fs, "upper/short")).unwrap(), b"hello");
    assert_eq!(fs.read_link(&find(&fs, "upper/long")).unwrap().len(), 200);
    assert_eq!(list(&fs, &find(&fs, "upper/deep")).unwrap().len(), 601);
}

#[test]
fn a_bound_is_an_error_and_not_a_cut() {
    let disk = sample();
    let fs = Ext4::open(disk.as_slice()).unwrap();
    let large = find(&fs, "upper/deep/er/large");
    assert!(matches!(fs.read_file(&large, 1000, &mut |_| Ok(())), Err(Error::TooLarge(_))));
}

#[test]
fn what_is_no_ext4_is_said_to_be_none() {
    assert!(matches!(Ext4::open(vec![0; 4096].as_slice()), Err(Error::Foreign(_))));
    assert!(matches!(Ext4::open([0_u8; 10].as_slice()), Err(Error::Io(_))));
}

/// Walks everything that can be reached, so that damage has every chance to do harm.
fn walk(disk: &[u8]) -> Result<usize, Error> {
    let fs = Ext4::open(disk)?;
    let mut left = vec![(fs.inode(ROOT_INODE)?, 0)];
    let mut seen = 0;
    while let Some((inode, depth)) = left.pop() {
        seen += 1;
        let _ = fs.xattrs(&inode);
        let _ = fs.read_link(&inode);
        let _ = fs.read_file(&inode, 1 << 20, &mut |_| Ok(()));
        if inode.kind == Kind::Directory && depth < 8 && seen < 2000 {
            let entries = list(&fs, &inode).unwrap_or_default();
            left.extend(entries.iter().filter_map(|(_, inode)| Some((fs.inode(*inode).ok()?, depth + 1))));
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_damage_makes_the_reader_panic_or_run_away(
        damage in prop::collection::vec((0usize..600_000, any::<u8>()), 1..200),
        superblock in prop::collection::vec((1024usize..2048, any::<u8>()), 0..6),
    ) {
        static SAMPLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut disk = SAMPLE.get_or_init(sample).clone();
        for (at, byte) in damage.into_iter().chain(superblock) {
            disk[at] = byte;
        }
        let _ = walk(&disk);
    }
}
