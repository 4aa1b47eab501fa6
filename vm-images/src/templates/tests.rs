use super::*;
use std::time::{Duration, SystemTime};

fn record(key: &str, image: &str) -> Record {
    Record {
        digest: key.to_owned(),
        image: image.to_owned(),
        image_name: "base".to_owned(),
        scenario: "default".to_owned(),
        strategy: "template-clone".to_owned(),
        accelerator: "tcg".to_owned(),
        qemu: "10.0.2".to_owned(),
        machine: "q35".to_owned(),
        cpu: "max".to_owned(),
        memory: 1 << 29,
        cpus: 1,
        made: Timestamp::now(),
        boot_ms: 1,
        files: BTreeMap::new(),
        touched: BTreeSet::new(),
    }
}

/// A good template of `kib` KiB, last used `hours` ago.
fn make(templates: &Templates, key: &str, kib: usize, hours: u64) {
    fs::create_dir_all(templates.build(key)).unwrap();
    fs::write(templates.build(key).join("ram"), vec![1; kib << 10]).unwrap();
    templates.publish(key, &record(key, "i")).unwrap();
    let used = File::create(templates.home(key).join(USED)).unwrap();
    used.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
}

fn keys(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|template| template.key.as_str()).collect()
}

#[test]
fn the_least_recently_used_goes_and_one_in_use_stays() {
    let dir = tempfile::tempdir().unwrap();
    let templates = Templates::new(dir.path());
    for (key, hours) in [("old", 5), ("older", 9), ("oldest", 20), ("new", 0)] {
        make(&templates, key, 1024, hours);
    }
    let held = templates.hold("oldest").unwrap();
    File::create(templates.home("oldest").join(USED))
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(20 * 3600))
        .unwrap();
    let listed = templates.list().unwrap();
    assert_eq!(keys(&listed), ["new", "old", "older", "oldest"]);
    assert_eq!(listed[3].state, State::InUse);
    // Room for three of them and their records.
    let gone = templates.gc(3 * 1100 * 1024, &|_| true).unwrap();
    assert_eq!(keys(&gone), ["older"]);
    drop(held);
    let gone = templates.gc(2 * 1100 * 1024, &|_| true).unwrap();
    assert_eq!(keys(&gone), ["oldest"]);
    assert_eq!(keys(&templates.list().unwrap()), ["new", "old"]);
}

#[test]
fn what_failed_is_told_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let templates = Templates::new(dir.path());
    templates.failed("bad", Some(record("bad", "i")), "it did not boot");
    fs::create_dir_all(templates.build("killed")).unwrap();
    fs::create_dir_all(templates.home("strange")).unwrap();
    let listed = templates.list().unwrap();
    assert!(listed.iter().all(|template| template.state == State::Failed && template.error.is_some()));
    assert_eq!(templates.gc(u64::MAX, &|_| true).unwrap().len(), 3);
    assert!(templates.list().unwrap().is_empty());
}

#[test]
fn one_that_is_being_made_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let templates = Templates::new(dir.path());
    let _lock = templates.lock("busy").unwrap();
    fs::create_dir_all(templates.build("busy")).unwrap();
    assert_eq!(templates.list().unwrap()[0].state, State::Building);
    assert!(templates.gc(0, &|_| false).unwrap().is_empty());
}

#[test]
fn templates_of_an_image_that_is_gone_go() {
    let dir = tempfile::tempdir().unwrap();
    let templates = Templates::new(dir.path());
    make(&templates, "a", 4, 0);
    assert!(templates.gc(u64::MAX, &|record| record.image == "i").unwrap().is_empty());
    assert_eq!(keys(&templates.gc(u64::MAX, &|record| record.image == "j").unwrap()), ["a"]);
}

#[test]
fn one_flipped_byte_is_another_content_and_a_written_hole_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ram");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 24).unwrap();
    file.write_all_at(b"content", 5 << 20).unwrap();
    let before = Content::of(&path).unwrap();
    file.write_all_at(&[0; 8192], 9 << 20).unwrap();
    assert_eq!(Content::of(&path).unwrap(), before);
    file.write_all_at(b"C", 5 << 20).unwrap();
    assert_ne!(Content::of(&path).unwrap(), before);
}
