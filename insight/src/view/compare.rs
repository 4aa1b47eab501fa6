//! Two sets of evaluations against each other: two runs, two batches, two versions, two moments. Pure.
//!
//! Rates: where both sides tried the same cases, those are compared pair by pair (McNemar's exact test,
//! Newcombe's interval), which sees smaller differences than the sums do; all together by Fisher's exact
//! test. Each tool is compared too, corrected for their number (Benjamini & Hochberg). Durations: the ratio
//! of geometric means with Welch's interval on the log scale, of evaluations that passed on the accelerator
//! that both sides share. Infrastructure's failures are left out everywhere.

use super::list::Filter;
use super::rates::{Durations, Rate, Standing};
use super::subjects::word;
use crate::projection::{At, Counts, Outcome, Row, Symbol, World};
use evalfleet_analytics::drivers::benjamini_hochberg;
use evalfleet_analytics::rate::{self, Confidence, Pairs, Tally, unpaired};
use evalfleet_proto::status::Cause;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// The most cases that are listed.
const CASES_MAX: usize = 500;
/// From this on a difference is no chance.
const ALPHA: f64 = 0.05;
/// By how much something must surely be slower to be called so.
const SLOWER: f64 = 1.2;
/// Fewer durations say nothing.
const TIMES_MIN: usize = 5;

/// One side of a comparison.
#[derive(Debug, Clone)]
pub struct Side {
    /// As it was asked for.
    pub selector: String,
    /// Which evaluations.
    pub filter: Filter,
    /// As of when.
    pub at: At,
}

impl Side {
    /// Reads `field:value[,field:value…]`; a text without a field is the batch, run, model, tool or image of
    /// that name, the first that there is.
    ///
    /// # Errors
    /// Says which field is unknown, or that nothing is called so.
    pub fn parse(world: &World, at: At, selector: &str) -> Result<Self, String> {
        let mut filter = Filter::default();
        let known = world.symbols().find(selector).is_some();
        if !known && selector.contains(':') {
            for part in selector.split(',') {
                let (field, value) = part.split_once(':').ok_or_else(|| {
                    format!("{part:?} must be FIELD:VALUE, such as run:nightly-7 or tool:word_count")
                })?;
                *field_of(&mut filter, field)? = Some(value.to_owned());
            }
        } else {
            let fields = ["batch", "run", "model", "tool", "image", "worker", "suite"];
            let found = fields.into_iter().find(|field| {
                let mut one = Filter::default();
                if let Ok(place) = field_of(&mut one, field) {
                    *place = Some(selector.to_owned());
                }
                let matcher = one.matcher(world);
                world.rows(at).any(|row| matcher.admits(world, row))
            });
            let found =
                found.ok_or_else(|| format!("no batch, run, model, tool or image is called {selector:?}"))?;
            *field_of(&mut filter, found)? = Some(selector.to_owned());
        }
        Ok(Self { selector: selector.to_owned(), filter, at })
    }

    fn rows<'w>(&self, world: &'w World) -> Vec<&'w Row> {
        let matcher = self.filter.matcher(world);
        let admitted = world.rows(self.at).filter(|row| matcher.admits(world, row));
        let rows: Vec<&Row> = admitted.collect();
        // Runs of a model are batches: their parts are what is compared.
        let batches: BTreeSet<Symbol> = rows
            .iter()
            .filter(|row| row.is_batch())
            .filter_map(|row| world.symbols().find(&row.id))
            .collect();
        let own: Vec<&Row> = rows.into_iter().filter(|row| row.outcome().is_some()).collect();
        if batches.is_empty() || !own.is_empty() {
            return own;
        }
        world.rows(self.at).filter(|row| row.batch.is_some_and(|batch| batches.contains(&batch))).collect()
    }
}

