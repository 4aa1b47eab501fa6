//! Whole disks that the real `mke2fs` and `debugfs` made, under overlays of the kind that QEMU writes.

use super::super::effects::Expected;
use super::disk::{self, Stack};
use super::effects::{compare, read_file};
use evalfleet_proto::effect::{Change, Effect};
use evalfleet_proto::ids::Sha256;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

const CLUSTER: usize = 65536;
const START: usize = 1 << 20;
const PARTITION: usize = 32 << 20;

/// A folder with an image's disk, an overlay without anything, and what a job's disk is made from.
struct Disks {
    dir: tempfile::TempDir,
}

impl Disks {
    /// A disk with a partition that was mounted as `/`, made with `features`, out of a few files.
    fn new(features: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc/old/deep")).unwrap();
        std::fs::create_dir_all(root.join("usr/share")).unwrap();
        for (name, content) in [
            ("etc/hostname", "cloud\n"),
            ("etc/issue", "hello\n"),
            ("etc/old/deep/x", "x"),
            ("etc/fstab", "tab"),
        ] {
            std::fs::write(root.join(name), content).unwrap();
        }
        for number in 0..300 {
            std::fs::write(root.join(format!("usr/share/{number:03}")), vec![number as u8; 9000]).unwrap();
        }
        let part = dir.path().join("part");
        let size = format!("{}k", PARTITION / 1024);
        let mut mke2fs = Command::new("mke2fs");
        mke2fs
            .args(["-q", "-F", "-t", "ext4", "-M", "/", "-O", features, "-d"])
            .arg(&root)
            .arg(&part)
            .arg(size);
        assert!(mke2fs.status().unwrap().success());
        let mut disk = vec![0; START];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[446 + 4] = 0x83;
        disk[446 + 8..446 + 12].copy_from_slice(&(START as u32 / 512).to_le_bytes());
        disk[446 + 12..446 + 16].copy_from_slice(&(PARTITION as u32 / 512).to_le_bytes());
        disk.extend(std::fs::read(&part).unwrap());
        let disks = Self { dir };
        std::fs::write(disks.path("disk"), &disk).unwrap();
        std::fs::write(disks.path("frozen"), overlay(&disk, &disk)).unwrap();
        disks
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Does to the partition what `debugfs` is told, and writes what that changed into an overlay.
    fn job(&self, commands: &str) {
        std::fs::write(self.path("commands"), commands).unwrap();
        let mut debugfs = Command::new("debugfs");
        debugfs.current_dir(self.dir.path()).args(["-w", "-f", "commands", "part"]);
        let output = debugfs.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let was = std::fs::read(self.path("disk")).unwrap();
        let mut is = was[..START].to_vec();
        is.extend(std::fs::read(self.path("part")).unwrap());
        std::fs::write(self.path("scratch"), overlay(&was, &is)).unwrap();
    }

    fn effects(&self) -> Vec<Effect> {
        let expected = Expected::new(&["/srv/**"]).unwrap();
        let found =
            compare((&self.path("disk"), &self.path("frozen")), &self.path("scratch"), &expected, 100)
                .unwrap();
        assert_eq!((found.omitted, found.damaged), (0, Vec::new()));
        found.effects
    }

    fn read(&self, path: &str) -> Vec<u8> {
        read_file((&self.path("disk"), &self.path("frozen")), &self.path("scratch"), path, 1 << 20).unwrap()
    }
}

/// An overlay over `was` with the clusters in which `is` differs.
fn overlay(was: &[u8], is: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 3 * CLUSTER];
    bytes[..4].copy_from_slice(b"QFI\xfb");
    bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&16_u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&(is.len() as u64).to_be_bytes());
    bytes[36..40].copy_from_slice(&1_u32.to_be_bytes());
    bytes[40..48].copy_from_slice(&(CLUSTER as u64).to_be_bytes());
    bytes[CLUSTER..CLUSTER + 8].copy_from_slice(&((1 << 63) | (2 * CLUSTER as u64)).to_be_bytes());
    for (at, (was, is)) in was.chunks(CLUSTER).zip(is.chunks(CLUSTER)).enumerate() {
        if was != is {
            let entry = (1 << 63) | bytes.len() as u64;
            bytes[2 * CLUSTER + at * 8..2 * CLUSTER + at * 8 + 8].copy_from_slice(&u64::to_be_bytes(entry));
            bytes.extend(is);
            bytes.resize(bytes.len().next_multiple_of(CLUSTER), 0);
        }
    }
    bytes
}

fn told(effects: &[Effect]) -> Vec<(&str, Change)> {
    effects.iter().map(|effect| (effect.path.as_str(), effect.change)).collect()
}

