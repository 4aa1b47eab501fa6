//! Alerts on simulated fleets: how many of those that are raised are right, how many regressions are found, how soon, at
//! what cost, and whether what is blamed is to blame. The watch is the API's own (`evalfleet_insight::watch`).
//!
//! A fleet has tools with cases, versions and images that come one after the other, and workers of unequal speed. In some
//! tools a version or an image makes one case or all pass less often, take longer, take more memory or write more; an
//! image may make resets slow. Meanwhile machines ail: workers on which subjects fail that are well, busy ones that slow
//! everything down, one or all at once, and bursts of faults of which some look like the subject's. A quarter of the tools
//! are flaky, as they always were.

mod course;
mod fleet;

use anyhow::{Context, Result};
use course::{Outcome, Raised, names};
use evalfleet_analytics::rate::{Confidence, Tally};
use std::collections::BTreeSet;
use std::time::Duration;

/// Watches so many fleets, and prints what came of it. `wrong` prints each alert that was.
pub(crate) fn print(fleets: u64, wrong: bool) -> Result<()> {
    let outcomes = (0..fleets).map(course::course).collect::<Result<Vec<Outcome>>>()?;
    let evaluations: usize = outcomes.iter().map(|one| one.evaluations).sum();
    println!(
        "alerts: {fleets} fleets of {} workers, {} tools of {} cases, {evaluations} evaluations",
        fleet::WORKERS,
        fleet::TOOLS,
        fleet::CASES
    );
    let heads = ["raised", "right", "injected", "found", "told twice", "culprit named", "right"];
    println!("{:<10}{}", "kind", heads.map(|head| format!("{head:>15}")).concat());
    for kind in ["failing", "slower", "memory", "disk", "reset"] {
        let row = Row::of(&outcomes, |one| one == kind);
        let numbers = [
            row.precision.tries,
            row.precision.passed,
            row.recall.tries,
            row.recall.passed,
            row.twice,
            row.named.tries,
            row.named.passed,
        ];
        println!("{kind:<10}{}", numbers.map(|number| format!("{number:>15}")).concat());
    }
    let all = Row::of(&outcomes, |_| true);
    rate("alerts that were right, of those that were raised", all.precision);
    rate("regressions that were found, of those that were injected", all.recall);
    rate("culprits that were right, of those that were named", all.named);
    rate("alerts with the right culprit, of those that were right", all.blamed);
    println!("slow resets by a worker that was busy, which count neither way: {}", all.busy);
    spread(&all);
    cost(&outcomes, &all)?;
    if wrong {
        print_wrong(&outcomes);
    }
    println!();
    Ok(())
}

/// What came of some kinds of alert.
struct Row<'a> {
    precision: Tally,
    recall: Tally,
    /// Alerts that tell of what was told already.
    twice: u64,
    /// Alerts that tell of slow resets by a worker that was busy.
    busy: u64,
    /// Culprits that were right, of those that were named.
    named: Tally,
    /// And of all that were right.
    blamed: Tally,
    /// The first alert of each regression.
    first: Vec<&'a Raised>,
}

impl<'a> Row<'a> {
    fn of(outcomes: &'a [Outcome], is_meant: impl Fn(&str) -> bool) -> Self {
        let none = Tally::default();
        let mut row = Self {
            precision: none,
            recall: none,
            twice: 0,
            busy: 0,
            named: none,
            blamed: none,
            first: Vec::new(),
        };
        for outcome in outcomes {
            let mut found = BTreeSet::new();
            for raised in outcome.raised.iter().filter(|one| is_meant(one.alert.kind.as_str())) {
                // A busy machine does make VMs slowly, and that was not injected as a regression: it counts neither way.
                if raised.of.is_none() && raised.is_of_busy_worker {
                    row.busy += 1;
                    continue;
                }
                count(&mut row.precision, raised.of.is_some());
                let Some(of) = raised.of else { continue };
                if !found.insert(of) {
                    row.twice += 1;
                    continue;
                }
                let is_named = names(&raised.alert, &outcome.regressions[of]);
                count(&mut row.blamed, is_named);
                if raised.alert.culprit.is_some() {
                    count(&mut row.named, is_named);
                }
                row.first.push(raised);
            }
            let injected = outcome.regressions.iter().enumerate();
            for (nth, _) in injected.filter(|(_, one)| is_meant(one.what.kind())) {
                count(&mut row.recall, found.contains(&nth));
            }
        }
        row
    }
}

