use std::collections::BTreeMap;

use super::*;
use crate::manifest::{DebianInfo, FORMAT, FileInfo, Inputs, KernelInfo};

fn publish(store: &Store, text: &str) -> Image {
    publish_as(store, "base", text)
}

/// Publishes an image whose parts are this text.
pub(super) fn publish_as(store: &Store, name: &str, text: &str) -> Image {
    let lock = store.lock(name).unwrap();
    let built = store.folder().join(name).join(".build-test");
    fs::create_dir_all(&built).unwrap();
    let mut files = BTreeMap::new();
    for part in Part::ALL {
        fs::write(built.join(part.file_name()), text).unwrap();
        let info = FileInfo {
            path: part.file_name().to_owned(),
            sha256: part.digest(&built).unwrap(),
            size: text.len() as u64,
            sparse: part.is_sparse(),
        };
        files.insert(part, info);
    }
    let manifest = Manifest {
        format: FORMAT,
        name: name.to_owned(),
        description: String::new(),
        digest: Manifest::digest_of(&files),
        inputs: Inputs { root: Digest::of(b""), all: Digest::of(b"") },
        built_at: jiff::Timestamp::now(),
        build_ms: None,
        builder: String::new(),
        debian: DebianInfo { suite: "trixie".to_owned(), packages: Vec::new() },
        kernel: KernelInfo { release: String::new(), modules: Vec::new() },
        files,
        machine: Default::default(),
        scenarios: Vec::new(),
        tools: Vec::new(),
        foreign: None,
    };
    fs::write(built.join(manifest::FILE_NAME), serde_json::to_vec(&manifest).unwrap()).unwrap();
    store.publish(&built, &manifest, &lock).unwrap()
}

fn reference(text: &str) -> ImageRef {
    text.parse().unwrap()
}

#[test]
fn the_current_image_and_those_before_it_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("images"));
    assert!(store.list().unwrap().is_empty());
    let missing = store.resolve(&reference("base")).unwrap_err().to_string();
    assert!(missing.contains("`evalfleet image build base`"), "{missing}");
    let (first, second) = (publish(&store, "one"), publish(&store, "two"));
    assert_eq!(store.resolve(&reference("base")).unwrap().manifest, second.manifest);
    let old = store.resolve(&reference(&format!("base@{}", first.manifest.digest.short()))).unwrap();
    assert!(old.manifest == first.manifest && !old.current);
    assert!(store.resolve(&reference(&format!("base@sha256:{}", first.manifest.digest))).is_ok());
    assert!(matches!(store.resolve(&reference("base@000000")), Err(Error::NoSuchDigest { .. })));
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn damage_names_the_file_and_the_fix_and_publishing_again_repairs_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let image = publish(&store, "one");
    image.verify().unwrap();
    fs::write(image.path(Part::Root), "two").unwrap();
    image.check().unwrap();
    let altered = image.verify().unwrap_err().to_string();
    assert!(altered.contains("root.erofs was altered"), "{altered}");
    fs::remove_file(image.path(Part::Root)).unwrap();
    let missing = store.resolve(&reference("base")).unwrap_err().to_string();
    assert!(missing.contains("root.erofs is missing; repair it with `evalfleet image build base --force`"));
    publish(&store, "one").verify().unwrap();
}

#[test]
fn one_builds_at_a_time_and_what_a_killed_one_left_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let lock = store.lock("base").unwrap();
    assert!(matches!(store.lock("base"), Err(Error::Locked(_))));
    let left = folder.path().join("base/.build-killed");
    fs::create_dir(&left).unwrap();
    store.remove_left_overs("base", &lock).unwrap();
    assert!(!left.exists());
    drop(lock);
    store.lock("base").unwrap();
}

#[test]
fn references_are_names_with_or_without_digits() {
    assert_eq!(reference("base@sha256:abcdef").digest.as_deref(), Some("abcdef"));
    for text in ["", "Base", "../base", "base@", "base@abc", "base@xyzxyz", "base@abcdef@abcdef"] {
        assert!(text.parse::<ImageRef>().is_err(), "{text}");
    }
}
