//! Runs: jobs that were submitted together (a batch), and jobs that name the same run in their labels. Pure.

use super::groups::{self, Item, Paged};
use super::list::{Cursor, TEXT_MAX};
use super::questions::{self, Questions};
use super::rates::{Durations, Rate, Standing};
use super::subjects::{CaseRow, cases};
use super::{Brief, time};
use crate::projection::{At, Group, Row, Summary, Symbol, World};
use evalfleet_proto::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// The most evaluations that did not pass which a run is shown with; the list has all.
const FAILURES_MAX: usize = 50;

/// What makes evaluations a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// They were submitted, or imported, as one batch.
    Batch,
    /// Their label `run` is the same.
    Run,
}

/// Which runs. Filters of different names must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct RunFilter {
    /// Batches only, or labelled runs only.
    #[param(inline)]
    pub kind: Option<RunKind>,
    /// A model that was evaluated in it.
    #[param(max_length = 500)]
    pub model: Option<String>,
    /// A text in its id; letters' case does not matter.
    #[param(max_length = 500)]
    pub q: Option<String>,
    /// Something in it finished at or after this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Something in it finished before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

impl RunFilter {
    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<String> {
        let texts = [&self.model, &self.q].into_iter().flatten();
        let long = texts.map(|text| text.chars().count()).find(|long| *long > TEXT_MAX)?;
        Some(format!("a filter has {long} characters, and may have {TEXT_MAX}"))
    }
}

/// A run in a line. `compare` takes it as `batch:ID` or `run:ID`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Run {
    /// The batch's id, or the run's name.
    pub id: String,
    /// What makes it a run.
    pub kind: RunKind,
    /// The models that were evaluated in it, by name.
    pub models: Vec<String>,
    /// By whose doing its evaluations ended, and its rates: attributed, and raw.
    pub standing: Standing,
    /// How many ended how: `passed`, `failed`, `timed_out`, …
    pub statuses: BTreeMap<String, u64>,
    /// When its first evaluation finished.
    #[schema(value_type = String, format = DateTime)]
    pub first: Timestamp,
    /// When its last one did.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
}

/// A page of runs.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Runs {
    /// Those that last finished something first.
    pub runs: Vec<Run>,
    /// Where it stands.
    #[serde(flatten)]
    pub paged: Paged,
}

/// A function in a run.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FunctionOf {
    /// Its name.
    pub name: String,
    /// How the evaluations that called it first did; of questions, those that called it at all.
    pub rate: Rate,
}

/// What a batch says of itself, as it was recorded with it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Reported {
    /// The share that passed, every failure counted.
    pub success_rate: Option<f64>,
    /// The same without infrastructure's faults.
    pub success_rate_adjusted: Option<f64>,
}

/// A run, whole.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RunDetail {
    /// In a line.
    #[serde(flatten)]
    pub run: Run,
    /// A batch's own rates; null for labelled runs.
    pub reported: Option<Reported>,
    /// How long its subjects ran.
    pub durations: Option<Durations>,
    /// The functions that were called in it, by name.
    pub tools: Vec<FunctionOf>,
    /// Its cases, those that fail most first.
    pub cases: Vec<CaseRow>,
    /// What was asked of a model, and how that went; null where it is no batch of questions.
    pub questions: Option<Questions>,
    /// What did not pass, newest first, 50 at most; `/v1/evaluations?batch=` or `?run=` has all.
    pub failures: Vec<Brief>,
    /// The transaction that this stands on.
    pub basis_t: u64,
}

fn line(world: &World, kind: RunKind, symbol: Symbol, group: &Group) -> Run {
    let text = |symbol: &Symbol| world.symbols().text(*symbol).to_owned();
    let mut models: Vec<String> = group.models.keys().map(text).collect();
    models.sort();
    Run {
        id: text(&symbol),
        kind,
        models,
        standing: (&group.counts).into(),
        statuses: groups::statuses(world, group),
        first: time(group.first()),
        last: time(group.last()),
    }
}

fn of_kind(summary: &Summary, kind: RunKind) -> &BTreeMap<Symbol, Group> {
    match kind {
        RunKind::Batch => &summary.batches,
        RunKind::Run => &summary.runs,
    }
}

/// A page of the runs of a moment.
pub fn runs(world: &World, at: At, filter: &RunFilter, limit: usize, after: Option<Cursor>) -> Runs {
    let model = filter.model.as_deref().map(|name| world.symbols().find(name));
    let needle = filter.q.as_ref().map(|text| text.to_lowercase());
    let since = filter.since.map_or(i64::MIN, Timestamp::as_millisecond);
    let until = filter.until.map_or(i64::MAX, Timestamp::as_millisecond);
    let fits = |symbol: Symbol, group: &Group| {
        group.last() >= since
            && group.first() < until
            && model.is_none_or(|model| model.is_some_and(|model| group.models.contains_key(&model)))
            && needle
                .as_ref()
                .is_none_or(|needle| world.symbols().text(symbol).to_lowercase().contains(needle.as_str()))
    };
    world.summary(at, |summary| {
        let mut all = Vec::new();
        for kind in [RunKind::Batch, RunKind::Run] {
            if filter.kind.is_some_and(|only| only != kind) {
                continue;
            }
            for (symbol, group) in of_kind(summary, kind) {
                if fits(*symbol, group) {
                    // A batch and a run may have one name.
                    let number = symbol.number() * 2 + u64::from(kind == RunKind::Run);
                    all.push(Item { what: (kind, *symbol), number, group });
                }
            }
        }
        let taken = groups::take(all, at, limit, after);
        let shown = |item: &Item<'_, (RunKind, Symbol)>| line(world, item.what.0, item.what.1, item.group);
        Runs { runs: taken.items.iter().map(shown).collect(), paged: Paged::of(&taken, at) }
    })
}

