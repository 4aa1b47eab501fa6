//! Whoever gives up in the middle and asks again loses nothing: every future of the client is dropped after a
//! random number of polls.

use crate::chance::{Chance, polled};
use crate::journal::Journal;
use crate::network::{Network, Plug};
use crate::plan::Plan;
use crate::script::Script;
use crate::store::History;
use crate::{in_virtual_time, play_out};
use evalfleet::client::Client;
use evalfleet_broker::{Link, Options};
use evalfleet_proto::control::Event;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::topology::{self, Topology};
use evalfleet_proto::{Timestamp, wire};
use evalfleet_service::settings::{Layers, Settings};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Schedules.
const SCHEDULES: u64 = 30;
/// How often a client gives up, out of a thousand.
const IMPATIENCE: u32 = 600;
/// The events of the job that is followed.
const EVENTS: u64 = 40;

#[test]
fn submitting_waiting_and_calling_off_may_be_dropped_anywhere() {
    for seed in 0..SCHEDULES {
        let world = play_out(Plan {
            jobs: 20,
            impatience: IMPATIENCE,
            calls_off: |number| (number % 5 == 4).then_some(Duration::ZERO),
            ..Plan::scripted(seed, Vec::new())
        });
        let (breaches, desk) = (world.journal.breaches(), world.desk.lock());
        assert!(breaches.is_empty(), "schedule {seed}: {breaches:#?}\n{}", world.journal.tail());
        assert!(desk.gave_up.is_empty(), "schedule {seed}: waited in vain: {:?}", desk.gave_up);
        assert_eq!(desk.heard.len(), 7, "schedule {seed}: every third job is waited for");
    }
}

/// Follows a job's events, asking again and again; the connection breaks so often.
async fn followed(seed: u64, breaks: u64) -> Vec<u64> {
    let (chance, journal, script) = (Chance::calm(seed, 0), Journal::default(), Script::default());
    let settings = Settings::from_layers(&Layers::default()).expect("the defaults are sound");
    let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
    let history = Arc::new(History::new(chance.clone(), journal.clone()));
    let broker = crate::broker::Broker::new(&topology, journal, history, chance.clone(), script.clone());
    let network = Network::new(broker, chance.clone(), script).0;
    let (id, other) = (JobId::from_key("followed"), JobId::from_key("another"));
    let told = tokio::spawn(tell(network.of("worker"), settings.clone(), id, other));
    let plug: Arc<Plug> = Arc::new(network.of("client"));
    let client = Client::connect_over(plug, &settings).await.expect("it is there");
    let (breaking, times) = (network.clone(), chance.clone());
    tokio::spawn(async move {
        for _ in 0..breaks {
            tokio::time::sleep(times.time(10..1_000)).await;
            breaking.hang_up(|owner| owner == "client");
        }
    });
    let (mut events, mut given) = (client.events(id), Vec::new());
    while given.len() < EVENTS as usize {
        match polled(chance.number(0..6), events.next()).await {
            Some(Ok(Event::Output { data, .. })) => {
                given.push(String::from_utf8_lossy(&data).parse().expect("a number"));
            }
            Some(other) => panic!("{other:?}"),
            None => tokio::time::sleep(chance.time(0..50)).await,
        }
    }
    told.await.expect("all is told");
    // Nothing comes after the last.
    assert!(tokio::time::timeout(Duration::from_secs(5), events.next()).await.is_err());
    given
}

/// Publishes the events of a job, numbered, with those of another in between.
async fn tell(plug: Plug, settings: Settings, id: JobId, other: JobId) {
    let link = Link::over(Arc::new(plug), Options::new(&settings.broker, "worker"), CancellationToken::new());
    for number in 0..EVENTS {
        for job in [other, id] {
            let event = Event::Output { job, stderr: false, data: number.to_string().into_bytes() };
            let envelope = Envelope::new(MessageType::Event, job, Timestamp::now());
            let session = link.session().await.expect("the link is not stopped");
            let (key, body) = (topology::job_key(job), wire::encode(&event));
            session.publish(topology::EVENTS, &key, &envelope, &body).await.expect("this one never breaks");
        }
    }
}

#[test]
fn following_the_events_may_be_dropped_anywhere() {
    for seed in 0..SCHEDULES {
        for breaks in [0, 8] {
            let given = in_virtual_time(seed, followed(seed, breaks));
            assert_eq!(given, (0..EVENTS).collect::<Vec<_>>(), "schedule {seed}, {breaks} lost connections");
        }
    }
}
