//! The broker's exchanges, queues and bindings, as data.
//!
//! One set of arguments declares and behaves alike on RabbitMQ 3.10, 4.0 and 4.3. Only a deploy step
//! declares it; workers, recorders and clients use what is there.

use crate::ids::{JobId, Lane};
use std::time::Duration;

/// Where jobs are published, with their lane as the key.
pub const JOBS: &str = "eval.jobs";
/// Where retries are published, with `<lane>.<tier>` as the key.
pub const RETRY: &str = "eval.retry";
/// Where dead letters are published, with `dead.<lane>` as the key.
pub const DEAD: &str = "eval.dlx";
/// Where results are published, with `job.<id>` as the key, and with that of the inbox that waits for it.
pub const RESULTS: &str = "eval.results";
/// Where all workers are spoken to.
pub const CONTROL: &str = "eval.control";
/// Where progress is published, lossily, with `job.<id>` or `worker.<id>` as the key.
pub const EVENTS: &str = "eval.events";
/// Where messages go that nobody was bound for: they become dead letters.
pub const UNROUTABLE: &str = "eval.unroutable";

/// The queue of dead letters.
pub const DEAD_QUEUE: &str = "eval.dead";
/// The queue of the same letters, and of what is done with them, out of which they are recorded: to
/// record one takes it from here and leaves it among the dead.
pub const DEAD_RECORD_QUEUE: &str = "eval.dead.recorder";
/// The key under which it is told, on [`DEAD`], what people did with a dead letter or with a verdict, and what there is
/// to say of alerts and of healings.
pub const HANDLED_KEY: &str = "handled";
/// The queue that recorders read.
pub const RESULTS_QUEUE: &str = "eval.results.recorder";

/// What the queues of waiting clients are called, each with more behind it. Such a name is also the key under
/// which its client hears of the jobs that it waits for, on [`RESULTS`] and [`EVENTS`].
pub const INBOX_PREFIX: &str = "eval.client.";

/// The log of what was said to all workers.
pub const CONTROL_LOG: &str = "eval.control.log";
/// The log of progress.
pub const EVENTS_LOG: &str = "eval.events.log";
/// How long what was said to all workers stands; who starts later does not hear of it.
pub const CONTROL_AGE: Duration = Duration::from_secs(CONTROL_AGE_DAYS * 24 * 60 * 60);
/// The same in the broker's words.
const CONTROL_AGE_DAYS: u64 = 2;

/// How long a worker may hold a job unacknowledged.
pub const CONSUMER_TIMEOUT: Duration = Duration::from_secs(2 * 60 * 60);
/// How often the broker hands out a job before it gives it up.
pub const DELIVERY_LIMIT: i64 = 10;

/// How often a dead letter may be looked at. RabbitMQ 4 would destroy it after 20 looks by default, and
/// takes -1 for "no limit"; 3.10 takes -1 for a limit that the first look crosses.
const LOOKS_MAX: i64 = 1_000_000_000;

/// Messages that a queue may hold; above that it refuses, and its publishers wait.
const LENGTH_MAX: i64 = 1_000_000;
/// The newest messages that nobody was bound for, kept as they came; each is a dead letter as well.
const UNROUTABLE_MAX: i64 = 10_000;

/// The queue of a lane's jobs.
pub fn jobs_queue(lane: &Lane) -> String {
    format!("eval.jobs.{lane}")
}

/// The queue in which a lane's jobs wait for their next try.
pub fn retry_queue(lane: &Lane, tier: Duration) -> String {
    format!("eval.retry.{}", retry_key(lane, tier))
}

/// The key under which a job is published for its next try.
pub fn retry_key(lane: &Lane, tier: Duration) -> String {
    match tier.subsec_millis() {
        0 => format!("{lane}.{}s", tier.as_secs()),
        _ => format!("{lane}.{}ms", tier.as_millis()),
    }
}

/// The key under which a dead letter of `lane` is published.
pub fn dead_key(lane: &Lane) -> String {
    format!("dead.{lane}")
}

