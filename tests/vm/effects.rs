//! What a job left, as the host reads it from the VM's disk.

use super::Test;
use super::yard::Yard;
use evalfleet_proto::effect::{Change, Effect, ObjectType};
use evalfleet_proto::ids::Sha256;
use evalfleet_worker::vm::Ending;
use evalfleet_worker::vm::effects::{Expected, compare, read_upper};
use std::collections::BTreeMap;

pub(crate) const ALL: &[(&str, Test)] = &[
    ("effects::each_kind_of_change_is_told_as_what_it_is", each_kind_of_change_is_told_as_what_it_is),
    ("effects::what_was_left_as_it_was_is_no_effect", what_was_left_as_it_was_is_no_effect),
    ("effects::moves_are_told_where_they_can_be", moves_are_told_where_they_can_be),
    ("effects::names_and_bounds", names_and_bounds),
    ("effects::a_hostile_disk_is_warned_of", a_hostile_disk_is_warned_of),
    ("effects::processes_left_behind_are_found_wherever_they_are", processes_are_found),
];

/// Runs a script in a VM of its own, and lists its effects.
#[track_caller]
fn effects_within(yard: &Yard, script: &str, globs: &[&str], effects_max: usize) -> (Vec<Effect>, u64) {
    let mut active = yard.claim();
    yard.sh(&mut active, script).expect(0);
    let spent = yard.stop(active);
    assert!(spent.synced, "it was flushed");
    let layer = read_upper(spent.scratch()).expect("a disk that can be read");
    assert!(layer.damaged.is_empty(), "{:?}", layer.damaged);
    let expected = Expected::new(globs).expect("globs");
    let all = compare(yard.template().before(), &layer, &expected, effects_max);
    yard.wait(spent.destroy()).expect("QEMU dies");
    all
}

#[track_caller]
fn effects(yard: &Yard, script: &str) -> BTreeMap<String, Effect> {
    let (list, omitted) = effects_within(yard, script, &["/workspace/*", "/etc/**"], 10_000);
    assert_eq!(omitted, 0);
    list.into_iter().map(|effect| (effect.path.clone(), effect)).collect()
}

fn told(effects: &BTreeMap<String, Effect>) -> Vec<(&str, Change)> {
    effects.values().map(|effect| (effect.path.as_str(), effect.change)).collect()
}

fn each_kind_of_change_is_told_as_what_it_is(yard: &Yard) {
    let script = r#"set -e; cd /workspace
        mkdir -p d/e; printf hello > d/e/file; chmod 750 d/e; chown 7:8 d/e/file; chmod 4640 d/e/file
        ln -s /etc/passwd link; mkfifo pipe; mknod char c 1 3; mknod block b 7 70
        python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('socket')"
        ln d/e/file second; truncate -s 300M holes
        echo more >> /etc/hosts; chmod 600 /etc/hostname; chown 9 /etc/issue
        python3 -c "import os; os.setxattr('/etc/passwd', 'user.note', b'1')"
        rm /etc/issue.net; rm -r /etc/apt; rm -r /opt; echo file > /opt
        rm -r /etc/cron.d /etc/cron.daily 2>/dev/null || true
        rm -rf /etc/skel; mkdir /etc/skel; rm /etc/shadow; mkdir /etc/shadow; chmod 711 /"#;
    let effects = effects(yard, script);
    let expected = [
        ("/", Change::Changed),
        ("/etc/apt", Change::Deleted),
        ("/etc/hostname", Change::Changed),
        ("/etc/hosts", Change::Changed),
        ("/etc/issue", Change::Changed),
        ("/etc/issue.net", Change::Deleted),
        ("/etc/passwd", Change::Changed),
        ("/etc/shadow", Change::Replaced),
        ("/etc/skel", Change::Replaced),
        ("/opt", Change::Replaced),
        ("/workspace/block", Change::Created),
        ("/workspace/char", Change::Created),
        ("/workspace/d", Change::Created),
        ("/workspace/d/e", Change::Created),
        ("/workspace/d/e/file", Change::Created),
        ("/workspace/holes", Change::Created),
        ("/workspace/link", Change::Created),
        ("/workspace/pipe", Change::Created),
        ("/workspace/second", Change::Created),
        ("/workspace/socket", Change::Created),
    ];
    let mut seen = told(&effects);
    // What is emptied depends on the image: all of it is deleted, and nothing else.
    seen.retain(|(path, change)| {
        let below = path.starts_with("/etc/skel/") || path.starts_with("/etc/cron.");
        assert!(!below || *change == Change::Deleted, "{path}: {change:?}");
        !below
    });
    assert_eq!(seen, expected);
    let file = &effects["/workspace/d/e/file"];
    assert_eq!((file.size, file.uid, file.gid, file.mode.as_str()), (5, 7, 8, "4640"));
    assert_eq!(file.sha256, Some(Sha256::of(b"hello")));
    assert_eq!(effects["/workspace/second"].sha256, file.sha256);
    assert!(!file.expected && effects["/workspace/d"].expected && effects["/etc/apt"].expected);
    let holes = &effects["/workspace/holes"];
    assert_eq!((holes.size, holes.sha256), (300 << 20, None));
    assert_eq!(effects["/workspace/link"].target.as_deref(), Some("/etc/passwd"));
    let types = [
        ("d", ObjectType::Directory),
        ("link", ObjectType::Symlink),
        ("pipe", ObjectType::Fifo),
        ("socket", ObjectType::Socket),
        ("char", ObjectType::CharDevice),
        ("block", ObjectType::BlockDevice),
    ];
    for (name, object) in types {
        assert_eq!(effects[&format!("/workspace/{name}")].object, object, "{name}");
    }
    assert_eq!(
        (effects["/opt"].object, effects["/etc/shadow"].object),
        (ObjectType::File, ObjectType::Directory)
    );
    assert_eq!((effects["/"].mode.as_str(), effects["/workspace/d/e"].mode.as_str()), ("0711", "0750"));
}

