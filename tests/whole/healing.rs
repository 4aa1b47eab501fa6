//! Self-healing end to end: what of the fleet is not well is found, healed, seen to be well, and put back by a person;
//! no subject is blamed. Workers' VMs are stand-ins, so that they break as the trials want; all else is real. Each trial
//! prints the time that it took.

use super::faults::{log, on_broker};
use super::pile::Worker;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::{Evaluation, Evidence, Source};
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::{Timestamp, topology, wire};
use evalfleet_tests::machine::{Machine, programs, signal, wait_until};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) const ALONE: &[(&str, fn())] = &[
    (
        "healing::one_bad_worker_among_three_is_found_and_drained_and_no_subject_is_blamed",
        one_bad_worker_among_three,
    ),
    ("healing::what_is_only_proposed_is_done_once_a_person_says_so", only_proposed),
    ("healing::a_poison_tool_goes_into_quarantine_and_is_let_out", a_poison_tool),
    ("healing::an_image_that_turned_bad_is_rolled_back_and_forth", an_image_that_turned_bad),
    ("healing::a_dead_gateway_and_a_silent_recorder_are_seen_and_told", a_dead_gateway_and_a_silent_recorder),
];

const BAD: &str = "steady-2";
/// Everything but workers.
const ALL: &str = "broker,gateway,recorder,api";
const JOBS: usize = 60;
/// The most results that a recorder has in its hands.
const HELD: usize = 200;

/// A machine without VMs, whose three workers are stand-ins.
struct Fleet {
    /// Ended before their machine is.
    _workers: Vec<Worker>,
    machine: Machine,
    /// Those that are bad break their jobs as long as this file is there.
    broken: PathBuf,
}

/// A machine with these parts that heals, with these settings besides.
pub(crate) fn healing_machine(settings: &[(&str, &str)], parts: &str) -> Machine {
    // Long enough that a worker is drained before what it broke is tried again.
    let machine = Machine::new()
        .with("EVALFLEET_BROKER__RETRY_TIERS", "3s")
        .with("EVALFLEET_INSIGHT__ALERTS__WATCH", "true")
        .with("EVALFLEET_INSIGHT__HEALING__MODE", "act")
        // The templates' folder is that of all trials: what fails there is not about these.
        .with("EVALFLEET_INSIGHT__HEALING__RULES__BAD_TEMPLATE", "off");
    let machine = settings.iter().fold(machine, |machine, (name, value)| machine.with(name, value));
    machine.evalfleet(&["up", "--detach", "--only", parts]).expect(0);
    machine
}

impl Fleet {
    /// Starts the workers: one of them breaks whatever it takes.
    fn up(settings: &[(&str, &str)]) -> Self {
        Self::with(healing_machine(settings, ALL), |name| name == BAD, "")
    }

    /// Starts the workers, those that are bad break what `broken` names.
    fn with(machine: Machine, is_bad: impl Fn(&str) -> bool, what: &str) -> Self {
        let (broken, sound) = (machine.state().join("broken"), machine.state().join("sound"));
        std::fs::write(&broken, what).expect("it can be written");
        let start = |name: &str| Worker::start(&machine, name, if is_bad(name) { &broken } else { &sound });
        let workers = ["steady-1", BAD, "steady-3"].map(start).into();
        Self { _workers: workers, machine, broken }
    }

    /// Submits jobs of one tool, and waits until all are recorded.
    fn work(&self, batch: &str) {
        let mut documents = String::new();
        for _ in 0..JOBS {
            let labels = json!({"tool": "steady", "suite": "s", "case": "c"});
            let job = json!({"kind": "command", "argv": ["true"], "batch": batch, "labels": labels});
            writeln!(documents, "{job}").expect("text");
        }
        self.machine.evalfleet_with(&documents, &["submit", "-"]).expect(0);
        wait_until("all jobs are recorded", || self.count(batch, "") == JOBS);
    }

