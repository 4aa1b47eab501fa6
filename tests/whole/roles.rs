//! The least rights at the broker: with those that `deploy/rabbitmq/roles.sh` gives each role does its work, and
//! nothing else.

use super::Test;
use super::dead::{job, letter};
use super::faults::dead_letter;
use evalfleet::client::Client;
use evalfleet::dead::{Action, Office, Order, Which};
use evalfleet::machine::node::Node;
use evalfleet::machine::ports::Ports;
use evalfleet_broker::transport::Start;
use evalfleet_broker::{Confirmed, Error, Inbox, Log, Options, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::control::Control;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::{JobId, Lane};
use evalfleet_proto::job::Job;
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::topology::{self, Topology};
use evalfleet_proto::wire;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::{Machine, repository, wait_until};
use std::path::Path;
use std::process::Command;

pub(crate) const ALL: &[(&str, Test)] =
    &[("roles::each_does_its_work_and_nothing_else", each_does_its_work_and_nothing_else)];

/// Gives the machine's broker the users, and their passwords.
fn apply(machine: &Machine, passwords: &Path) {
    let ports = std::fs::read_to_string(machine.state().join("ports.json")).expect("the machine is up");
    let ports: Ports = serde_json::from_str(&ports).expect("its ports");
    let state = machine.state().canonicalize().expect("it is there");
    let node = Node::set_up(&state, ports).expect("it is set up as it was");
    for _ in 0..2 {
        let mut command = Command::new(repository().join("deploy/rabbitmq/roles.sh"));
        command.arg(passwords).envs(node.environment());
        command.env("RABBITMQCTL", format!("/usr/lib/rabbitmq/bin/rabbitmqctl -n {}", node.name()));
        let output = command.output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The machine's settings, as a part has them that is of this role.
fn settings_of(machine: &Machine, role: &str, passwords: &Path) -> Settings {
    let read = |path: &Path| std::fs::read_to_string(path).expect("it was written");
    let endpoints = Some(read(&machine.state().join("endpoints.toml")));
    // The environment names the tiers of retries that there are.
    let layers = Layers { endpoints, environment: machine.environment().to_vec(), ..Layers::default() };
    let mut settings = Settings::from_layers(&layers).expect("what `up` wrote is sound");
    let node = settings.broker.urls[0].rsplit_once('@').expect("a password").1.to_owned();
    let password = read(&passwords.join(role));
    settings.broker.urls = vec![format!("amqp://evalfleet-{role}:{}@{node}", password.trim())];
    settings
}

fn each_does_its_work_and_nothing_else(machine: &Machine) {
    let passwords = tempfile::tempdir().expect("a temporary folder");
    apply(machine, passwords.path());
    let settings = |role: &str| settings_of(machine, role, passwords.path());
    run(a_producers_work(settings("producer")));
    let told = Told::new();
    run(a_workers_work(settings("worker"), &told));
    run(a_recorders_work(settings("recorder")));
    // What was published was heard.
    assert_eq!(machine.recorded(&told.retried.id.to_string())["status"], "passed");
    assert_eq!(machine.recorded(&told.reported.id.to_string())["status"], "passed");
    let letter = dead_letter(machine, &told.buried.id.to_string());
    assert_eq!(letter["reason"], "attempts_spent", "{letter}");
    run(an_apis_work(settings("api"), &told));
    wait_until("the letter is told to be dropped", || {
        dead_letter(machine, &told.buried.id.to_string())["state"] == "dropped"
    });
    run(an_operators_work(settings("operator")));
    run(what_is_refused(&settings));
}

/// Who blocks meanwhile loses its connection: each role's work has a runtime of its own.
fn run(what: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Box::pin(what));
}

/// What a worker tells of three jobs.
struct Told {
    retried: Job,
    reported: Job,
    buried: Job,
}

impl Told {
    fn new() -> Self {
        let job = || job(r#"{"kind": "command", "argv": ["true"]}"#);
        Self { retried: job(), reported: job(), buried: job() }
    }
}

async fn connected(settings: &Settings) -> Session {
    Session::connect(&Options::new(&settings.broker, "roles")).await.expect("it may log in")
}

/// Submits, hears of the result, calls off. The machine's worker runs the jobs.
async fn a_producers_work(settings: Settings) {
    let client = Client::connect(&settings).await.expect("it may log in");
    let pending = client.submit(Submission::command(["true"])).await.expect("it may submit");
    assert_eq!(pending.wait().await.expect("it hears of it").status, Status::Passed);
    let mut keyed = Submission::command(["true"]);
    keyed.key = Some(format!("roles-{}", JobId::fresh()));
    let pending = client.submit(keyed).await.expect("it may bind by the job");
    pending.wait().await.expect("it hears of it by the job");
    client.cancel(JobId::fresh(), None).await.expect("it may call off");
    client.close().await;
}

/// Takes jobs, hears what is called off, and tells what became of them.
async fn a_workers_work(settings: Settings, told: &Told) {
    let worker = connected(&settings).await;
    for lane in &settings.broker.lanes {
        drop(worker.take::<Confirmed>(&topology::jobs_queue(lane), 1).await.expect("it may take jobs"));
    }
    let mut log = Log::open(&worker, topology::CONTROL_LOG, Start::First).await.expect("it may read the log");
    let mark = Envelope::new(MessageType::Control, JobId::fresh(), Timestamp::now());
    let word = wire::encode(&Control::Mark { nonce: mark.id.to_string() });
    worker.publish(topology::CONTROL, "mark", &mark, &word).await.expect("it may leave a mark");
    while log.next().await.expect("the log goes on").envelope.is_none_or(|envelope| envelope.id != mark.id) {}

    let now = Timestamp::now();
    // An event is nobody's loss.
    let event = Envelope::new(MessageType::Event, told.reported.id, now);
    let key = topology::job_key(told.reported.id);
    worker.publish(topology::EVENTS, &key, &event, b"").await.expect("it may tell of progress");
    let result = Evaluation::of_job(&told.reported, now, (Status::Passed, None), Vec::new());
    let envelope = Envelope::new(MessageType::Result, result.id, now);
    worker.publish(topology::RESULTS, &key, &envelope, &wire::encode(&result)).await.expect("it may report");

    let envelope = Envelope::of_job(&told.retried, settings.broker.attempts_max, now);
    let key = topology::retry_key(&told.retried.lane, settings.broker.retry_tiers()[0]);
    let copy = wire::encode(&told.retried);
    worker.publish(topology::RETRY, &key, &envelope, &copy).await.expect("it may ask for another try");

    let letter = letter(&told.buried, "w1", "the VM died");
    let (key, envelope) = (topology::dead_key(&letter.lane), Envelope::of_dead(&letter));
    worker.publish(topology::DEAD, &key, &envelope, &wire::encode(&letter)).await.expect("it may give up");
    worker.close().await;
}

/// Reads results and dead letters; buries what cannot be recorded, and reports what the broker gave up.
async fn a_recorders_work(settings: Settings) {
    let recorder = connected(&settings).await;
    for queue in [topology::RESULTS_QUEUE, topology::DEAD_RECORD_QUEUE] {
        drop(recorder.consume::<()>(queue, 1).await.expect("it may read what is to be recorded"));
    }
    let now = Timestamp::now();
    let job = job(r#"{"kind": "command", "argv": ["true"]}"#);
    let result = Evaluation::of_job(&job, now, (Status::Passed, None), Vec::new());
    let envelope = Envelope::new(MessageType::Result, result.id, now);
    let (key, body) = (topology::job_key(result.id), wire::encode(&result));
    recorder.publish(topology::RESULTS, &key, &envelope, &body).await.expect("it may report");
    // Under a key that nothing is bound to: a letter of no job would be kept for ever.
    recorder.publish(topology::DEAD, "none", &envelope, b"").await.expect("it may bury");
    recorder.close().await;
}

/// Submits and calls off for others, looks at dead letters and handles them.
async fn an_apis_work(settings: Settings, told: &Told) {
    let client = Client::connect(&settings).await.expect("it may log in");
    let pending = client.submit(Submission::command(["true"])).await.expect("it may submit");
    assert_eq!(pending.wait().await.expect("it hears of it").status, Status::Passed);
    client.cancel(JobId::fresh(), None).await.expect("it may call off");
    client.close().await;
    let office = Office::open(&settings).await.expect("it may log in");
    let order = Order {
        which: Which::Of(vec![told.buried.id.to_string()]),
        action: Action::Drop { reason: "it was a trial".to_owned() },
        dry: false,
        rate: None,
        max: None,
    };
    let mut outcomes = Vec::new();
    office.carry_out(&order, |outcome| outcomes.push(outcome.clone())).await.expect("it may handle letters");
    assert!(outcomes.len() == 1 && outcomes[0].refused.is_none(), "{outcomes:?}");
    office.close().await;
}

/// Declares everything, and looks at what nobody else may.
async fn an_operators_work(settings: Settings) {
    let operator = connected(&settings).await;
    let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
    operator.declare(&topology).await.expect("it may declare");
    drop(operator.take::<()>(topology::UNROUTABLE, 1).await.expect("it may look at what had no place"));
    operator.close().await;
}

/// Not merely an error: the broker's refusal.
#[track_caller]
fn refused<T>(what: &str, answer: Result<T, Error>) {
    let said = answer.err().unwrap_or_else(|| panic!("{what} is allowed")).to_string();
    assert!(said.replace('-', "_").contains("ACCESS_REFUSED"), "{what}: {said}");
}

async fn what_is_refused(settings: &impl Fn(&str) -> Settings) {
    let jobs = topology::jobs_queue(&Lane::default_lane());
    // An error closes the channel that it is on: each gets a connection of its own.
    for (role, queue) in [
        ("producer", jobs.as_str()),
        ("producer", topology::RESULTS_QUEUE),
        ("producer", topology::DEAD_QUEUE),
        ("worker", topology::RESULTS_QUEUE),
        ("worker", topology::DEAD_QUEUE),
        ("worker", topology::UNROUTABLE),
        ("recorder", jobs.as_str()),
        ("recorder", topology::DEAD_QUEUE),
        ("api", jobs.as_str()),
        ("api", topology::RESULTS_QUEUE),
    ] {
        let session = connected(&settings(role)).await;
        refused(&format!("{role} taking from {queue}"), session.take::<()>(queue, 1).await);
        refused(&format!("{role} consuming {queue}"), session.consume::<()>(queue, 1).await);
    }
    let event = Envelope::new(MessageType::Event, JobId::fresh(), Timestamp::now());
    for (role, exchange) in [
        ("worker", topology::JOBS),
        ("recorder", topology::JOBS),
        ("recorder", topology::RETRY),
        ("recorder", topology::CONTROL),
        ("api", topology::RESULTS),
        ("api", topology::RETRY),
        ("producer", topology::DEAD),
        ("producer", topology::RETRY),
        ("producer", topology::EVENTS),
    ] {
        let session = connected(&settings(role)).await;
        let said = session.publish(exchange, "none", &event, b"").await;
        refused(&format!("{role} publishing to {exchange}"), said);
    }
    let producer = connected(&settings("producer")).await;
    let inbox = Inbox::open(&producer, "eval.client.0").await.expect("an inbox");
    refused("a producer hearing of everybody's jobs", inbox.hear_all(topology::RESULTS).await);
    for role in ["producer", "worker", "recorder", "api"] {
        let topology = Topology::new(&settings(role).broker.lanes, &[]);
        refused(&format!("{role} declaring"), connected(&settings(role)).await.declare(&topology).await);
    }
}
