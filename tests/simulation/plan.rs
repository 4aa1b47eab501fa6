//! What is to be played: how many there are of what, which jobs they have, and whether chance or a script breaks
//! things.

use crate::flaws::Flaw;
use crate::runner::HOPELESS;
use crate::script::Rule;
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::job::Job;
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_service::settings::Settings;
use std::ops::Range;
use std::time::Duration;

/// The batch that some jobs are of.
pub(crate) const BATCH: &str = "some";

/// What is to be played.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) flaw: Flaw,
    pub(crate) jobs: u64,
    /// Jobs whose every try ends in a fault of ours.
    pub(crate) hopeless: fn(usize) -> bool,
    /// Jobs that are called off, and how long after they were submitted.
    pub(crate) calls_off: fn(usize) -> Option<Duration>,
    /// How long jobs take, in milliseconds.
    pub(crate) takes: Range<u64>,
    pub(crate) workers: u64,
    pub(crate) recorders: u64,
    /// Whether somebody replays the dead letters.
    pub(crate) operated: bool,
    /// What goes wrong, if it is not left to chance.
    pub(crate) script: Option<Vec<Rule>>,
    /// How often clients give up in the middle then, out of a thousand.
    pub(crate) impatience: u32,
}

impl Plan {
    /// Everything breaks by chance.
    pub(crate) fn chaos(seed: u64, flaw: Flaw) -> Self {
        Self {
            seed,
            flaw,
            jobs: 50,
            hopeless: |number| number % 9 == 8,
            calls_off: |number| (number % 5 == 4).then_some(Duration::ZERO),
            takes: 10..10_000,
            workers: 3,
            recorders: 2,
            operated: true,
            script: None,
            impatience: 0,
        }
    }

    /// Only what `rules` say breaks.
    pub(crate) fn scripted(seed: u64, rules: Vec<Rule>) -> Self {
        Self {
            seed,
            flaw: Flaw::Nothing,
            jobs: 3,
            hopeless: |_| false,
            calls_off: |_| None,
            takes: 1_000..10_000,
            workers: 2,
            recorders: 2,
            operated: false,
            script: Some(rules),
            impatience: 0,
        }
    }
}

/// A job of a schedule, the same for the same seed.
pub(crate) fn job(plan: &Plan, number: usize, settings: &Settings) -> Job {
    let mut submission = Submission::command(["true"]);
    submission.urgent = number % 7 == 6;
    submission.batch = number.is_multiple_of(2).then(|| BATCH.parse().expect("a name"));
    if number % 6 == 5 {
        submission.image = Some("another".parse().expect("an image"));
    }
    if (plan.hopeless)(number) {
        submission.labels.insert(HOPELESS.to_owned(), "yes".to_owned());
    }
    let defaults = Defaults { image: settings.client.image.clone(), now: Timestamp::now() };
    let mut job = submission.into_job(&defaults).expect("a job");
    job.id = id_of(plan.seed, number);
    job
}

/// The id of a schedule's job.
pub(crate) fn id_of(seed: u64, number: usize) -> JobId {
    // By a key one hears of a job otherwise than by an id that was made for it.
    let key = format!("simulation/{seed}/{number}");
    if number.is_multiple_of(2) { JobId::from_key(&key) } else { some_day().derived(&key, 0) }
}

/// An id that was made at a time, and always at the same.
fn some_day() -> JobId {
    "01900000-0000-7000-8000-000000000000".parse().expect("a UUIDv7")
}
