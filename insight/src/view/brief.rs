//! One evaluation in a line of a list.

use super::{milliseconds, text, time};
use crate::projection::{Row, World};
use evalfleet_proto::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// An evaluation in a few words; the whole of it is at `/v1/evaluations/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Brief {
    /// The job's or the batch's id.
    pub id: String,
    /// `function_call`, `command`, `batch`, `question`, …
    pub kind: Option<String>,
    /// `passed`, `failed`, `timed_out`, …; null for batches.
    pub status: Option<String>,
    /// Whose doing it was, unless it passed: `subject`, `infrastructure`, `budget`, `harness`.
    pub cause: Option<&'static str>,
    /// When it finished.
    #[schema(value_type = String, format = DateTime)]
    pub finished: Timestamp,
    /// From 0 to 1; null when the subject was not put to the test.
    pub success_rate: Option<f64>,
    /// A batch's, without infrastructure's faults.
    pub success_rate_adjusted: Option<f64>,
    /// The first function it called, or the program.
    pub tool: Option<String>,
    /// The model that was evaluated.
    pub model: Option<String>,
    /// Who ran it.
    pub worker: Option<String>,
    /// The image's digest.
    pub image: Option<String>,
    /// `kvm` or `tcg`.
    pub accelerator: Option<String>,
    /// The run it is part of.
    pub run: Option<String>,
    /// The suite of its case.
    pub suite: Option<String>,
    /// The case it tried, or the question.
    pub case: Option<String>,
    /// The batch it is part of.
    pub batch: Option<String>,
    /// The evaluation that it repeats.
    pub replay_of: Option<String>,
    /// Which attempt gave this result, from 1.
    pub attempt: u32,
    /// `key=value` each.
    pub labels: Vec<String>,
    /// What went wrong, the beginning of it.
    pub error: Option<String>,
    /// The exit status of the subject.
    pub exit_code: Option<i64>,
    /// What it left different on its disk.
    pub effects: u64,
    /// Of these, what was not announced.
    pub effects_unexpected: u64,
    /// From submission to the result.
    pub duration_ms: Option<f64>,
    /// The subject's own time on the clock; a question's is the model's time to answer.
    pub wall_ms: Option<f64>,
    /// The most memory beyond the template.
    pub memory_peak_bytes: u64,
    /// A batch's parts.
    pub parts: Option<Parts>,
}

/// What the parts of a batch come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Parts {
    /// All of them.
    pub total: u64,
    /// Those that passed.
    pub passed: u64,
    /// Those that failed for no fault of theirs.
    pub infrastructure: u64,
}

impl Brief {
    /// The line of `row`.
    pub fn of(world: &World, row: &Row) -> Self {
        let text = |symbol| text(world, symbol);
        let sums = row.sums;
        Self {
            id: row.id.to_string(),
            kind: text(row.kind),
            status: text(row.status),
            cause: row.cause.map(evalfleet_proto::status::Cause::as_str),
            finished: time(row.at),
            success_rate: row.success_rate,
            success_rate_adjusted: row.adjusted_rate,
            tool: text(row.tool()).filter(|_| !row.is_batch()),
            model: text(row.model),
            worker: text(row.worker),
            image: text(row.image),
            accelerator: text(row.accelerator),
            run: text(row.run),
            suite: text(row.suite),
            case: text(row.case),
            batch: text(row.batch),
            replay_of: text(row.replay_of),
            attempt: row.attempt.max(1),
            labels: row.labels.iter().map(|label| world.symbols().text(*label).to_owned()).collect(),
            error: row.error.as_deref().map(str::to_owned),
            exit_code: row.exit_code,
            effects: row.effects,
            effects_unexpected: row.effects_unexpected,
            duration_ms: milliseconds(row.measures.duration),
            wall_ms: milliseconds(row.measures.wall),
            memory_peak_bytes: row.measures.memory,
            parts: row.is_batch().then_some(Parts {
                total: sums.total,
                passed: sums.passed,
                infrastructure: sums.infrastructure,
            }),
        }
    }
}
