//! `up`, `down` and `status` as a person uses them, with a supervisor that is killed in between.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use evalfleet::machine::Machine;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Command, Output};

fn evalfleet(state_dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evalfleet"));
    command.env("EVALFLEET_STATE__DIR", state_dir).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Ends what a failed test left.
struct Cleanup<'a>(&'a Path);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        evalfleet(self.0, &["down"]);
    }
}

#[test]
fn a_killed_supervisor_leaves_nothing_that_down_does_not_find() {
    if evalfleet::machine::node::server().is_none() {
        eprintln!("skipped: RabbitMQ is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path();
    let _cleanup = Cleanup(state_dir);
    assert_eq!(evalfleet(state_dir, &["status"]).status.code(), Some(69));

    let up = evalfleet(state_dir, &["up", "--detach", "--only", "broker"]);
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let machine = Machine::read(state_dir).unwrap();
    let again = evalfleet(state_dir, &["up"]);
    assert!(again.status.success());
    let expected = format!("already running: supervisor {}", machine.supervisor.pid);
    assert!(stdout(&again).contains(&expected), "{}", stdout(&again));

    let status = evalfleet(state_dir, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["parts"][0]["kind"], "supervisor");
    assert_eq!(status["queues"]["eval.dead"]["messages"], 0);

    kill_process(Pid::from_raw(machine.supervisor.pid).unwrap(), Signal::KILL).unwrap();
    let down = evalfleet(state_dir, &["down"]);
    assert!(stdout(&down).contains("2 processes of a dead supervisor were stopped"), "{}", stdout(&down));
    for part in &machine.parts {
        assert!(!part.process().unwrap().group_is_alive(), "{} is left", part.name);
    }
    assert!(stdout(&evalfleet(state_dir, &["down"])).contains("not running"));
}

#[test]
fn a_part_that_is_missing_is_named_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let output = evalfleet(dir.path(), &["up", "--detach", "--only", "gateway"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Where the gateway is at hand this test has nothing to miss.
    if evalfleet::machine::gateway::script().is_none() {
        assert_eq!(output.status.code(), Some(69));
        assert!(said.contains("gateway"), "{said}");
    }
    evalfleet(dir.path(), &["down"]);
    assert!(Machine::read(dir.path()).is_none());
}