#[test]
fn created_changed_deleted_and_replaced_are_told_and_nothing_else() {
    for features in ["^has_journal,^metadata_csum,^64bit", "has_journal,metadata_csum,64bit"] {
        let disks = Disks::new(features);
        std::fs::write(disks.path("new"), "new\n").unwrap();
        std::fs::write(disks.path("HOST"), "HOST!\n").unwrap();
        disks.job(
            "mkdir srv\nwrite new srv/f\nsymlink srv/l /srv/f\nrm etc/issue\nrm etc/old/deep/x\nrmdir etc/old/deep\nrmdir etc/old\nmkdir etc/old\n\
             sif etc/old generation 77\nsif usr/share/007 mode 0100600\nrm etc/hostname\nwrite HOST etc/hostname\nsif etc/fstab mtime 99\n",
        );
        let effects = disks.effects();
        let expected = [
            ("/etc/hostname", Change::Changed),
            ("/etc/issue", Change::Deleted),
            ("/etc/old", Change::Replaced),
            ("/etc/old/deep", Change::Deleted),
            ("/srv", Change::Created),
            ("/srv/f", Change::Created),
            ("/srv/l", Change::Created),
            ("/usr/share/007", Change::Changed),
        ];
        assert_eq!(told(&effects), expected, "with {features}");
        let file = &effects[5];
        assert_eq!((file.size, file.sha256, file.expected), (4, Some(Sha256::of(b"new\n")), true));
        assert_eq!(effects[6].target.as_deref(), Some("/srv/f"));
        assert_eq!(effects[7].mode, "0600");
        assert_eq!(disks.read("/srv/f"), b"new\n");
        assert_eq!(disks.read("/usr/share/008"), vec![8; 9000]);
    }
}

#[test]
fn a_disk_that_nobody_wrote_to_has_no_effects() {
    let disks = Disks::new("has_journal");
    disks.job("stat /\n");
    assert_eq!(told(&disks.effects()), []);
}

#[test]
fn what_is_only_in_the_journal_is_read_from_there() {
    for journal in ["jo", "jo -c -v 3"] {
        let disks = Disks::new("has_journal,metadata_csum,64bit");
        let mut debugfs = Command::new("debugfs");
        let found = debugfs.args(["-R", "bmap usr/share/009 0"]).arg(disks.path("part")).output().unwrap();
        let block = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        std::fs::write(disks.path("block"), vec![b'!'; 4096]).unwrap();
        disks.job(&format!("{journal}\njw -b {block} block\njc\n"));
        let mut content = vec![9; 9000];
        content[..disks_block(&disks)].fill(b'!');
        assert_eq!(disks.read("/usr/share/009"), content, "{journal}");
        assert_eq!(told(&disks.effects()), [("/usr/share/009", Change::Changed)]);
    }
}

/// The block size that `mke2fs` chose.
fn disks_block(disks: &Disks) -> usize {
    let part = std::fs::read(disks.path("part")).unwrap();
    1024 << part[1024 + 24]
}

#[test]
fn a_disk_of_nonsense_is_an_error_and_no_end_of_the_worker() {
    let disks = Disks::new("has_journal");
    let disk = std::fs::read(disks.path("disk")).unwrap();
    let mut bad = disk.clone();
    // Every inode and directory of the first megabytes.
    for (at, byte) in bad[START + 4096..START + (8 << 20)].iter_mut().enumerate() {
        *byte ^= (at as u8).wrapping_mul(31) | 1;
    }
    std::fs::write(disks.path("scratch"), overlay(&disk, &bad)).unwrap();
    let expected = Expected::new::<&str>(&[]).unwrap();
    let result = compare((&disks.path("disk"), &disks.path("frozen")), &disks.path("scratch"), &expected, 10);
    assert!(result.is_err() || result.is_ok_and(|found| !found.damaged.is_empty()));
}

#[test]
fn qemus_own_overlay_is_read() {
    let disks = Disks::new("has_journal");
    let scratch = disks.path("scratch");
    let length = std::fs::metadata(disks.path("disk")).unwrap().len().to_string();
    let run = |program: &str, arguments: &[&str]| {
        assert!(Command::new(program).args(arguments).stdout(Stdio::null()).status().unwrap().success());
    };
    let name = scratch.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", name, &length]);
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x5a 3M 64k", "-c", "write -z 5M 64k", name]);
    let stack = Stack::open(&disks.path("disk"), &[&disks.path("frozen"), &scratch]).unwrap();
    let mut bytes = [0; 16];
    super::super::ext4::ReadAt::read_at(&stack, (3 << 20) + 65_528, &mut bytes).unwrap();
    assert_eq!(bytes[..8], [0x5a; 8]);
    let written = stack.written();
    assert!(written.touch(3 << 20, 1) && written.touch(5 << 20, 1) && !written.touch(4 << 20, 65_536));
    let stack = Arc::new(stack);
    assert_eq!(disk::partitions(stack.as_ref(), stack.bytes()).unwrap().len(), 1);
    assert!(Path::new(name).exists());
}
