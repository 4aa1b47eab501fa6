//! What waits at the broker, and how long at most. Pure.
//!
//! No quorum queue tells how old its first message is. Two things bound it: it came after the queue was last seen empty;
//! and since jobs leave a lane in the order in which they came, it came after the job that was taken from there last.
//! The later of the two counts. Not bounded so are jobs that overtake others (a priority above 4, on RabbitMQ 4) or come
//! back to the head of their queue, as those of a worker that died.

use crate::projection::{At, World};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::Lane;
use evalfleet_proto::topology;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How many of the newest evaluations are looked at.
const LATELY_MAX: usize = 5_000;

/// A queue, as the broker was found to have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// Its name.
    pub name: String,
    /// How many wait.
    pub messages: u32,
    /// Who takes from it.
    pub consumers: u32,
    /// When it was last seen empty; none since this process began.
    pub empty: Option<Timestamp>,
}

/// Messages that wait in a queue.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How many wait.
    pub messages: u32,
    /// Who takes from it.
    pub consumers: u32,
    /// How long the oldest of them has waited at most; null where nothing waits, or nothing bounds it.
    pub oldest_at_most_ms: Option<f64>,
}

/// When the jobs were submitted that were taken last, by the queue that they waited in.
pub type Taken = BTreeMap<String, Timestamp>;

/// Looks that up among the newest evaluations.
pub fn taken(world: &World, at: At) -> Taken {
    let symbols = world.symbols();
    let kinds = ["function-call", "function_call", "command"].map(|kind| symbols.find(kind));
    let of_jobs = |kind| kinds.iter().any(|known| known.is_some() && *known == kind);
    let default = topology::jobs_queue(&Lane::default_lane());
    let mut taken = Taken::new();
    for row in world.rows(at).rev().filter(|row| of_jobs(row.kind)).take(LATELY_MAX) {
        if row.worker.is_none() || row.measures.duration == 0 {
            continue;
        }
        let lane = row.lane.map(|lane| symbols.text(lane).parse::<Lane>());
        let queue = match lane {
            None => default.clone(),
            Some(Ok(lane)) => topology::jobs_queue(&lane),
            Some(Err(_)) => continue,
        };
        let submitted = super::time(row.at - (row.measures.duration / 1000) as i64);
        let known = taken.entry(queue).or_insert(submitted);
        *known = submitted.max(*known);
    }
    taken
}

/// What waits `now`.
pub fn queues(depths: Vec<Depth>, taken: &Taken, now: Timestamp) -> Vec<Queue> {
    let queue = |depth: Depth| {
        let Depth { name, messages, consumers, empty } = depth;
        let since = empty.max(taken.get(&name).copied()).filter(|_| messages > 0);
        let age = |since: Timestamp| now.duration_since(since).as_secs_f64().max(0.0) * 1000.0;
        Queue { oldest_at_most_ms: since.map(age), name, messages, consumers }
    };
    depths.into_iter().map(queue).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};
    use std::time::Duration;

    fn depth(messages: u32, empty: Option<Timestamp>) -> Depth {
        Depth { name: "eval.jobs.default".to_owned(), messages, consumers: 1, empty }
    }

    #[test]
    fn the_oldest_came_after_the_last_that_was_taken_of_its_own_lane() {
        let job = Job { worker: "w1", ..Job::default() };
        let world = history(&[
            Job { id: "a", at: 10, duration: 60_000, ..job },
            Job { id: "b", at: 11, duration: 30_000, ..job },
            // It was submitted before the other, and took longer.
            Job { id: "c", at: 12, duration: 120_000, ..job },
            Job { id: "d", at: 20, duration: 1_000, lane: "gpu", ..job },
            // Nobody took it: it sums others.
            Job { id: "e", kind: "tool", at: 30, duration: 1_000, ..job },
        ]);
        let taken = taken(&world, world.at(None).unwrap());
        let minute = |minute: i64| Timestamp::from_second(1_750_000_000 + minute * 60).unwrap();
        assert_eq!(taken["eval.jobs.default"], minute(11) - Duration::from_secs(30));
        assert_eq!(taken["eval.jobs.gpu"], minute(20) - Duration::from_secs(1));
        assert_eq!(taken.len(), 2);
        let age = |depth| queues(vec![depth], &taken, minute(12))[0].oldest_at_most_ms;
        assert_eq!(age(depth(3, None)), Some(90_000.0));
        assert_eq!(age(depth(3, Some(minute(11)))), Some(60_000.0), "it was empty later");
        assert_eq!(age(depth(3, Some(minute(1)))), Some(90_000.0), "it was empty before");
        assert_eq!(age(depth(0, Some(minute(11)))), None, "nothing waits");
        assert_eq!(age(Depth { name: "eval.jobs.urgent".to_owned(), ..depth(3, None) }), None);
        // The clock of who submitted may be ahead.
        let ahead = queues(vec![depth(1, None)], &taken, minute(1));
        assert_eq!(ahead[0].oldest_at_most_ms, Some(0.0));
    }
}
