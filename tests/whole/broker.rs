//! What a broker does to those who are not careful, on nodes of the trials' own: the host's RabbitMQ and, where
//! `EVALFLEET_TEST_RABBITMQ` names a root with a newer one (`tests/crash/rabbitmq.sh` makes it), that too.

use super::dead::{job, letter};
use super::pressure;
use evalfleet::client::Client;
use evalfleet::dead::Office;
use evalfleet_broker::transport::Dial as _;
use evalfleet_broker::{Amqp, Confirmed, Error, Link, Options, Session};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::{JobId, Lane};
use evalfleet_proto::job::Job;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::topology::{self, Argument, Binding, Queue, Topology};
use evalfleet_proto::wire;
use evalfleet_tests::rabbit::{Broker, in_time};
use futures::{StreamExt as _, TryStreamExt as _};
use libtest_mimic::Trial;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A trial on a node that others use before and after it.
pub(crate) type OnNode = fn(&Broker);

const ALL: &[(&str, OnNode)] = &[
    ("an_ack_on_a_closed_channel_is_an_error", an_ack_on_a_closed_channel_is_an_error),
    ("a_queue_deleted_under_its_consumer_ends_it", a_queue_deleted_under_its_consumer_ends_it),
    ("a_missing_exchange_takes_no_other_message_along", a_missing_exchange_takes_no_other_message_along),
    ("a_letter_outlives_being_looked_at", a_letter_outlives_being_looked_at),
    ("jobs_of_a_higher_priority_come_first", jobs_of_a_higher_priority_come_first),
    ("what_is_confirmed_outlives_a_crash_of_the_node", what_is_confirmed_outlives_a_crash_of_the_node),
];

/// Where another RabbitMQ than the host's is.
pub(crate) fn another() -> Option<PathBuf> {
    std::env::var_os("EVALFLEET_TEST_RABBITMQ").map(PathBuf::from)
}

/// All trials, on the one RabbitMQ and on the other; those of one share a node.
pub(crate) fn trials() -> Vec<Trial> {
    let host = Arc::new(OnceLock::new());
    let newer = Arc::new(OnceLock::new());
    let mut trials = Vec::new();
    for (name, test) in ALL.iter().chain(pressure::ON_NODE) {
        let node = host.clone();
        trials.push(Trial::test(format!("broker::{name}"), move || {
            test(node.get_or_init(|| Broker::start(None, None)));
            Ok(())
        }));
    }
    for (name, test) in ALL.iter().chain(pressure::ON_NODE) {
        let node = newer.clone();
        trials.push(Trial::test(format!("broker_4::{name}"), move || {
            match another() {
                Some(root) => test(node.get_or_init(|| Broker::start(Some(&root), None))),
                None => eprintln!("skipped: EVALFLEET_TEST_RABBITMQ names no root with RabbitMQ 4"),
            }
            Ok(())
        }));
    }
    trials
}

/// A queue of a trial's own, bound to the jobs' exchange under its name.
async fn own_queue(session: &Session, name: &str) {
    let queues = vec![Queue {
        name: name.to_owned(),
        arguments: vec![("x-queue-type", Argument::Text("quorum".to_owned()))],
    }];
    let bindings = vec![Binding { exchange: topology::JOBS, queue: name.to_owned(), key: name.to_owned() }];
    session.declare(&Topology { exchanges: Vec::new(), queues, bindings }).await.expect("declared");
}

fn envelope() -> Envelope {
    Envelope::new(MessageType::Job, JobId::fresh(), Timestamp::now())
}

