//! Images that others built: a disk with a boot loader, systemd and sshd, or the QEMU guest agent. They
//! are built here out of Debian's packages, once, and kept under `target/`.

use evalfleet_proto::effect::Change;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::job::Job;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::{self, Machine};
use evalfleet_worker::job::{Fate, Run, Runner};
use evalfleet_worker::supply::Supply;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Building the disks downloads and takes minutes, and so does booting them.
pub(crate) const LONG: &[(&str, fn())] = &[
    ("foreign_users_own_tables_run_a_job_over_ssh_and_two_workers_share_a_port_line", own_tables),
    ("foreign_guest_agent_runs_jobs_where_there_is_no_sshd", guest_agent),
];

/// Builds a disk of `kind`, unless it is there.
fn disk(kind: &str) -> PathBuf {
    let dir = machine::repository().join("target/foreign");
    std::fs::create_dir_all(&dir).expect("a folder");
    let file = dir.join(format!("{kind}.qcow2"));
    if !file.exists() {
        let script = machine::repository().join("tests/vm/foreign/cloud-image.sh");
        let built = Command::new(script).arg(kind).arg(&file).status().expect("the builder starts");
        assert!(built.success(), "{built}");
    }
    file
}

/// A machine with images of its own, since one of them is called `base`, and patience for a whole boot.
fn machine() -> Machine {
    let images = machine::repository().join("target/foreign/images");
    Machine::new()
        .with("EVALFLEET_IMAGES__DIR", &images.display().to_string())
        .with("EVALFLEET_QEMU__BOOT_TIMEOUT", "400s")
        .with("EVALFLEET_QEMU__RESET_TIMEOUT", "90s")
}

/// A worker without a broker.
struct Hand {
    runtime: Runtime,
    runner: Runner,
}

impl Hand {
    fn new(settings: Settings, name: &str) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let blobs = runtime.block_on(Blobs::open(&settings)).expect("a place for blobs");
        let name: evalfleet_proto::ids::WorkerId = name.parse().expect("a name");
        let within = runtime.enter();
        let supply = Supply::new(&settings, &name).expect("a folder");
        drop(within);
        Self { runtime, runner: Runner::new(Arc::new(settings), name, supply, blobs) }
    }

    /// Runs `argv` in the image `image`.
    ///
    /// Tells where the time went: these trials are slow under emulation.
    #[track_caller]
    fn run(&mut self, image: &str, argv: &[&str], more: Value) -> Evaluation {
        let mut submission = json!({"kind": "command", "argv": argv, "image": image});
        let map = submission.as_object_mut().expect("an object");
        map.extend(more.as_object().expect("an object").clone());
        let job = job(&submission);
        let cancel = CancellationToken::new();
        let mut ignore = |_| {};
        let fate = self.runtime.block_on(self.runner.run(&job, job.submitted, &cancel, &mut ignore));
        match fate {
            Fate::Done(evaluation) => {
                eprintln!("{argv:?}: {:?}", evaluation.timings);
                *evaluation
            }
            Fate::Fault(why) => panic!("{why}"),
            Fate::Unable(why) => panic!("{why}"),
        }
    }

    fn end(mut self) {
        self.runtime.block_on(self.runner.put_away());
    }
}

fn job(document: &Value) -> Job {
    let defaults =
        Defaults { image: "base".parse().expect("a name"), now: evalfleet_proto::Timestamp::now() };
    let submission = Submission::from_json(&document.to_string()).expect("a submission");
    submission.into_job(&defaults).expect("a job")
}

/// What is there and was not, or is not and was, but for what the system itself writes.
fn effects(evaluation: &Evaluation) -> Vec<(&str, Change)> {
    let own = evaluation.effects.iter().filter(|effect| !effect.expected);
    own.map(|effect| (effect.path.as_str(), effect.change)).collect()
}

fn settings(machine: &Machine, toml: &str) -> Settings {
    let layers = Layers {
        file: Some(toml.to_owned()),
        environment: machine.environment().to_vec(),
        ..Layers::default()
    };
    Settings::from_layers(&layers).expect("the settings of a test are sound")
}

