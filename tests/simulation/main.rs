//! The delivery of jobs and results in one thread and virtual time, with everything breaking that can.
//!
//! What runs is the real client, worker, recorder and the replay of dead letters: all that is above the
//! [transport], the worker's hands and the recorder's gateway; what becomes of a worker's VMs the real
//! [`step`] decides. Broker, VMs and history are twins in memory; they lose connections before and after they did as
//! asked, fall silent, refuse, block their publishers, hold messages twice and hand them out of turn; parts are killed
//! and start anew, and the client gives up in the middle. A *schedule* is all that happens for one seed. In the end
//! every job must have exactly one record, every dead one a job that repeats it, and whoever waits must have heard;
//! and at no time may a message be forgotten that nothing else holds, a dirty VM be used, or a bound be passed.
//!
//! [`points`] plays faults that are written down, one for each row of the tables of crash points; [`drops`] drops the
//! client's futures anywhere; [`bounds`] looks at what is bounded.
//!
//! ```text
//!   world ── starts, kills ──▶ client, operator, workers, recorders ── wire ──▶ broker
//!     │                                            │         │  chance or script   │
//!     └── calms down, checks               runner, vms     store ◀── journal ──────┘
//! ```
//!
//! `EVALFLEET_SIMULATION_SEED=N` plays one schedule again; `EVALFLEET_SIMULATION_SECONDS=N` plays new ones for
//! so long.
//!
//! [transport]: evalfleet_broker::transport
//! [`step`]: evalfleet_worker::supply::step

mod broker;
mod chance;
mod channel;
mod client;
mod feed;
mod flaws;
mod journal;
mod network;
mod plan;
mod queue;
mod runner;
mod script;
mod store;
mod vms;
mod wire;
mod world;

mod bounds;
mod drops;
mod points;

use flaws::Flaw;
use journal::Level;
use plan::Plan;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use world::World;

/// Schedules of an everyday run.
const SCHEDULES: u64 = 500;
/// Within how many schedules a flaw is found.
const FOUND_WITHIN: u64 = 20;

/// What came of a schedule.
struct Outcome {
    breaches: Vec<String>,
    digest: (u64, u64),
    levels: BTreeMap<&'static str, Level>,
    tail: String,
}

/// Lets `what` happen in virtual time, the same for the same seed.
fn in_virtual_time<T>(seed: u64, what: impl Future<Output = T>) -> T {
    // Waits draw from the thread's own generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(what)
}

fn play(seed: u64, flaw: Flaw) -> Outcome {
    let world = play_out(Plan::chaos(seed, flaw));
    let journal = &world.journal;
    let (breaches, digest) = (journal.breaches(), journal.digest());
    Outcome { breaches, digest, levels: journal.levels(), tail: journal.tail() }
}

fn play_out(plan: Plan) -> World {
    in_virtual_time(plan.seed, async {
        let mut world = World::new(plan);
        Box::pin(world.run()).await;
        world
    })
}

fn must_be_sound(seed: u64) {
    let outcome = play(seed, Flaw::Nothing);
    assert!(
        outcome.breaches.is_empty(),
        "schedule {seed}: {:#?}\nthe last of it:\n{}\nagain: EVALFLEET_SIMULATION_SEED={seed} cargo test --workspace --test simulation -- nothing_is_lost",
        outcome.breaches,
        outcome.tail
    );
}

/// What this thread has had of a processor: others may want it, too.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec.cast_unsigned(), u32::try_from(used.tv_nsec).unwrap_or_default())
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn nothing_is_lost_and_nothing_is_recorded_twice() {
    if let Some(seed) = number("EVALFLEET_SIMULATION_SEED") {
        return must_be_sound(seed);
    }
    let (begun, used) = (Instant::now(), processor_time());
    let played = match number("EVALFLEET_SIMULATION_SECONDS") {
        Some(seconds) => {
            let first = fastrand::u64(0..u64::MAX / 2);
            let mut seeds = first..;
            while begun.elapsed() < Duration::from_secs(seconds) {
                seeds.next().into_iter().for_each(must_be_sound);
            }
            seeds.start - first
        }
        None => {
            (0..SCHEDULES).for_each(must_be_sound);
            SCHEDULES
        }
    };
    let minute = played as f64 * 60.0 / (processor_time() - used).as_secs_f64();
    println!(
        "simulation: {played} schedules, {minute:.0} a minute of processor time, {} jobs each, 0 breaches",
        Plan::chaos(0, Flaw::Nothing).jobs
    );
}

#[test]
fn what_is_deliberately_wrong_is_found() {
    for (flaw, says) in [
        (Flaw::WorkersAckFirst, "the broker holds no answer to it"),
        (Flaw::RecordersAckFirst, "nothing holds it"),
        (Flaw::OperatorsAckFirst, "no job repeats it"),
        (Flaw::WorkersReuseVms, "is dirty of"),
        (Flaw::WorkersHoard, "jobs that a worker holds"),
    ] {
        let mut breaches = (0..FOUND_WITHIN).flat_map(|seed| play(seed, flaw).breaches);
        assert!(breaches.any(|breach| breach.contains(says)), "{flaw:?} is not found");
    }
}

#[test]
fn a_schedule_can_be_played_again() {
    for seed in 0..5 {
        assert_eq!(play(seed, Flaw::Nothing).digest, play(seed, Flaw::Nothing).digest, "schedule {seed}");
    }
}
