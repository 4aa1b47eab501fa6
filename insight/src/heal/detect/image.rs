//! An image whose jobs turned bad when its name came to mean another digest. Pure.
//!
//! The tools that ran in both are held against each other; several of them have to do worse, so that no tool's own
//! failure is taken for the image's.

use super::{Course, Finding, Known};
use crate::heal::rules::Rule;
use crate::heal::seen::{Seen, Tag, Try};
use crate::heal::words;
use evalfleet_analytics::rate::{Tally, worse_by_chance};
use evalfleet_proto::Timestamp;
use evalfleet_proto::healing::{Change, Evidence, Healing};
use std::collections::BTreeMap;
use std::time::Duration;

/// What its subjects begin with.
pub(in crate::heal) const IMAGE: &str = "image=";
/// The fewest tools that have to do worse.
const TOOLS_MIN: usize = 2;
/// By how much the rate of one has to be lower at least.
const WORSE_BY: f64 = 0.3;
/// So many results in a row that are as they should be, and all is well again.
const WELL_TRIES: usize = 5;

/// How tools did in one digest.
#[derive(Debug, Default)]
struct Record<'a> {
    tools: BTreeMap<&'a str, Tally>,
    bad: Vec<&'a Try>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl<'a> Record<'a> {
    fn of(digest: &str, tries: impl Iterator<Item = &'a Try>) -> Self {
        let mut record = Self::default();
        for one in tries.filter(|one| one.image.as_deref() == Some(digest)) {
            let passed = one.passed.or(one.fault.as_ref().map(|_| false));
            let (Some(tool), Some(passed)) = (one.tool.as_deref(), passed) else { continue };
            let tally = record.tools.entry(tool).or_default();
            tally.tries += 1;
            tally.passed += u64::from(passed);
            if !passed {
                record.bad.push(one);
            }
            record.first = Some(record.first.map_or(one.at, |first| first.min(one.at)));
            record.last = record.last.max(Some(one.at));
        }
        record
    }
}

/// The images that turned bad.
pub(super) fn find(rule: &Rule, seen: &Seen, known: &Known<'_>) -> Vec<Finding> {
    let is_open = |tag: &&Tag| !known.open.contains(format!("{IMAGE}{}", tag.name).as_str());
    seen.tags.iter().filter(is_open).filter_map(|tag| of_tag(rule, tag, seen, known)).collect()
}

fn of_tag(rule: &Rule, tag: &Tag, seen: &Seen, known: &Known<'_>) -> Option<Finding> {
    let subject = format!("{IMAGE}{}", tag.name);
    let tries = || seen.tries(known.now, known.window);
    let after = tries().filter(|one| known.counts(&subject, one.at));
    let new = Record::of(&tag.current, after);
    let first = new.first?;
    let before = tag.others.iter().map(|digest| (digest, Record::of(digest, tries())));
    let (previous, old) = before
        .filter(|(_, record)| record.last.is_some_and(|last| last < first))
        .max_by_key(|(_, r)| r.last)?;
    let (mut old_sum, mut new_sum, mut worse) = (Tally::default(), Tally::default(), Vec::new());
    for (tool, now) in &new.tools {
        let Some(then) = old.tools.get(tool) else { continue };
        let rates = then.rate().zip(now.rate());
        if rates.is_some_and(|(then, now)| then - now >= WORSE_BY) {
            worse.push((*tool, *then, *now));
        }
        for (sum, one) in [(&mut old_sum, then), (&mut new_sum, now)] {
            *sum = Tally { passed: sum.passed + one.passed, tries: sum.tries + one.tries };
        }
    }
    let chance = worse_by_chance(old_sum, new_sum);
    let share = new_sum.failed() as f64 / new_sum.tries.max(1) as f64;
    if worse.len() < TOOLS_MIN
        || (new_sum.failed() as usize) < rule.jobs_min
        || share < rule.share_min
        || chance > rule.chance_max
    {
        return None;
    }
    let since = new.bad.iter().map(|one| one.at).min()?;
    let mut evidence = vec![
        Evidence::new("bad since its name means the new digest")
            .counted(new_sum.failed(), new_sum.tries)
            .in_evaluations(new.bad.iter().map(|one| one.job)),
        Evidence::new("bad before, by the same tools").counted(old_sum.failed(), old_sum.tries),
    ];
    evidence.extend(worse.iter().map(|(tool, then, now)| {
        let text = format!("{tool}: bad in the new one; before, in {} of {}", then.failed(), then.tries);
        Evidence::new(words::cut(&text)).counted(now.failed(), now.tries)
    }));
    Some(Finding {
        subject,
        since,
        first: tag.current.clone(),
        message: words::bad_image(&tag.name, (old_sum, new_sum), worse.len(), chance),
        evidence,
        change: Some(Change { from: tag.current.clone(), to: previous.clone() }),
    })
}

/// All is well once several jobs in a row passed in what the name means again; who makes it mean something else ends it.
pub(super) fn course(healing: &Healing, seen: &Seen, now: Timestamp, window: Duration) -> Course {
    let (Some(applied), Some(change), Some(name)) =
        (healing.applied, &healing.change, healing.subject.strip_prefix(IMAGE))
    else {
        return Course::Open;
    };
    let tag = seen.tags.iter().find(|tag| tag.name == name && tag.at > applied);
    if let Some(tag) = tag.filter(|tag| tag.current != change.to) {
        return Course::Over(format!("{name} means {} now: somebody built it", words::short(&tag.current)));
    }
    if healing.well.is_some() {
        return Course::Open;
    }
    let mut since: Vec<(Timestamp, bool)> = seen
        .tries(now, window)
        .filter(|one| one.at > applied && one.image.as_deref() == Some(&change.to))
        .map(|one| (one.at, one.passed == Some(true)))
        .collect();
    since.sort_unstable();
    let mut row = 0;
    for (at, passed) in since {
        row = if passed { row + 1 } else { 0 };
        if row == WELL_TRIES {
            return Course::Well(at);
        }
    }
    Course::Open
}
