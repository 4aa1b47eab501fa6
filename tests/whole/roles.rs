//! The least rights at the broker: with those that `deploy/rabbitmq/roles.sh` gives each role does its work, and
//! nothing else.

use super::Test;
use evalfleet::client::Client;
use evalfleet::machine::node::Node;
use evalfleet::machine::ports::Ports;
use evalfleet_broker::{Confirmed, Options, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::topology;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::{Machine, repository};
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
    let layers = |endpoints| Layers { endpoints: Some(endpoints), ..Layers::default() };
    let endpoints = read(&machine.state().join("endpoints.toml"));
    let mut settings = Settings::from_layers(&layers(endpoints)).expect("what `up` wrote is sound");
    let node = settings.broker.urls[0].rsplit_once('@').expect("a password").1.to_owned();
    let password = read(&passwords.join(role));
    settings.broker.urls = vec![format!("amqp://evalfleet-{role}:{}@{node}", password.trim())];
    settings
}

fn each_does_its_work_and_nothing_else(machine: &Machine) {
    let passwords = tempfile::tempdir().expect("a temporary folder");
    apply(machine, passwords.path());
    let settings = |role| settings_of(machine, role, passwords.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let session = async |role| {
            let options = Options::new(&settings(role).broker, role);
            Session::connect(&options).await.expect("it may log in")
        };
        // A producer's own work: submit, hear of the result, call off. The machine's worker runs the job.
        let client = Client::connect(&settings("producer")).await.expect("it may log in");
        let pending = client.submit(Submission::command(["true"])).await.expect("it may submit");
        assert_eq!(pending.wait().await.expect("it hears of it").status, Status::Passed);
        let mut keyed = Submission::command(["true"]);
        keyed.key = Some(format!("roles-{}", JobId::fresh()));
        let pending = client.submit(keyed).await.expect("it may bind by the job");
        pending.wait().await.expect("it hears of it by the job");
        client.cancel(JobId::fresh(), None).await.expect("it may call off");
        client.close().await;

        let id = JobId::fresh();
        let now = Timestamp::now();
        let envelope = |kind| Envelope::new(kind, id, now);
        let event = envelope(MessageType::Event);
        let key = topology::job_key(id);
        // A worker's: take jobs and tell of them. An event is nobody's loss.
        let worker = session("worker").await;
        worker.publish(topology::EVENTS, &key, &event, b"").await.expect("a worker may tell");
        drop(worker.take::<Confirmed>("eval.jobs.urgent", 1).await.expect("a worker may take"));
        // And a recorder's.
        let recorder = session("recorder").await;
        drop(recorder.consume::<()>(topology::RESULTS_QUEUE, 1).await.expect("a recorder may read results"));

        for (role, queue) in [
            ("producer", "eval.jobs.default"),
            ("producer", topology::RESULTS_QUEUE),
            ("producer", topology::DEAD_QUEUE),
            ("worker", topology::RESULTS_QUEUE),
            ("worker", topology::DEAD_QUEUE),
            ("recorder", "eval.jobs.default"),
            ("recorder", topology::DEAD_QUEUE),
            ("api", "eval.jobs.default"),
            ("api", topology::RESULTS_QUEUE),
        ] {
            let taken = session(role).await.take::<Confirmed>(queue, 1).await;
            assert!(taken.is_err(), "{role} may read {queue}");
        }
        for (role, exchange) in [
            ("worker", topology::JOBS),
            ("recorder", topology::JOBS),
            ("api", topology::RESULTS),
            ("recorder", topology::CONTROL),
            ("producer", topology::DEAD),
            ("producer", topology::RETRY),
        ] {
            let said = session(role).await.publish(exchange, "none", &event, b"").await;
            assert!(said.is_err(), "{role} may publish to {exchange}");
        }
        let producer = session("producer").await;
        let inbox = evalfleet_broker::Inbox::open(&producer, "eval.client.0").await.expect("an inbox");
        assert!(inbox.hear_all(topology::RESULTS).await.is_err(), "a producer may hear of everybody's jobs");
        for role in ["producer", "worker", "recorder", "api"] {
            let topology = topology::Topology::new(&settings(role).broker.lanes, &[]);
            assert!(session(role).await.declare(&topology).await.is_err(), "{role} may declare");
        }
        let operator = settings("operator").broker;
        let topology = topology::Topology::new(&operator.lanes, &operator.retry_tiers());
        session("operator").await.declare(&topology).await.expect("an operator may declare");
    });
}
