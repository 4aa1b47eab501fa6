//! Sightings and alerts for tests.

use super::sighting::Sighting;
use evalfleet_proto::alert::{Alert, Cost, Kind, Level, Means, Severity, State};
use evalfleet_proto::ids::{AlertId, JobId};
use evalfleet_proto::{SCHEMA_VERSION, Timestamp};
use std::time::Duration;

/// The `nth` sighting of one tool: it passed, a second after the one before.
pub(super) fn one(nth: u32) -> Sighting {
    let first: JobId = "0198c1c2-0000-7000-8000-000000000000".parse().expect("an id");
    Sighting {
        id: first.derived("sighting", nth),
        subject: "tool=read".into(),
        case: None,
        outcome: Some(true),
        at: Timestamp::from_second(1_750_000_000 + i64::from(nth)).expect("in range"),
        version: None,
        agent: None,
        image: None,
        model: None,
        worker: Some("w1".into()),
        accelerator: None,
        wall: Duration::from_millis(50),
        memory: 0,
        disk: 0,
        reset: Duration::ZERO,
        spent: Duration::from_millis(80),
        rerun: false,
    }
}

/// The `nth` alert of one tool, raised a second after the one before.
pub(crate) fn alert(nth: u32, revision: u32) -> Alert {
    let first = one(nth);
    Alert {
        schema: SCHEMA_VERSION,
        id: AlertId::of(first.id, "failing", &first.subject),
        revision,
        kind: Kind::Failing,
        severity: Severity::Critical,
        subject: first.subject.to_string(),
        cases: vec!["s/c1".to_owned()],
        state: State::Raised,
        message: "read fails in the case s/c1: 0 of 3 passed, 24 of 24 passed before.".to_owned(),
        since: first.at,
        suspected: first.at,
        confirmed: Some(first.at),
        confirmed_by: Some(Means::Reruns),
        closed: None,
        dismissed: None,
        before: Level { passed: 24, tries: 24, ..Level::default() },
        after: Level { passed: 0, tries: 3, ..Level::default() },
        accelerator: None,
        evaluations: vec![first.id],
        suspect: None,
        reruns: Vec::new(),
        culprit: None,
        cost: Cost::default(),
        judgement: None,
    }
}
