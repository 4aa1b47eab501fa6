//! Tools and models: how each does, over time, by version, by case. Pure.

use super::rates::{Durations, Rate, Standing};
use super::series::{DAY, Series, Window};
use super::time;
use crate::projection::{At, Field, HOUR, Line, Outcome, Row, Summary, Symbol, World};
use evalfleet_analytics::changepoint;
use evalfleet_analytics::rate::Tally;
use evalfleet_analytics::recommend::{Action, Evidence, Policy, recommend};
use evalfleet_proto::Timestamp;
use evalfleet_proto::status::Cause;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How many days the small chart of a list has.
const SPARK_DAYS: i64 = 14;
/// The most cases of a matrix, and the most outcomes of each.
const CASES_MAX: usize = 100;
const OUTCOMES_MAX: usize = 40;
/// The most versions that are told apart.
const VERSIONS_MAX: usize = 50;
/// The most evaluations whose durations are looked at.
const DURATIONS_MAX: usize = 20_000;

/// What a subject is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A function or a program.
    Tool,
    /// A model.
    Model,
}

/// A tool or a model in a line.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// How it does in all.
    pub standing: Standing,
    /// How it did in the last 24 hours of its own history.
    pub lately: Rate,
    /// When it was first evaluated, to the hour.
    #[schema(value_type = String, format = DateTime)]
    pub first: Timestamp,
    /// When it was last evaluated, to the hour.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
    /// Its rate of each of the last 14 days that it was evaluated on, oldest first; null for none.
    pub spark: Vec<Option<f64>>,
}

/// All tools, or all models.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Subjects {
    /// Those with the most evaluations first.
    pub subjects: Vec<Subject>,
    /// The transaction that this stands on.
    pub basis_t: u64,
}

/// An image that a subject ran in: a version of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Version {
    /// The image's digest.
    pub image: String,
    /// When it was first used.
    #[schema(value_type = String, format = DateTime)]
    pub first: Timestamp,
    /// When it was last used.
    #[schema(value_type = String, format = DateTime)]
    pub last: Timestamp,
    /// How the subject did in it.
    pub rate: Rate,
    /// What to do with it.
    pub recommendation: Option<Recommendation>,
}

/// What to do with a version, and why.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Recommendation {
    /// `promote`, `keep`, `quarantine` or `needs_more_evidence`.
    pub action: &'static str,
    /// One sentence with the numbers.
    pub because: String,
}

/// A case and its last outcomes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CaseRow {
    /// The case.
    pub case: String,
    /// How often it passed.
    pub rate: Rate,
    /// The last ones, oldest first.
    pub outcomes: Vec<Cell>,
}

/// One outcome of a case.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Cell {
    /// The evaluation.
    pub id: String,
    /// `passed`, or whose doing it was that it did not.
    pub outcome: &'static str,
}

/// A place where a rate or a duration changed for good.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Change {
    /// `success_rate` or `wall_ms`.
    pub of: &'static str,
    /// The first bucket or evaluation after it.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The mean before.
    pub before: f64,
    /// The mean after.
    pub after: f64,
    /// How much better two stretches describe it than one, in nats.
    pub evidence: f64,
}

/// A tool or a model, whole.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SubjectDetail {
    /// In a line.
    #[serde(flatten)]
    pub subject: Subject,
    /// Its rate over time.
    pub series: Series,
    /// How long it ran, over its newest 20,000 evaluations.
    pub durations: Option<Durations>,
    /// Its versions, newest first; none for models.
    pub versions: Vec<Version>,
    /// Its cases, those that fail most first.
    pub cases: Vec<CaseRow>,
    /// Where it changed.
    pub changes: Vec<Change>,
    /// The transaction that this stands on.
    pub basis_t: u64,
}

fn lines_of(summary: &Summary, kind: Kind) -> &BTreeMap<Symbol, Line> {
    match kind {
        Kind::Tool => &summary.tools,
        Kind::Model => &summary.models,
    }
}

fn subject(world: &World, symbol: Symbol, line: &Line) -> Subject {
    let first = line.hours.keys().next().copied().unwrap_or(0);
    let last = line.hours.keys().next_back().copied().unwrap_or(0);
    let mut days: BTreeMap<i64, Tally> = BTreeMap::new();
    for (hour, counts) in line.hours.iter().rev() {
        let day = (hour * HOUR).div_euclid(DAY);
        if days.len() as i64 == SPARK_DAYS && !days.contains_key(&day) {
            break;
        }
        let (tally, more) = (days.entry(day).or_default(), counts.attributed());
        *tally = Tally { passed: tally.passed + more.passed, tries: tally.tries + more.tries };
    }
    Subject {
        name: world.symbols().text(symbol).to_owned(),
        standing: (&line.total).into(),
        lately: line.between((last - 23) * HOUR, (last + 1) * HOUR).attributed().into(),
        first: time(first * HOUR),
        last: time(last * HOUR),
        spark: days.into_values().map(Tally::rate).collect(),
    }
}

