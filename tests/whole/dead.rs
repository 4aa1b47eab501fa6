//! Dead letters as a database: found by what they are, as of any moment; replayed, dropped, and every
//! replay interrupted by force.

use super::Test;
use super::faults::{dead_letter, on_broker};
use evalfleet_broker::Session;
use evalfleet_proto::Timestamp;
use evalfleet_proto::dead::{DeadLetter, Reason};
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::job::{Attempt, Job};
use evalfleet_proto::status::Cause;
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::{topology, wire};
use evalfleet_tests::machine::{Answer, Machine, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub(crate) const ALL: &[(&str, Test)] = &[
    ("dead::letters_are_found_by_what_they_are_and_when", letters_are_found_by_what_they_are_and_when),
    ("dead::a_letter_is_dropped_for_a_reason", a_letter_is_dropped_for_a_reason),
    ("dead::a_replay_asks_otherwise_where_it_is_told", a_replay_asks_otherwise_where_it_is_told),
    ("dead::what_no_queue_takes_is_a_letter", what_no_queue_takes_is_a_letter),
    ("dead::twice_is_refused_and_forced_is_another_job", twice_is_refused_and_forced_is_another_job),
    (
        "dead::a_replay_killed_anywhere_neither_loses_nor_doubles",
        a_replay_killed_anywhere_neither_loses_nor_doubles,
    ),
    ("dead::a_replay_keeps_to_its_rate", a_replay_keeps_to_its_rate),
];

/// A job that a worker gave up.
pub(crate) fn job(document: &str) -> Job {
    let defaults = Defaults { image: "base".parse().expect("a name"), now: Timestamp::now() };
    Submission::from_json(document).and_then(|submission| submission.into_job(&defaults)).expect("a job")
}

pub(crate) fn letter(job: &Job, worker: &str, error: &str) -> DeadLetter {
    let attempt = Attempt {
        number: 1,
        worker: worker.to_owned(),
        cause: Cause::Infrastructure,
        error: error.to_owned(),
        ended: Timestamp::now(),
    };
    DeadLetter {
        schema: 1,
        id: job.id,
        reason: Reason::AttemptsSpent,
        error: error.to_owned(),
        lane: job.lane.clone(),
        attempts: vec![attempt],
        worker: worker.to_owned(),
        died: Timestamp::now(),
        body: wire::encode(job),
    }
}

async fn bury(session: &Session, letter: &DeadLetter) {
    let (key, envelope) = (topology::dead_key(&letter.lane), Envelope::of_dead(letter));
    session.publish(topology::DEAD, &key, &envelope, &wire::encode(letter)).await.expect("confirmed");
}

pub(crate) fn buried(machine: &Machine, letters: &[DeadLetter]) {
    on_broker(machine, async |session| {
        for letter in letters {
            bury(session, letter).await;
        }
    });
    for letter in letters {
        dead_letter(machine, &letter.id.to_string());
    }
}

fn list(machine: &Machine, arguments: &[&str]) -> Vec<Value> {
    let answer = machine.evalfleet(&[&["dead", "list", "--json"], arguments].concat()).expect(0);
    answer.out.lines().map(|line| serde_json::from_str(line).expect("a line is a document")).collect()
}

fn ids(letters: &[Value]) -> BTreeSet<String> {
    letters.iter().filter_map(|letter| letter["id"].as_str()).map(str::to_owned).collect()
}

fn letters_are_found_by_what_they_are_and_when(machine: &Machine) {
    let before = Timestamp::now().to_string();
    std::thread::sleep(Duration::from_millis(1100));
    let batch = format!("find-{}", JobId::fresh());
    let command = format!(
        r#"{{"kind": "command", "argv": ["make", "all"], "batch": "{batch}", "labels": {{"model": "m-7"}}, "stdin": "so it goes"}}"#
    );
    let call = format!(
        r#"{{"kind": "function_call", "tool": "word_count", "args": {{"text": "a"}}, "batch": "{batch}"}}"#
    );
    let (command, call) = (job(&command), job(&call));
    let letters = [
        letter(&command, "w-east", "QEMU: No space left on device"),
        letter(&call, "w-west", "the agent did not answer"),
    ];
    buried(machine, &letters);
    let of_batch = format!("batch={batch}");
    let found = |terms: &[&str]| {
        let mut arguments = vec!["--where", &of_batch];
        arguments.extend(terms.iter().flat_map(|term| ["--where", term]));
        ids(&list(machine, &arguments))
    };
    let (command, call) = (command.id.to_string(), call.id.to_string());
    let (both, one, other) = (
        BTreeSet::from([command.clone(), call.clone()]),
        BTreeSet::from([command.clone()]),
        BTreeSet::from([call]),
    );
    assert_eq!(found(&[]), both);
    assert_eq!(found(&["tool=make"]), one);
    assert_eq!(found(&["tool=word_count", "kind=function_call"]), other);
    assert_eq!(found(&["error=no SPACE"]), one);
    assert_eq!(found(&["worker=w-west", "cause=infrastructure"]), other);
    assert_eq!(found(&["model=m-7"]), one);
    assert_eq!(found(&["model=m-8"]), BTreeSet::new());
    assert_eq!(found(&[&format!("since={before}")]), both);
    assert_eq!(found(&[&format!("until={before}")]), BTreeSet::new());
    let then = list(machine, &["--where", &of_batch, "--as-of", &before]);
    assert!(then.is_empty(), "{then:?}");
    let shown = dead_letter(machine, &command);
    assert_eq!(shown["input"]["task"]["stdin"]["text"], "so it goes", "{shown}");
    assert_eq!(shown["tries"][0]["error"], "QEMU: No space left on device", "{shown}");
    machine.evalfleet(&["dead", "list", "--where", "colour=red"]).expect(64).says(&["colour", "tool"]);
    // Whatever was listed, the queue has them all.
    let queued = ids(&list(machine, &["--queue", "--limit", "1000"]));
    assert!(queued.is_superset(&both), "{queued:?}");
    machine.evalfleet(&["dead", "drop", "--where", &of_batch, "--reason", "tidied up"]).expect(0);
}

fn a_letter_is_dropped_for_a_reason(machine: &Machine) {
    let dead = job(r#"{"kind": "command", "argv": ["true"]}"#);
    let id = dead.id.to_string();
    buried(machine, &[letter(&dead, "w1", "the VM died")]);
    let before = Timestamp::now().to_string();
    std::thread::sleep(Duration::from_millis(1100));
    machine
        .evalfleet(&["dead", "drop", &id, "--reason", "known", "--dry-run"])
        .expect(0)
        .says(&["1 would be"]);
    machine.evalfleet(&["dead", "drop", &id, "--reason", "known to be wrong"]).expect(0);
    wait_until("it is recorded as dropped", || dead_letter(machine, &id)["state"] == "dropped");
    let letter = dead_letter(machine, &id);
    assert_eq!(letter["drop_reason"], "known to be wrong", "{letter}");
    assert!(letter["handled_by"].as_str().is_some_and(|by| by.contains('@')), "{letter}");
    assert!(!ids(&list(machine, &["--queue"])).contains(&id));
    // It still waited then.
    assert!(ids(&list(machine, &["--as-of", &before, "--limit", "1000"])).contains(&id));
    machine.evalfleet(&["dead", "drop", &id, "--reason", "again"]).expect(4).says(&["was dropped"]);
    machine.evalfleet(&["dead", "replay", &id]).expect(4).says(&["was dropped", "--force"]);
}

fn a_replay_asks_otherwise_where_it_is_told(machine: &Machine) {
    let dead = job(r#"{"kind": "command", "argv": ["sleep", "3"], "limits": {"wall": "1s", "cpu": "30s"}}"#);
    buried(machine, &[letter(&dead, "w1", "the VM died")]);
    let id = dead.id.to_string();
    machine.evalfleet(&["dead", "replay", &id, "--wall", "0s"]).expect(4).says(&["wall"]);
    machine
        .evalfleet(&["dead", "replay", &id, "--wall", "60s", "--lane", "urgent", "--priority", "9"])
        .expect(0);
    let replay = dead.id.derived("replay", 1).to_string();
    assert_eq!(machine.recorded(&replay)["status"], "passed", "it had a second only");
}

/// A publish is confirmed even where no queue takes it: nothing may end there.
fn what_no_queue_takes_is_a_letter(machine: &Machine) {
    let astray = job(r#"{"kind": "command", "argv": ["true"], "lane": "nowhere"}"#);
    let later = job(r#"{"kind": "command", "argv": ["true"]}"#);
    on_broker(machine, async |session| {
        let now = Timestamp::now();
        let published = [
            (&astray, topology::JOBS, astray.lane.to_string()),
            (&later, topology::RETRY, topology::retry_key(&later.lane, Duration::from_secs(77))),
        ];
        for (job, exchange, key) in published {
            let envelope = Envelope::of_job(job, 2, now);
            session.publish(exchange, &key, &envelope, &wire::encode(job)).await.expect("confirmed");
        }
    });
    for (job, key) in [(&astray, "nowhere"), (&later, "default.77s")] {
        let id = job.id.to_string();
        let letter = dead_letter(machine, &id);
        assert_eq!(
            (letter["reason"].as_str(), letter["cause"].as_str()),
            (Some("unroutable"), Some("infrastructure"))
        );
        assert!(letter["error"].as_str().is_some_and(|error| error.contains(key)), "{letter}");
        assert_eq!(machine.recorded(&id)["status"], "dead", "whoever waits is answered");
    }
    let id = astray.id.to_string();
    let there = ["urgent", "default"];
    machine.evalfleet(&["dead", "replay", &id]).expect(4).says(&there);
    machine.evalfleet(&["dead", "replay", &id, "--lane", "elsewhere"]).expect(4).says(&there);
    machine.evalfleet(&["run", "--lane", "elsewhere", "--", "true"]).expect(4).says(&there);
    machine.evalfleet(&["dead", "replay", &id, "--lane", "default"]).expect(0);
    assert_eq!(machine.recorded(&astray.id.derived("replay", 1).to_string())["status"], "passed");
    machine.evalfleet(&["dead", "drop", &later.id.to_string(), "--reason", "tried"]).expect(0);
}

fn twice_is_refused_and_forced_is_another_job(machine: &Machine) {
    let dead = job(r#"{"kind": "command", "argv": ["true"]}"#);
    let id = dead.id.to_string();
    buried(machine, &[letter(&dead, "w1", "the VM died")]);
    let (first, second) =
        (dead.id.derived("replay", 1).to_string(), dead.id.derived("replay", 2).to_string());
    let replayed = machine.evalfleet(&["dead", "replay", &id, "--json"]).expect(0).json();
    assert_eq!(replayed["id"], first.as_str(), "{replayed}");
    wait_until("it is recorded as replayed", || dead_letter(machine, &id)["state"] == "replayed");
    machine.evalfleet(&["dead", "replay", &id]).expect(4).says(&["replayed as", &first, "--force"]);
    let again = machine.evalfleet(&["dead", "replay", &id, "--force", "--json"]).expect(0).json();
    assert_eq!(again["id"], second.as_str(), "{again}");
    for replay in [&first, &second] {
        assert_eq!(machine.recorded(replay)["replay_of"], id.as_str());
    }
    wait_until("both are known", || {
        dead_letter(machine, &id)["replays"].as_array().is_some_and(|all| all.len() == 2)
    });
    // Seen from the dead one, and it is the same tree from wherever one looks.
    let lineage = dead_letter(machine, &id)["lineage"].clone();
    let lineage = lineage.as_array().expect("a list");
    let found: BTreeSet<_> = lineage.iter().filter_map(|job| job["id"].as_str()).collect();
    assert_eq!(found, BTreeSet::from([id.as_str(), first.as_str(), second.as_str()]), "{lineage:?}");
    assert!(
        lineage.iter().all(|job| job["id"] == id.as_str() || job["replay_of"] == id.as_str()),
        "{lineage:?}"
    );
}

/// The command is killed again and again in the middle of its work, then ends it: each letter has become
/// one job with one record.
fn a_replay_killed_anywhere_neither_loses_nor_doubles(machine: &Machine) {
    let batch = format!("killed-{}", JobId::fresh());
    let document = format!(r#"{{"kind": "command", "argv": ["true"], "batch": "{batch}"}}"#);
    let dead: Vec<Job> = (0..12).map(|_| job(&document)).collect();
    let letters: Vec<_> = dead.iter().map(|job| letter(job, "w1", "the VM died")).collect();
    buried(machine, &letters);
    let of_batch = format!("batch={batch}");
    let arguments = ["dead", "replay", "--where", &of_batch, "--rate", "6"];
    let mut interrupted = 0;
    for ms in [150, 700, 300, 900, 450] {
        let mut replay = machine.start(&arguments, false);
        std::thread::sleep(Duration::from_millis(ms));
        replay.kill().expect("it is a process of ours");
        let ended: Answer = replay.wait_with_output().expect("it ended").into();
        interrupted += u32::from(ended.code != 0);
    }
    assert!(interrupted > 0, "nothing was interrupted");
    wait_until("the rest is replayed", || machine.evalfleet(&arguments).code == 0);
    for job in &dead {
        let replay = machine.recorded(&job.id.derived("replay", 1).to_string());
        assert_eq!(
            (replay["status"].as_str(), replay["replay_of"].as_str()),
            (Some("passed"), Some(job.id.to_string().as_str()))
        );
    }
    let query = format!(
        "(d/q '[:find ?e ?document ?tx :where [?b :evaluation/id \"{batch}\"] [?e :evaluation/batch ?b] [?e :evaluation/document ?document ?tx]] (d/history db))"
    );
    assert_eq!(machine.count(&query), dead.len(), "a job was made twice, or recorded twice");
    wait_until("every letter is told to be replayed", || {
        list(machine, &["--where", &of_batch, "--where", "state=replayed"]).len() == dead.len()
    });
    let queued = ids(&list(machine, &["--queue", "--limit", "1000"]));
    assert!(dead.iter().all(|job| !queued.contains(&job.id.to_string())), "{queued:?}");
}

/// In ratio to one without a rate, on the same machine and at the same time of its day.
fn a_replay_keeps_to_its_rate(machine: &Machine) {
    const LETTERS: u32 = 9;
    /// How many times as long it is to take.
    const SLOWER: f64 = 4.0;
    /// A rate is never exceeded; that it is reached, a machine that stands still for a moment may hide.
    const TRIES: u32 = 3;
    let replayed = |rate: Option<f64>| {
        let batch = format!("rate-{}", JobId::fresh());
        let document = format!(r#"{{"kind": "command", "argv": ["true"], "batch": "{batch}"}}"#);
        let letters: Vec<_> = (0..LETTERS).map(|_| letter(&job(&document), "w1", "the VM died")).collect();
        buried(machine, &letters);
        let (of_batch, rate) = (format!("batch={batch}"), rate.map(|rate| rate.to_string()));
        let mut arguments = vec!["dead", "replay", "--where", &of_batch];
        arguments.extend(rate.iter().flat_map(|rate| ["--rate", rate]));
        let begun = Instant::now();
        machine.evalfleet(&arguments).expect(0).says(&[&format!("{LETTERS} replayed")]);
        let took = begun.elapsed().as_secs_f64();
        wait_until("all are recorded", || {
            let query = format!(
                "[:find ?e :where [?b :evaluation/id \"{batch}\"] [?e :evaluation/batch ?b] [?e :evaluation/document]]"
            );
            machine.count(&query) == LETTERS as usize
        });
        took
    };
    let unrated = replayed(None);
    // The first goes at once.
    let rate = f64::from(LETTERS - 1) / (SLOWER * unrated);
    let mut fastest = f64::INFINITY;
    for _ in 0..TRIES {
        fastest = fastest.min(replayed(Some(rate)));
        assert!(fastest >= SLOWER * unrated * 0.9, "{fastest} s with a rate, {unrated} s without");
        if fastest <= SLOWER * unrated * 3.0 {
            return;
        }
    }
    panic!("{fastest} s with a rate, {unrated} s without");
}
