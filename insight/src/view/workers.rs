//! Workers: what each ran, and how often its machine failed. Pure.

use super::rates::{Durations, Standing};
use super::time;
use crate::projection::{At, HOUR, Symbol, World};
use evalfleet_proto::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How many of the newest evaluations times are taken from.
const LATELY_MAX: usize = 20_000;

/// One worker, as the history knows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// Its host.
    pub host: Option<String>,
    /// What it ran.
    pub standing: Standing,
    /// `kvm` or `tcg`, as of its last evaluation.
    pub accelerator: Option<String>,
    /// When it last finished one, to the hour.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
    /// How long clean VMs took to make, over the newest 20,000 evaluations of all workers.
    pub resets: Option<Durations>,
    /// How long jobs waited for a clean VM.
    pub claims: Option<Durations>,
    /// What it says of itself now; null for other moments, and where its state directory is not here.
    #[schema(value_type = Option<Object>)]
    pub now: Option<serde_json::Value>,
}

/// All workers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Workers {
    /// By name.
    pub workers: Vec<Worker>,
    /// The transaction that this stands on.
    pub basis_t: u64,
}

/// The workers of a moment. `says` tells what a worker says of itself now.
pub fn workers(world: &World, at: At, says: impl Fn(&str) -> Option<serde_json::Value>) -> Workers {
    #[derive(Default)]
    struct Seen {
        resets: Vec<u64>,
        claims: Vec<u64>,
        accelerator: Option<Symbol>,
    }
    let mut seen: BTreeMap<Symbol, Seen> = BTreeMap::new();
    for row in world.rows(at).rev().take(LATELY_MAX) {
        if let Some(worker) = row.worker {
            let seen = seen.entry(worker).or_default();
            seen.resets.push(row.measures.reset);
            seen.claims.push(row.measures.claim);
            seen.accelerator = seen.accelerator.or(row.accelerator);
        }
    }
    let mut workers = world.summary(at, |summary| {
        let of = |(symbol, line): (&Symbol, &crate::projection::Line)| {
            let seen = seen.remove(symbol).unwrap_or_default();
            let name = world.symbols().text(*symbol).to_owned();
            Worker {
                host: world.host(*symbol).map(str::to_owned),
                standing: (&line.total).into(),
                accelerator: super::text(world, seen.accelerator),
                last: time(line.hours.keys().next_back().map_or(0, |hour| hour * HOUR)),
                resets: Durations::of(seen.resets),
                claims: Durations::of(seen.claims),
                now: says(&name),
                name,
            }
        };
        summary.workers.iter().map(of).collect::<Vec<_>>()
    });
    workers.sort_by(|one, other| one.name.cmp(&other.name));
    Workers { workers, basis_t: at.t }
}
