//! The delivery of jobs and results in one thread and virtual time, with everything breaking that can.
//!
//! What runs is the real client, worker and recorder: all that is above the [transport], the worker's hands
//! and the recorder's gateway. Broker, VMs and history are twins in memory; they lose connections before and
//! after they did as asked, fall silent, refuse, hand out again; parts are killed and start anew. A *schedule*
//! is all that happens for one seed. In the end every job must have exactly one record, or a dead letter;
//! and at no time may a message be forgotten that nothing else holds.
//!
//! ```text
//!   world ── starts, kills ──▶ client, workers, recorders ── wire ──▶ broker
//!     │                             │           │  chance breaks it      │
//!     └── calms down, checks     runner       store ◀──── journal ───────┘
//! ```
//!
//! `EVALFLEET_SIMULATION_SEED=N` plays one schedule again; `EVALFLEET_SIMULATION_SECONDS=N` plays new ones for
//! so long.
//!
//! [transport]: evalfleet_broker::transport

mod broker;
mod chance;
mod journal;
mod runner;
mod store;
mod wire;
mod world;

use std::time::{Duration, Instant};
use world::{Flaw, World};

/// Schedules of an everyday run.
const SCHEDULES: u64 = 500;
/// Within how many schedules a flaw is found.
const FOUND_WITHIN: u64 = 20;

/// What came of a schedule.
struct Outcome {
    breaches: Vec<String>,
    digest: (u64, u64),
    tail: String,
}

fn play(seed: u64, flaw: Flaw) -> Outcome {
    // Waits draw from the thread's own generator.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let world = runtime.block_on(async {
        let world = World::new(seed, flaw);
        Box::pin(world.run()).await;
        world
    });
    let journal = &world.journal;
    Outcome { breaches: journal.breaches(), digest: journal.digest(), tail: journal.tail() }
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

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn nothing_is_lost_and_nothing_is_recorded_twice() {
    if let Some(seed) = number("EVALFLEET_SIMULATION_SEED") {
        return must_be_sound(seed);
    }
    let begun = Instant::now();
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
    let minute = played as f64 * 60.0 / begun.elapsed().as_secs_f64();
    println!("simulation: {played} schedules, {minute:.0} a minute, 0 breaches");
}

#[test]
fn who_acknowledges_too_early_is_found() {
    for (flaw, says) in [
        (Flaw::WorkersAckFirst, "the broker holds no answer to it"),
        (Flaw::RecordersAckFirst, "nothing holds it"),
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