    /// How many of a batch's jobs are so.
    fn count(&self, batch: &str, clauses: &str) -> usize {
        let query = format!(
            "[:find ?e :where [?b :evaluation/id \"{batch}\"] [?e :evaluation/batch ?b] \
             [?e :evaluation/status _] {clauses}]"
        );
        self.machine.count(&query)
    }

    fn healings(&self, arguments: &[&str]) -> Value {
        healings(&self.machine, arguments)
    }

    fn show(&self, id: &str) -> Value {
        show(&self.machine, id)
    }

    /// The one healing that there is, once it is in this state.
    fn healing(&self, state: &str) -> Value {
        healing(&self.machine, state)
    }

    /// Nothing that is evaluated is suspected, and every job has passed.
    fn nobody_is_blamed(&self, batches: &[&str]) {
        for batch in batches {
            assert_eq!(self.count(batch, "[?e :evaluation/status :passed]"), JOBS, "{batch}");
        }
        let alerts = self.machine.evalfleet(&["alerts", "--state", "any", "--json"]).expect(0).json();
        assert_eq!(alerts["alerts"], json!([]));
    }
}

pub(crate) fn healings(machine: &Machine, arguments: &[&str]) -> Value {
    machine.evalfleet(&[&["healing", "list", "--json"], arguments].concat()).expect(0).json()
}

fn show(machine: &Machine, id: &str) -> Value {
    machine.evalfleet(&["healing", "show", id, "--json"]).expect(0).json()
}

/// The one healing that there is, once it is in this state.
fn healing(machine: &Machine, state: &str) -> Value {
    let mut found = Value::Null;
    wait_until(&format!("a healing is {state}"), || {
        found = healings(machine, &[])["healings"][0].clone();
        found["state"] == state
    });
    let all = healings(machine, &[]);
    assert_eq!(all["total"], 1, "{all:#}");
    found
}

/// Decides about a healing, and gives it as it stands then.
fn decide(machine: &Machine, what: &str, id: &str, reason: &str) -> Value {
    machine.evalfleet(&["healing", what, id, "--reason", reason, "--json"]).expect(0).json()
}

fn id(healing: &Value) -> String {
    healing["id"].as_str().expect("an id").to_owned()
}

fn by(worker: &str) -> String {
    format!("[?e :evaluation/worker ?w] [?w :worker/id \"{worker}\"]")
}

fn say(what: &str, healing: &Value, begun: Instant) {
    let seconds =
        |key: &str| healing[key].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms / 1000.0));
    println!(
        "healing: {what}: applied {} s after it was found, well after {} s; {:.1} s since the first job was submitted",
        seconds("took_ms"),
        seconds("well_ms"),
        begun.elapsed().as_secs_f64()
    );
}

