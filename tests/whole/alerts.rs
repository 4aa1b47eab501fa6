//! Alerts end to end: what became worse is run again, confirmed, told, recorded, judged and closed, whoever is killed
//! meanwhile; a bad machine is nobody's fault.

use super::faults::on_broker;
use super::tools::copy;
use evalfleet_broker::Session;
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::{Evaluation, Evidence, Source};
use evalfleet_proto::job::Job;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::{topology, wire};
use evalfleet_tests::machine::{Machine, repository, wait_until};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const ALONE: &[(&str, fn())] =
    &[("alerts::from_the_first_failure_to_the_fix", from_failure_to_fix)];

const SECRET: &str = "known-to-two";

/// Somebody who is told of alerts, and takes no notice before it is open.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) open: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/alerts", listener.local_addr().expect("it listens"));
        let heard: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (open, asked): (Arc<AtomicBool>, Arc<AtomicU32>) = Default::default();
        let (into, is_open, count) = (heard.clone(), open.clone(), asked.clone());
        std::thread::spawn(move || {
            // Ends with the process.
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let (mut head, mut line) = (String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    head.push_str(&line.to_lowercase());
                    line.clear();
                }
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).expect("its body");
                let takes = is_open.load(Ordering::SeqCst);
                let status = if takes { "204 No Content" } else { "503 Service Unavailable" };
                count.fetch_add(1, Ordering::SeqCst);
                if takes {
                    let body = serde_json::from_slice(&body).expect("it is JSON");
                    into.lock().expect("nobody panics here").push((head, body));
                }
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { url, open, asked, heard }
    }

    pub(crate) fn heard(&self) -> Vec<(String, Value)> {
        self.heard.lock().expect("nobody panics here").clone()
    }
}

fn from_failure_to_fix() {
    let (receiver, secret) = (Receiver::new(), tempfile::NamedTempFile::new().expect("a file"));
    std::fs::write(secret.path(), SECRET).expect("written");
    let machine = Machine::new()
        .with("EVALFLEET_INSIGHT__ALERTS__WATCH", "true")
        .with("EVALFLEET_INSIGHT__ALERTS__WEBHOOK", &receiver.url)
        .with("EVALFLEET_INSIGHT__ALERTS__WEBHOOK_SECRET_FILE", &secret.path().display().to_string())
        .with("EVALFLEET_INSIGHT__ALERTS__SEND_TRIES", "20");
    machine.up(2);
    a_bad_machine_is_nobodys_fault(&machine);
    a_version_that_takes_longer_is_found(&machine);
    a_version_that_breaks_a_case_is_found(&machine, &receiver);
}

fn alerts(machine: &Machine, arguments: &[&str]) -> Value {
    machine.evalfleet(&[&["alerts", "--json"], arguments].concat()).expect(0).json()
}

fn of_subject<'a>(document: &'a Value, subject: &str) -> Vec<&'a Value> {
    let all = document["alerts"].as_array().expect("a list");
    all.iter().filter(|alert| alert["subject"] == subject).collect()
}

/// Results as workers publish them.
async fn reported(session: &Session, count: usize, worker: &str, ended: (Status, Option<Cause>)) -> String {
    let mut last = String::new();
    for _ in 0..count {
        let document =
            r#"{"kind": "command", "argv": ["x"], "labels": {"tool": "steady", "suite": "s", "case": "c"}}"#;
        let job: Job = super::dead::job(document);
        let evidence = ended.1.map(|_| Evidence::new(Source::Host, "it was told so")).into_iter().collect();
        let mut evaluation = Evaluation::of_job(&job, Timestamp::now(), ended, evidence);
        evaluation.provenance.worker = worker.to_owned();
        let envelope = Envelope::new(MessageType::Result, job.id, Timestamp::now());
        let (key, body) = (topology::job_key(job.id), wire::encode(&evaluation));
        session.publish(topology::RESULTS, &key, &envelope, &body).await.expect("confirmed");
        last = job.id.to_string();
    }
    last
}

/// Results of one case that always passes, in this version and so many milliseconds, or nearly.
fn timed(machine: &Machine, version: &str, count: u64, ms: u64) {
    let mut last = String::new();
    on_broker(machine, async |session| {
        for nth in 0..count {
            let labels = json!({"tool": "timed", "suite": "s", "case": "c", "code": version});
            let job: Job =
                super::dead::job(&json!({"kind": "command", "argv": ["x"], "labels": labels}).to_string());
            let mut evaluation =
                Evaluation::of_job(&job, Timestamp::now(), (Status::Passed, None), Vec::new());
            evaluation.metrics.wall = Duration::from_millis(ms + nth * 7919 % 13);
            evaluation.provenance.worker = ["w-1", "w-2"][nth as usize % 2].to_owned();
            evaluation.provenance.accelerator = Some("kvm".to_owned());
            let envelope = Envelope::new(MessageType::Result, job.id, Timestamp::now());
            let (key, body) = (topology::job_key(job.id), wire::encode(&evaluation));
            session.publish(topology::RESULTS, &key, &envelope, &body).await.expect("confirmed");
            last = job.id.to_string();
        }
    });
    machine.recorded(&last);
}