fn field_of<'f>(filter: &'f mut Filter, field: &str) -> Result<&'f mut Option<String>, String> {
    Ok(match field {
        "batch" => &mut filter.batch,
        "run" => &mut filter.run,
        "model" => &mut filter.model,
        "tool" => &mut filter.tool,
        "image" => &mut filter.image,
        "worker" => &mut filter.worker,
        "suite" => &mut filter.suite,
        "label" => &mut filter.label,
        "accelerator" => &mut filter.accelerator,
        _ => {
            return Err(format!(
                "there is no field {field:?}: batch, run, model, tool, image, worker, suite, label, accelerator"
            ));
        }
    })
}

/// One side, in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Shown {
    /// As it was asked for.
    pub selector: String,
    /// The transaction that it stands on.
    pub basis_t: u64,
    /// How it does.
    pub standing: Standing,
    /// How long subjects ran.
    pub durations: Option<Durations>,
}

/// How two rates differ: head less base.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    /// From -1 to 1.
    pub difference: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The two-sided probability of as much by chance.
    pub p: f64,
}

impl From<rate::Comparison> for Difference {
    fn from(compared: rate::Comparison) -> Self {
        Self {
            difference: compared.difference,
            low: compared.interval.low,
            high: compared.interval.high,
            p: compared.p,
        }
    }
}

/// How many times as long head takes as base.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Ratio {
    /// Of the geometric means.
    pub ratio: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// One tool on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ToolDifference {
    /// The tool.
    pub tool: String,
    /// On the base side.
    pub base: Rate,
    /// On the head side.
    pub head: Rate,
    /// How they differ; null where one side has none.
    pub difference: Option<Difference>,
    /// The probability corrected for the number of tools.
    pub q: Option<f64>,
}

/// One case on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CaseDifference {
    /// The case.
    pub case: String,
    /// `lost`, `gained`, `passes`, `fails`, `new`, `gone`; `untested` where infrastructure or the request failed.
    pub change: &'static str,
    /// How often it passed on the base side.
    pub base: Rate,
    /// How often on the head side.
    pub head: Rate,
    /// The last evaluation of each side, with its outcome.
    pub base_last: Option<Last>,
    /// The last on the head side.
    pub head_last: Option<Last>,
}

/// The last evaluation of a case.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Last {
    /// The evaluation.
    pub id: String,
    /// `passed`, or whose doing it was that it did not.
    pub outcome: &'static str,
}

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Head is surely worse or slower.
    Regression,
    /// Head is surely better, and nothing is worse.
    Improvement,
    /// Nothing is sure.
    NoChange,
}

/// Two sides compared.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Comparison {
    /// The first.
    pub base: Shown,
    /// The second.
    pub head: Shown,
    /// What it comes to.
    pub verdict: Verdict,
    /// Why, a sentence each, with the numbers.
    pub because: Vec<String>,
    /// All evaluations together.
    pub unpaired: Option<Difference>,
    /// Case by case; null where no case was tried on both sides.
    pub paired: Option<Difference>,
    /// How many cases were tried on both sides.
    pub pairs: u64,
    /// Durations.
    pub duration: Option<Ratio>,
    /// By tool, the surest difference first.
    pub tools: Vec<ToolDifference>,
    /// By case: lost and gained first.
    pub cases: Vec<CaseDifference>,
    /// How many cases there are for each kind of change.
    pub changes: BTreeMap<&'static str, u64>,
    /// The newer of the two transactions.
    pub basis_t: u64,
}

fn standing(rows: &[&Row]) -> Counts {
    let mut counts = Counts::default();
    for row in rows {
        if let Some(outcome) = row.outcome() {
            counts.count(outcome, 1);
            counts.wall += row.measures.wall;
            counts.timed += u64::from(row.measures.wall > 0);
        }
    }
    counts
}

fn shown(side: &Side, rows: &[&Row]) -> Shown {
    Shown {
        selector: side.selector.clone(),
        basis_t: side.at.t,
        standing: (&standing(rows)).into(),
        durations: Durations::of(rows.iter().map(|row| row.measures.wall).collect()),
    }
}

/// Whether the subject passed; none where it was not put to the test.
fn tested(row: &Row) -> Option<bool> {
    match row.outcome()? {
        Outcome::Passed => Some(true),
        Outcome::Not(Cause::Subject | Cause::Budget) => Some(false),
        Outcome::Not(Cause::Infrastructure | Cause::Harness) => None,
    }
}

