//! Questions that were put to a model: which tools they were to lead to, which they did, and what was not right. Pure.

use super::runs::FunctionOf;
use super::subjects::{tally, word};
use super::{milliseconds, text};
use crate::projection::{At, Field, Question, Row, Symbol, World};
use evalfleet::suite::verdict::Fault;
use evalfleet_proto::status::Cause;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use utoipa::ToSchema;

/// The most questions that are listed; `/v1/evaluations?batch=` has all.
const QUESTIONS_MAX: usize = 1000;
/// The most calls that are listed of one question.
const CALLS_MAX: usize = 20;

/// One question, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Asked {
    /// Its evaluation.
    pub id: String,
    /// Its name within the batch.
    pub name: String,
    /// What was asked.
    pub question: Option<String>,
    /// The tools that it was to lead to, by name.
    pub expected: Vec<String>,
    /// The tools that were called, by name.
    pub called: Vec<String>,
    /// `passed`, or whose doing it was that it did not pass.
    pub outcome: Option<&'static str>,
    /// What was not right, where that is the model's doing: `tools`, `arguments`, `effects` or `answer`.
    pub fault: Option<&'static str>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// The model's time to answer.
    pub wall_ms: Option<f64>,
    /// The calls that were run for it in VMs, as far as the history has them: in the order of their recording.
    pub calls: Vec<CallOf>,
}

/// A call that a question led to, run in a clean VM.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CallOf {
    /// Its evaluation.
    pub id: String,
    /// The function.
    pub tool: Option<String>,
    /// `passed`, or whose doing it was that it did not.
    pub outcome: &'static str,
}

/// The questions of a batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Questions {
    /// Those that did not pass first.
    pub listed: Vec<Asked>,
    /// How many more there are.
    pub omitted: u64,
    /// How many were not right in what, where that is the model's doing: `tools`, `arguments`, `effects`, `answer`.
    pub faults: BTreeMap<&'static str, u64>,
}

/// What was not right with a question; none where it passed, or where it was not the model's doing.
fn fault(row: &Row) -> Option<&'static str> {
    if row.cause != Some(Cause::Subject) {
        return None;
    }
    if let Some(fault) = row.error.as_deref().and_then(Fault::of) {
        return Some(fault.as_str());
    }
    // The REPL's own files say no more than that: other tools than expected, or words.
    let set = |tools: &[Symbol]| tools.iter().copied().collect::<BTreeSet<_>>();
    let other = row.question.as_deref().is_some_and(|asked| set(&asked.expected) != set(&asked.called));
    Some(if other { Fault::Tools } else { Fault::Answer }.as_str())
}

fn names(world: &World, tools: &[Symbol]) -> Vec<String> {
    let mut names: Vec<String> = tools.iter().map(|tool| world.symbols().text(*tool).to_owned()).collect();
    names.sort();
    names
}

/// The calls of a suite's run, by the name of the question that they were made for.
fn calls(world: &World, at: At, run: Symbol) -> HashMap<String, Vec<CallOf>> {
    let mut by_name: HashMap<String, Vec<CallOf>> = HashMap::new();
    for (_, row) in world.having(Field::Run, run, at) {
        let (Some(case), Some(suite), Some(outcome)) =
            (text(world, row.case), text(world, row.suite), row.outcome())
        else {
            continue;
        };
        let Some(name) = case.strip_prefix(&suite).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let own = by_name.entry(name.to_owned()).or_default();
        if own.len() < CALLS_MAX {
            own.push(CallOf {
                id: row.id.to_string(),
                tool: text(world, row.tool()),
                outcome: word(outcome),
            });
        }
    }
    by_name
}

/// What the questions among a batch's `rows` came to; `batch` is its id. None where there are no questions.
pub(super) fn questions(world: &World, at: At, batch: Symbol, rows: &[&Row]) -> Option<Questions> {
    let kind = world.symbols().find("question")?;
    // A question for which no tool was expected, and none called, has no tools at all.
    let none = Question::default();
    let mut asked: Vec<(&Row, &Question)> = rows
        .iter()
        .filter(|row| row.kind == Some(kind))
        .map(|row| (*row, row.question.as_deref().unwrap_or(&none)))
        .collect();
    if asked.is_empty() {
        return None;
    }
    // In the order in which they were recorded: the rows come newest first.
    asked.reverse();
    asked.sort_by_key(|(row, _)| row.cause.is_none());
    let mut faults = BTreeMap::new();
    asked.iter().filter_map(|(row, _)| fault(row)).for_each(|fault| *faults.entry(fault).or_default() += 1);
    let mut calls = calls(world, at, batch);
    let prefix = format!("{}/", world.symbols().text(batch));
    let omitted = asked.len().saturating_sub(QUESTIONS_MAX) as u64;
    let listed = asked.into_iter().take(QUESTIONS_MAX).map(|(row, question)| {
        let name = row.id.strip_prefix(&prefix).unwrap_or(&row.id).to_owned();
        Asked {
            id: row.id.to_string(),
            question: text(world, row.case),
            expected: names(world, &question.expected),
            called: names(world, &question.called),
            outcome: row.outcome().map(word),
            fault: fault(row),
            error: row.error.as_deref().map(str::to_owned),
            wall_ms: milliseconds(row.measures.wall),
            calls: calls.remove(&name).unwrap_or_default(),
            name,
        }
    });
    Some(Questions { listed: listed.collect(), omitted, faults })
}

/// How questions did that called each function; each counts once for it.
pub(super) fn functions(world: &World, rows: &[&Row]) -> Vec<FunctionOf> {
    let mut by_tool: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let called = row.question.iter().flat_map(|question| &question.called).copied();
        for tool in called.chain(row.tool()).collect::<BTreeSet<_>>() {
            by_tool.entry(world.symbols().text(tool)).or_default().push(row);
        }
    }
    let function = |(name, rows): (&str, Vec<&Row>)| FunctionOf {
        name: name.to_owned(),
        rate: tally(rows.iter()).into(),
    };
    by_tool.into_iter().map(function).collect()
}
