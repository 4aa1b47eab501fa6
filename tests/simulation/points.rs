//! One trial for each point at which something can be killed or lost: the fault is written down, it must come to
//! pass, and then every job has one record or one letter, and nobody waits for ever.
//!
//! The tables that these are the rows of are in `ARCHITECTURE.md`, which names the trials.

use crate::plan::{Plan, id_of};
use crate::play_out;
use crate::script::Deed::{Ack, DeadLetter, Make, Other, Publish, Record, Take, Transact, Work, Worked};
use crate::script::Fault::{
    self, BreakAfter, BreakBefore, CrashAfter, CrashBefore, Fail, Full, Late, Outage, Shortage, Twice,
};
use crate::script::{Rule, when};
use crate::world::World;
use evalfleet::dead::replay_id;
use evalfleet_proto::dead::Reason;
use evalfleet_proto::topology::{DEAD, DEAD_QUEUE, DELIVERY_LIMIT, JOBS, RESULTS, RESULTS_QUEUE};
use std::fmt::Debug;
use std::time::Duration;

/// Orders of events in which each fault is tried.
const SEEDS: u64 = 30;
/// The queues of jobs.
const LANES: &str = "eval.jobs.";

/// What a schedule came to, over all of its jobs.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    /// Jobs that were enqueued, however often one was.
    asked: u64,
    runs: u64,
    results: u64,
    retries: u64,
    /// Records, each as its status.
    records: Vec<String>,
    /// Letters that are left in their queue.
    letters: Vec<Reason>,
}

impl Sum {
    fn of(world: &World) -> Self {
        let all = |what| world.jobs.iter().map(|job| world.journal.counted(what, job.id)).sum();
        let records = world.jobs.iter().filter_map(|job| world.history.record(job.id));
        Self {
            asked: all("job"),
            runs: all("run"),
            results: all("result"),
            retries: all("retry"),
            records: records
                .map(|record| if record.status == "failed" { "passed".to_owned() } else { record.status })
                .collect(),
            letters: world.network.broker.letters().into_iter().map(|(_, reason)| reason).collect(),
        }
    }
}

/// Plays `plan` in many orders. In each its faults come to pass, nothing is lost or doubled, everybody hears, and
/// `so` says whether it came out as it should.
fn always(plan: impl Fn(u64) -> Plan, so: impl Fn(&World, &Sum) -> bool) {
    for seed in 0..SEEDS {
        let plan = plan(seed);
        let told = format!("{plan:?}");
        let world = play_out(plan);
        let sum = Sum::of(&world);
        let mut wrong = world.journal.breaches();
        wrong
            .extend(world.script.unstruck().into_iter().map(|rule| format!("it never came to pass: {rule}")));
        let gave_up = world.desk.lock().gave_up.clone();
        wrong.extend(gave_up.into_iter().map(|(id, why)| format!("nobody told of {id}: {why}")));
        if !so(&world, &sum) {
            wrong.push(format!("it came to {sum:?}"));
        }
        assert!(
            wrong.is_empty(),
            "seed {seed} of {told}: {wrong:#?}\nthe last of it:\n{}",
            world.journal.tail()
        );
    }
}

/// A schedule of one job, in which `rules` happen.
fn one(seed: u64, rules: Vec<Rule>) -> Plan {
    Plan { jobs: 1, ..Plan::scripted(seed, rules) }
}

/// Whether each of so many jobs ended by itself, and has one record.
fn are_done(sum: &Sum, jobs: usize) -> bool {
    sum.records == vec!["passed"; jobs] && sum.letters.is_empty()
}

#[test]
fn the_client_before_its_confirm() {
    // Others that were under way on the same connection are sent again as well.
    for (fault, asked) in [
        (BreakBefore, 3..=5),
        (BreakAfter, 4..=6),
        (Fault::Unanswered, 4..=6),
        (CrashBefore, 3..=5),
        (CrashAfter, 4..=6),
    ] {
        always(
            |seed| Plan::scripted(seed, vec![when("client", Publish, JOBS, fault)]),
            |_, sum| are_done(sum, 3) && asked.contains(&sum.asked) && sum.runs == sum.asked,
        );
    }
}

