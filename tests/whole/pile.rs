//! A pile of ten thousand dead letters that a broken image left: searched, and replayed once the image is mended, with
//! the command killed on the way. Workers' VMs are stand-ins, for their number; all else is real. Prints what it took.

use evalfleet::dead::AT_ONCE;
use evalfleet_proto::job::{Job, Task};
use evalfleet_service::settings::Settings;
use evalfleet_tests::machine::{Machine, signal, wait_until};
use evalfleet_tests::stand_in::{self, Answer, Comes};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const LONG: (&str, fn()) = (
    "pile::ten_thousand_are_searched_and_replayed_once_the_image_is_mended",
    ten_thousand_are_searched_and_replayed_once_the_image_is_mended,
);

/// What makes the program of the trials such a worker.
pub(crate) const ROLE: &str = "stand-in-worker";
/// The file that is there as long as the image is broken.
const BROKEN: &str = "TRIAL_BROKEN_IMAGE";
const PILE: usize = 10_000;
const WORKERS: usize = 2;
const TOOLS: [&str; 4] = ["make", "cargo", "pytest", "npm"];
const ERROR: &str = "the image base cannot be read: no such file";

/// Jobs fail as long as the image is broken, by no fault of theirs; only calls of one tool, where the file names it.
#[derive(Debug)]
struct AsTheImageIs(PathBuf);

impl Answer for AsTheImageIs {
    fn of(&mut self, job: &Job) -> Comes {
        let Ok(broken) = std::fs::read_to_string(&self.0) else { return Comes::Exits(0) };
        let called = match &job.task {
            Task::FunctionCall(call) => call.name.as_str(),
            Task::Command(_) | Task::Unknown => "",
        };
        if broken.is_empty() || broken == called { Comes::Fault(ERROR.to_owned()) } else { Comes::Exits(0) }
    }
}

/// Is such a worker until told to end.
pub(crate) async fn work(settings: Settings) -> anyhow::Result<()> {
    stand_in::work(settings, AsTheImageIs(std::env::var_os(BROKEN).unwrap_or_default().into())).await
}

/// A worker, ended when dropped.
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts one of this name, whose jobs break as long as the file `broken` is there.
    pub(crate) fn start(machine: &Machine, name: &str, broken: &Path) -> Self {
        let log = std::fs::File::create(machine.state().join(format!("{name}.log")));
        let mut worker = Command::new(std::env::current_exe().expect("this program"));
        worker.arg(ROLE).envs(machine.environment().iter().cloned()).env(BROKEN, broken);
        worker.env("EVALFLEET_WORKER__NAME", name).stdin(Stdio::null()).stdout(Stdio::null());
        Self(worker.stderr(log.expect("a log")).spawn().expect("this program starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        signal("TERM", self.0.id());
        let _ = self.0.wait();
    }
}

/// How many letters fit, and how long the command took to show the first of them.
fn total(machine: &Machine, terms: &[&str]) -> (usize, Duration) {
    let mut arguments = vec!["dead", "list", "--limit", "50"];
    arguments.extend(terms.iter().flat_map(|term| ["--where", term]));
    let asked = Instant::now();
    let answer = machine.evalfleet(&arguments).expect(0);
    let of = answer.err.split(" of ").nth(1).and_then(|rest| rest.split(' ').next());
    (of.and_then(|of| of.parse::<usize>().ok()).expect("a count"), asked.elapsed())
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(1800), "waited in vain: {what}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn ten_thousand_are_searched_and_replayed_once_the_image_is_mended() {
    let machine = Machine::new();
    machine.evalfleet(&["up", "--detach", "--only", "broker,gateway,recorder,api"]).expect(0);
    let broken = machine.state().join("broken");
    std::fs::write(&broken, "").expect("it can be written");
    let start = |number| Worker::start(&machine, &format!("stand-in-{number}"), &broken);
    let _workers: Vec<Worker> = (1..=WORKERS).map(start).collect();
    let say = |what: &str, since: Instant| println!("pile: {what}: {:.1} s", since.elapsed().as_secs_f64());

    let mut documents = String::new();
    for number in 0..PILE {
        let tool = TOOLS[number % TOOLS.len()];
        writeln!(documents, r#"{{"kind": "command", "argv": ["{tool}"], "batch": "pile"}}"#).expect("text");
    }
    let begun = Instant::now();
    machine.evalfleet_with(&documents, &["submit", "-"]).expect(0);
    say(&format!("{PILE} jobs submitted"), begun);
    until("all are dead and recorded", || total(&machine, &[]).0 >= PILE);
    say("all tried twice, given up and recorded", begun);

    let (found, took) =
        total(&machine, &["tool=cargo", "error=no such file", "batch=pile", "cause=infrastructure"]);
    assert_eq!(found, PILE / TOOLS.len());
    println!(
        "pile: the first page of {found} of one tool and error, command and all: {} ms",
        took.as_millis()
    );

    std::fs::remove_file(&broken).expect("the image is mended");
    let arguments = ["dead", "replay", "--where", "batch=pile"];
    let kills = [3_u64, 5, 8];
    for seconds in kills {
        let mut replay = machine.start(&arguments, false);
        // Its answers are not read, and must not hold it up.
        let out = replay.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || std::io::copy(&mut { out }, &mut std::io::sink()));
        std::thread::sleep(Duration::from_secs(seconds));
        replay.kill().expect("it is a process of ours");
        replay.wait().expect("it ended");
        reader.join().expect("no panic").expect("it could be read");
    }
    let begun = Instant::now();
    let before = machine.status()["queues"]["eval.dead"]["messages"].as_u64().expect("a count");
    assert!(before > 0 && before < PILE as u64, "{before} are left: it was to be killed in the middle");
    wait_until("the rest is replayed", || machine.evalfleet(&arguments).code == 0);
    say(&format!("killed {} times in the middle, then the last {before} replayed", kills.len()), begun);
    assert_eq!(machine.status()["queues"]["eval.dead"]["messages"].as_u64(), Some(0));
    wait_until("all are told to be replayed", || total(&machine, &["state=replayed"]).0 == PILE);

    let ended = |status: &str| {
        let query =
            format!("[:find ?e :where [?e :evaluation/status :{status}] [?e :evaluation/kind :command]]");
        machine.count(&query)
    };
    until("all are recorded as passed", || ended("passed") >= PILE);
    say("and all evaluated", begun);
    until("nothing is under way", || {
        machine.status()["queues"]["eval.jobs.default"]["messages"].as_u64() == Some(0)
    });
    // Every letter has one record of its death and one of its replay, though a job may have been queued twice.
    assert_eq!((ended("passed"), ended("dead")), (PILE, PILE));
    let log = |number| {
        std::fs::read_to_string(machine.state().join(format!("stand-in-{number}.log"))).unwrap_or_default()
    };
    let run: usize = (1..=WORKERS).map(|number| log(number).matches("evaluated job=").count()).sum();
    let twice = run.saturating_sub(PILE);
    assert!(twice <= kills.len() * AT_ONCE, "{twice} jobs were run twice");
    println!("pile: of {PILE} replays {PILE} recorded as passed, none twice; {twice} run twice under one id");
}