/// All subjects of a kind.
pub fn subjects(world: &World, at: At, kind: Kind) -> Subjects {
    let mut subjects = world.summary(at, |summary| {
        let lines = lines_of(summary, kind).iter();
        lines.map(|(symbol, line)| subject(world, *symbol, line)).collect::<Vec<_>>()
    });
    subjects.sort_by(|one, other| {
        let total = |subject: &Subject| subject.standing.evaluations.total;
        total(other).cmp(&total(one)).then_with(|| one.name.cmp(&other.name))
    });
    Subjects { subjects, basis_t: at.t }
}

/// One subject; none when it was never evaluated.
pub fn detail(
    world: &World,
    at: At,
    kind: Kind,
    name: &str,
    window: Window,
    until: i64,
) -> Option<SubjectDetail> {
    let symbol = world.symbols().find(name)?;
    let found = world.summary(at, |summary| {
        let line = lines_of(summary, kind).get(&symbol)?;
        let span = window.span(line, until);
        Some((subject(world, symbol, line), Series::of(line, span)))
    });
    let (subject, series) = found?;
    let having = |field| world.having(field, symbol, at).map(|(_, row)| row);
    let rows: Vec<&Row> = match kind {
        Kind::Tool => having(Field::Tool).filter(|row| !row.is_batch()).collect(),
        Kind::Model => having(Field::Model).filter(|row| row.outcome().is_some()).collect(),
    };
    let recent = &rows[rows.len().saturating_sub(DURATIONS_MAX)..];
    let mut changes = rate_changes(&series);
    changes.extend(time_changes(recent));
    changes.sort_by_key(|change| change.at);
    Some(SubjectDetail {
        subject,
        durations: Durations::of(recent.iter().map(|row| row.measures.wall).collect()),
        versions: if kind == Kind::Tool { versions(world, &rows) } else { Vec::new() },
        cases: cases(world, &rows),
        changes,
        series,
        basis_t: at.t,
    })
}

pub(super) fn tally<'r>(rows: impl Iterator<Item = &'r &'r Row>) -> Tally {
    rows.fold(Tally::default(), |sum, row| match row.outcome() {
        Some(Outcome::Passed) => Tally { passed: sum.passed + 1, tries: sum.tries + 1 },
        Some(Outcome::Not(Cause::Subject | Cause::Budget)) => Tally { tries: sum.tries + 1, ..sum },
        Some(Outcome::Not(Cause::Infrastructure | Cause::Harness)) | None => sum,
    })
}

fn versions(world: &World, rows: &[&Row]) -> Vec<Version> {
    let mut by_image: BTreeMap<Symbol, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        if let Some(image) = row.image {
            by_image.entry(image).or_default().push(row);
        }
    }
    let ends = |rows: &[&Row]| {
        let times = rows.iter().map(|row| row.at);
        (times.clone().min().unwrap_or(0), times.max().unwrap_or(0))
    };
    let mut all: Vec<(Symbol, Vec<&Row>)> = by_image.into_iter().collect();
    all.sort_by_key(|(_, rows)| ends(rows).0);
    let (mut past, mut versions) = (Tally::default(), Vec::new());
    for (image, rows) in &all {
        let (first, last) = ends(rows);
        let now = tally(rows.iter());
        let evidence = Evidence { now, past, ..Evidence::default() };
        let advice = (now.tries > 0).then(|| recommend(&evidence, &Policy::default()));
        versions.push(Version {
            image: world.symbols().text(*image).to_owned(),
            first: time(first),
            last: time(last),
            rate: now.into(),
            recommendation: advice.map(|advice| Recommendation {
                action: match advice.action {
                    Action::Promote => "promote",
                    Action::Keep => "keep",
                    Action::Quarantine => "quarantine",
                    Action::NeedsMoreEvidence => "needs_more_evidence",
                },
                because: advice.because,
            }),
        });
        past = Tally { passed: past.passed + now.passed, tries: past.tries + now.tries };
    }
    versions.reverse();
    versions.truncate(VERSIONS_MAX);
    versions
}

/// How an outcome is called in documents.
pub(crate) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Not(cause) => cause.as_str(),
    }
}

pub(super) fn cases(world: &World, rows: &[&Row]) -> Vec<CaseRow> {
    let mut by_case: BTreeMap<Symbol, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        if let Some(case) = row.case {
            by_case.entry(case).or_default().push(row);
        }
    }
    let mut cases: Vec<CaseRow> = by_case
        .into_iter()
        .map(|(case, mut rows)| {
            rows.sort_by_key(|row| row.at);
            let last = &rows[rows.len().saturating_sub(OUTCOMES_MAX)..];
            let cell = |row: &&Row| Some(Cell { id: row.id.to_string(), outcome: word(row.outcome()?) });
            CaseRow {
                case: world.symbols().text(case).to_owned(),
                rate: tally(rows.iter()).into(),
                outcomes: last.iter().filter_map(cell).collect(),
            }
        })
        .collect();
    let rate = |case: &CaseRow| case.rate.rate.unwrap_or(2.0);
    cases.sort_by(|one, other| rate(one).total_cmp(&rate(other)).then_with(|| one.case.cmp(&other.case)));
    cases.truncate(CASES_MAX);
    cases
}

