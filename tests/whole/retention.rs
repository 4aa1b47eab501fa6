//! Retention: the oldest goes, facts and contents, and nothing else; whatever is written meanwhile, and whoever dies.

use evalfleet_proto::ids::Sha256;
use evalfleet_tests::machine::{Machine, repository, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub(crate) const ALONE: &[(&str, fn())] =
    &[("retention::the_oldest_goes_and_nothing_else", the_oldest_goes_and_nothing_else)];

/// Days ago on which no test data are dated, and before which all of them are.
const DAYS: &str = "30";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn ids(machine: &Machine, more: &[&str]) -> BTreeSet<String> {
    let query = "[:find [?id ...] :where [_ :evaluation/id ?id]]";
    let answer = machine.evalfleet(&[&["query", "--json", query], more].concat()).expect(0).json();
    let rows = answer["rows"].as_array().expect("rows");
    rows.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What the pages' projection lists.
fn listed(machine: &Machine) -> BTreeSet<String> {
    let answer = machine.evalfleet(&["list", "--json", "--limit", "100"]).expect(0);
    let document = |line: &str| serde_json::from_str::<Value>(line).expect("a line is a document");
    answer.out.lines().filter_map(|line| document(line)["id"].as_str().map(str::to_owned)).collect()
}

fn retained(machine: &Machine, more: &[&str]) -> Value {
    machine.evalfleet(&[&["history", "retain", "--days", DAYS, "--json"], more].concat()).expect(0).json()
}

/// Makes every content look as if it had been kept long ago.
fn age(dir: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            count += age(&path);
        } else {
            let file = std::fs::File::options().write(true).open(&path).expect("it can be written");
            file.set_modified(SystemTime::now() - 400 * DAY).expect("it takes a time");
            count += 1;
        }
    }
    count
}

fn the_oldest_goes_and_nothing_else() {
    let machine = Machine::new();
    machine.up(1);
    let batches = repository().join("tests/data/batches").join("results_batch_001_1753935915.json");
    machine.evalfleet(&["history", "import", &batches.display().to_string()]).expect(0);
    let old = ids(&machine, &[]);
    // What only its job points to, since it does not fit into a message.
    let (dir, input) = (tempfile::tempdir().expect("a folder"), "kept with its job\n".repeat(20_000));
    std::fs::write(dir.path().join("input"), &input).expect("written");
    let file = format!("{}:/workspace/input", dir.path().join("input").display());
    let run = ["run", "--json", "--file", &file, "--", "sh", "-c", "seq 100000"];
    let run = machine.evalfleet(&run).expect(0).json();
    let id = run["id"].as_str().expect("an id").to_owned();
    let recorded = machine.recorded(&id);
    let (orphan, key) = (machine.state().join("blobs"), Sha256::of(b"nobody's").to_string());
    let orphan = orphan.join(&key[..2]).join(&key[2..4]);
    std::fs::create_dir_all(&orphan).expect("it can be written");
    let orphan = orphan.join(key);
    std::fs::write(&orphan, "nobody's").expect("it can be written");
    let (all, blobs) = (ids(&machine, &[]), age(&machine.state().join("blobs")));
    assert!(old.len() > 1 && all.len() == old.len() + 1, "{all:?}");
    wait_until("the pages list them", || listed(&machine).contains(&id));
    assert!(listed(&machine).len() > 1);

    let counted = retained(&machine, &["--dry-run"]);
    assert_eq!(counted["evaluations"].as_u64(), Some(old.len() as u64), "{counted}");
    assert_eq!(
        (ids(&machine, &[]), &counted["blobs"]),
        (all.clone(), &Value::Null),
        "counting changes nothing"
    );
    machine.evalfleet(&["history", "retain"]).expect(64).says(&["--days"]);
    machine.evalfleet(&["history", "retain", "--before", "2999-01-01T00:00:00Z"]).expect(64).says(&["past"]);

    // Killed at work, the gateway has the history as it was, and no copy of half of it.
    let gateway = machine.pid("gateway");
    let mut asking = machine.start(&["history", "retain", "--days", DAYS], false);
    std::thread::sleep(Duration::from_millis(fastrand::u64(50..500)));
    machine.kill("gateway");
    let _ = asking.wait();
    machine.wait_for_successor("gateway", gateway);
    wait_until("the history is open", || {
        machine.evalfleet(&["query", "--json", "[:find ?e :where [?e :evaluation/id]]"]).code == 0
    });
    let now = ids(&machine, &[]);
    assert!(now == all || now == BTreeSet::from([id.clone()]), "all of it or what stays: {now:?}");

    // What is evaluated meanwhile is there afterwards.
    let meanwhile = machine.start(&["run", "--json", "--", "echo", "meanwhile"], false);
    let gone = retained(&machine, &[]);
    let meanwhile: Value =
        serde_json::from_slice(&meanwhile.wait_with_output().expect("it ends").stdout).expect("a document");
    machine.recorded(meanwhile["id"].as_str().expect("an id"));
    let stay = BTreeSet::from([id.clone(), meanwhile["id"].as_str().expect("an id").to_owned()]);
    assert_eq!(ids(&machine, &[]), stay);
    assert_eq!(ids(&machine, &["--as-of", "2025-08-30T00:00:00Z"]), BTreeSet::new(), "as of any moment");
    wait_until("the pages list the same", || listed(&machine) == stay);
    let went = old.first().expect("there was one");
    machine.evalfleet(&["get", went]).expect(64);
    // What nothing points to went, those of what stays did not.
    assert!(!orphan.exists(), "{gone}");
    assert!(age(&machine.state().join("blobs")) >= blobs - 1, "{gone}");
    assert_eq!(machine.recorded(&id), recorded);
    assert_eq!(
        machine.evalfleet(&["logs", &id]).expect(0).out.lines().count(),
        100_000,
        "its output is whole"
    );
    let job = recorded["provenance"]["job"].as_str().expect("its job is kept").to_owned();
    for key in [job, Sha256::of(input.as_bytes()).to_string()] {
        let kept = machine.state().join("blobs").join(&key[..2]).join(&key[2..4]).join(&key);
        assert!(kept.exists(), "{key} is gone");
    }
    let again = machine.evalfleet(&["replay", &id, "--json"]).expect(0).json();
    assert_eq!(again["same"], 1, "{again}");
    // A backup of it is whole as well.
    machine.evalfleet(&["backup", "now"]).expect(0);
    let notes = "[:find [?before ...] :where [_ :retention/before ?before]]";
    assert_eq!(machine.count(notes), 1, "it is noted once");
    machine.evalfleet(&["down"]).expect(0);
}
