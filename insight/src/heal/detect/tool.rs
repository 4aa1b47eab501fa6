//! A tool whose calls die on whichever worker takes them: each of their tries is a fault of ours, and other calls are
//! well there. Pure.
//!
//! That is no verdict on the tool: it is kept from taking the fleet's VMs down, until a person has looked.

use super::{Course, Finding, Known};
use crate::heal::rules::Rule;
use crate::heal::seen::{Death, Seen, Try};
use crate::heal::words;
use evalfleet_analytics::rate::{Tally, worse_by_chance};
use evalfleet_proto::Timestamp;
use evalfleet_proto::healing::{Evidence, Healing};
use evalfleet_proto::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What its subjects begin with.
pub(in crate::heal) const TOOL: &str = "tool=";
/// The fewest workers that its calls have to break on: on one alone, it may be the worker.
const WORKERS_MIN: usize = 2;
/// So many results of others, and all is well again.
const WELL_TRIES: usize = 5;

/// The tools that break what they run in.
pub(super) fn find(rule: &Rule, seen: &Seen, known: &Known<'_>) -> Vec<Finding> {
    let is_open = |tool: &str| known.open.contains(format!("{TOOL}{tool}").as_str());
    let mut by_tool: BTreeMap<&str, Vec<&Death>> = BTreeMap::new();
    let mut all = 0;
    for death in seen.deaths(known.now, known.window) {
        let tool = death.tool.as_deref();
        if tool.is_some_and(|tool| is_open(tool) || !known.counts(&format!("{TOOL}{tool}"), death.at)) {
            continue;
        }
        all += 1;
        if let Some(tool) = tool {
            by_tool.entry(tool).or_default().push(death);
        }
    }
    if by_tool.values().all(|deaths| deaths.len() < rule.jobs_min) {
        return Vec::new();
    }
    let results: Vec<&Try> = seen.tries(known.now, known.window).filter(|one| one.fault.is_none()).collect();
    let mut compared: BTreeSet<&str> = results.iter().filter_map(|one| one.tool.as_deref()).collect();
    compared.extend(by_tool.keys().copied());
    let mut found = Vec::new();
    for (tool, deaths) in &by_tool {
        let jobs: BTreeSet<JobId> = deaths.iter().map(|death| death.job).collect();
        let faults = || seen.tries(known.now, known.window).filter(|one| jobs.contains(&one.job));
        let broke_on: BTreeSet<&str> = faults().map(|one| &*one.worker).collect();
        let Some(since) = faults().map(|one| one.at).min() else { continue };
        let (own, others): (Vec<&Try>, Vec<&Try>) =
            results.iter().copied().partition(|one| one.tool.as_deref() == Some(*tool));
        let own = Tally { passed: own.len() as u64, tries: (own.len() + deaths.len()) as u64 };
        let others_died = (all - deaths.len()) as u64;
        let others_well = others.len() as u64;
        let elsewhere = Tally { passed: others_well, tries: others_well + others_died };
        let is_bad = own.rate().is_some_and(|rate| 1.0 - rate >= rule.share_min);
        // Where nothing else is well on the same workers, it is not the tool.
        let is_alone = others.iter().any(|one| broke_on.contains(&*one.worker) && one.at > since);
        if jobs.len() < rule.jobs_min || broke_on.len() < WORKERS_MIN || !is_bad || !is_alone {
            continue;
        }
        let chance = worse_by_chance(elsewhere, own) * compared.len() as f64;
        if chance > rule.chance_max {
            continue;
        }
        let workers = broke_on.iter().copied().collect::<Vec<_>>().join(", ");
        let mut evidence = vec![
            Evidence::new("its calls whose every try ended in a fault of ours")
                .counted(own.failed(), own.tries)
                .in_evaluations(jobs.iter().copied()),
            Evidence::new("the same of all other jobs").counted(elsewhere.failed(), elsewhere.tries),
            Evidence::new(words::cut(&format!("it broke on {workers}"))),
        ];
        let last = faults().filter_map(|one| one.fault.as_deref()).last();
        evidence.extend(last.map(|error| Evidence::new(words::cut(error))));
        found.push(Finding {
            subject: format!("{TOOL}{tool}"),
            since,
            first: deaths[0].job.to_string(),
            message: words::poison_tool(tool, own, elsewhere, broke_on.len(), chance),
            evidence,
            change: None,
        });
    }
    found
}

/// All is well once others had several results and none of its calls died; somebody may let it out.
pub(super) fn course(healing: &Healing, seen: &Seen, now: Timestamp, window: Duration) -> Course {
    let (Some(applied), Some(tool)) = (healing.applied, healing.subject.strip_prefix(TOOL)) else {
        return Course::Open;
    };
    if let Some(list) = seen.quarantined.as_ref().filter(|list| list.at > applied)
        && !list.tools.contains(tool)
    {
        return Course::Over(format!("somebody let {tool} out of quarantine"));
    }
    if healing.well.is_some() {
        return Course::Open;
    }
    let last = seen.deaths(now, window).filter(|death| death.tool.as_deref() == Some(tool)).map(|one| one.at);
    let since = last.max().unwrap_or(applied).max(applied);
    let mut results: Vec<Timestamp> = seen
        .tries(now, window)
        .filter(|one| one.fault.is_none() && one.at > since)
        .map(|one| one.at)
        .collect();
    results.sort_unstable();
    results.get(WELL_TRIES - 1).map_or(Course::Open, |at| Course::Well(*at))
}
