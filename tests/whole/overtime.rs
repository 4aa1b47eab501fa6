//! Jobs that take longer than somebody has patience: the broker, and whoever ends their worker.

use super::broker::another;
use super::faults::{log, on_broker, passed_once};
use evalfleet_proto::ids::Lane;
use evalfleet_proto::topology;
use evalfleet_tests::machine::{Machine, signal, wait_until};
use evalfleet_tests::rabbit::Broker;
use std::path::Path;

pub(crate) const ALONE: &[(&str, fn())] = &[
    ("overtime::a_job_longer_than_the_brokers_patience", a_job_longer_than_the_brokers_patience),
    ("overtime::a_job_longer_than_the_patience_of_rabbitmq_4", a_job_longer_than_the_patience_of_rabbitmq_4),
    ("overtime::a_drain_beyond_its_grace_gives_the_job_back", a_drain_beyond_its_grace_gives_the_job_back),
];

/// A broker that looks every second, and takes a job from whoever has held it for five.
const IMPATIENT: &str = "[{rabbit, [{consumer_timeout, 5000}, {channel_tick_interval, 1000}]}].\n";

fn submitted(machine: &Machine, seconds: u32) -> String {
    let document = format!(
        r#"{{"kind": "command", "argv": ["sh", "-c", "sleep {seconds}; echo done"], "limits": {{"wall": "5m"}}}}"#
    );
    machine.evalfleet_with(&document, &["submit", "-"]).expect(0).out.trim().to_owned()
}

fn took(id: &str) -> String {
    format!("took a job job={id}")
}

fn a_job_longer_than_the_brokers_patience() {
    outlasts(None);
}

fn a_job_longer_than_the_patience_of_rabbitmq_4() {
    match another() {
        Some(root) => outlasts(Some(&root)),
        None => eprintln!("skipped: EVALFLEET_TEST_RABBITMQ names no root with RabbitMQ 4"),
    }
}

/// The job is taken away from its worker, which has its result all the same; it answers the job with that when it is
/// handed out again, and nobody is blamed.
fn outlasts(root: Option<&Path>) {
    let broker = Broker::start(root, Some(IMPATIENT));
    if broker.major() >= 4 {
        // Here the queue's own patience counts, or a policy's where that is less.
        let policy = r#"{"consumer-timeout": 5000}"#;
        broker.ctl(&["set_policy", "impatient", r"^eval\.jobs\.", policy, "--apply-to", "queues"]);
    }
    let machine = Machine::new().with("EVALFLEET_BROKER__URLS", &broker.url());
    machine.evalfleet(&["image", "build", "base"]).expect(0);
    let only = ["--only", "gateway,recorder,api,worker", "--workers", "1"];
    machine.evalfleet(&[&["up", "--detach"], &only[..]].concat()).expect(0);

    let id = submitted(&machine, 20);
    passed_once(&machine, &id);
    let result = machine.recorded(&id);
    assert_eq!(
        (result["provenance"]["attempt"].as_u64(), result["attempts"].as_array().map(Vec::len)),
        (Some(1), Some(0)),
        "{result}"
    );
    let left = || {
        let mut depths = Vec::new();
        broker.run(async |session, _| {
            for queue in [topology::jobs_queue(&Lane::default_lane()), topology::DEAD_QUEUE.to_owned()] {
                depths.push(session.depth(&queue).await.expect("the queue is there").0);
            }
        });
        depths
    };
    wait_until("the queue is empty", || left() == [0, 0]);
    let said = log(&machine, "worker-1");
    // It was taken away, or this shows nothing; and it was not run for nothing either.
    wait_until("it was handed out again", || {
        log(&machine, "worker-1").contains("delivered again although answered")
    });
    assert_eq!(said.matches(&took(&id)).count(), 1, "{said}");
    // The worker goes on.
    let next = submitted(&machine, 0);
    passed_once(&machine, &next);
}

fn a_drain_beyond_its_grace_gives_the_job_back() {
    let machine = Machine::new().with("EVALFLEET_WORKER__GRACE", "1s");
    machine.up(2);
    let id = submitted(&machine, 20);
    let names = ["worker-1", "worker-2"];
    let holder = || names.into_iter().find(|name| log(&machine, name).contains(&took(&id)));
    wait_until("a worker has it", || holder().is_some());
    let first = holder().expect("just seen");
    let ended = machine.pid(first);
    signal("TERM", ended);
    let result = machine.recorded(&id);
    passed_once(&machine, &id);
    let said = log(&machine, first);
    assert!(said.contains("goes back to its queue: the time to finish it is over"), "{said}");
    let other = names.into_iter().find(|name| *name != first);
    assert_eq!(result["provenance"]["worker"].as_str(), other, "{result}");
    assert_eq!(
        (result["provenance"]["attempt"].as_u64(), result["attempts"].as_array().map(Vec::len)),
        (Some(1), Some(0)),
        "an attempt was charged: {result}"
    );
    machine.wait_for_successor(first, ended);
    on_broker(&machine, async |session| {
        let (depth, _) = session.depth(topology::DEAD_QUEUE).await.expect("the queue is there");
        assert_eq!(depth, 0);
    });
}