fn one_bad_worker_among_three() {
    // The API is killed on the way, which would be a healing of its own.
    let fleet = Fleet::up(&[("EVALFLEET_INSIGHT__HEALING__RULES__DEAD_PART", "off")]);
    let then = fleet.healings(&[])["basis_t"].to_string();
    let begun = Instant::now();
    fleet.work("first");
    let healing = fleet.healing("applied");
    let took = begun.elapsed();
    assert_eq!(
        (&healing["detector"], &healing["subject"], &healing["remedy"], &healing["by"]),
        (&json!("bad_worker"), &json!(format!("worker={BAD}")), &json!("drain"), &json!("evalfleet")),
        "{healing:#}"
    );
    println!("healing: one bad worker of three is drained {:.1} s after the first job", took.as_secs_f64());

    // What broke there is done elsewhere, and what comes now goes elsewhere.
    fleet.work("second");
    assert_eq!(fleet.count("second", &by(BAD)), 0, "it takes no more jobs");
    let name = id(&healing);
    wait_until("all is seen to be well", || fleet.show(&name)["well"].is_string());
    let shown = fleet.show(&name);
    say("one bad worker of three", &shown, begun);
    let evidence = &shown["evidence"][0];
    assert_eq!(evidence["count"], evidence["of"], "each of its tries broke: {shown:#}");
    let seen = evidence["evaluations"][0].as_str().expect("it rests on some");
    let one = fleet.machine.recorded(seen);
    assert_eq!((&one["status"], &one["attempts"][0]["worker"]), (&json!("passed"), &json!(BAD)), "{one:#}");
    fleet.nobody_is_blamed(&["first", "second"]);
    assert_eq!(fleet.healings(&["--as-of", &then])["total"], 0);

    // Whoever heals next finds nothing anew.
    let killed = fleet.machine.kill("api");
    fleet.machine.wait_for_successor("api", killed);
    fleet.work("third");
    assert_eq!((fleet.healing("applied")["id"].as_str(), fleet.count("third", &by(BAD))), (Some(&*name), 0));

    // A person mends it and puts it back.
    std::fs::remove_file(&fleet.broken).expect("it is mended");
    fleet.machine.evalfleet(&["healing", "undo", &name, "--reason", " "]).expect(64).says(&["1 to 1000"]);
    fleet.machine.evalfleet(&["healing", "apply", &name, "--reason", "x"]).expect(64).says(&["is applied"]);
    let undone = decide(&fleet.machine, "undo", &name, "its disk was changed");
    assert_eq!(
        (&undone["state"], &undone["decision"]["reason"]),
        (&json!("undone"), &json!("its disk was changed")),
        "{undone:#}"
    );
    let mut round = 0;
    wait_until("it takes jobs again", || {
        round += 1;
        let batch = format!("after-{round}");
        fleet.work(&batch);
        fleet.count(&batch, &by(BAD)) > 0
    });
    // What it did before is not held against it.
    assert_eq!(fleet.healing("undone")["id"].as_str(), Some(&*name));
    let life = format!(
        "(d/q '[:find ?state ?tx :where [?h :healing/id \"{name}\"] [?h :healing/state ?state ?tx true]] (d/history db))"
    );
    assert_eq!(fleet.machine.count(&life), 3, "proposed, applied, undone");
    fleet.machine.evalfleet(&["healing", "undo", &name, "--reason", "x"]).expect(64).says(&["is undone"]);
}

fn only_proposed() {
    // As long as nothing is done, a job may meet the bad worker again and again.
    let fleet = Fleet::up(&[
        ("EVALFLEET_INSIGHT__HEALING__RULES__BAD_WORKER", "propose"),
        ("EVALFLEET_BROKER__ATTEMPTS_MAX", "30"),
    ]);
    let begun = Instant::now();
    fleet.work("first");
    let healing = fleet.healing("proposed");
    let name = id(&healing);
    assert_eq!((&healing["mode"], &healing["applied"]), (&json!("propose"), &Value::Null), "{healing:#}");
    println!("healing: a bad worker is proposed to be drained after {:.1} s", begun.elapsed().as_secs_f64());
    // Nothing is done: it breaks jobs as before, and they are done elsewhere.
    fleet.work("second");
    let broke = |batch: &str| fleet.count(batch, "[?e :evaluation/attempt ?n] [(> ?n 1)]");
    assert!(broke("second") > 0, "it still takes jobs");
    assert_eq!(fleet.show(&name)["state"], "proposed");

    let applied = decide(&fleet.machine, "apply", &name, "so be it");
    assert_eq!(applied["state"], "applied", "{applied:#}");
    assert_ne!(applied["by"], "evalfleet");
    fleet.work("third");
    assert_eq!(broke("third"), 0);
    fleet.nobody_is_blamed(&["first", "second", "third"]);
    say("a bad worker, drained by a person's word", &fleet.show(&name), begun);
}