/// The user's tables as they are written, but for sizes that the machine under test has.
fn own_tables() {
    let file = disk("ssh");
    let machine = machine();
    let toml = format!(
        "[worker]\nnetwork_allow = [\"192.0.2.9:80\"]\n[qemu]\nmemory = \"512M\"\ncpus = 2\ndisk_size = \"20G\"\nnetwork = \"user,hostfwd=tcp::2222-:22\"\n\
         snapshot_dir = \"{}\"\n[qemu.images]\nbase = \"{}\"\n",
        machine::repository().join("target/foreign/templates").display(),
        file.display()
    );
    let settings = settings(&machine, &toml);
    let mut first = Hand::new(settings.clone(), "first");
    let script = "cat; echo err >&2; echo $A $(id -un) $PWD; mkdir /srv/d; echo new > /srv/d/f; echo more >> /etc/hostname; \
                  rm /etc/issue; ln -s /srv/d /srv/l; chmod 600 /etc/debian_version; rm -r /etc/skel; mkdir /etc/skel; : >> /etc/fstab";
    let ran = first.run(
        "base",
        &["sh", "-c", script],
        json!({"stdin": "in\n", "env": {"A": "b c"}, "out": ["/srv/d/f", "/etc/none"]}),
    );
    assert_eq!((ran.status, ran.exit_code), (Status::Passed, Some(0)), "{ran:?}");
    assert_eq!(ran.stdout.text, "in\nb c root /workspace\n");
    assert_eq!(ran.stderr.text, "err\n");
    let found = effects(&ran);
    for expected in [
        ("/etc/hostname", Change::Changed),
        ("/etc/issue", Change::Deleted),
        ("/etc/skel", Change::Replaced),
        ("/etc/debian_version", Change::Changed),
        ("/srv/d", Change::Created),
        ("/srv/d/f", Change::Created),
        ("/srv/l", Change::Created),
    ] {
        assert!(found.contains(&expected), "no {expected:?} in {found:?}");
    }
    assert!(!found.iter().any(|(path, _)| *path == "/etc/fstab"), "an opened file is no effect: {found:?}");
    let hash = evalfleet_proto::ids::Sha256::of(b"new\n");
    assert_eq!(
        ran.effects.iter().find(|effect| effect.path == "/srv/d/f").and_then(|effect| effect.sha256),
        Some(hash)
    );
    assert_eq!(ran.artifacts[0].sha256, Some(hash));
    assert!(ran.artifacts[1].error.is_some());
    let reset = ran.provenance.reset.as_ref().expect("a proof");
    assert!(reset.strategy == "template-clone" && reset.pages_checked >= 64);

    // Another worker of this host, while the first one's spare has the user's port: both work, and the
    // second VM is clean of what the first one's job did, and is another.
    let mut second = Hand::new(settings, "second");
    let look = "test ! -e /srv/d && test -e /etc/issue && head -c 16 /dev/urandom | od -An -tx1; date +%s; uname -n; cat /etc/machine-id; ls -l /proc/self/fd >&2; \
                timeout 2 bash -c 'echo > /dev/tcp/10.0.2.2/22' 2>/dev/null && echo reached; exit 7";
    let clean = second.run("base", &["sh", "-c", look], json!({"user": "nobody", "cwd": "/"}));
    assert_eq!(
        (clean.status, clean.cause, clean.exit_code),
        (Status::Failed, Some(Cause::Subject), Some(7)),
        "{clean:?}"
    );
    let lines: Vec<&str> = clean.stdout.text.lines().collect();
    assert_eq!(lines.len(), 4, "the first job's files are gone, and the host is not reached: {lines:?}");
    let clock: i64 = lines[1].parse().expect("a time");
    assert!((clock - evalfleet_proto::Timestamp::now().as_second()).abs() < 120);
    let other = first.run("base", &["sh", "-c", look], json!({"user": "nobody", "cwd": "/"}));
    let others: Vec<&str> = other.stdout.text.lines().collect();
    for (what, at) in [("draw the same numbers", 0), ("have one name", 2), ("have one machine-id", 3)] {
        assert_ne!(others[at], lines[at], "two clones {what}");
    }
    assert_eq!(lines[3].len(), 32, "a machine-id: {lines:?}");
    assert_ne!(
        other.provenance.reset.map(|reset| reset.nonce),
        clean.provenance.reset.map(|reset| reset.nonce)
    );

    let asks = json!({"network": {"allow": ["192.0.2.9:80"]}});
    let refused = second.run("base", &["true"], asks);
    assert_eq!((refused.status, refused.cause), (Status::Failed, Some(Cause::Harness)), "{refused:?}");
    assert!(refused.evidence[0].message.contains("no network"), "{refused:?}");
    let late = first.run("base", &["sh", "-c", "sleep 600 & sleep 600"], json!({"limits": {"wall": "3s"}}));
    assert_eq!((late.status, late.cause), (Status::TimedOut, Some(Cause::Budget)), "{late:?}");
    let missing = second.run("base", &["no-such-program"], json!({}));
    assert_eq!((missing.status, missing.exit_code), (Status::Failed, Some(127)), "{missing:?}");
    first.end();
    second.end();
}

fn guest_agent() {
    let file = disk("qga");
    let machine = machine();
    let imported =
        machine.evalfleet(&["image", "import", &file.display().to_string(), "--name", "agent", "--json"]);
    let document = imported.expect(0).json();
    assert_eq!(document["foreign"]["channel"], "qga", "{document}");
    let mut hand = Hand::new(settings(&machine, ""), "hand");
    let script = "cat; echo err >&2; echo $A; echo x > /srv/x; exit 3";
    let ran = hand.run("agent", &["sh", "-c", script], json!({"stdin": "in\n", "env": {"A": "b"}}));
    assert_eq!((ran.status, ran.exit_code), (Status::Failed, Some(3)), "{ran:?}");
    assert_eq!((ran.stdout.text.as_str(), ran.stderr.text.as_str()), ("in\nb\n", "err\n"));
    assert!(effects(&ran).contains(&("/srv/x", Change::Created)), "{:?}", ran.effects);
    let late = hand.run("agent", &["sh", "-c", "echo early; sleep 600"], json!({"limits": {"wall": "4s"}}));
    assert_eq!((late.status, late.stdout.text.as_str()), (Status::TimedOut, "early\n"), "{late:?}");
    hand.end();
    let shown = machine.evalfleet(&["image", "list"]).expect(0);
    assert!(shown.out.contains("imported from qga.qcow2"), "{shown:?}");
}
