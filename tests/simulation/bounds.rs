//! What is bounded comes near its bound, and does not pass it.

use crate::chance::Chance;
use crate::flaws::Flaw;
use crate::journal::{Journal, Level};
use crate::network::{Network, Plug};
use crate::script::Script;
use crate::store::History;
use crate::wire::CLIENT_PUBLISHES_MAX;
use crate::{in_virtual_time, play};
use evalfleet::client::{Client, Error};
use evalfleet_proto::submission::Submission;
use evalfleet_proto::topology::Topology;
use evalfleet_service::settings::{Layers, Settings};
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The schedules that are looked at.
const SCHEDULES: u64 = 40;

#[test]
fn whatever_happens_no_bound_is_passed() {
    let mut peaks: BTreeMap<&str, Level> = BTreeMap::new();
    for seed in 0..SCHEDULES {
        for (what, level) in play(seed, Flaw::Nothing).levels {
            assert!(level.peak <= level.bound, "schedule {seed}: {what}: {level:?}");
            let seen = peaks.entry(what).or_insert(level);
            *seen = Level { peak: seen.peak.max(level.peak), bound: seen.bound.max(level.bound) };
        }
    }
    let reached = |what: &str| peaks.get(what).map(|level| level.peak);
    // These are so low that they are reached, or the looking is at fault.
    assert_eq!(reached("jobs that a worker holds"), Some(1));
    assert_eq!(reached("VMs of a worker"), Some(2));
    // And these are told of at all.
    for what in [
        "messages in a lane",
        "messages that a recorder holds",
        "messages that a client holds",
        "publishes of a client",
        "publishes of a worker",
        "publishes of an operator",
    ] {
        assert!(reached(what).is_some_and(|peak| peak > 0), "nothing is told of {what}: {peaks:#?}");
    }
}

/// A client, and a broker that nobody else is connected to.
async fn alone() -> (Client, Journal, Plug) {
    let (chance, journal, script) = (Chance::calm(0, 0), Journal::default(), Script::default());
    let settings = Settings::from_layers(&Layers::default()).expect("the defaults are sound");
    let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
    let history = Arc::new(History::new(chance.clone(), journal.clone()));
    let broker =
        crate::broker::Broker::new(&topology, journal.clone(), history, chance.clone(), script.clone());
    let plug = Network::new(broker, chance, script).0.of("client");
    let client = Client::connect_over(Arc::new(plug.clone()), &settings).await.expect("it is there");
    (client, journal, plug)
}

#[test]
fn a_client_publishes_a_window_and_no_more() {
    in_virtual_time(0, async {
        let (client, journal, _plug) = alone().await;
        let submissions = (0..2_000).map(|_| Submission::command(["true"]));
        let submitted: Vec<_> = client.submit_many(submissions).collect().await;
        assert_eq!(submitted.iter().filter(|pending| pending.is_ok()).count(), 2_000);
        let level = journal.levels()["publishes of a client"];
        assert!(level.peak > 32 && level.peak <= CLIENT_PUBLISHES_MAX, "{level:?}");
        assert!(journal.breaches().is_empty(), "{:?}", journal.breaches());
    });
}

#[test]
fn a_client_waits_for_as_many_as_it_says_and_no_more() {
    in_virtual_time(0, async {
        let (client, _, _plug) = alone().await;
        let submission = || Submission::command(["true"]);
        let mut under_way = std::pin::pin!(client.submit_many((0..).map(|_| submission())));
        let mut pending = Vec::new();
        let max = loop {
            match under_way.next().await.expect("there is no end to them") {
                Ok(more) => pending.push(more),
                Err(Error::TooMany { max, .. }) => break max,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(pending.len(), max, "it says how many it may be");
        // Whoever is not waited for any more makes room.
        pending.truncate(max / 2);
        assert!(client.submit(submission()).await.is_ok());
    });
}