/// What was reported has no job to be run again: what comes anew confirms it, and later that it is well again.
fn a_version_that_takes_longer_is_found(machine: &Machine) {
    let subject = "tool=timed";
    let is = |state: &str| {
        let found = alerts(machine, &["--state", "any", "--subject", subject]);
        of_subject(&found, subject).iter().any(|alert| alert["state"] == state)
    };
    timed(machine, "one", 40, 100);
    timed(machine, "two", 24, 250);
    wait_until("it is suspected", || is("confirming") || is("raised"));
    wait_until("it is raised", || {
        timed(machine, "two", 4, 250);
        is("raised")
    });
    let found = alerts(machine, &["--subject", subject]);
    let [alert] = of_subject(&found, subject)[..] else { panic!("{found:#}") };
    assert_eq!(
        (&alert["kind"], &alert["culprit"], &alert["cases"]),
        (&json!("slower"), &json!("version=two"), &json!(["s/c"])),
        "{alert:#}"
    );
    let id = alert["id"].as_str().expect("an id");
    let shown = machine.evalfleet(&["alerts", "show", id, "--json"]).expect(0).json();
    let amount = |level: &str| shown[level]["wall_ms"].as_f64().expect("it was measured");
    assert!(amount("before") < 115.0 && amount("after") > 245.0, "{shown:#}");
    wait_until("it closes itself", || {
        timed(machine, "three", 4, 100);
        is("closed")
    });
}

/// However often a machine fails, no subject is suspected; as many failures of its own are suspicious.
fn a_bad_machine_is_nobodys_fault(machine: &Machine) {
    let subject = "tool=steady";
    let report = |count, worker: &str, ended| {
        let mut last = String::new();
        on_broker(machine, async |session| last = reported(session, count, worker, ended).await);
        machine.recorded(&last);
    };
    let passed = (Status::Passed, None);
    report(30, "w-good", passed);
    report(40, "w-bad", (Status::Dead, Some(Cause::Infrastructure)));
    // What is seen later was seen after these.
    report(5, "w-good", passed);
    let known = || alerts(machine, &["--state", "any"]);
    assert_eq!(of_subject(&known(), subject), Vec::<&Value>::new());
    // What comes while nobody watches is looked at by whoever watches next.
    let killed = machine.kill("api");
    report(3, "w-good", (Status::Failed, Some(Cause::Subject)));
    machine.wait_for_successor("api", killed);
    wait_until("its own failures are suspicious", || !of_subject(&known(), subject).is_empty());
    let found = known();
    let [alert] = of_subject(&found, subject)[..] else { panic!("{found:#}") };
    assert_eq!((&alert["state"], &alert["cases"]), (&json!("confirming"), &json!(["s/c"])), "{alert}");
    let id = alert["id"].as_str().expect("an id");
    let shown = machine.evalfleet(&["alerts", "show", id, "--json"]).expect(0).json();
    let before = &shown["before"];
    assert_eq!(
        (&before["passed"], &before["tries"]),
        (&json!(35), &json!(35)),
        "our own faults count for nothing"
    );
    // Nobody was told, and there is nothing to judge.
    assert_eq!(of_subject(&alerts(machine, &[]), subject), Vec::<&Value>::new());
    machine.evalfleet(&["alerts", "judge", id, "right", "--reason", "x"]).expect(64).says(&["confirming"]);
    // What was reported has no job to be run again: what comes anew decides.
    report(20, "w-good", passed);
    wait_until("it came to nothing", || {
        let found = known();
        of_subject(&found, subject)[0]["state"] == "dismissed"
    });
}