fn a_poison_tool() {
    let machine = healing_machine(&[], ALL);
    machine.evalfleet(&["image", "build", "base"]).expect(0);
    let fleet = Fleet::with(machine, |_| true, "word_count");
    let begun = Instant::now();
    fleet.work("steady");
    let call =
        json!({"kind": "function_call", "tool": "word_count", "args": {"text": "a b"}, "batch": "poison"});
    let calls = format!("{call}\n").repeat(6);
    fleet.machine.evalfleet_with(&calls, &["submit", "-"]).expect(0);
    // What else there is to do is done meanwhile: it is well on the same workers.
    let mut round = 0;
    wait_until("all its calls are given up", || {
        round += 1;
        fleet.work(&format!("meanwhile-{round}"));
        fleet.count("poison", "[?e :evaluation/status :dead]") == 6
    });
    let healing = fleet.healing("applied");
    assert_eq!(
        (&healing["detector"], &healing["subject"], &healing["remedy"]),
        (&json!("poison_tool"), &json!("tool=word_count"), &json!("quarantine")),
        "{healing:#}"
    );
    let name = id(&healing);
    let refused = fleet.machine.evalfleet(&["call", "word_count", "{\"text\": \"a\"}"]);
    refused.says(&["word_count is in quarantine", &name]);
    fleet.work("after");
    wait_until("all is seen to be well", || fleet.show(&name)["well"].is_string());
    say("a poison tool", &fleet.show(&name), begun);
    let alerts = fleet.machine.evalfleet(&["alerts", "--state", "any", "--json"]).expect(0).json();
    assert_eq!(alerts["alerts"], json!([]), "our own faults are nobody's");

    std::fs::remove_file(&fleet.broken).expect("it is mended");
    assert_eq!(decide(&fleet.machine, "undo", &name, "it is mended")["state"], "undone");
    fleet.machine.evalfleet(&["tool", "quarantined"]).expect(0);
    fleet.machine.evalfleet(&["call", "word_count", "{\"text\": \"a\"}"]).expect(0);
}

/// An image under the digest of another: only its manifest says so.
fn altered(images: &Path, of: &str, digest: &str) {
    let (from, to) = (images.join("base").join(of), images.join("base").join(digest));
    std::fs::create_dir_all(&to).expect("a folder");
    for entry in std::fs::read_dir(&from).expect("an image") {
        let path = entry.expect("a file").path();
        std::fs::hard_link(&path, to.join(path.file_name().expect("a name"))).expect("linked");
    }
    let manifest = std::fs::read_to_string(from.join("manifest.json")).expect("a manifest");
    assert!(manifest.contains(of), "it names its digest");
    std::fs::remove_file(to.join("manifest.json")).expect("unlinked");
    std::fs::write(to.join("manifest.json"), manifest.replace(of, digest)).expect("written");
}

/// Results of two tools, as workers publish them.
fn report(machine: &Machine, image: &str, count: usize, ended: (Status, Option<Cause>)) {
    let mut last = String::new();
    on_broker(machine, async |session| {
        for nth in 0..count {
            let tool = ["one", "other"][nth % 2];
            let labels = json!({"tool": tool, "suite": "s", "case": tool});
            let job =
                super::dead::job(&json!({"kind": "command", "argv": ["x"], "labels": labels}).to_string());
            let evidence =
                ended.1.map(|_| Evidence::new(Source::Host, "it was told so")).into_iter().collect();
            let mut evaluation = Evaluation::of_job(&job, Timestamp::now(), ended, evidence);
            evaluation.provenance.worker = "w-1".to_owned();
            evaluation.provenance.image = Some(format!("sha256:{image}"));
            let envelope = Envelope::new(MessageType::Result, job.id, Timestamp::now());
            let (key, body) = (topology::job_key(job.id), wire::encode(&evaluation));
            session.publish(topology::RESULTS, &key, &envelope, &body).await.expect("confirmed");
            last = job.id.to_string();
        }
    });
    machine.recorded(&last);
}

