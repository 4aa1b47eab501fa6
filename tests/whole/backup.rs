//! Backups: taken of a history at work, checked, found out where they are damaged, restored on an empty machine, made
//! when the user's file says.

use super::Test;
use evalfleet_tests::machine::{Machine, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("backup::one_is_taken_and_restored_on_an_empty_machine", one_is_taken_and_restored_on_an_empty_machine),
    ("backup::a_damaged_one_is_found_out", a_damaged_one_is_found_out),
    ("backup::whoever_is_killed_at_one_leaves_none", whoever_is_killed_at_one_leaves_none),
];

/// The schedule's own minutes have to pass.
pub(crate) const LONG: (&str, fn()) =
    ("backup::they_are_taken_when_the_users_file_says", they_are_taken_when_the_users_file_says);

fn shelf(machine: &Machine) -> PathBuf {
    machine.state().join("backups")
}

/// Takes one, and gives its name.
fn take(machine: &Machine) -> String {
    let taken = machine.evalfleet(&["backup", "now", "--json"]).expect(0).json();
    assert!(taken["checked"]["datoms"].as_u64() > Some(0), "{taken}");
    taken["name"].as_str().expect("a name").to_owned()
}

fn one_is_taken_and_restored_on_an_empty_machine(machine: &Machine) {
    let ended = machine.evalfleet(&["run", "--json", "--", "echo", "kept"]).expect(0).json();
    let id = ended["id"].as_str().expect("an id");
    let recorded = machine.recorded(id);
    let name = take(machine);
    let later = machine.evalfleet(&["run", "--json", "--", "echo", "later"]).expect(0).json();
    let later = later["id"].as_str().expect("an id");
    machine.recorded(later);
    let listed = machine.evalfleet(&["backup", "list"]).expect(0).out;
    assert!(listed.contains(&name) && listed.contains("checked"), "{listed}");
    let verified = machine.evalfleet(&["backup", "verify", &name]).expect(0).out;
    assert!(verified.starts_with(&name) && verified.contains(" documents"), "{verified}");
    machine.evalfleet(&["backup", "restore", &name]).expect(64).says(&["evalfleet down"]);
    machine.evalfleet(&["backup", "restore", "none"]).expect(64).says(&["backup list"]);

    let shelf = shelf(machine).display().to_string();
    let empty = Machine::new().with("EVALFLEET_DATOMIC__BACKUP_DIR", &shelf);
    empty.evalfleet(&["backup", "restore", &name]).expect(0);
    empty.evalfleet(&["up", "--detach", "--only", "gateway,api"]).expect(0);
    assert_eq!(empty.recorded(id), recorded);
    assert_eq!(empty.evalfleet(&["get", later]).code, 64, "that was not yet there");
    // Again, over what is there: that is moved aside.
    empty.evalfleet(&["down"]).expect(0);
    empty.evalfleet(&["backup", "restore", &name]).expect(0).says(&["datomic.before-"]);
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

fn a_damaged_one_is_found_out(machine: &Machine) {
    let name = take(machine);
    let mut files = Vec::new();
    files_below(&shelf(machine).join(&name), &mut files);
    let log = files.iter().find(|path| path.ends_with("db.log")).expect("Datomic Local's log");
    let whole = std::fs::read(log).expect("it can be read");
    std::fs::write(log, &whole[..whole.len() / 2]).expect("it can be written");
    let verify = || machine.evalfleet(&["backup", "verify", &name]);
    verify().expect(3).says(&["is no good"]);
    std::fs::write(log, &whole).expect("it can be written");
    verify().expect(0);
    // A document that facts point to.
    let id = machine.evalfleet(&["list", "--limit", "1", "--json"]).expect(0).json()["id"].clone();
    let query = "[:find ?d . :in $ ?id :where [?e :evaluation/id ?id] [?e :evaluation/document ?d]]";
    let asked = machine.evalfleet(&["query", query, "--arg", &id.to_string(), "--json"]).expect(0).json();
    let key = asked["rows"][0].as_str().expect("a document").to_owned();
    let mut blobs = Vec::new();
    files_below(&shelf(machine).join("blobs"), &mut blobs);
    let of_key = |path: &&PathBuf| path.display().to_string().replace('/', "").contains(&key);
    let blob = blobs.iter().find(of_key).expect("the document's blob");
    let document = std::fs::read(blob).expect("it can be read");
    std::fs::write(blob, b"{}").expect("it can be written");
    verify().expect(3).says(&["damaged"]);
    std::fs::write(blob, document).expect("it can be written");
    verify().expect(0);
}

/// Backups are whole or not there, whoever dies while they are taken.
fn whoever_is_killed_at_one_leaves_none(machine: &Machine) {
    const KILLS: usize = 6;
    for nth in 0..KILLS {
        let gateway = machine.pid("gateway");
        let mut taking = machine.start(&["backup", "now"], false);
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..400)));
        if nth % 2 == 0 {
            machine.kill("gateway");
            let _ = taking.wait();
            machine.wait_for_successor("gateway", gateway);
        } else {
            let _ = taking.kill();
            let _ = taking.wait();
        }
        wait_until("the history is open", || {
            machine.evalfleet(&["query", "--json", "[:find (count ?e) :where [?e :evaluation/id]]"]).code == 0
        });
        // Names are seconds.
        std::thread::sleep(Duration::from_millis(1100));
    }
    let name = take(machine);
    let shown = |name: &str| machine.evalfleet(&["backup", "verify", name]);
    for backup in machine.evalfleet(&["backup", "list", "--json"]).expect(0).out.lines() {
        let backup: Value = serde_json::from_str(backup).expect("a document");
        shown(backup["name"].as_str().expect("a name")).expect(0);
    }
    let left = std::fs::read_dir(shelf(machine)).expect("a folder");
    let names: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(names.iter().any(|it| *it == *name), "{names:?}");
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".partial")), "{names:?}");
}

/// Every minute, on a machine of its own that has a history and nothing else.
fn they_are_taken_when_the_users_file_says() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let edn = dir.path().join("datomic.edn");
    let text =
        "{:datomic-uri \"datomic:local://gemini-eval\" :backup-schedule \"* * * * *\" :retention-days 365}";
    std::fs::write(&edn, text).expect("it can be written");
    let machine = Machine::new()
        .with("EVALFLEET_DATOMIC__CONFIG", &edn.display().to_string())
        .with("EVALFLEET_DATOMIC__BACKUPS_MAX", "1");
    machine.evalfleet(&["up", "--detach", "--only", "gateway,keeper"]).expect(0);
    let backups = || -> Vec<Value> {
        let answer = machine.evalfleet(&["backup", "list", "--json"]).expect(0);
        answer.out.lines().map(|line| serde_json::from_str(line).expect("a document")).collect()
    };
    wait_until("a backup is taken and checked", || {
        backups().iter().any(|backup| backup["checked"].is_object())
    });
    let first = backups()[0]["name"].clone();
    wait_until("the next takes its place", || {
        let all = backups();
        all.iter().all(|backup| backup["name"] != first) && !all.is_empty()
    });
}