fn a_version_that_breaks_a_case_is_found(machine: &Machine, receiver: &Receiver) {
    let (subject, dir) = ("tool=word_count", tempfile::tempdir().expect("a folder"));
    let tool = dir.path().join("word_count");
    copy(&repository().join("vm-images/tools/word_count"), &tool);
    // On a machine that has much to do, what ends by its time would be suspicious as well.
    let spec = std::fs::read_to_string(tool.join("tool.toml")).expect("its description");
    let patient = spec.replace("wall = \"10s\"", "wall = \"120s\"");
    assert_ne!(patient, spec);
    std::fs::write(tool.join("tool.toml"), patient).expect("written");
    let eval = |runs: &str| {
        let path = tool.display().to_string();
        let answer = machine.evalfleet(&["tool", "eval", &path, "--runs", runs, "--json"]);
        assert!(matches!(answer.code, 0 | 1), "{answer:?}");
        let document = answer.json();
        machine.recorded(document["id"].as_str().expect("an id"));
        document["current"]["code"].as_str().expect("a digest").to_owned()
    };
    let before = eval("9");
    let then = machine.evalfleet(&[
        "query",
        "[:find (count ?e) . :where [?e :evaluation/status :passed]]",
        "--json",
    ]);
    let then = then.expect(0).json()["basis_t"].to_string();
    assert_eq!(of_subject(&alerts(machine, &["--state", "any"]), subject), Vec::<&Value>::new());

    let good = std::fs::read_to_string(tool.join("main.py")).expect("its code");
    break_one_case(&tool, &good);
    let after = eval("4");
    let told = || alerts(machine, &["--subject", subject]);
    // Nothing but what was run again confirms it.
    wait_until("it is raised", || {
        of_subject(&told(), subject).iter().any(|alert| alert["state"] == "raised")
    });
    wait_until("somebody was to be told", || receiver.asked.load(Ordering::SeqCst) > 0);
    let killed = machine.kill("api");
    machine.wait_for_successor("api", killed);
    receiver.open.store(true, Ordering::SeqCst);
    let found = told();
    let [alert] = of_subject(&found, subject)[..] else { panic!("{found:#}") };
    assert_eq!(alert["culprit"], format!("version={after}"), "{alert:#}");
    assert_eq!(alert["cases"], json!(["tool/word_count/characters are not bytes"]), "{alert:#}");
    let id = alert["id"].as_str().expect("an id");
    let shown = machine.evalfleet(&["alerts", "show", id, "--json"]).expect(0).json();
    assert_eq!(shown["culprit"]["before"], before.as_str(), "{shown:#}");
    assert_eq!(
        (&shown["after"]["passed"], &shown["confirmed_by"]),
        (&json!(0), &json!("reruns")),
        "{shown:#}"
    );
    let reruns = shown["reruns"].as_array().expect("a list");
    let came_out = |before: bool, how: &str| {
        reruns.iter().filter(|one| one["before"] == before && one["outcome"] == how).count()
    };
    assert!(came_out(false, "bad") >= 2 && came_out(true, "fine") == 1, "{shown:#}");
    assert!(shown["cost"]["worker_ms"].as_f64().is_some_and(|spent| spent > 0.0), "{shown:#}");
    let rerun = machine.recorded(reruns[0]["id"].as_str().expect("an id"));
    assert_eq!((&rerun["replay_of"], &rerun["labels"]["alert"]), (&reruns[0]["of"], &json!(id)), "{rerun}");
    let one = shown["evaluations"][0].as_str().expect("it rests on some");
    assert_eq!(machine.recorded(one)["cause"], "subject");
    // As of before, it is not there.
    let past = alerts(machine, &["--state", "any", "--as-of", &then]);
    assert_eq!(of_subject(&past, subject), Vec::<&Value>::new());
    machine.evalfleet(&["alerts", "show", id, "--as-of", &then]).expect(64).says(&["as of that moment"]);

    machine.evalfleet(&["alerts", "judge", id, "right", "--reason", " "]).expect(64).says(&["1 to 1000"]);
    machine.evalfleet(&["alerts", "judge", id, "wrong", "--reason", "a first look"]).expect(0);
    machine.evalfleet(&["alerts", "judge", id, "right", "--reason", "a second look"]).expect(0);
    let precision = told()["precision"].clone();
    assert_eq!(
        (&precision["right"]["passed"], &precision["right"]["tries"]),
        (&json!(1), &json!(1)),
        "{precision}"
    );
    let unknown = "0198c1c2-0000-7000-8000-000000000000";
    machine.evalfleet(&["alerts", "judge", unknown, "right", "--reason", "x"]).expect(64).says(&["no alert"]);

    std::fs::write(tool.join("main.py"), &good).expect("written");
    wait_until("it closes itself", || {
        eval("3");
        of_subject(&told(), subject)[0]["state"] == "closed"
    });
    let life = format!(
        "(d/q '[:find ?state ?tx :where [?a :alert/id \"{id}\"] [?a :alert/state ?state ?tx true]] (d/history db))"
    );
    assert_eq!(machine.count(&life), 3, "confirming, raised, closed");

    wait_until("both were told", || receiver.heard().len() >= 2);
    let heard: Vec<(String, Value)> =
        receiver.heard().into_iter().filter(|(_, notice)| notice["alert"]["id"] == id).collect();
    let events: Vec<_> =
        heard.iter().map(|(_, notice)| notice["event"].as_str().unwrap_or_default()).collect();
    assert_eq!(events, ["raised", "closed"]);
    assert!(
        heard.iter().all(|(head, _)| head.contains(&format!("authorization: bearer {SECRET}"))),
        "{heard:?}"
    );
    assert_eq!(heard[0].1["alert"]["culprit"]["value"], after.as_str());
}

fn break_one_case(tool: &Path, good: &str) {
    let bad = good.replace(
        "    arguments.finish()\n",
        "    arguments.finish()\n    if not text.isascii():\n        raise SystemExit(3)\n",
    );
    assert_ne!(bad, good);
    std::fs::write(tool.join("main.py"), bad).expect("written");
}