fn count(tally: &mut Tally, passed: Option<bool>) {
    if let Some(passed) = passed {
        *tally = Tally { passed: tally.passed + u64::from(passed), tries: tally.tries + 1 };
    }
}

/// Compares two sides.
///
/// # Errors
/// Names the side that has no evaluations.
pub fn compare(world: &World, base: &Side, head: &Side) -> Result<Comparison, String> {
    let (base_rows, head_rows) = (base.rows(world), head.rows(world));
    for (side, rows) in [(base, &base_rows), (head, &head_rows)] {
        if rows.is_empty() {
            return Err(format!("{:?} has no evaluations at that moment", side.selector));
        }
    }
    let confidence = Confidence::default();
    let (base_shown, head_shown) = (shown(base, &base_rows), shown(head, &head_rows));
    let sums = unpaired(standing(&base_rows).attributed(), standing(&head_rows).attributed(), confidence);
    let (cases, pairs) = cases(world, &base_rows, &head_rows);
    let paired = pairs.compare(confidence);
    let tools = tools(world, &base_rows, &head_rows);
    let duration = durations(&base_rows, &head_rows);
    let (verdict, because) = judge(&base_shown, &head_shown, sums, paired, pairs, duration, &tools);
    let mut changes = BTreeMap::new();
    cases.iter().for_each(|case| *changes.entry(case.change).or_default() += 1);
    Ok(Comparison {
        basis_t: base.at.t.max(head.at.t),
        base: base_shown,
        head: head_shown,
        verdict,
        because,
        unpaired: sums.map(Into::into),
        paired: paired.map(Into::into),
        pairs: pairs.count(),
        duration,
        tools,
        cases: cases.into_iter().take(CASES_MAX).collect(),
        changes,
    })
}

fn cases(world: &World, base: &[&Row], head: &[&Row]) -> (Vec<CaseDifference>, Pairs) {
    #[derive(Default)]
    struct Seen<'r> {
        tallies: [Tally; 2],
        last: [Option<&'r Row>; 2],
    }
    let mut seen: BTreeMap<Symbol, Seen<'_>> = BTreeMap::new();
    for (side, rows) in [base, head].into_iter().enumerate() {
        for row in rows {
            let Some(case) = row.case else { continue };
            let seen = seen.entry(case).or_default();
            count(&mut seen.tallies[side], tested(row));
            if seen.last[side].is_none_or(|last| last.at <= row.at) {
                seen.last[side] = Some(row);
            }
        }
    }
    let mut pairs = Pairs::default();
    let last = |row: Option<&Row>| {
        row.and_then(|row| Some(Last { id: row.id.to_string(), outcome: word(row.outcome()?) }))
    };
    let mut cases: Vec<CaseDifference> = seen
        .into_iter()
        .map(|(case, seen)| {
            let passes = seen.tallies.map(|tally| tally.rate().map(|rate| rate > 0.5));
            let change = match (passes[0], passes[1], seen.last[0].is_some(), seen.last[1].is_some()) {
                (Some(before), Some(after), ..) => {
                    pairs.add(before, after);
                    match (before, after) {
                        (true, true) => "passes",
                        (true, false) => "lost",
                        (false, true) => "gained",
                        (false, false) => "fails",
                    }
                }
                (_, _, false, _) => "new",
                (_, _, _, false) => "gone",
                _ => "untested",
            };
            CaseDifference {
                case: world.symbols().text(case).to_owned(),
                change,
                base: seen.tallies[0].into(),
                head: seen.tallies[1].into(),
                base_last: last(seen.last[0]),
                head_last: last(seen.last[1]),
            }
        })
        .collect();
    let order = ["lost", "gained", "untested", "new", "gone", "fails", "passes"];
    let place = |case: &CaseDifference| order.iter().position(|change| *change == case.change);
    cases.sort_by(|one, other| place(one).cmp(&place(other)).then_with(|| one.case.cmp(&other.case)));
    (cases, pairs)
}

