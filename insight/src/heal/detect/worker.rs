//! A worker that has more faults of ours than its peers. Pure.
//!
//! Its tries are held against those of all others by Fisher's exact test, one-sided, corrected for how many workers are
//! looked at. A job that broke on several workers says nothing of either of them; and where all break alike, none is
//! worse than its peers.

use super::{Course, Finding, Known};
use crate::heal::rules::Rule;
use crate::heal::seen::{Seen, Try};
use crate::heal::words;
use evalfleet_analytics::rate::{Tally, worse_by_chance};
use evalfleet_proto::Timestamp;
use evalfleet_proto::healing::{Evidence, Healing};
use evalfleet_proto::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What its subjects begin with.
pub(in crate::heal) const WORKER: &str = "worker=";
/// So many results in a row, and no fault, and all is well again.
const WELL_TRIES: usize = 5;
/// A worker that takes so many jobs after it was drained was let in again.
const BACK_TRIES: usize = 3;
/// How long the word may take to reach it.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// The errors that evidence names.
const ERRORS_MAX: usize = 3;

/// One worker's tries.
#[derive(Debug, Default)]
struct Record<'a> {
    tally: Tally,
    faults: Vec<&'a Try>,
    last_good: Option<Timestamp>,
}

/// The workers that are worse than their peers.
pub(super) fn find(rule: &Rule, seen: &Seen, known: &Known<'_>) -> Vec<Finding> {
    let records = records(seen, known);
    let is_open = |worker: &str| known.open.contains(format!("{WORKER}{worker}").as_str());
    let compared = records.len() as f64;
    let mut found = Vec::new();
    for (worker, record) in records.iter().filter(|(worker, _)| !is_open(worker)) {
        let jobs: BTreeSet<JobId> = record.faults.iter().map(|one| one.job).collect();
        let (Some(first), Some(rate)) = (record.faults.iter().min_by_key(|one| one.at), record.tally.rate())
        else {
            continue;
        };
        if jobs.len() < rule.jobs_min || 1.0 - rate < rule.share_min {
            continue;
        }
        let others = || records.iter().filter(|(other, _)| *other != worker && !is_open(other));
        // Somebody has to be well while this one is not: else it is no fault of its own.
        if !others().any(|(_, other)| other.last_good.is_some_and(|good| good > first.at)) {
            continue;
        }
        let peers = others().fold(Tally::default(), |sum, (_, other)| Tally {
            passed: sum.passed + other.tally.passed,
            tries: sum.tries + other.tally.tries,
        });
        let chance = worse_by_chance(peers, record.tally) * compared;
        if chance <= rule.chance_max {
            let message = words::bad_worker(worker, record.tally, peers, chance);
            found.push(Finding {
                subject: format!("{WORKER}{worker}"),
                since: first.at,
                first: first.job.to_string(),
                message,
                evidence: evidence(record, peers, jobs),
                change: None,
            });
        }
    }
    found
}

/// The tries of each worker, without jobs that broke on several.
fn records<'a>(seen: &'a Seen, known: &Known<'_>) -> BTreeMap<&'a str, Record<'a>> {
    let counts =
        |one: &&Try| known.ended.is_empty() || known.counts(&format!("{WORKER}{}", one.worker), one.at);
    let mut broke: BTreeMap<JobId, BTreeSet<&str>> = BTreeMap::new();
    for one in seen.tries(known.now, known.window).filter(counts).filter(|one| one.fault.is_some()) {
        broke.entry(one.job).or_default().insert(&one.worker);
    }
    let is_shared = |one: &Try| broke.get(&one.job).is_some_and(|workers| workers.len() > 1);
    let mut records: BTreeMap<&str, Record<'_>> = BTreeMap::new();
    for one in seen.tries(known.now, known.window).filter(counts) {
        let record = records.entry(&one.worker).or_default();
        if one.fault.is_none() {
            record.tally = Tally { passed: record.tally.passed + 1, tries: record.tally.tries + 1 };
            record.last_good = record.last_good.max(Some(one.at));
        } else if !is_shared(one) {
            record.tally.tries += 1;
            record.faults.push(one);
        }
    }
    records
}

fn evidence(record: &Record<'_>, peers: Tally, jobs: BTreeSet<JobId>) -> Vec<Evidence> {
    let mut evidence = vec![
        Evidence::new("its tries that ended in a fault of ours")
            .counted(record.tally.failed(), record.tally.tries)
            .in_evaluations(jobs),
        Evidence::new("the same of all other workers").counted(peers.failed(), peers.tries),
    ];
    let mut errors: BTreeMap<&str, u64> = BTreeMap::new();
    for fault in record.faults.iter().filter_map(|one| one.fault.as_deref()) {
        *errors.entry(fault).or_default() += 1;
    }
    let mut errors: Vec<(&str, u64)> = errors.into_iter().collect();
    errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = errors.into_iter().take(ERRORS_MAX);
    evidence.extend(
        shown.map(|(error, count)| Evidence::new(words::cut(error)).counted(count, record.tally.failed())),
    );
    evidence
}

/// All is well once others did several jobs without a fault; a worker that works again was let in by somebody.
pub(super) fn course(healing: &Healing, seen: &Seen, now: Timestamp, window: Duration) -> Course {
    let (Some(applied), Some(worker)) = (healing.applied, healing.subject.strip_prefix(WORKER)) else {
        return Course::Open;
    };
    let after = seen.tries(now, window).filter(|one| one.at > applied);
    let heard = applied.checked_add(HEARD_WITHIN).unwrap_or(applied);
    if after.clone().filter(|one| &*one.worker == worker && one.at > heard).count() >= BACK_TRIES {
        return Course::Over(format!("{worker} takes jobs again: somebody has let it"));
    }
    if healing.well.is_some() {
        return Course::Open;
    }
    let mut others: Vec<&Try> = after.filter(|one| &*one.worker != worker).collect();
    others.sort_by_key(|one| one.at);
    let mut row = 0;
    for one in others {
        row = if one.fault.is_none() { row + 1 } else { 0 };
        if row == WELL_TRIES {
            return Course::Well(one.at);
        }
    }
    Course::Open
}