#[test]
fn a_worker_that_has_not_published() {
    for (deed, name, fault, runs) in [
        (Take, LANES, CrashAfter, 1),
        (Work, "", CrashBefore, 2),
        (Worked, "", CrashBefore, 2),
        (Publish, RESULTS, CrashBefore, 2),
    ] {
        always(
            |seed| one(seed, vec![when("worker", deed, name, fault)]),
            |_, sum| are_done(sum, 1) && sum.runs == runs && sum.results == 1,
        );
    }
}

#[test]
fn a_result_published_and_not_confirmed() {
    for fault in [BreakBefore, BreakAfter, Fault::Unanswered, CrashAfter] {
        always(
            |seed| one(seed, vec![when("worker", Publish, RESULTS, fault)]),
            |_, sum| {
                let results = if fault == CrashAfter { 2..=2 } else { 1..=3 };
                are_done(sum, 1) && results.contains(&sum.results) && sum.runs <= 2
            },
        );
    }
}

#[test]
fn a_result_confirmed_and_its_job_not_acked() {
    for (fault, runs) in [(CrashBefore, 2), (CrashAfter, 1)] {
        always(
            |seed| one(seed, vec![when("worker", Ack, LANES, fault)]),
            |_, sum| are_done(sum, 1) && sum.runs == runs && sum.results == runs,
        );
    }
}

#[test]
fn a_worker_that_knows_its_answer_only_settles() {
    always(
        |seed| Plan { workers: 1, ..one(seed, vec![when("worker", Ack, LANES, BreakBefore)]) },
        |_, sum| are_done(sum, 1) && sum.runs == 1 && sum.results == 1,
    );
}

#[test]
fn a_retry_copy_confirmed_and_its_original_not_acked() {
    let rules = || vec![when("worker", Worked, "", Fail), when("worker", Ack, LANES, CrashBefore)];
    always(
        |seed| one(seed, rules()),
        |_, sum| are_done(sum, 1) && (sum.retries, sum.runs, sum.results) == (1, 3, 2),
    );
}

#[test]
fn a_retry_copy_lost_with_its_connection_is_run() {
    let rules = || vec![when("worker", Worked, "", Fail), when("worker", Take, LANES, BreakAfter).nth(2)];
    always(
        |seed| Plan { workers: 1, ..one(seed, rules()) },
        |_, sum| are_done(sum, 1) && (sum.retries, sum.runs, sum.results) == (1, 2, 1),
    );
}

#[test]
fn a_worker_that_can_make_no_vm() {
    // It has one, and makes no second: a job that it takes then goes back untried.
    always(
        |seed| Plan {
            workers: 1,
            ..Plan::scripted(seed, vec![when("worker", Make, "", Fail).nth(2).times(6)])
        },
        |_, sum| are_done(sum, 3) && (sum.retries, sum.runs) == (0, 3),
    );
}

#[test]
fn a_worker_whose_job_is_called_off_meanwhile() {
    always(
        |seed| Plan {
            calls_off: |_| Some(Duration::from_secs(20)),
            takes: 60_000..90_000,
            ..one(seed, vec![when("worker", Worked, "", CrashBefore)])
        },
        |_, sum| sum.records == ["cancelled"] && sum.letters.is_empty() && sum.runs == 1,
    );
}

#[test]
fn a_worker_killed_again_and_again_on_one_job() {
    let deaths = DELIVERY_LIMIT.cast_unsigned() + 1;
    always(
        |seed| one(seed, vec![when("worker", Work, "", CrashBefore).times(deaths)]),
        |_, sum| sum.records == ["dead"] && sum.letters == [Reason::Broker] && sum.runs == deaths,
    );
}

#[test]
fn a_dead_letter_that_the_broker_makes_twice() {
    let deaths = DELIVERY_LIMIT.cast_unsigned() + 1;
    let rules = || {
        vec![when("worker", Work, "", CrashBefore).times(deaths), when("broker", DeadLetter, LANES, Twice)]
    };
    always(
        |seed| one(seed, rules()),
        |_, sum| sum.records == ["dead"] && sum.letters == [Reason::Broker; 2] && sum.runs == deaths,
    );
}