fn found(values: &[f64], of: &'static str, at: impl Fn(usize) -> Timestamp) -> Vec<Change> {
    let analysis = changepoint::changes(values, &changepoint::Settings::default());
    let changes = analysis.map(|analysis| analysis.changes).unwrap_or_default();
    let change = |change: changepoint::Change| Change {
        of,
        at: at(change.at),
        before: change.mean_before,
        after: change.mean_after,
        // Twice a log-likelihood ratio is what it is there.
        evidence: change.evidence / 2.0,
    };
    changes.into_iter().map(change).collect()
}

fn rate_changes(series: &Series) -> Vec<Change> {
    let tested: Vec<_> = series.points.iter().filter(|point| point.rate.rate.is_some()).collect();
    let rates: Vec<f64> = tested.iter().filter_map(|point| point.rate.rate).collect();
    found(&rates, "success_rate", |index| tested[index].at)
}

/// Accelerators are never mixed: the one that most of the evaluations ran on is looked at.
pub(crate) fn time_changes(rows: &[&Row]) -> Vec<Change> {
    /// Beyond this a series is thinned: finding changes takes time with its square, and a chart shows half as many.
    const POINTS_MAX: usize = 240;
    let mut by_accelerator: BTreeMap<Option<Symbol>, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *by_accelerator.entry(row.accelerator).or_default() += 1);
    let most = by_accelerator.into_iter().max_by_key(|(_, count)| *count).and_then(|(name, _)| name);
    let passed = |row: &&&Row| row.outcome() == Some(Outcome::Passed);
    let mut timed: Vec<&&Row> =
        rows.iter().filter(|row| row.measures.wall > 0 && row.accelerator == most && passed(row)).collect();
    timed.sort_by_key(|row| row.at);
    let chunk = timed.len().div_ceil(POINTS_MAX).max(1);
    let medians: Vec<f64> = timed
        .chunks(chunk)
        .map(|rows| {
            let mut times: Vec<u64> = rows.iter().map(|row| row.measures.wall).collect();
            times.sort_unstable();
            times[times.len() / 2] as f64 / 1000.0
        })
        .collect();
    found(&medians, "wall_ms", |index| time(timed[index * chunk].at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    #[test]
    fn a_tool_is_told_with_its_versions_its_cases_and_what_was_not_its_doing() {
        let world = history(&[
            Job { id: "a", tool: "read", image: "sha256:1", case: "s/c1", wall: 10, ..Job::default() },
            Job {
                id: "b",
                tool: "read",
                image: "sha256:1",
                case: "s/c2",
                cause: Some("infrastructure"),
                ..Job::default()
            },
            Job {
                id: "c",
                tool: "read",
                image: "sha256:2",
                case: "s/c1",
                cause: Some("subject"),
                wall: 30,
                ..Job::default()
            },
            Job { id: "d", tool: "write", wall: 20, ..Job::default() },
        ]);
        let at = world.at(None).unwrap();
        let all = subjects(&world, at, Kind::Tool);
        assert_eq!(
            all.subjects.iter().map(|subject| subject.name.as_str()).collect::<Vec<_>>(),
            ["read", "write"]
        );
        let read = detail(&world, at, Kind::Tool, "read", Window::Auto, at.instant).unwrap();
        assert_eq!((read.subject.standing.rate.passed, read.subject.standing.rate.tries), (1, 2));
        assert_eq!(read.subject.standing.raw.tries, 3);
        assert_eq!(
            read.versions.iter().map(|version| version.image.as_str()).collect::<Vec<_>>(),
            ["sha256:2", "sha256:1"]
        );
        assert_eq!(read.versions[0].rate.passed, 0);
        let first = &read.cases[0];
        assert_eq!(first.case, "s/c1");
        assert_eq!(first.outcomes.iter().map(|cell| cell.outcome).collect::<Vec<_>>(), ["passed", "subject"]);
        assert!(detail(&world, at, Kind::Tool, "unheard-of", Window::Auto, at.instant).is_none());
        assert!(detail(&world, at, Kind::Model, "read", Window::Auto, at.instant).is_none());
    }

    #[test]
    fn a_tool_that_became_slower_shows_when() {
        let names: Vec<String> = (0..80).map(|index| format!("e{index}")).collect();
        let jobs: Vec<Job<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, id)| Job {
                id,
                wall: 100 + index as u64 % 7 + if index < 50 { 0 } else { 80 },
                ..Job::default()
            })
            .collect();
        let world = history(&jobs);
        let at = world.at(None).unwrap();
        let tool = detail(&world, at, Kind::Tool, "tool", Window::All, at.instant).unwrap();
        let change = tool.changes.iter().find(|change| change.of == "wall_ms").expect("it is found");
        assert!((change.after / change.before - 1.8).abs() < 0.1, "{change:?}");
    }
}
