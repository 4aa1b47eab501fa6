//! The fuzzer's corpus through the readers, without the fuzzer: neither may drift from the other.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

#[expect(unreachable_pub, reason = "the fuzzer's crate exports it")]
#[path = "../../tests/fuzz/src/sparse.rs"]
mod sparse;
#[expect(unreachable_pub, reason = "the fuzzer's crate exports it")]
#[path = "../../tests/fuzz/src/targets.rs"]
mod targets;

use evalfleet_worker::vm::effects::{Bounds, Upper, UpperLayer, read_upper_from};
use evalfleet_worker::vm::ext4;
use std::path::{Path, PathBuf};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target)
}

/// Every seed, and every seed with one byte that is another.
fn replay(target: &str, run: fn(&[u8])) {
    let seeds: Vec<_> = std::fs::read_dir(folder(target)).unwrap().collect();
    assert!(!seeds.is_empty(), "no seeds of {target}");
    for seed in seeds {
        let mut bytes = std::fs::read(seed.unwrap().path()).unwrap();
        run(&bytes);
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
            let byte = bytes[at];
            for other in [0, 0xFF, byte ^ 1, byte.wrapping_add(1)] {
                bytes[at] = other;
                run(&bytes);
            }
            bytes[at] = byte;
        }
    }
}

#[test]
fn disks() {
    replay("disk", targets::disk);
}

#[test]
fn frames() {
    replay("frames", targets::frames);
}

#[test]
fn networks() {
    replay("network", targets::network);
}

#[test]
fn what_is_packed_is_expanded() {
    let disk = disk("many");
    assert_eq!(sparse::expand(&sparse::pack(&disk)), disk);
}

fn disk(name: &str) -> Vec<u8> {
    sparse::expand(&std::fs::read(folder("disk").join(name)).unwrap())
}

fn read(name: &str) -> Result<UpperLayer, ext4::Error> {
    read_upper_from(disk(name).as_slice(), Bounds::begin())
}

#[test]
fn sound_seeds_are_read_to_the_end() {
    for name in [
        "template",
        "plain",
        "kinds",
        "moved",
        "attributes",
        "long-link",
        "hard-links",
        "holes",
        "deep",
        "many",
    ] {
        let layer = read(name).unwrap();
        assert!(
            layer.omitted == 0 && layer.objects.contains_key("/directory"),
            "{name}: {:?}",
            layer.damaged
        );
    }
    let many = read("many").unwrap();
    assert_eq!(many.objects.keys().filter(|path| path.starts_with("/many/")).count(), 120);
    let holes = match &read("holes").unwrap().objects["/holes"] {
        Upper::There { object, .. } => object.clone(),
        Upper::Whiteout => panic!("a file is no whiteout"),
    };
    let mut content = vec![0; 40 << 10];
    (0..10).for_each(|number| content[number << 12] = b'h');
    assert_eq!(holes.sha256, Some(evalfleet_proto::ids::Sha256::of(&content)));
}

#[test]
fn damage_is_told_where_it_is_and_nothing_else_is_lost() {
    for (name, path, what) in [
        ("loop", "/loop/upper", "damaged file system: a directory with two names"),
        ("outside", "/file", "reading the disk"),
        ("attributes-outside", "/file", "reading the disk"),
        ("slash", "/", "damaged file system: directory entry's name"),
    ] {
        let layer = read(name).unwrap();
        assert_eq!((layer.omitted, layer.damaged.len()), (1, 1), "{name}: {:?}", layer.damaged);
        assert!(layer.damaged[0].starts_with(&format!("{path}: {what}")), "{name}: {:?}", layer.damaged);
        assert!(layer.objects.contains_key("/directory/opaque"), "{name}");
    }
    assert!(matches!(read("no-upper"), Err(ext4::Error::Damaged(_))));
}

#[test]
fn a_file_of_a_giant_size_is_there_without_a_hash() {
    let layer = read("giant").unwrap();
    let Upper::There { object, .. } = &layer.objects["/file"] else { panic!("a file is no whiteout") };
    assert_eq!((object.size, object.sha256), (0x7FFF_FFFF_FFFF, None));
    assert_eq!(layer.omitted, 0);
}

#[test]
fn every_bound_holds_and_counts_what_it_cuts() {
    let many = disk("many");
    let with = |change: fn(&mut Bounds)| {
        let mut bounds = Bounds::begin();
        change(&mut bounds);
        read_upper_from(many.as_slice(), bounds).unwrap()
    };
    let whole = with(|_| ()).objects.len() as u64;
    let cut = with(|bounds| bounds.objects = 50);
    assert_eq!((cut.objects.len() as u64 - 1, cut.objects.len() as u64 + cut.omitted), (50, whole));
    let cut = with(|bounds| bounds.text = 1000);
    assert!(cut.objects.keys().map(String::len).sum::<usize>() <= 1000);
    assert!(cut.omitted > 0 && (cut.objects.len() as u64) < whole);
    let cut = with(|bounds| bounds.depth = 1);
    assert!(cut.objects.keys().all(|path| path.matches('/').count() == 1) && cut.omitted > 100);
    let cut = with(|bounds| bounds.disk.bytes = 30 << 10);
    assert!(cut.omitted > 0 && cut.damaged.iter().any(|what| what.contains("more reading than it gets")));
    let cut = with(|bounds| bounds.hashed = 0);
    assert!(matches!(&cut.objects["/file"], Upper::There { object, .. } if object.sha256.is_none()));
    let late = |bounds: &mut Bounds| bounds.disk.until = Some(std::time::Instant::now());
    let mut bounds = Bounds::begin();
    late(&mut bounds);
    assert!(matches!(read_upper_from(many.as_slice(), bounds), Err(ext4::Error::Spent)));
}