fn count(tally: &mut Tally, passed: bool) {
    tally.passed += u64::from(passed);
    tally.tries += 1;
}

/// A share with Wilson's bounds.
fn rate(what: &str, tally: Tally) {
    let bounds = tally.wilson(Confidence::default());
    let share = tally.passed as f64 / tally.tries.max(1) as f64;
    println!(
        "{what}: {share:.3} ({} of {}, 95 %: {:.3} to {:.3})",
        tally.passed, tally.tries, bounds.low, bounds.high
    );
}

/// The value below which this share lies.
fn quantile<T: Copy + Ord + Default>(values: &mut [T], share: f64) -> T {
    values.sort_unstable();
    values.get(((values.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or_default()
}

/// How long it took until people were told.
fn spread(all: &Row<'_>) {
    let mut evaluations: Vec<u32> = all.first.iter().map(|one| one.evaluations).collect();
    let mut after: Vec<Duration> = all.first.iter().map(|one| one.after).collect();
    let mut reruns: Vec<u32> = all.first.iter().map(|one| one.alert.cost.reruns).collect();
    let hours = |time: Duration| time.as_secs_f64() / 3600.0;
    println!(
        "until people are told: {} evaluations of what is worse, {} in nine of ten; {:.1} h, {:.1} h",
        quantile(&mut evaluations, 0.5),
        quantile(&mut evaluations, 0.9),
        hours(quantile(&mut after, 0.5)),
        hours(quantile(&mut after, 0.9))
    );
    println!(
        "jobs run again for each: {}, {} in nine of ten",
        quantile(&mut reruns, 0.5),
        quantile(&mut reruns, 0.9)
    );
}

fn cost(outcomes: &[Outcome], all: &Row<'_>) -> Result<()> {
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let evaluations = sum(|one| one.evaluations as u64);
    let (dismissed, reruns) = (sum(|one| one.dismissed as u64), sum(|one| u64::from(one.dismissed_reruns)));
    println!(
        "suspicions that came to nothing: {dismissed}, {reruns} jobs run again; {} of {} alerts were closed",
        sum(|one| one.closed as u64),
        all.precision.tries
    );
    let took: Duration = outcomes.iter().map(|one| one.took).sum();
    let longest = outcomes.iter().map(|one| one.longest).max().context("there is a fleet")?;
    println!(
        "one evaluation, watched: {:.3} ms on average, {:.1} ms at most",
        took.as_secs_f64() * 1000.0 / evaluations.max(1) as f64,
        longest.as_secs_f64() * 1000.0
    );
    Ok(())
}

fn print_wrong(outcomes: &[Outcome]) {
    for (nth, outcome) in outcomes.iter().enumerate() {
        for raised in &outcome.raised {
            let culprit = raised.alert.culprit.as_ref().map(|one| format!("{}={}", one.attribute, one.value));
            let (by, message) = (raised.alert.confirmed_by, &raised.alert.message);
            match raised.of.map(|of| &outcome.regressions[of]) {
                None if raised.is_of_busy_worker => {}
                None => println!("fleet {nth}: wrong, {by:?}: {message} [{}]", raised.ails),
                Some(of) if !names(&raised.alert, of) => {
                    println!("fleet {nth}: blames {culprit:?}, not {:?}: {message} [{}]", of.by, raised.ails);
                }
                Some(_) => {}
            }
        }
        for (of, regression) in outcome.regressions.iter().enumerate() {
            if !outcome.raised.iter().any(|raised| raised.of == Some(of)) {
                println!("fleet {nth}: not found: {regression:?}");
            }
        }
    }
}