fn what_was_left_as_it_was_is_no_effect(yard: &Yard) {
    let script = r#"set -e
        for file in /etc/passwd /etc/hosts /usr/bin/env; do : >> $file; touch $file; done
        cp -p /etc/group /tmp/g; cat /tmp/g > /etc/group; rm /tmp/g
        chmod 600 /etc/issue; chmod 644 /etc/issue; chown 5 /etc/issue; chown 0 /etc/issue
        mv /etc/hostname /etc/h; mv /etc/h /etc/hostname; ln /etc/shells /etc/s; rm /etc/s
        mkdir /tmp/d; echo x > /tmp/d/x; rm -r /tmp/d; ls -lR /etc > /dev/null; echo x > /dev/shm/x"#;
    let effects = effects(yard, script);
    assert!(effects.is_empty(), "{effects:?}");
    assert!(self::effects(yard, "true").is_empty());
}

fn moves_are_told_where_they_can_be(yard: &Yard) {
    let script = r#"set -e
        mv /etc/passwd /workspace/users; mv /etc/issue.net /etc/issue; chmod 600 /etc/issue
        cp /etc/hosts /workspace/hosts; rm /etc/hosts
        mv /etc/apt /workspace/apt; mv /etc/shells /workspace/s; echo more >> /workspace/s
        echo new > /workspace/new; mv /workspace/new /workspace/newer"#;
    let effects = effects(yard, script);
    let from = |path: &str| effects[path].renamed_from.as_deref();
    assert_eq!(from("/workspace/users"), Some("/etc/passwd"));
    assert_eq!((from("/etc/issue"), effects["/etc/issue"].change), (Some("/etc/issue.net"), Change::Changed));
    assert_eq!(from("/workspace/apt"), Some("/etc/apt"));
    let inside: Vec<_> =
        effects.values().filter(|effect| effect.path.starts_with("/workspace/apt/")).collect();
    assert!(!inside.is_empty(), "{effects:?}");
    for effect in inside {
        assert_eq!(effect.renamed_from, Some(effect.path.replacen("/workspace", "/etc", 1)));
    }
    // A copy has a time of its own, a file that was changed another content, and a new one no past.
    for path in ["/workspace/hosts", "/workspace/s", "/workspace/newer"] {
        assert_eq!((effects[path].change, from(path)), (Change::Created, None), "{path}");
    }
    for path in ["/etc/passwd", "/etc/issue.net", "/etc/hosts", "/etc/apt", "/etc/shells"] {
        assert_eq!(effects[path].change, Change::Deleted, "{path}");
    }
}