#[test]
fn a_dead_letter_confirmed_and_its_result_not() {
    for (fault, letters) in [(CrashBefore, 2), (CrashAfter, 2)] {
        always(
            |seed| Plan { hopeless: |_| true, ..one(seed, vec![when("worker", Publish, RESULTS, fault)]) },
            |_, sum| sum.records == ["dead"] && sum.letters == vec![Reason::AttemptsSpent; letters],
        );
    }
}

#[test]
fn a_recorder_before_its_commit() {
    always(
        |seed| Plan::scripted(seed, vec![when("recorder", Transact, "results", CrashBefore)]),
        |_, sum| are_done(sum, 3) && sum.results == 3,
    );
}

#[test]
fn a_result_committed_and_not_acked() {
    for (deed, name, fault) in [
        (Transact, "results", CrashAfter),
        (Ack, RESULTS_QUEUE, CrashBefore),
        (Ack, RESULTS_QUEUE, BreakBefore),
        (Ack, RESULTS_QUEUE, BreakAfter),
    ] {
        always(
            |seed| Plan::scripted(seed, vec![when("recorder", deed, name, fault)]),
            |_, sum| are_done(sum, 3) && sum.results == 3,
        );
    }
}

#[test]
fn a_store_that_does_not_answer() {
    for fault in [Fault::Unanswered, Late] {
        always(
            |seed| Plan::scripted(seed, vec![when("recorder", Transact, "results", fault)]),
            |_, sum| are_done(sum, 3) && sum.results == 3,
        );
    }
}

#[test]
fn a_result_that_the_store_refuses_for_good() {
    let refused = |seed| when("recorder", Record, id_of(seed, 1).to_string(), Fail).times(u64::MAX);
    always(
        |seed| Plan::scripted(seed, vec![refused(seed)]),
        |_, sum| sum.records == ["passed"; 2] && sum.letters == [Reason::Poison],
    );
}

#[test]
fn the_broker_is_lost() {
    for (who, deed, name) in
        [("client", Publish, JOBS), ("worker", Publish, RESULTS), ("recorder", Ack, RESULTS_QUEUE)]
    {
        always(
            |seed| Plan::scripted(seed, vec![when(who, deed, name, Outage)]),
            |_, sum| are_done(sum, 3) && sum.asked == 3,
        );
    }
}

/// Whether the one job is dead and the job that repeats it was enqueued so often, and recorded once.
fn is_replayed(world: &World, sum: &Sum, enqueued: u64) -> bool {
    let replay = replay_id(world.jobs[0].id, 1);
    sum.records == ["dead"]
        && sum.letters.is_empty()
        && world.journal.counted("job", replay) == enqueued
        && world.history.record(replay).is_some_and(|record| record.status != "dead")
}

#[test]
fn a_replay_confirmed_and_the_recorder_not_told() {
    for fault in [CrashBefore, BreakBefore] {
        always(
            |seed| Plan {
                hopeless: |_| true,
                operated: true,
                ..one(seed, vec![when("operator", Publish, DEAD, fault)])
            },
            |world, sum| is_replayed(world, sum, 2),
        );
    }
}

#[test]
fn a_replay_told_and_its_letter_not_settled() {
    for fault in [CrashBefore, BreakBefore] {
        always(
            |seed| Plan {
                hopeless: |_| true,
                operated: true,
                ..one(seed, vec![when("operator", Ack, DEAD_QUEUE, fault)])
            },
            |world, sum| is_replayed(world, sum, 1),
        );
    }
}

/// How often that happened to the jobs.
fn counted(world: &World, what: &'static str) -> u64 {
    world.jobs.iter().map(|job| world.journal.counted(what, job.id)).sum()
}

#[test]
fn publishers_are_blocked_for_a_while() {
    always(
        |seed| Plan::scripted(seed, vec![when("client", Other, "", Shortage)]),
        // Sent again after a wait for the confirm that was in vain: one of them stays unread, or both are taken.
        |world, sum| are_done(sum, 3) && counted(world, "unread") >= 2 && (3..=9).contains(&sum.asked),
    );
}

#[test]
fn the_lanes_are_full_for_a_while() {
    always(
        |seed| Plan::scripted(seed, vec![when("client", Other, "", Full)]),
        |world, sum| are_done(sum, 3) && counted(world, "refused") >= 2 && sum.asked == 3,
    );
}