fn an_image_that_turned_bad() {
    let images = tempfile::tempdir_in(programs().parent().expect("target/")).expect("a folder");
    let shared = programs().parent().expect("target/").join("images/base");
    let old = std::fs::read_link(shared.join("current")).expect("an image is built").display().to_string();
    let new = "ab".repeat(32);
    let base = images.path().join("base");
    std::fs::create_dir_all(base.join(&old)).expect("a folder");
    for entry in std::fs::read_dir(shared.join(&old)).expect("an image") {
        let path = entry.expect("a file").path();
        std::fs::hard_link(&path, base.join(&old).join(path.file_name().expect("a name"))).expect("linked");
    }
    std::os::unix::fs::symlink(&old, base.join("current")).expect("linked");
    let settings = [
        ("EVALFLEET_IMAGES__DIR", &*images.path().display().to_string()),
        ("EVALFLEET_INSIGHT__ALERTS__WATCH", "false"),
    ];
    let machine = healing_machine(&settings, ALL);
    report(&machine, &old, 20, (Status::Passed, None));
    // Built anew, and bad.
    altered(images.path(), &old, &new);
    std::fs::remove_file(base.join("current")).expect("unlinked");
    std::os::unix::fs::symlink(&new, base.join("current")).expect("linked");
    let means = || std::fs::read_link(base.join("current")).expect("a link").display().to_string();
    let begun = Instant::now();
    report(&machine, &new, 12, (Status::Failed, Some(Cause::Subject)));
    let found = healing(&machine, "applied");
    assert_eq!(
        (&found["detector"], &found["subject"], &found["remedy"]),
        (&json!("bad_image"), &json!("image=base"), &json!("roll_back")),
        "{found:#}"
    );
    assert_eq!(means(), old);
    let name = id(&found);
    report(&machine, &old, 6, (Status::Passed, None));
    wait_until("all is seen to be well", || show(&machine, &name)["well"].is_string());
    let shown = show(&machine, &name);
    say("an image that turned bad", &shown, begun);
    assert_eq!(
        (&shown["change"]["from"], &shown["change"]["to"]),
        (&json!(format!("sha256:{new}")), &json!(format!("sha256:{old}"))),
        "{shown:#}"
    );
    assert_eq!(decide(&machine, "undo", &name, "the tools were wrong")["state"], "undone");
    assert_eq!(means(), new);
}

fn a_dead_gateway_and_a_silent_recorder() {
    let machine = healing_machine(&[], ALL);
    let begun = Instant::now();
    let killed = machine.kill("gateway");
    machine.wait_for_successor("gateway", killed);
    println!("healing: a dead gateway is back after {:.1} s", begun.elapsed().as_secs_f64());
    let found = healing(&machine, "over");
    assert_eq!(
        (&found["detector"], &found["subject"], &found["remedy"]),
        (&json!("dead_part"), &json!("part=gateway"), &json!("restart")),
        "{found:#}"
    );
    say("a dead gateway", &found, begun);
    let undo = machine.evalfleet(&["healing", "undo", &id(&found), "--reason", "x"]);
    undo.expect(64).says(&["is over"]);

    let (begun, recorder) = (Instant::now(), machine.pid("recorder"));
    signal("STOP", recorder);
    // More than it may have in its hands: what waits is what the broker has not given out.
    on_broker(&machine, async |session| {
        for _ in 0..HELD + 20 {
            let job = super::dead::job(r#"{"kind": "command", "argv": ["x"]}"#);
            let evaluation = Evaluation::of_job(&job, Timestamp::now(), (Status::Passed, None), Vec::new());
            let envelope = Envelope::new(MessageType::Result, job.id, Timestamp::now());
            let (key, body) = (topology::job_key(job.id), wire::encode(&evaluation));
            session.publish(topology::RESULTS, &key, &envelope, &body).await.expect("confirmed");
        }
    });
    wait_until("it is told in the log", || log(&machine, "api").contains("wait to be recorded"));
    println!("healing: a silent recorder is told of after {:.1} s", begun.elapsed().as_secs_f64());
    signal("CONT", recorder);
    let mut found = Value::Null;
    wait_until("it is recorded, and over", || {
        found = healings(&machine, &["--subject", "part=recorder"])["healings"][0].clone();
        found["state"] == "over"
    });
    assert_eq!(
        (&found["detector"], &found["remedy"]),
        (&json!("silent_recorder"), &json!("alert")),
        "{found:#}"
    );
    say("a silent recorder", &found, begun);
}
