//! `batch show`: what a batch has come to so far.

use super::args::BatchCommand;
use super::failure::Failure;
use super::progress::Progress;
use super::report::short;
use super::{Context, emit, print_json};
use crate::api::{Api, Query};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::BatchId;
use evalfleet_proto::status::Exit;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a batch that is watched is asked for.
const EVERY: Duration = Duration::from_secs(1);
/// Jobs that are looked at; of a larger batch, the rest is not told apart.
const JOBS_MAX: u32 = 100_000;
/// Jobs that did not pass, of which a summary names so many.
const NAMED_MAX: usize = 20;

const QUESTION: &str = "[:find ?id ?status ?cause ?at ?wall ?error :in $ ?batch \
    :where [?b :evaluation/id ?batch] [?e :evaluation/batch ?b] [?e :evaluation/id ?id] [?e :evaluation/status ?status] \
    [?e :evaluation/timestamp ?at] [(get-else $ ?e :evaluation/cause :none) ?cause] \
    [(get-else $ ?e :evaluation/wall-us 0) ?wall] [(get-else $ ?e :evaluation/error \"\") ?error]]";

/// What a batch has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    batch: BatchId,
    /// Jobs that are recorded.
    recorded: usize,
    /// The same by how they ended.
    statuses: BTreeMap<String, usize>,
    /// Those that did not pass by whose doing that was.
    causes: BTreeMap<String, usize>,
    /// The share that passed of those that were put to the test; null when none was.
    success_rate: Option<f64>,
    /// The first and the last end.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// The median and the longest time of a subject.
    wall_median_ms: f64,
    wall_max_ms: f64,
    /// Some that did not pass.
    failed: Vec<Failed>,
    basis_t: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Failed {
    id: String,
    status: String,
    cause: String,
    error: String,
}

pub(super) async fn batch(context: &Context, command: BatchCommand) -> Result<Exit, Failure> {
    let BatchCommand::Show { batch, as_of, watch, count } = command;
    let api = Api::new(&context.settings.api)?;
    let mut before: Option<Summary> = None;
    loop {
        let summary = ask(&api, &batch, as_of.clone()).await?;
        let news = before.as_ref().is_none_or(|before| before.recorded != summary.recorded);
        if news {
            if context.json { print_json(&summary, !watch)? } else { emit(&text(&summary))? }
        }
        let complete = count.is_some_and(|count| summary.recorded >= count);
        if !watch || complete {
            return Ok(Exit::Passed);
        }
        before = Some(summary);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Passed),
        }
    }
}