/// One run; a batch where both are named so and `kind` does not say. None when nothing of it was recorded.
pub fn detail(world: &World, at: At, id: &str, kind: Option<RunKind>) -> Option<RunDetail> {
    let symbol = world.symbols().find(id)?;
    let kinds = kind.map_or_else(|| vec![RunKind::Batch, RunKind::Run], |kind| vec![kind]);
    let (kind, run, first, last) = world.summary(at, |summary| {
        kinds.into_iter().find_map(|kind| {
            let group = of_kind(summary, kind).get(&symbol)?;
            Some((kind, line(world, kind, symbol, group), group.first(), group.last()))
        })
    })?;
    let of = |row: &Row| match kind {
        RunKind::Batch => row.batch == Some(symbol),
        RunKind::Run => row.run == Some(symbol),
    };
    // Only the time that the run took is looked through, newest first.
    let rows = world.by_time(at, Some((last.saturating_add(1), 0))).map(|(_, row)| row);
    let rows = rows.take_while(|row| row.at >= first).filter(|row| of(row) && row.outcome().is_some());
    let rows: Vec<&Row> = rows.collect();
    let batch = if kind == RunKind::Batch { world.find(id, at) } else { None };
    Some(RunDetail {
        run,
        reported: batch
            .filter(|row| row.is_batch())
            .map(|row| Reported { success_rate: row.success_rate, success_rate_adjusted: row.adjusted_rate }),
        durations: Durations::of(rows.iter().map(|row| row.measures.wall).collect()),
        tools: questions::functions(world, &rows),
        cases: cases(world, &rows),
        questions: questions::questions(world, at, symbol, &rows).filter(|_| kind == RunKind::Batch),
        failures: rows
            .iter()
            .filter(|row| row.cause.is_some())
            .take(FAILURES_MAX)
            .map(|row| Brief::of(world, row))
            .collect(),
        basis_t: at.t,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    fn three() -> World {
        history(&[
            Job { id: "a", run: "r1", case: "s/c1", tool: "read", model: "m1", ..Job::default() },
            Job { id: "b", run: "r1", case: "s/c2", tool: "read", cause: Some("subject"), ..Job::default() },
            Job { id: "c", run: "r1", tool: "write", cause: Some("infrastructure"), ..Job::default() },
            Job { id: "d", run: "r2", model: "m2", ..Job::default() },
            Job { id: "e", run: "r3", ..Job::default() },
        ])
    }

    fn listed(world: &World, filter: &RunFilter, limit: usize) -> Vec<String> {
        let at = world.at(None).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = runs(world, at, filter, limit, after);
            assert!(page.runs.len() <= limit);
            found.extend(page.runs.into_iter().map(|run| run.id));
            match page.paged.next {
                Some(next) => after = Some(Cursor::parse(&next).unwrap()),
                None => return found,
            }
        }
    }

    #[test]
    fn runs_are_listed_once_whatever_a_page_holds() {
        let world = three();
        for limit in 1..5 {
            assert_eq!(listed(&world, &RunFilter::default(), limit), ["r3", "r2", "r1"]);
        }
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(listed(&world, &RunFilter { model: text("m1"), ..RunFilter::default() }, 9), ["r1"]);
        assert!(listed(&world, &RunFilter { model: text("none"), ..RunFilter::default() }, 9).is_empty());
        assert_eq!(listed(&world, &RunFilter { q: text("R2"), ..RunFilter::default() }, 9), ["r2"]);
        let batches = RunFilter { kind: Some(RunKind::Batch), ..RunFilter::default() };
        assert!(listed(&world, &batches, 9).is_empty());
    }

    #[test]
    fn a_run_has_both_rates_its_failures_and_its_cases() {
        let world = three();
        let at = world.at(None).unwrap();
        let found = detail(&world, at, "r1", None).unwrap();
        let standing = found.run.standing;
        assert_eq!((standing.rate.passed, standing.rate.tries, standing.raw.tries), (1, 2, 3));
        assert_eq!(found.run.statuses, BTreeMap::from([("passed".to_owned(), 1), ("failed".to_owned(), 2)]));
        assert_eq!(found.run.models, ["m1"]);
        assert!(found.run.first < found.run.last && found.reported.is_none());
        let names: Vec<&str> = found.failures.iter().map(|brief| brief.id.as_str()).collect();
        assert_eq!(names, ["c", "b"]);
        assert_eq!(found.cases[0].case, "s/c2");
        assert_eq!(found.tools.iter().map(|tool| tool.rate.tries).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(detail(&world, at, "r1", Some(RunKind::Batch)), None);
        assert_eq!(detail(&world, at, "a", None), None, "a job is no run");
    }

    #[test]
    fn a_run_is_told_as_of_a_moment() {
        let world = three();
        let at = world.at(Some(evalfleet_datomic::Point::T(2))).unwrap();
        let then = detail(&world, at, "r1", None).unwrap();
        assert_eq!((then.run.standing.raw.tries, then.failures.len(), then.basis_t), (2, 1, 2));
        assert_eq!(detail(&world, at, "r2", None), None);
    }
}