fn tools(world: &World, base: &[&Row], head: &[&Row]) -> Vec<ToolDifference> {
    let mut tallies: BTreeMap<Symbol, [Tally; 2]> = BTreeMap::new();
    for (side, rows) in [base, head].into_iter().enumerate() {
        for row in rows {
            for call in row.calls.iter() {
                let passed = call.success_rate.map_or_else(|| tested(row), |rate| Some(rate >= 1.0));
                if let Some(name) = call.name {
                    count(&mut tallies.entry(name).or_default()[side], passed);
                }
            }
        }
    }
    let mut tools: Vec<ToolDifference> = tallies
        .into_iter()
        .map(|(name, [base, head])| ToolDifference {
            tool: world.symbols().text(name).to_owned(),
            base: base.into(),
            head: head.into(),
            difference: unpaired(base, head, Confidence::default()).map(Into::into),
            q: None,
        })
        .collect();
    let p: Vec<f64> = tools.iter().filter_map(|tool| tool.difference).map(|one| one.p).collect();
    let compared = tools.iter_mut().filter(|tool| tool.difference.is_some());
    for (tool, q) in compared.zip(benjamini_hochberg(&p)) {
        tool.q = Some(q);
    }
    let sure = |tool: &ToolDifference| tool.q.unwrap_or(2.0);
    tools.sort_by(|one, other| sure(one).total_cmp(&sure(other)).then_with(|| one.tool.cmp(&other.tool)));
    tools
}

fn durations(base: &[&Row], head: &[&Row]) -> Option<Ratio> {
    let of = |rows: &[&Row], accelerator: Option<Symbol>| -> Vec<f64> {
        let meant = rows.iter().filter(|row| row.accelerator == accelerator && row.measures.wall > 0);
        let passed = meant.filter(|row| row.outcome() == Some(Outcome::Passed));
        passed.map(|row| (row.measures.wall as f64).ln()).collect()
    };
    let mut accelerators: BTreeSet<Option<Symbol>> = base.iter().map(|row| row.accelerator).collect();
    accelerators.retain(|accelerator| head.iter().any(|row| row.accelerator == *accelerator));
    let sides = accelerators.into_iter().map(|accelerator| (of(base, accelerator), of(head, accelerator)));
    let (base, head) = sides.max_by_key(|(base, head)| base.len().min(head.len()))?;
    ratio(&base, &head)
}

