//! What holds of the repository itself: who names which library, what the schemas say, the compose file.

use evalfleet_tests::machine::repository;
use std::path::{Path, PathBuf};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("repository::each_library_is_named_in_one_place", each_library_is_named_in_one_place),
    ("repository::the_schemas_are_those_of_the_types", the_schemas_are_those_of_the_types),
    ("repository::the_compose_file_is_one", the_compose_file_is_one),
    ("repository::the_readme_shows_what_was_measured", the_readme_shows_what_was_measured),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

fn each_library_is_named_in_one_place() {
    let root = repository();
    let mut files = Vec::new();
    sources(&root, &mut files);
    for (used, places) in [
        // The benchmark is to compare with it.
        ("lapin::", ["broker/src/", "bench/src/submit.rs"].as_slice()),
        ("use qapi::", &["worker/src/vm/qapi/"]),
        ("use openssh::", &["worker/src/vm/foreign/ssh.rs"]),
        ("backoff::", &["service/src/retry.rs"]),
        ("rmp_serde::", &["proto/src/wire.rs"]),
        ("/transact\"", &["datomic/client/"]),
    ] {
        let users: Vec<String> = files
            .iter()
            .filter(|path| !path.ends_with("whole/repository.rs"))
            .filter(|path| std::fs::read_to_string(path).unwrap_or_default().contains(used))
            .map(|path| path.strip_prefix(&root).unwrap_or(path).display().to_string())
            .collect();
        assert!(!users.is_empty(), "nobody names {used}: this test looks for the wrong thing");
        assert!(
            users.iter().all(|user| places.iter().any(|place| user.starts_with(place))),
            "{used} belongs to {places:?}, and is named in {users:?}"
        );
    }
}

/// `EVALFLEET_BLESS=1` writes them anew.
fn the_schemas_are_those_of_the_types() {
    let dir = repository().join("proto/schemas");
    for (name, schema) in evalfleet_proto::schema::all() {
        let path = dir.join(name);
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        if std::env::var_os("EVALFLEET_BLESS").is_some() {
            std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, &text)).expect("written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "{name} is not what the types say: run EVALFLEET_BLESS=1 cargo test --workspace --test whole -- schemas"
        );
    }
}

/// Against the Compose Specification's own schema (tests/data, Apache-2.0, from docker-compose 1.29).
fn the_compose_file_is_one() {
    let root = repository();
    let text = std::fs::read_to_string(root.join("docker-compose.yml")).expect("it is there");
    let mut compose: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("it is YAML");
    compose.apply_merge().expect("its merges are maps");
    let mut compose = serde_json::to_value(compose).expect("it has a JSON form");
    if let Some(top) = compose.as_object_mut() {
        top.retain(|key, _| !key.starts_with("x-"));
    }
    let schema = std::fs::read(root.join("tests/data/compose-spec.schema.json")).expect("it is there");
    let schema: serde_json::Value = serde_json::from_slice(&schema).expect("it is JSON");
    let validator = jsonschema::validator_for(&schema).expect("it is a schema");
    let errors: Vec<String> =
        validator.iter_errors(&compose).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let services = compose["services"].as_object().expect("services");
    for part in ["broker", "gateway", "recorder", "api", "worker"] {
        assert!(services.contains_key(part), "no service {part}");
    }
    assert_eq!(services["worker"]["devices"][0], "/dev/kvm:/dev/kvm");
    assert!(services["worker"].get("container_name").is_none(), "a named container cannot be scaled");
    for file in services.values().filter_map(|service| service["build"]["dockerfile"].as_str()) {
        assert!(root.join(file.trim_start_matches("../")).is_file(), "{file}");
    }
}

/// The tables in the README are those that programs wrote.
fn the_readme_shows_what_was_measured() {
    let root = repository();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("it is there");
    let printed = std::process::Command::new(root.join("bench/figures.sh")).output().expect("it runs");
    assert!(printed.status.success(), "{printed:?}");
    let (readme, figures) = (read("README.md"), String::from_utf8(printed.stdout).expect("it is UTF-8"));
    for table in [figures, read("bench/results/reset.txt"), read("producer/dialogue.txt")] {
        assert!(readme.contains(table.trim()), "the README is old: make figures\n{table}");
    }
}
