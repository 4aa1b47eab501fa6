//! A private RabbitMQ under the real supervisor, and a worker played by hand.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as its test does")]

use evalfleet::machine::{Kind, Machine, Order, State, Stop, run_here};
use evalfleet_broker::{Confirmed, Consumer, Delivery, Options, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::control::Event;
use evalfleet_proto::dead::{DeadLetter, Reason};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::{Evaluation, Evidence, Source};
use evalfleet_proto::job::Job;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::{topology, wire};
use evalfleet_service::settings::{Layers, Settings};
use std::time::Duration;
use tokio::task::JoinHandle;

/// No step of a scene takes longer.
const BOUND: Duration = Duration::from_secs(120);

pub(crate) async fn within<F: Future>(step: F) -> F::Output {
    tokio::time::timeout(BOUND, step).await.expect("a step took too long")
}

pub(crate) struct Stage {
    pub(crate) settings: Settings,
    dir: tempfile::TempDir,
    stop: Stop,
    machine: Option<JoinHandle<()>>,
}

impl Stage {
    /// Starts a node; `None`, with a word about it, where RabbitMQ is not installed.
    pub(crate) async fn set() -> Option<Self> {
        if evalfleet::machine::node::server().is_none() {
            eprintln!("skipped: RabbitMQ is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images/base/current");
        std::fs::create_dir_all(&images).unwrap();
        let tools = r#"[{"name": "word_count", "description": "Counts.", "parameters":
            {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}]"#;
        std::fs::write(images.join("tools.json"), tools).unwrap();
        let first = Self::settings_of(dir.path(), None);
        let order = Order { workers: 0, only: vec![Kind::Broker], config: None };
        let stop = Stop::default();
        let stopped = stop.clone();
        let machine = tokio::spawn(async move {
            run_here(&first, &order, stopped, |news| eprintln!("{news}")).await.unwrap();
        });
        wait_ready(dir.path()).await;
        let endpoints = std::fs::read_to_string(dir.path().join("endpoints.toml")).unwrap();
        let settings = Self::settings_of(dir.path(), Some(endpoints));
        Some(Self { settings, dir, stop, machine: Some(machine) })
    }

    fn settings_of(dir: &std::path::Path, endpoints: Option<String>) -> Settings {
        let environment = vec![
            ("EVALFLEET_STATE__DIR".to_owned(), dir.display().to_string()),
            ("EVALFLEET_BROKER__CONNECT_TIMEOUT".to_owned(), "5s".to_owned()),
        ];
        Settings::from_layers(&Layers { endpoints, file: None, environment }).unwrap()
    }

    /// Kills the node as a power loss would, and returns when the supervisor has it ready again.
    pub(crate) async fn kill_broker(&self) {
        let machine = Machine::read(self.dir.path()).unwrap();
        let broker = machine.parts.iter().find(|part| part.name == "broker").unwrap();
        broker.process().unwrap().kill_group();
        let before = broker.restarts;
        let restarted = || {
            let machine = Machine::read(self.dir.path())?;
            let broker = machine.parts.into_iter().find(|part| part.name == "broker")?;
            (broker.restarts > before && broker.state == State::Ready).then_some(())
        };
        self.until(async || restarted()).await;
    }

    /// Asks until there is an answer.
    pub(crate) async fn until<T>(&self, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        within(async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    }

    pub(crate) async fn worker(&self) -> Worker {
        let options = Options::new(&self.settings.broker, "a worker, played");
        let session = Session::connect(&options).await.unwrap();
        let jobs = session.consume("eval.jobs.default", 1).await.unwrap();
        Worker { session, jobs }
    }

    /// Stops everything, and sees to it that nothing is left.
    pub(crate) async fn strike(mut self) {
        let machine = Machine::read(self.dir.path()).unwrap();
        self.stop.drain.cancel();
        within(self.machine.take().unwrap()).await.unwrap();
        for part in &machine.parts {
            assert!(!part.process().unwrap().group_is_alive(), "{} is left", part.name);
        }
        assert!(!self.dir.path().join("machine.json").exists());
    }
}

impl Drop for Stage {
    /// A scene that failed leaves nothing running either.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = evalfleet::machine::files::log_path(self.dir.path(), "broker");
            let _ = std::fs::copy(&log, "/tmp/producer-broker-failed.log");
            eprintln!("the broker's log ends:\n{}", evalfleet::machine::files::tail(&log, 20).join("\n"));
        }
        for part in Machine::read(self.dir.path()).into_iter().flat_map(|machine| machine.parts) {
            if let Some(process) = part.process() {
                process.kill_group();
            }
        }
    }
}

async fn wait_ready(dir: &std::path::Path) {
    within(async {
        loop {
            let ready = Machine::read(dir).is_some_and(|machine| {
                !machine.parts.is_empty() && machine.parts.iter().all(|part| part.state == State::Ready)
            });
            if ready {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// A job in the hands of a worker.
pub(crate) struct Held {
    pub(crate) job: Job,
    delivery: Delivery<Confirmed>,
}

pub(crate) struct Worker {
    session: Session,
    jobs: Consumer<Confirmed>,
}

impl Worker {
    pub(crate) async fn take(&mut self) -> Held {
        let delivery = within(self.jobs.next()).await.unwrap();
        Held { job: wire::decode_job(&delivery.body).unwrap(), delivery }
    }

    /// Says that the subject wrote something.
    pub(crate) async fn say(&self, held: &Held, data: &[u8]) {
        let id = held.job.id;
        let event = Event::Output { job: id, stderr: false, data: data.to_vec() };
        let envelope =
            Envelope::new(MessageType::Event, id, Timestamp::now()).for_inbox(held.delivery.inbox());
        let key = topology::job_key(id);
        self.session.publish(topology::EVENTS, &key, &envelope, &wire::encode(&event)).await.unwrap();
    }

    pub(crate) async fn answer(&self, held: Held, status: Status, cause: Option<Cause>) {
        let id = held.job.id;
        let evaluation = evaluation(&held.job, status, cause);
        let envelope =
            Envelope::new(MessageType::Result, id, Timestamp::now()).for_inbox(held.delivery.inbox());
        let (key, body) = (topology::job_key(id), wire::encode(&evaluation));
        let proof = self.session.publish(topology::RESULTS, &key, &envelope, &body).await.unwrap();
        held.delivery.settle(&proof).await.unwrap();
    }

    /// Gives a job up.
    pub(crate) async fn bury(&self, held: Held) {
        let job = &held.job;
        let letter = DeadLetter {
            schema: 1,
            id: job.id,
            reason: Reason::AttemptsSpent,
            error: "the VM died".to_owned(),
            lane: job.lane.clone(),
            attempts: Vec::new(),
            worker: "played".to_owned(),
            died: Timestamp::now(),
            body: held.delivery.body.clone(),
        };
        let envelope = Envelope::new(MessageType::Dead, job.id, Timestamp::now());
        let key = topology::dead_key(&job.lane);
        let proof =
            self.session.publish(topology::DEAD, &key, &envelope, &wire::encode(&letter)).await.unwrap();
        held.delivery.settle(&proof).await.unwrap();
    }
}

fn evaluation(job: &Job, status: Status, cause: Option<Cause>) -> Evaluation {
    let evidence = cause.map(|_| Evidence::new(Source::Host, "played")).into_iter().collect();
    let exit_code = Some(i32::from(status != Status::Passed));
    Evaluation { exit_code, ..Evaluation::of_job(job, Timestamp::now(), (status, cause), evidence) }
}
