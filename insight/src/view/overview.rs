//! The first page: how things go, at one glance. Pure.

use super::Brief;
use super::insights::Insight;
use super::queues::Queue;
use super::rates::{Durations, Standing};
use super::series::{DAY, Series, Window};
use super::time;
use crate::projection::{At, HOUR, Line, Row, World};
use evalfleet_proto::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// How many of the newest evaluations are shown.
const RECENT: usize = 12;
/// How many of the newest evaluations times are taken from.
const LATELY_MAX: usize = 5_000;
/// A worker that finished something within this is at work.
const AT_WORK: i64 = HOUR;

/// How things go.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Overview {
    /// Over the window.
    pub standing: Standing,
    /// Over the window before it, for comparison.
    pub before: Standing,
    /// Over everything.
    pub ever: Standing,
    /// The window, cut into buckets.
    pub series: Series,
    /// How long subjects ran, over the newest 5,000 evaluations.
    pub durations: Option<Durations>,
    /// How long jobs waited for a worker.
    pub waits: Option<Durations>,
    /// How long clean VMs took to make.
    pub resets: Option<Durations>,
    /// Workers that finished something within the last hour of the window, and all ever seen.
    pub workers: WorkerCount,
    /// Dead letters that nobody replayed, and all.
    pub dead_letters: DeadCount,
    /// The newest evaluations.
    pub recent: Vec<Brief>,
    /// What stands out most.
    pub insights: Vec<Insight>,
    /// What waits at the broker now; null for other moments, and when the broker does not answer.
    pub queues: Option<Vec<Queue>>,
    /// The moment that this is about.
    #[schema(value_type = String, format = DateTime)]
    pub moment: Timestamp,
    /// The transaction that this stands on.
    pub basis_t: u64,
}

/// Workers, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct WorkerCount {
    /// At work.
    pub active: u64,
    /// Ever seen.
    pub known: u64,
}

/// Dead letters, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadCount {
    /// Those that nobody replayed.
    pub open: u64,
    /// All.
    pub known: u64,
}

/// Makes the overview; queues and insights are somebody else's.
pub fn overview(world: &World, at: At, window: Window, until: i64) -> Overview {
    let (standing, before, ever, series, workers) = world.summary(at, |summary| {
        let span = window.span(&summary.all, until);
        let length = span.to - span.from;
        let between = |line: &Line, from, to| Standing::from(&line.between(from, to));
        let active =
            summary.workers.values().filter(|line| line.between(span.to - AT_WORK, span.to).total() > 0);
        let workers = WorkerCount { active: active.count() as u64, known: summary.workers.len() as u64 };
        (
            between(&summary.all, span.from, span.to),
            between(&summary.all, span.from - length, span.from),
            Standing::from(&summary.all.total),
            Series::of(&summary.all, span),
            workers,
        )
    });
    let lately: Vec<&Row> =
        world.rows(at).rev().filter(|row| row.outcome().is_some()).take(LATELY_MAX).collect();
    let times = |of: fn(&Row) -> u64| Durations::of(lately.iter().map(|row| of(row)).collect());
    let (known, open) = world.letter_counts(at);
    let shown = world.by_time(at, None).map(|(_, row)| row).filter(|row| row.kind.is_some());
    let question = world.symbols().find("question");
    let shown = shown.filter(|row| row.kind != question);
    Overview {
        standing,
        before,
        ever,
        series,
        durations: times(|row| row.measures.wall),
        waits: times(|row| row.measures.queued),
        resets: times(|row| row.measures.reset),
        workers,
        dead_letters: DeadCount { open, known },
        recent: shown.take(RECENT).map(|row| Brief::of(world, row)).collect(),
        insights: Vec::new(),
        queues: None,
        moment: time(until),
        basis_t: at.t,
    }
}

/// How much was recorded when: what the time slider stands on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Timeline {
    /// When the first evaluation was recorded.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub begin: Option<Timestamp>,
    /// When the newest was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub end: Option<Timestamp>,
    /// Evaluations recorded in each of equal stretches between the two.
    pub activity: Vec<u64>,
    /// The earliest transaction whose evaluations are all kept in memory; 0 for everything.
    pub kept_from: u64,
    /// The newest transaction.
    pub basis_t: u64,
}

/// Makes the timeline, in `stretches` stretches.
pub fn timeline(world: &World, stretches: usize) -> Timeline {
    let (begin, end) = (world.begin(), world.newest().map(|(_, instant)| instant));
    let mut activity = vec![0; stretches];
    if let (Some(begin), Some(end)) = (begin, end) {
        let length = (end - begin).max(1);
        for (instant, rows) in world.recordings() {
            let place = (instant - begin) as f64 / length as f64 * stretches as f64;
            if let Some(slot) = activity.get_mut((place as usize).min(stretches.saturating_sub(1))) {
                *slot += rows;
            }
        }
    }
    Timeline {
        begin: begin.map(time),
        end: end.map(time),
        activity,
        kept_from: world.kept_from(),
        basis_t: world.basis_t(),
    }
}

/// The end of what a moment can show: now, or the moment itself. `now` is in milliseconds since 1970.
pub fn until(at: At, asked: Option<evalfleet_datomic::Point>, now: i64) -> i64 {
    match asked {
        Some(evalfleet_datomic::Point::Time(time)) => time.as_millisecond().min(now),
        Some(evalfleet_datomic::Point::T(_)) => at.instant,
        None => now,
    }
    .max(at.instant.min(now - DAY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    #[test]
    fn the_overview_counts_by_cause_and_knows_who_is_at_work() {
        let world = history(&[
            Job { id: "a", worker: "w1", wall: 10, ..Job::default() },
            Job { id: "b", worker: "w2", cause: Some("subject"), at: 200, ..Job::default() },
            Job { id: "c", worker: "w2", cause: Some("infrastructure"), at: 201, ..Job::default() },
        ]);
        let at = world.at(None).unwrap();
        let shown = overview(&world, at, Window::All, at.instant + 1);
        assert_eq!(shown.standing.evaluations.total, 3);
        assert_eq!((shown.standing.rate.passed, shown.standing.rate.tries), (1, 2));
        assert_eq!(shown.workers, WorkerCount { active: 1, known: 2 });
        assert_eq!(shown.recent[0].id, "c");
        let timeline = timeline(&world, 4);
        assert_eq!(timeline.activity.iter().sum::<u64>(), 3);
        assert_eq!((timeline.activity[0], timeline.activity[3]), (1, 2));
    }
}