/// Waits until `count` jobs of a batch are recorded, then shows what they came to.
pub(super) async fn wait(
    context: &Context,
    batch: &BatchId,
    count: usize,
    patience: Duration,
) -> Result<Exit, Failure> {
    let api = Api::new(&context.settings.api)?;
    let begun = Instant::now();
    let progress = Progress::of(count);
    loop {
        let summary = ask(&api, batch, None).await?;
        progress.at(summary.recorded);
        if summary.recorded >= count {
            progress.end();
            if context.json {
                print_json(&summary, true)?
            } else {
                emit(&text(&summary))?
            }
            return Ok(summary.worst());
        }
        if begun.elapsed() >= patience {
            let so_far = format!("{} of {count} jobs of {batch} are recorded", summary.recorded);
            let message = format!("{so_far} after {} s; --patience waits for longer", patience.as_secs());
            return Err(Failure::new(Exit::Infrastructure, message));
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl Summary {
    /// The exit code of its worst job.
    fn worst(&self) -> Exit {
        let cancelled = self.statuses.contains_key("cancelled").then_some(Exit::Cancelled);
        let causes = [
            ("harness", Exit::Harness),
            ("infrastructure", Exit::Infrastructure),
            ("budget", Exit::Budget),
            ("subject", Exit::Subject),
        ];
        let of_cause = causes.into_iter().find(|(cause, _)| self.causes.contains_key(*cause));
        cancelled.or(of_cause.map(|(_, exit)| exit)).unwrap_or(Exit::Passed)
    }
}

async fn ask(api: &Api, batch: &BatchId, as_of: Option<String>) -> Result<Summary, Failure> {
    // A batch's name has no character that EDN would read otherwise.
    let args = vec![format!("\"{batch}\"")];
    let query = Query { query: QUESTION.to_owned(), args, as_of, rows_max: Some(JOBS_MAX) };
    let answer = api.query(&query).await?;
    Ok(sum_up(batch, &answer.rows, answer.basis_t))
}

fn sum_up(batch: &BatchId, rows: &[Value], basis_t: Option<i64>) -> Summary {
    let word = |row: &Value, at: usize| {
        row[at].as_str().unwrap_or_default().trim_start_matches(':').replace('-', "_")
    };
    let (mut statuses, mut causes) = (BTreeMap::new(), BTreeMap::new());
    let (mut walls, mut times, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut tested, mut passed) = (0_usize, 0_usize);
    for row in rows {
        let (status, cause) = (word(row, 1), word(row, 2));
        *statuses.entry(status.clone()).or_insert(0) += 1;
        times.extend(row[3].as_str().and_then(|at| at.parse::<Timestamp>().ok()));
        walls.push(row[4].as_f64().unwrap_or(0.0) / 1000.0);
        if status == "passed" {
            (tested, passed) = (tested + 1, passed + 1);
            continue;
        }
        let untested = ["cancelled", "expired", "dead"].contains(&status.as_str());
        tested += usize::from(["subject", "budget"].contains(&cause.as_str()) && !untested);
        *causes.entry(cause.clone()).or_insert(0) += 1;
        let error = row[5].as_str().unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        failed.push(Failed { id: row[0].as_str().unwrap_or_default().to_owned(), status, cause, error });
    }
    walls.sort_by(f64::total_cmp);
    failed.sort_by(|a, b| a.id.cmp(&b.id));
    failed.truncate(NAMED_MAX);
    Summary {
        batch: batch.clone(),
        recorded: rows.len(),
        statuses,
        causes,
        success_rate: (tested > 0).then(|| passed as f64 / tested as f64),
        first: times.iter().min().copied(),
        last: times.iter().max().copied(),
        wall_median_ms: walls.get(walls.len() / 2).copied().unwrap_or(0.0),
        wall_max_ms: walls.last().copied().unwrap_or(0.0),
        failed,
        basis_t,
    }
}

fn text(summary: &Summary) -> String {
    let counts = |of: &BTreeMap<String, usize>| {
        of.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
    };
    let mut lines = vec![format!("{}: {} recorded", summary.batch, summary.recorded)];
    if summary.recorded == 0 {
        lines.push("  none of its jobs is done, or there is no such batch".to_owned());
        return lines.join("\n");
    }
    lines.push(format!("  {}", counts(&summary.statuses)));
    if !summary.causes.is_empty() {
        lines.push(format!("  not passed for: {}", counts(&summary.causes)));
    }
    if let Some(rate) = summary.success_rate {
        lines.push(format!("  success rate: {:.1} % of those that were put to the test", rate * 100.0));
    }
    let ms = |ms: f64| short(Duration::from_secs_f64(ms / 1000.0));
    lines.push(format!(
        "  time of a job: {} median, {} longest",
        ms(summary.wall_median_ms),
        ms(summary.wall_max_ms)
    ));
    if let (Some(first), Some(last)) = (summary.first, summary.last) {
        lines.push(format!("  ended from {first} to {last}"));
    }
    for failed in &summary.failed {
        let error: String = failed.error.chars().take(100).collect();
        lines.push(format!("  {}  {:<14} {}", failed.id, failed.status, error));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_summary_counts_and_leaves_out_what_was_not_tested() {
        let row = |id: &str, status: &str, cause: &str, wall: u64| {
            json!([id, format!(":{status}"), format!(":{cause}"), "2026-01-31T06:00:00Z", wall, "why\nmore"])
        };
        let rows = [
            row("a", "passed", "none", 2000),
            row("b", "failed", "subject", 4000),
            row("c", "timed-out", "budget", 9000),
            row("d", "cancelled", "harness", 0),
            row("e", "expired", "budget", 0),
        ];
        let summary = sum_up(&"night".parse().unwrap(), &rows, Some(7));
        assert_eq!((summary.recorded, summary.statuses["timed_out"], summary.causes["budget"]), (5, 1, 2));
        assert_eq!(summary.success_rate, Some(1.0 / 3.0));
        let worst = |rows: &[Value]| sum_up(&"night".parse().unwrap(), rows, None).worst();
        assert_eq!(
            [&rows[..1], &rows[..2], &rows[..3], &rows].map(worst),
            [Exit::Passed, Exit::Subject, Exit::Budget, Exit::Cancelled]
        );
        assert_eq!((summary.wall_median_ms, summary.wall_max_ms), (2.0, 9.0));
        let text = text(&summary);
        for part in ["night: 5 recorded", "1 passed", "33.3 %", "b  failed         why\n"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn an_empty_batch_says_so() {
        let summary = sum_up(&"night".parse().unwrap(), &[], None);
        assert_eq!((summary.success_rate, summary.wall_median_ms), (None, 0.0));
        assert!(text(&summary).contains("no such batch"));
    }
}
