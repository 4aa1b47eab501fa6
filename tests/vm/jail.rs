//! What a QEMU may reach of its host, seen from the host.

use super::Test;
use crate::yard::Yard;
use evalfleet_tests::machine::patience;
use evalfleet_worker::vm::{Active, Jail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("jail::qemu_has_no_right_left", qemu_has_no_right_left),
    ("jail::qemu_is_in_namespaces_of_its_own", qemu_is_in_namespaces_of_its_own),
    ("jail::qemu_sees_next_to_nothing_of_the_host", qemu_sees_next_to_nothing_of_the_host),
    ("jail::a_vm_has_a_cgroup_as_long_as_it_lives", a_vm_has_a_cgroup_as_long_as_it_lives),
    ("jail::a_qemu_that_is_killed_is_known_to_have_been", a_qemu_that_is_killed_is_known_to_have_been),
    ("jail::qemu_dies_with_its_warden", qemu_dies_with_its_warden),
];

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("QEMU lives");
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

/// Whether this host lets us build `right` at all; what is missing, the doctor names.
fn has(yard: &Yard, right: &str) -> bool {
    yard.template().machine().jail.rights().iter().any(|one| one.name == right && one.ok)
}

fn pid(active: &Active) -> u32 {
    active.pid()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[track_caller]
fn soon(what: &str, mut true_now: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !true_now() {
        assert!(begun.elapsed() < Duration::from_secs(5) * patience(), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn qemu_has_no_right_left(yard: &Yard) {
    let active = yard.claim();
    let (qemu, ours) = (status(pid(&active)), status(std::process::id()));
    assert!(qemu["Name"].starts_with("qemu"), "it is QEMU's own number: {qemu:?}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(qemu[set], "0000000000000000", "{set}");
    }
    assert_eq!((&*qemu["NoNewPrivs"], &*qemu["Seccomp"]), ("1", "2"));
    if has(yard, "account") && has(yard, "namespaces") {
        assert_eq!(qemu["CapBnd"], "0000000000000000");
        let user =
            |status: &BTreeMap<String, String>| status["Uid"].split('\t').next().map(ToOwned::to_owned);
        assert_ne!(user(&qemu).as_deref(), Some("0"), "nobody's QEMU is root");
        if user(&ours).as_deref() == Some("0") {
            let other = yard.claim();
            assert_ne!(user(&qemu), user(&status(pid(&other))), "two VMs share an account");
            yard.end(other);
        }
    }
    yard.end(active);
}

fn qemu_is_in_namespaces_of_its_own(yard: &Yard) {
    if !has(yard, "namespaces") {
        return;
    }
    let active = yard.claim();
    let space = |pid: u32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
    for name in ["mnt", "net", "pid", "ipc", "uts"] {
        assert_ne!(space(pid(&active), name), space(std::process::id(), name), "{name}");
    }
    let devices = fs::read_to_string(format!("/proc/{}/net/dev", pid(&active))).expect("its network");
    let names: Vec<&str> = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert_eq!(names, ["lo"], "no device but loopback, which is down");
    let inner = status(pid(&active))["NSpid"].split('\t').next_back().map(ToOwned::to_owned);
    assert_eq!(inner.as_deref(), Some("1"), "it sees no process but itself");
    yard.end(active);
}

fn qemu_sees_next_to_nothing_of_the_host(yard: &Yard) {
    if !has(yard, "namespaces") {
        return;
    }
    let active = yard.claim();
    let root = PathBuf::from(format!("/proc/{}/root", pid(&active)));
    for path in ["/proc/1", "/sys/kernel", "/root", "/home", "/etc/passwd", "/etc/shadow", "/tmp", "/run"] {
        assert!(!root.join(&path[1..]).exists(), "{path}");
    }
    let other = yard.claim();
    let seen = |folder: &Path| root.join(folder.strip_prefix("/").expect("absolute")).exists();
    let folder = |active: &Active| fs::read_link(format!("/proc/{}/cwd", pid(active))).expect("its folder");
    assert!(seen(&folder(&active)) && !seen(&folder(&other)), "its own folder and no other VM's");
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", pid(&active))).expect("its mounts");
    let mine = folder(&active);
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(options)) = (fields.next(), fields.nth(1)) else { panic!("{line}") };
        let writable = !options.split(',').any(|option| option == "ro");
        let may = Path::new(point) == mine || point.starts_with("/dev/");
        assert!(may || !writable, "{line}");
    }
    yard.end(other);
    yard.end(active);
}

fn a_vm_has_a_cgroup_as_long_as_it_lives(yard: &Yard) {
    let Some(right) = yard.template().machine().jail.rights().iter().find(|right| right.name == "cgroup")
    else {
        panic!("nobody looked for cgroups")
    };
    if right.found.starts_with("none") {
        assert!(right.fix.is_some(), "{right}");
        return;
    }
    let active = yard.claim();
    let dirs = active.cgroups().to_vec();
    assert!(!dirs.is_empty());
    for dir in &dirs {
        let inside = fs::read_to_string(dir.join("cgroup.procs")).expect("a cgroup");
        assert_eq!(inside.trim(), pid(&active).to_string(), "{}", dir.display());
    }
    let limit = |names: [&str; 2]| {
        let read = |name| dirs.iter().find_map(|dir| fs::read_to_string(dir.join(name)).ok());
        names
            .into_iter()
            .find_map(read)
            .and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok())
    };
    if let Some(memory) = limit(["memory.max", "memory.limit_in_bytes"]) {
        let guest = yard.settings().qemu.memory.bytes();
        assert!(memory > guest && memory < guest + (4 << 30), "{memory}");
    }
    yard.end(active);
    assert!(dirs.iter().all(|dir| !dir.exists()), "{dirs:?}");
}

fn a_qemu_that_is_killed_is_known_to_have_been(yard: &Yard) {
    let mut active = yard.claim();
    let qemu = pid(&active);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        kill(qemu);
    });
    let error = yard.try_sh(&mut active, "sleep 30").expect_err("a fault of ours, and no verdict");
    assert!(error.to_string().contains("killed by somebody on the host"), "{error}");
    killer.join().expect("it kills");
    assert!(!is_there(qemu), "dead and buried");
}

fn qemu_dies_with_its_warden(yard: &Yard) {
    let active = yard.claim();
    let qemu = pid(&active);
    let warden: u32 = status(qemu)["PPid"].parse().expect("a number");
    assert!(status(warden)["Name"].starts_with("evalfleet-jail"));
    kill(warden);
    soon("QEMU outlives its warden", || !is_there(qemu));
    drop(active);
    // A jail that needs nothing of the host says so, and one that cannot be found starts nothing.
    assert!(Jail::default().rights().is_empty());
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
}