/// Of logs of durations.
fn ratio(base: &[f64], head: &[f64]) -> Option<Ratio> {
    if base.len() < TIMES_MIN || head.len() < TIMES_MIN {
        return None;
    }
    let moments = |logs: &[f64]| {
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
        (mean, squares / (count - 1.0) / count)
    };
    let ((before, one), (after, other)) = (moments(base), moments(head));
    let half = Confidence::default().deviations() * (one + other).sqrt();
    let log = after - before;
    Some(Ratio { ratio: log.exp(), low: (log - half).exp(), high: (log + half).exp() })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn judge(
    base: &Shown,
    head: &Shown,
    sums: Option<rate::Comparison>,
    paired: Option<rate::Comparison>,
    pairs: Pairs,
    duration: Option<Ratio>,
    tools: &[ToolDifference],
) -> (Verdict, Vec<String>) {
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    let points = |one: &rate::Comparison| {
        format!(
            "{:+.1} points ({:+.1} to {:+.1}, p = {:.2e})",
            one.difference * 100.0,
            one.interval.low * 100.0,
            one.interval.high * 100.0,
            one.p
        )
    };
    if let Some(one) = paired.filter(|one| one.p < ALPHA) {
        let text = format!(
            "of {} cases {} were lost and {} gained: {}",
            pairs.count(),
            pairs.lost,
            pairs.gained,
            points(&one)
        );
        if one.difference < 0.0 { worse.push(text) } else { better.push(text) }
    }
    if let Some(one) = sums.filter(|one| one.p < ALPHA) {
        let rate = |shown: &Shown| shown.standing.rate.rate.map_or_else(|| "-".to_owned(), percent);
        let text = format!("the success rate went from {} to {}: {}", rate(base), rate(head), points(&one));
        if one.difference < 0.0 { worse.push(text) } else { better.push(text) }
    }
    for tool in tools {
        let (Some(one), Some(q)) = (tool.difference, tool.q) else { continue };
        if q < ALPHA {
            let rate = |rate: Rate| rate.rate.map_or_else(|| "-".to_owned(), percent);
            let text =
                format!("{} went from {} to {} (q = {q:.2e})", tool.tool, rate(tool.base), rate(tool.head));
            if one.difference < 0.0 { worse.push(text) } else { better.push(text) }
        }
    }
    if let Some(ratio) = duration {
        let text =
            format!("it takes {:.2} times as long ({:.2} to {:.2})", ratio.ratio, ratio.low, ratio.high);
        if ratio.low > SLOWER {
            worse.push(text);
        } else if ratio.high < 1.0 / SLOWER {
            better.push(text);
        }
    }
    if !worse.is_empty() {
        return (Verdict::Regression, worse);
    }
    if !better.is_empty() {
        return (Verdict::Improvement, better);
    }
    let tries = (base.standing.rate.tries, head.standing.rate.tries);
    let text =
        format!("no difference that chance does not explain, of {} evaluations against {}", tries.1, tries.0);
    (Verdict::NoChange, vec![text])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    /// Two runs of 20 cases; head loses the first `lost`, and takes `factor` times as long.
    fn two_runs(lost: usize, factor: u64) -> Comparison {
        let names: Vec<[String; 2]> =
            (0..40).map(|index| [format!("e{index}"), format!("s/c{}", index % 20)]).collect();
        let jobs: Vec<Job<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, [id, case])| {
                let head = index >= 20;
                let failed = head && index - 20 < lost;
                let wall = (50 + index as u64 % 20) * if head { factor } else { 1 };
                let run = if head { "new" } else { "old" };
                Job { id, case, run, wall, cause: failed.then_some("subject"), ..Job::default() }
            })
            .collect();
        let world = history(&jobs);
        let at = world.at(None).unwrap();
        let side = |selector| Side::parse(&world, at, selector).unwrap();
        compare(&world, &side("old"), &side("run:new")).unwrap()
    }

    #[test]
    fn lost_cases_are_a_regression_with_its_numbers() {
        let compared = two_runs(8, 1);
        assert_eq!(compared.verdict, Verdict::Regression);
        assert_eq!((compared.pairs, compared.changes["lost"], compared.changes["passes"]), (20, 8, 12));
        assert_eq!(compared.cases[0].change, "lost");
        // 8 lost of 8 that changed: McNemar's exact p is 2 / 2^8.
        assert!((compared.paired.unwrap().p - 2.0 / 256.0).abs() < 1e-9);
        assert!(compared.because[0].contains("8 were lost"), "{:?}", compared.because);
    }

    #[test]
    fn what_chance_explains_is_no_regression() {
        assert_eq!(two_runs(0, 1).verdict, Verdict::NoChange);
        assert_eq!(two_runs(2, 1).verdict, Verdict::NoChange);
    }

    #[test]
    fn twice_as_slow_is_a_regression_too() {
        let compared = two_runs(0, 2);
        assert_eq!(compared.verdict, Verdict::Regression);
        assert!((compared.duration.unwrap().ratio - 2.0).abs() < 0.01);
    }

    #[test]
    fn what_selects_nothing_is_an_error_that_says_so() {
        let world = history(&[Job::default()]);
        let at = world.at(None).unwrap();
        assert!(Side::parse(&world, at, "unheard-of").unwrap_err().contains("unheard-of"));
        assert!(Side::parse(&world, at, "color:red").unwrap_err().contains("color"));
        let (one, none) =
            (Side::parse(&world, at, "tool").unwrap(), Side::parse(&world, at, "run:none").unwrap());
        assert!(compare(&world, &one, &none).unwrap_err().contains("run:none"));
    }
}