fn names_and_bounds(yard: &Yard) {
    let script = r#"set -e; cd /workspace; mkdir n; cd n
        python3 -c "
import os
for name in [b'\xff', b'\\\\xff', 'grün'.encode(), b'two\nlines', b'-', b'\\\\n']: open(name, 'w').close()
os.mkdir('many'); [open(f'many/{n}', 'w').close() for n in range(500)]
os.mkdir('deep'); os.chdir('deep')
for n in range(200): os.mkdir('d'); os.chdir('d')
""#;
    let (list, omitted) = effects_within(yard, script, &["/workspace/n/*"], 100);
    assert_eq!(list.len(), 100);
    // Everything is counted but what is below a directory that is too deep: of that, the first.
    let (all, left_out) = effects_within(yard, script, &[], 10_000);
    assert_eq!(list.len() as u64 + omitted, all.len() as u64 + left_out);
    assert!(left_out >= 1 && all.len() >= 500 + 6, "{} and {left_out}", all.len());
    let names: Vec<_> = all.iter().filter_map(|effect| effect.path.strip_prefix("/workspace/n/")).collect();
    for name in ["\\xff", "\\x5cxff", "grün", "two\nlines", "-", "\\n"] {
        assert!(names.contains(&name), "{name:?} is not among {names:?}");
    }
}

fn a_hostile_disk_is_warned_of(yard: &Yard) {
    let mut active = yard.claim();
    let script = "echo x > /x; sync; dd if=/dev/zero of=/dev/vdb bs=1k seek=1 count=1 conv=notrunc; sync";
    yard.sh(&mut active, script);
    let spent = yard.stop(active);
    // Either the kernel wrote its own superblock over it, or the disk is none any more: no panic, no loop.
    match read_upper(spent.scratch()) {
        Ok(layer) => assert!(!layer.objects.is_empty()),
        Err(error) => assert!(error.to_string().contains("superblock"), "{error}"),
    }
    yard.wait(spent.destroy()).expect("QEMU dies");
}

fn processes_are_found(yard: &Yard) {
    let cases = [
        // A shell's own background, a daemon that forked twice and left its session and streams.
        ("sleep 1000 & sleep 0.3", "sleep"),
        ("setsid sh -c 'sleep 1001 & exit' < /dev/null > /dev/null 2>&1; sleep 0.3", "sleep"),
        // Root leaves the run's cgroup: down, aside, and back to the agent's.
        (
            "g=$(sed s/0::// /proc/self/cgroup); mkdir /sys/fs/cgroup/$g/in; (echo 0 > /sys/fs/cgroup/$g/in/cgroup.procs; exec sleep 1002) & sleep 0.3",
            "sleep",
        ),
        (
            "mkdir /sys/fs/cgroup/aside; (echo 0 > /sys/fs/cgroup/aside/cgroup.procs; exec sleep 1003) & sleep 0.3",
            "sleep",
        ),
        ("(echo 0 > /sys/fs/cgroup/cgroup.procs; exec sleep 1004) & sleep 0.3", "sleep"),
    ];
    for (script, name) in cases {
        let mut active = yard.claim();
        let ran = yard.sh(&mut active, script);
        let Ending::Exited(exited) = &ran.ending else { panic!("{script}: {:?}", ran.ending) };
        assert_eq!((exited.code, exited.left), (Some(0), 1), "{script}");
        assert_eq!(exited.left_names, [name], "{script}");
        // They are ended: the next program finds none, once whoever ended them has buried them, and leaves none.
        let look = "for try in 1 2 3 4 5 6 7 8 9 10; do left=; for p in /proc/[0-9]*; do n=; read -r n < $p/comm; \
                    [ \"$n\" = sleep ] && left=\"$left $p\"; done; [ -z \"$left\" ] && break; sleep 0.5; done; echo -n $left";
        let after = yard.sh(&mut active, look).expect(0);
        assert_eq!(after.text(), "", "{script}");
        yard.end(active);
    }
}