/// Whether a dead letter was published under `key`; what no queue takes keeps the key it was published under.
pub fn is_dead_key(key: &str) -> bool {
    key.starts_with("dead.")
}

/// The key under which everything about one job is published.
pub fn job_key(id: JobId) -> String {
    format!("job.{id}")
}

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By equal key.
    Direct,
    /// By pattern.
    Topic,
    /// To all.
    Fanout,
}

/// One exchange; all are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: &'static str,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Where it sends what it cannot route.
    pub alternate: Option<&'static str>,
}

/// The value of a queue argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// One queue; all are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its `x-…` arguments.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// From this exchange
    pub exchange: &'static str,
    /// to this queue
    pub queue: String,
    /// under this key.
    pub key: String,
}

/// Everything there is to declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// In an order in which each refers only to those before it.
    pub exchanges: Vec<Exchange>,
    /// In any order.
    pub queues: Vec<Queue>,
    /// In any order.
    pub bindings: Vec<Binding>,
}

impl Topology {
    /// Describes the broker of a fleet with these lanes and retry tiers.
    pub fn new(lanes: &[Lane], retry_tiers: &[Duration]) -> Self {
        let mut topology = Self { exchanges: exchanges(), queues: Vec::new(), bindings: Vec::new() };
        for lane in lanes {
            topology.queue(jobs_queue(lane), jobs_arguments(lane));
            topology.bind(JOBS, jobs_queue(lane), lane.to_string());
            for tier in retry_tiers {
                topology.queue(retry_queue(lane, *tier), retry_arguments(lane, *tier));
                topology.bind(RETRY, retry_queue(lane, *tier), retry_key(lane, *tier));
            }
        }
        topology.queue(DEAD_QUEUE.to_owned(), dead_arguments());
        topology.bind(DEAD, DEAD_QUEUE.to_owned(), "dead.#".to_owned());
        topology.queue(DEAD_RECORD_QUEUE.to_owned(), dead_record_arguments());
        topology.bind(DEAD, DEAD_RECORD_QUEUE.to_owned(), "dead.#".to_owned());
        topology.bind(DEAD, DEAD_RECORD_QUEUE.to_owned(), HANDLED_KEY.to_owned());
        topology.queue(UNROUTABLE.to_owned(), quorum(vec![("x-max-length", number(UNROUTABLE_MAX))]));
        for queue in [UNROUTABLE, DEAD_QUEUE, DEAD_RECORD_QUEUE] {
            topology.bind(UNROUTABLE, queue.to_owned(), String::new());
        }
        topology.queue(RESULTS_QUEUE.to_owned(), results_arguments());
        topology.bind(RESULTS, RESULTS_QUEUE.to_owned(), "job.#".to_owned());
        for (exchange, log, days) in [
            (RESULTS, "eval.results.log", 30),
            (CONTROL, CONTROL_LOG, CONTROL_AGE_DAYS),
            (EVENTS, EVENTS_LOG, 7),
        ] {
            topology.queue(log.to_owned(), stream(days));
            topology.bind(exchange, log.to_owned(), "#".to_owned());
        }
        topology
    }