/// Takes all that waits in a queue, and gives the jobs in their order. RabbitMQ keeps acks back while a queue is
/// slow, 32 being under way, and forgets them with their channel: what comes back is taken again.
pub(crate) async fn emptied(session: &Session, queue: &str) -> Vec<JobId> {
    let mut ids = Vec::new();
    loop {
        let taken = session.take::<()>(queue, usize::MAX).await.expect("the queue is there");
        if taken.is_empty() {
            return ids;
        }
        for delivery in taken {
            ids.extend(delivery.envelope.as_ref().map(|envelope| envelope.id).filter(|id| !ids.contains(id)));
            delivery.settle(&()).await.expect("settled");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn default_queue() -> String {
    topology::jobs_queue(&Lane::default_lane())
}

fn an_ack_on_a_closed_channel_is_an_error(broker: &Broker) {
    broker.run(async |session, settings| {
        let queue = "eval.test.stale";
        own_queue(session, queue).await;
        let told = envelope();
        let proof = session.publish(topology::JOBS, queue, &told, b"once").await.expect("confirmed");

        let options = Options::new(&settings.broker, "test");
        let transport = Amqp.connect(&options.urls[0], &options).await.expect("it is up");
        let channel = transport.open().await.expect("a channel");
        let taken = channel.get(queue).await.expect("a queue").expect("a message");
        // Whatever is wrong on a channel closes it, and what was taken on it is another's.
        channel.get("eval.test.nowhere").await.expect_err("there is no such queue");
        let acked = taken.handle.ack().await;
        assert!(matches!(acked, Err(Error::Broken(_))), "{acked:?}");

        let again = in_time("it is handed out again", async {
            loop {
                let taken = session.take::<Confirmed>(queue, 1).await.expect("a queue").pop();
                match taken {
                    Some(delivery) => break delivery,
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let again = again.await;
        assert_eq!(again.envelope.as_ref().map(|envelope| envelope.id), Some(told.id));
        assert!(again.redelivered, "{again:?}");
        again.settle(&proof).await.expect("its channel is open");
        transport.close().await.expect("closed");
    });
}

fn a_queue_deleted_under_its_consumer_ends_it(broker: &Broker) {
    broker.run(async |session, _| {
        let queue = "eval.test.deleted";
        own_queue(session, queue).await;
        let mut consumer = session.consume::<Confirmed>(queue, 1).await.expect("a consumer");
        broker.ctl(&["delete_queue", queue]);
        let ended = in_time("the consumer is told", consumer.next()).await;
        assert!(matches!(&ended, Err(Error::Broken(why)) if why.contains(queue)), "{ended:?}");
        // Nobody else on the connection is harmed, and to ask again says what is missing.
        assert!(session.is_alive());
        let again = session.consume::<Confirmed>(queue, 1).await;
        assert!(matches!(&again, Err(Error::Missing { what }) if what.contains(queue)), "{again:?}");
        own_queue(session, queue).await;
        session.publish(topology::JOBS, queue, &envelope(), b"").await.expect("confirmed");
        broker.ctl(&["delete_queue", queue]);
    });
}

/// It closes the channel on which all publish, with their confirms under way.
fn a_missing_exchange_takes_no_other_message_along(broker: &Broker) {
    broker.run(async |session, settings| {
        let queue = "eval.test.missing";
        own_queue(session, queue).await;
        let link = Link::new(Options::new(&settings.broker, "test"), CancellationToken::new());
        link.session().await.expect("it is up");
        let sent: Vec<Envelope> = (0..200).map(|_| envelope()).collect();
        let stray = envelope();
        let publish = async |envelope: &Envelope| link.publish(topology::JOBS, queue, envelope, b"x").await;
        let (before, refused, after) = in_time("all is answered", async {
            futures::join!(
                futures::future::join_all(sent[..100].iter().map(publish)),
                link.publish("eval.test.nowhere", queue, &stray, b"x"),
                futures::future::join_all(sent[100..].iter().map(publish)),
            )
        })
        .await;
        let refused = refused.expect_err("there is no such exchange");
        assert!(
            matches!(&refused, Error::Missing { what } if what.contains("eval.test.nowhere")),
            "{refused}"
        );
        for answer in before.into_iter().chain(after) {
            answer.expect("nothing was wrong with it");
        }
        // Some may be there twice: their first confirm went with the channel.
        let found: BTreeSet<JobId> = emptied(session, queue).await.into_iter().collect();
        assert_eq!(found, sent.iter().map(|envelope| envelope.id).collect());
        link.close().await;
    });
}

/// RabbitMQ 4 gives up after 20 looks what has no limit of its own, and 3.10 at the first where that is -1.
fn a_letter_outlives_being_looked_at(broker: &Broker) {
    broker.run(async |session, settings| {
        let dead = job(r#"{"kind": "command", "argv": ["true"]}"#);
        let letter = letter(&dead, "w1", "the VM died");
        let (key, told) = (topology::dead_key(&letter.lane), Envelope::of_dead(&letter));
        let proof = session.publish(topology::DEAD, &key, &told, &wire::encode(&letter)).await;
        let proof = proof.expect("confirmed");
        let office = Office::open(settings).await.expect("it is up");
        for _ in 0..30 {
            in_time("it is there again", async {
                // It is given back when the look is over, and that takes a moment.
                while office.list(10).await.expect("a queue").is_empty() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        office.close().await;
        let taken = in_time("it is there", async {
            loop {
                if let Some(taken) =
                    session.take::<Confirmed>(topology::DEAD_QUEUE, 1).await.expect("a queue").pop()
                {
                    break taken;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let taken = taken.await;
        assert_eq!(taken.envelope.as_ref().map(|envelope| envelope.id), Some(dead.id));
        taken.settle(&proof).await.expect("settled");
    });
}

fn of_priority(client: &Client, priority: u8, count: usize) -> Vec<Job> {
    let submission = || Submission { priority, ..Submission::command(["true"]) };
    (0..count).map(|_| client.prepare(submission()).expect("a job")).collect()
}

async fn enqueued(client: &Client, jobs: &[Job]) -> BTreeSet<JobId> {
    let ids = client.enqueue_many(jobs.to_vec()).try_collect();
    in_time("all are enqueued", ids).await.expect("confirmed")
}

/// 4.0 hands out two of the higher priorities for one of the lower, 4.3 the highest first; 3.10 knows none.
fn jobs_of_a_higher_priority_come_first(broker: &Broker) {
    if broker.major() < 4 {
        return eprintln!("skipped: RabbitMQ {} has no priorities in quorum queues", broker.major());
    }
    broker.run(async |session, settings| {
        let client = Client::connect(settings).await.expect("it is up");
        let (low, high) = (of_priority(&client, 0, 6), of_priority(&client, 9, 6));
        enqueued(&client, &low).await;
        let high = enqueued(&client, &high).await;
        let order = emptied(session, &default_queue()).await;
        assert_eq!(order.len(), 12);
        let places = |wanted: bool| -> usize {
            let all = order.iter().enumerate().filter(|(_, id)| high.contains(id) == wanted);
            all.map(|(place, _)| place).sum()
        };
        assert!(high.contains(&order[0]) && !high.contains(&order[11]), "{order:?}");
        assert!(places(true) < places(false), "{order:?}");
        client.close().await;
    });
}

fn what_is_confirmed_outlives_a_crash_of_the_node(broker: &Broker) {
    let mut sent = BTreeSet::new();
    broker.run(async |session, settings| {
        assert_eq!(emptied(session, &default_queue()).await, []);
        let client = Client::connect(settings).await.expect("it is up");
        sent = enqueued(&client, &of_priority(&client, 0, 50)).await;
        client.close().await;
    });
    broker.crash();
    broker.run(async |session, settings| {
        // Its queues and what they are bound to are what they were.
        let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
        let depths = futures::stream::iter(&topology.queues).then(async |queue| {
            let depth = in_time("the queue has its leader again", async {
                loop {
                    match session.depth(&queue.name).await {
                        // RabbitMQ 4 answers for a queue that it has not read yet, as for an empty one.
                        Ok((depth, _)) if depth > 0 || queue.name != default_queue() => break depth,
                        Ok(_) => {}
                        Err(error) => assert!(error.is_transient(), "{}: {error}", queue.name),
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
            (queue.name.clone(), depth.await)
        });
        let depths: Vec<(String, u32)> = depths.collect().await;
        assert!(depths.contains(&(default_queue(), 50)), "{depths:?}");
        let found: BTreeSet<JobId> = emptied(session, &default_queue()).await.into_iter().collect();
        assert_eq!(found, sent);
        let client = Client::connect(settings).await.expect("it is up");
        let more = enqueued(&client, &of_priority(&client, 0, 1)).await;
        assert_eq!(emptied(session, &default_queue()).await, Vec::from_iter(more));
        client.close().await;
    });
}
