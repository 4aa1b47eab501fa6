//! The whole fleet on one machine: supervised children under one state directory.
//!
//! ```text
//! evalfleet up ── lock ── clean up after a dead predecessor ── plan ── supervisor
//!                                                                        │ owns
//!        epmd ─▶ broker ─▶ worker-1 … worker-N                           │
//!                  └─────▶ recorder ◀─ gateway ─▶ api   ◀────────────────┘
//! ```
//!
//! [`part`] is the life of one part as a pure function; [`supervisor`] is the one task that carries it
//! out; [`plan`] says what the parts are. [`record`] is what others see. A second `up` finds the lock
//! held; after a power loss or `kill -9`, the next `up` or `down` ends exactly the processes that
//! `machine.json` names, by pid *and* start time, before anything else.

pub mod part;

pub mod gateway;
pub mod plan;
pub mod probe;

pub mod files;
pub mod node;
pub mod ports;

pub mod process;
pub mod record;

mod child;
pub mod supervisor;

mod down;
mod status;
mod up;

pub use down::{Downed, down};
pub use part::{Kind, State};
pub use plan::{Order, Plan};
pub use record::{Machine, PartRecord};
pub use status::{Status, render, status};
pub use supervisor::{Stop, Supervisor};
pub use up::{Upped, news, run_here, up_detached};

use std::path::PathBuf;

/// Why the machine is not up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory cannot be used.
    #[error(
        "the state directory {dir} cannot be used: {source}. Name another in EVALFLEET_STATE__DIR, or make room"
    )]
    State {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// RabbitMQ is missing.
    #[error("RabbitMQ is not installed: apt-get install rabbitmq-server (its service need not run)")]
    NoRabbitMq,
    /// The gateway is missing.
    #[error(
        "the Datomic gateway is not here (looked for {looked}). Build it, or name its run.sh in EVALFLEET_GATEWAY"
    )]
    NoGateway {
        /// Where it was looked for.
        looked: String,
    },
    /// The user's Datomic configuration is wrong, or the gateway cannot be spoken to.
    #[error("{reason}")]
    Datomic {
        /// Why.
        reason: String,
    },
    /// A program of ours is missing.
    #[error("{program} is not in {dir}: build it with `cargo build --workspace`, or install it there")]
    NoProgram {
        /// Which.
        program: &'static str,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A part does not become ready.
    #[error("{part} does not start: {end}\n{}\nits log: {log}", .tail.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n"))]
    Failed {
        /// Which.
        part: String,
        /// How it ended.
        end: String,
        /// The end of its log.
        tail: Vec<String>,
        /// Where the rest is.
        log: PathBuf,
    },
    /// The supervisor does not go.
    #[error("the supervisor (pid {pid}) does not end")]
    Stubborn {
        /// Its pid.
        pid: i32,
    },
    /// The process cannot be split off.
    #[error("cannot start the supervisor: {0}")]
    Spawn(std::io::Error),
}
