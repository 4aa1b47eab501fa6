//! Too much, and no room: who submits waits and hears why, results wait in their queue, and nothing is lost.

use super::Test;
use super::broker::{OnNode, emptied};
use super::dead::job;
use super::faults::on_broker;
use evalfleet::client::Client;
use evalfleet_broker::{Error, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::{JobId, Lane};
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::{topology, wire};
use evalfleet_tests::machine::{Answer, Machine, programs, repository, signal, wait_until};
use evalfleet_tests::part::{Part, Start};
use evalfleet_tests::rabbit::{Broker, in_time};
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::Child;
use std::time::Duration;

/// Those that need a broker alone.
pub(crate) const ON_NODE: &[(&str, OnNode)] = &[
    ("a_blocked_client_is_told_why_and_loses_nothing", a_blocked_client_is_told_why_and_loses_nothing),
    ("a_full_queue_refuses_and_loses_nothing", a_full_queue_refuses_and_loses_nothing),
    ("the_doctor_names_the_nodes_that_do_not_answer", the_doctor_names_the_nodes_that_do_not_answer),
];

pub(crate) const ALL: &[(&str, Test)] =
    &[("pressure::results_wait_for_a_slow_datomic", results_wait_for_a_slow_datomic)];

pub(crate) const ALONE: &[(&str, fn())] = &[
    ("pressure::results_wait_for_room_on_the_disk", results_wait_for_room_on_the_disk),
    (
        "pressure::a_full_disk_stops_the_history_and_breaks_nothing",
        a_full_disk_stops_the_history_and_breaks_nothing,
    ),
];

/// How long one looks whether something waits that has no reason to go on.
const LOOK: Duration = Duration::from_secs(6);

async fn publish_job(session: &Session, id: JobId) -> Result<(), Error> {
    let envelope = Envelope::new(MessageType::Job, id, Timestamp::now());
    session.publish(topology::JOBS, "default", &envelope, b"no job, and nobody reads it").await.map(drop)
}

fn a_blocked_client_is_told_why_and_loses_nothing(broker: &Broker) {
    broker.run(async |session, settings| {
        let queue = topology::jobs_queue(&Lane::default_lane());
        let client = Client::connect(settings).await.expect("it is up");
        let job = client.prepare(Submission::command(["true"])).expect("a job");
        // Whatever the node uses is too much.
        let blocked = broker.while_held(
            &["set_vm_memory_high_watermark", "0.00001"],
            &["set_vm_memory_high_watermark", "0.4"],
        );
        let lost = JobId::fresh();
        let told = publish_job(session, lost).await.expect_err("nothing is confirmed");
        assert!(matches!(told, Error::Unconfirmed { blocked: true, .. }) && told.is_transient(), "{told:?}");
        let text = told.to_string();
        assert!(text.contains("blocked its publishers") && text.contains("memory or disk"), "{text}");

        let command = Submitting::to(broker);
        let mut submitted = Box::pin(client.submit_job(&job));
        assert!(tokio::time::timeout(LOOK, &mut submitted).await.is_err(), "nobody could have confirmed it");
        drop(blocked);
        let pending = in_time("it goes on", submitted).await.expect("the broker takes jobs again");
        assert_eq!(pending.id(), job.id);
        let commanded = command.says(&["blocked its publishers"]);
        let found: BTreeSet<JobId> = emptied(session, &queue).await.into_iter().collect();
        let (sure, all) = ([job.id, commanded], [job.id, commanded, lost]);
        // Of what was not confirmed nobody knows.
        assert!(
            sure.iter().all(|id| found.contains(id)) && found.iter().all(|id| all.contains(id)),
            "{found:?}"
        );
        client.close().await;
    });
}

fn a_full_queue_refuses_and_loses_nothing(broker: &Broker) {
    let jobs = || (0..20).map(|_| Submission::command(["true"]));
    broker.run(async |session, settings| {
        let queue = topology::jobs_queue(&Lane::default_lane());
        let client = Client::connect(settings).await.expect("it is up");
        let full = broker.while_held(
            &["set_policy", "full", r"^eval\.jobs\.", r#"{"max-length": 5}"#, "--apply-to", "queues"],
            &["clear_policy", "full"],
        );
        // A queue may take a few more before it has counted.
        let mut taken = BTreeSet::new();
        let told = loop {
            let id = JobId::fresh();
            match publish_job(session, id).await {
                Ok(()) => assert!(taken.insert(id) && taken.len() < 100, "it has no bound"),
                Err(error) => break error,
            }
        };
        assert!(matches!(told, Error::Refused { .. }) && told.is_transient(), "{told:?}");
        let text = told.to_string();
        assert!(text.contains("its queue is full") && text.contains("Start more workers"), "{text}");

        let command = Submitting::to(broker);
        let mut submitted = Box::pin(client.submit_many(jobs()).try_collect::<Vec<_>>());
        assert!(
            tokio::time::timeout(LOOK, &mut submitted).await.is_err(),
            "there is no room for all of them"
        );
        drop(full);
        let pending = in_time("they go on", submitted).await.expect("the queue takes jobs again");
        let submitted: BTreeSet<JobId> = pending.iter().map(|pending| pending.id()).collect();
        assert_eq!(submitted.len(), 20);
        taken.insert(command.says(&["its queue is full"]));
        let found: BTreeSet<JobId> = emptied(session, &queue).await.into_iter().collect();
        let lost: Vec<_> = submitted.union(&taken).filter(|id| !found.contains(id)).collect();
        assert!(lost.is_empty(), "{lost:?}");
        client.close().await;
    });
}

fn the_doctor_names_the_nodes_that_do_not_answer(broker: &Broker) {
    let urls = format!("{},amqp://guest:guest@127.0.0.1:1/%2f", broker.url());
    let machine = Machine::new()
        .with("EVALFLEET_BROKER__URLS", &urls)
        // Nothing else is looked at here: without an image no VM is made.
        .with("EVALFLEET_IMAGES__DIR", "/nonexistent/images");
    let answer = machine.evalfleet(&["doctor"]).expect(69);
    let line = answer.out.lines().find(|line| line.contains("1 of 2 nodes answer"));
    assert!(
        line.is_some_and(|line| line.starts_with("warning") && line.contains("127.0.0.1:1")),
        "{answer:?}"
    );
}

/// The command with one job, as somebody runs it who reads what it says.
struct Submitting {
    child: Child,
    _machine: Machine,
}

impl Submitting {
    fn to(broker: &Broker) -> Self {
        let machine = Machine::new()
            .with("EVALFLEET_BROKER__URLS", &broker.url())
            .with("EVALFLEET_BROKER__CONFIRM_TIMEOUT", "5s");
        let mut child = machine.start(&["submit", "-"], true);
        let mut input = child.stdin.take().expect("piped");
        input.write_all(br#"{"kind": "command", "argv": ["true"]}"#).expect("it reads its input");
        Self { child, _machine: machine }
    }

    /// Its job, when it has ended well and said why it waited.
    fn says(self, words: &[&str]) -> JobId {
        let ended: Answer = self.child.wait_with_output().expect("it ends").into();
        let ended = ended.expect(0).says(&["waiting: "]).says(words);
        ended.out.trim().parse().expect("it prints the job's id")
    }
}

/// A result with so much output, as a worker reports it.
pub(crate) fn result(batch: &str, output: usize) -> Evaluation {
    let job = job(&format!(r#"{{"kind": "command", "argv": ["true"], "batch": "{batch}"}}"#));
    let mut result = Evaluation::of_job(&job, Timestamp::now(), (Status::Passed, None), Vec::new());
    result.stdout.text = "x".repeat(output);
    result.stdout.bytes = output as u64;
    result
}

/// Publishes a result as a worker does.
pub(crate) async fn publish(session: &Session, result: &Evaluation) -> Result<(), Error> {
    let envelope = Envelope::new(MessageType::Result, result.id, result.finished);
    let key = topology::job_key(result.id);
    session.publish(topology::RESULTS, &key, &envelope, &wire::encode(result)).await.map(drop)
}

/// Publishes what workers would.
fn report(machine: &Machine, batch: &str, count: usize, output: usize) {
    on_broker(machine, async |session| {
        let publish = async |result: Evaluation| publish(session, &result).await;
        let results = futures::stream::iter((0..count).map(|_| result(batch, output)));
        results.map(publish).buffer_unordered(32).try_collect::<()>().await.expect("confirmed");
    });
}

/// How many results of a batch are recorded, and how many there ever were.
pub(crate) fn recorded(machine: &Machine, batch: &str) -> (u64, u64) {
    let of_batch = format!("[?b :evaluation/id \"{batch}\"] [?e :evaluation/batch ?b]");
    let once = format!("[:find (count ?e) :where {of_batch} [?e :evaluation/document]]");
    let ever = format!(
        "(d/q '[:find (count ?e) :with ?document ?tx :where {of_batch} [?e :evaluation/document ?document ?tx]] (d/history db))"
    );
    let count = |query: &str| {
        let answer = machine.evalfleet(&["query", query, "--json"]).expect(0).json();
        answer["rows"][0][0].as_u64().unwrap_or(0)
    };
    (count(&once), count(&ever))
}

/// A line of `/proc/<pid>/status`, in bytes.
fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let found = status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':'));
    let kib = found.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a number of KiB") << 10
}

/// A process that stands still until this is dropped.
pub(crate) struct Stopped(u32);

impl Stopped {
    pub(crate) fn new(pid: u32) -> Self {
        signal("STOP", pid);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("CONT", self.0);
    }
}

fn results_wait_for_a_slow_datomic(machine: &Machine) {
    const RESULTS: usize = 1200;
    const OUTPUT: usize = 64 << 10;
    let batch = format!("slow-{}", JobId::fresh());
    let recorder = machine.pid("recorder");
    // Its peak is counted from here on.
    std::fs::write(format!("/proc/{recorder}/clear_refs"), "5").expect("it is a process of ours");
    let before = memory(recorder, "VmRSS");
    let stopped = Stopped::new(machine.pid("gateway"));
    report(machine, &batch, RESULTS, OUTPUT);
    std::thread::sleep(Duration::from_secs(5));
    let waiting = machine.status()["queues"][topology::RESULTS_QUEUE]["messages"].as_u64();
    let waiting = waiting.expect("the broker says what waits");
    let grown = memory(recorder, "VmHWM").saturating_sub(before);
    drop(stopped);
    let all = (RESULTS * OUTPUT) as u64;
    // It holds two batches, whatever there is.
    assert!(waiting > RESULTS as u64 / 2, "{waiting} of {RESULTS} wait in the queue");
    assert!(grown < all / 2, "the recorder grew by {grown} bytes for {all}");
    wait_until("all are recorded", || recorded(machine, &batch).0 == RESULTS as u64);
    assert_eq!(recorded(machine, &batch).1, RESULTS as u64, "some are recorded twice");
    wait_until("nothing is left in the queue", || {
        machine.status()["queues"][topology::RESULTS_QUEUE]["messages"] == 0
    });
    assert_eq!(machine.pid("recorder"), recorder, "it was started anew");
}

/// The recorder in a mount namespace of its own, where its documents have little room until a file appears.
const IN_LITTLE_ROOM: &str = r#"blobs=$1 room=$2; shift 2
mount -t tmpfs -o size=1m tmpfs "$blobs"
{ while [ ! -e "$room" ]; do sleep 0.2; done; mount -o remount,size=64m "$blobs"; } &
exec "$@""#;

fn results_wait_for_room_on_the_disk() {
    let machine = Machine::new();
    machine.evalfleet(&["up", "--detach", "--only", "broker,gateway,api"]).expect(0);
    let (blobs, room) = (machine.state().join("little"), machine.state().join("room"));
    std::fs::create_dir_all(&blobs).expect("made");
    let log = machine.state().join("logs/recorder.log");
    let mut environment = machine.environment().to_vec();
    environment.push(("EVALFLEET_BLOBS__DIR".to_owned(), blobs.display().to_string()));
    let mut args = ["--user", "--map-root-user", "--mount", "sh", "-euc", IN_LITTLE_ROOM, "sh"]
        .map(str::to_owned)
        .to_vec();
    args.extend(
        [&blobs, &room, &programs().join("evalfleet-recorder")].map(|path| path.display().to_string()),
    );
    let start = Start { program: "unshare".into(), args, environment };
    let mut recorder = Part::start("recorder", start, log.clone()).expect("unshare (package util-linux)");

    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let batch = format!("full-{}", JobId::fresh());
    report(&machine, &batch, 30, 100 << 10);
    wait_until("it says that it waits, and for what", || {
        said().lines().any(|line| line.contains("waiting for the store") && line.contains("No space left"))
    });
    assert!(recorder.up_for().is_some(), "it ended: {}", said());
    let (some, _) = recorded(&machine, &batch);
    assert!(some < 30, "{some} are recorded, and there was no room for their documents");
    std::fs::write(&room, "").expect("the state directory can be written");
    wait_until("all are recorded", || recorded(&machine, &batch).0 == 30);
    assert_eq!(recorded(&machine, &batch).1, 30, "some are recorded twice");
    assert!(recorder.up_for().is_some(), "it ended: {}", said());
}

/// The gateway in a mount namespace of its own, where its database and its backups have disks of their own.
const ON_SMALL_DISKS: &str = r#"#!/bin/sh
exec unshare --user --map-root-user --mount sh -euc '
    mount -t tmpfs -o size=128m tmpfs "$0"; mount -t tmpfs -o size=32m tmpfs "$1"; shift; exec "$@"
' STORE BACKUPS SCRIPT "$@"
"#;

fn a_full_disk_stops_the_history_and_breaks_nothing() {
    let machine = Machine::new();
    let (store, backups) = (machine.state().join("datomic"), machine.state().join("backups"));
    let script = machine.state().join("gateway.sh");
    let text = [("STORE", &store), ("BACKUPS", &backups), ("SCRIPT", &repository().join("datomic/run.sh"))]
        .into_iter()
        .fold(ON_SMALL_DISKS.to_owned(), |text, (word, path)| {
            text.replace(word, &path.display().to_string())
        });
    for dir in [&store, &backups] {
        std::fs::create_dir_all(dir).expect("made");
    }
    std::fs::write(&script, text).expect("it can be written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).expect("it is ours");
    let machine = machine.with("EVALFLEET_GATEWAY", &script.display().to_string());
    machine.evalfleet(&["up", "--detach", "--only", "broker,gateway,recorder,api"]).expect(0);
    let gateway = machine.pid("gateway");
    let (before, during) = (format!("before-{}", JobId::fresh()), format!("during-{}", JobId::fresh()));
    report(&machine, &before, 5, 100);
    wait_until("there is room", || recorded(&machine, &before).0 == 5);

    // Somebody else fills the disk, as far as what stays free.
    let inside = format!("/proc/{gateway}/root{}", store.display());
    let filler = std::path::Path::new(&inside).join("filler");
    std::fs::write(&filler, vec![0; 100 << 20]).expect("it has room");
    report(&machine, &during, 30, 100);
    let log = machine.state().join("logs/recorder.log");
    wait_until("the recorder says that it waits, and for what", || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        said.lines().any(|line| line.contains("waiting for the store") && line.contains("is full"))
    });
    assert_eq!(recorded(&machine, &during).0, 0, "there was no room for them");
    assert_eq!(recorded(&machine, &before), (5, 5), "what is there can be asked for");
    // A backup has no room either, and leaves nothing behind.
    machine.evalfleet(&["backup", "now"]).expect(69).says(&["is full", &backups.display().to_string()]);
    let left = std::fs::read_dir(format!("/proc/{gateway}/root{}", backups.display())).expect("a folder");
    assert_eq!(left.count(), 0);

    std::fs::remove_file(&filler).expect("it is ours");
    wait_until("all are recorded", || recorded(&machine, &during).0 == 30);
    assert_eq!(recorded(&machine, &during).1, 30, "some are recorded twice");
    assert_eq!(machine.pid("gateway"), gateway, "it was started anew");
}