    fn queue(&mut self, name: String, arguments: Vec<(&'static str, Argument)>) {
        self.queues.push(Queue { name, arguments });
    }

    fn bind(&mut self, exchange: &'static str, queue: String, key: String) {
        self.bindings.push(Binding { exchange, queue, key });
    }
}

fn exchanges() -> Vec<Exchange> {
    use ExchangeKind::{Direct, Fanout, Topic};
    let exchange = |name, kind, alternate| Exchange { name, kind, alternate };
    vec![
        exchange(UNROUTABLE, Fanout, None),
        exchange(JOBS, Direct, Some(UNROUTABLE)),
        exchange(RETRY, Direct, Some(UNROUTABLE)),
        exchange(DEAD, Topic, None),
        exchange(RESULTS, Topic, Some(UNROUTABLE)),
        exchange(CONTROL, Fanout, None),
        exchange(EVENTS, Topic, None),
    ]
}

fn text(value: impl Into<String>) -> Argument {
    Argument::Text(value.into())
}

fn number(value: i64) -> Argument {
    Argument::Number(value)
}

fn quorum(more: Vec<(&'static str, Argument)>) -> Vec<(&'static str, Argument)> {
    [vec![("x-queue-type", text("quorum"))], more].concat()
}

/// Dead-lettering that loses nothing: it waits for the target's confirm, and a full queue refuses its
/// publisher rather than dropping its head.
fn dead_letter_to(exchange: &str, key: String) -> Vec<(&'static str, Argument)> {
    vec![
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-routing-key", text(key)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ]
}

fn jobs_arguments(lane: &Lane) -> Vec<(&'static str, Argument)> {
    let own = vec![
        ("x-max-length", number(LENGTH_MAX)),
        ("x-delivery-limit", number(DELIVERY_LIMIT)),
        ("x-consumer-timeout", number(CONSUMER_TIMEOUT.as_millis() as i64)),
    ];
    quorum([dead_letter_to(DEAD, dead_key(lane)), own].concat())
}

fn retry_arguments(lane: &Lane, tier: Duration) -> Vec<(&'static str, Argument)> {
    let own = vec![("x-max-length", number(LENGTH_MAX)), ("x-message-ttl", number(tier.as_millis() as i64))];
    quorum([dead_letter_to(JOBS, lane.to_string()), own].concat())
}

fn results_arguments() -> Vec<(&'static str, Argument)> {
    let own = vec![
        ("x-max-length", number(LENGTH_MAX)),
        ("x-single-active-consumer", Argument::Flag(true)),
        ("x-delivery-limit", number(1000)),
    ];
    quorum([dead_letter_to(DEAD, "dead.results".to_owned()), own].concat())
}

fn dead_arguments() -> Vec<(&'static str, Argument)> {
    quorum(vec![
        ("x-max-length", number(LENGTH_MAX)),
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", number(LOOKS_MAX)),
    ])
}

/// In the order in which things happened: a letter before what was done with it.
fn dead_record_arguments() -> Vec<(&'static str, Argument)> {
    [dead_arguments(), vec![("x-single-active-consumer", Argument::Flag(true))]].concat()
}

fn stream(days: u64) -> Vec<(&'static str, Argument)> {
    vec![
        ("x-queue-type", text("stream")),
        ("x-max-age", text(format!("{days}D"))),
        ("x-max-length-bytes", number(2_000_000_000)),
        ("x-stream-max-segment-size-bytes", number(50_000_000)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Topology {
        Topology::new(
            &[Lane::default_lane(), Lane::urgent()],
            &[Duration::from_secs(10), Duration::from_secs(60)],
        )
    }

    #[test]
    fn every_binding_joins_what_is_declared() {
        let topology = sample();
        for binding in &topology.bindings {
            assert!(topology.queues.iter().any(|queue| queue.name == binding.queue), "{binding:?}");
            assert!(
                topology.exchanges.iter().any(|exchange| exchange.name == binding.exchange),
                "{binding:?}"
            );
        }
    }

    #[test]
    fn every_queue_that_can_overflow_refuses_rather_than_drops() {
        let topology = sample();
        for queue in &topology.queues {
            let has = |name: &str| queue.arguments.iter().any(|(argument, _)| *argument == name);
            if has("x-dead-letter-exchange") {
                assert!(has("x-overflow") && has("x-dead-letter-strategy"), "{}", queue.name);
            }
        }
    }

    #[test]
    fn a_retry_comes_back_to_its_own_lane() {
        let lane = Lane::urgent();
        let queue = retry_queue(&lane, Duration::from_secs(60));
        assert_eq!(queue, "eval.retry.urgent.60s");
        let arguments = retry_arguments(&lane, Duration::from_secs(60));
        assert!(arguments.contains(&("x-dead-letter-routing-key", text("urgent"))));
    }
}
