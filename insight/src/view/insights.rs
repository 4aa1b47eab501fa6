//! Insights: what stands out in the history, ranked, each with its numbers and the evaluations behind it.
//! Pure.
//!
//! They rest on the newest 20,000 evaluations of the moment. Infrastructure's failures and those of the
//! request count against no subject; they are looked at by themselves. The methods and their sources are in
//! `evalfleet_analytics`; where many things are compared, probabilities are corrected for their number.

use super::evidence::{attributes, newest};
use super::subjects::time_changes;
use super::time;
use crate::projection::{At, Outcome, Row, Symbol, World};
use evalfleet_analytics::cluster::{Clusters, Failure, Settings};
use evalfleet_analytics::drivers::{Case, benjamini_hochberg, drivers};
use evalfleet_analytics::flaky::{Nature, nature};
use evalfleet_analytics::outlier::{USUAL_BOUND, outliers};
use evalfleet_analytics::rate::{Comparison, Confidence, Tally, unpaired};
use evalfleet_proto::Timestamp;
use evalfleet_proto::status::Cause;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Of each kind at most so many are told.
const OF_A_KIND: usize = 10;
/// The evaluations named with an insight.
const EXAMPLES: usize = 5;
/// A false discovery rate above this is chance.
const Q_MAX: f64 = 0.05;
/// A tool's newest evaluations, which are compared with those before.
const LATELY: usize = 50;
/// Smaller clusters are single cases.
const CLUSTER_MIN: u64 = 3;
/// Smaller differences interest nobody, however sure.
const DIFFERENCE_MIN: f64 = 0.05;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it soon.
    Warning,
    /// Look at it now.
    Critical,
}

/// One thing that stands out.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Insight {
    /// The same thing has the same id at every moment.
    pub id: String,
    /// `consistently_fails`, `dropped`, `slower`, `cluster`, `driver`, `flaky`, `outlier`, `infrastructure`.
    pub kind: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// In a sentence or two, with the numbers.
    pub statement: String,
    /// The numbers that it rests on.
    #[schema(value_type = Object)]
    pub numbers: Value,
    /// The filters of `/v1/evaluations` that list what it rests on.
    #[schema(value_type = Object)]
    pub filter: Map<String, Value>,
    /// A few of them.
    pub evaluations: Vec<String>,
    /// When it began, as far as that can be told.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Its rank: severity first, then how many evaluations it concerns.
    pub score: f64,
}

/// What stands out.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Insights {
    /// What matters most first.
    pub insights: Vec<Insight>,
    /// How many evaluations were looked at.
    pub looked_at: u64,
    /// The transaction that this stands on.
    pub basis_t: u64,
}

struct Maker<'w> {
    world: &'w World,
    rows: Vec<&'w Row>,
    confidence: Confidence,
    found: Vec<Insight>,
}

/// Finds what stands out at a moment.
pub fn insights(world: &World, at: At) -> Insights {
    let rows = newest(world, at);
    let looked_at = rows.len() as u64;
    let mut maker = Maker { world, rows, confidence: Confidence::default(), found: Vec::new() };
    maker.tools();
    maker.slower();
    maker.clusters();
    maker.drivers();
    maker.flaky();
    maker.outliers();
    maker.infrastructure();
    let mut insights = maker.found;
    insights.sort_by(|one, other| other.score.total_cmp(&one.score).then_with(|| one.id.cmp(&other.id)));
    Insights { insights, looked_at, basis_t: at.t }
}

fn passed(row: &Row) -> Option<bool> {
    match row.outcome()? {
        Outcome::Passed => Some(true),
        Outcome::Not(Cause::Subject | Cause::Budget) => Some(false),
        Outcome::Not(Cause::Infrastructure | Cause::Harness) => None,
    }
}

fn tally<'r>(rows: impl IntoIterator<Item = &'r &'r Row>) -> Tally {
    let tested = rows.into_iter().filter_map(|row| passed(row));
    tested.fold(Tally::default(), |sum, passed| Tally {
        passed: sum.passed + u64::from(passed),
        tries: sum.tries + 1,
    })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn rate(tally: Tally) -> String {
    tally.rate().map_or_else(|| "-".to_owned(), percent)
}

fn filter(pairs: &[(&str, &str)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

fn examples<'r>(rows: impl DoubleEndedIterator<Item = &'r Row>) -> Vec<String> {
    rows.rev().take(EXAMPLES).map(|row| row.id.to_string()).collect()
}

struct Found<'a> {
    kind: &'static str,
    /// What it is about: with the kind it makes the id.
    about: &'a str,
    severity: Severity,
    title: String,
    statement: String,
    numbers: Value,
    filter: Map<String, Value>,
    evaluations: Vec<String>,
    since: Option<i64>,
    /// How many evaluations it concerns.
    reach: u64,
}

impl<'w> Maker<'w> {
    fn tell(&mut self, found: Found<'_>) {
        let reach = ((1 + found.reach) as f64).log10() / 6.0;
        self.found.push(Insight {
            id: format!("{}/{}", found.kind, found.about),
            kind: found.kind,
            severity: found.severity,
            title: found.title,
            statement: found.statement,
            numbers: found.numbers,
            filter: found.filter,
            evaluations: found.evaluations,
            since: found.since.map(time),
            score: f64::from(found.severity as u8) + reach.min(0.999),
        });
    }

    fn by(&self, key: impl Fn(&Row) -> Option<Symbol>) -> BTreeMap<Symbol, Vec<&'w Row>> {
        let mut groups: BTreeMap<Symbol, Vec<&'w Row>> = BTreeMap::new();
        for row in &self.rows {
            if let Some(key) = key(row) {
                groups.entry(key).or_default().push(row);
            }
        }
        groups
    }

    /// Tools that surely fail more often than not, and tools that got worse lately.
    fn tools(&mut self) {
        let mut dropped: Vec<(Symbol, Vec<&Row>, Tally, Tally, Comparison)> = Vec::new();
        for (tool, rows) in self.by(Row::tool) {
            let tested: Vec<&Row> = rows.into_iter().filter(|row| passed(row).is_some()).collect();
            let all = tally(&tested);
            let split = tested.len().saturating_sub(LATELY.min(tested.len() / 2));
            let (before, lately) = (tally(&tested[..split]), tally(&tested[split..]));
            if all.consistently_fails(0.5, self.confidence) {
                self.fails(tool, &tested, all);
            } else if let Some(compared) = unpaired(before, lately, self.confidence) {
                dropped.push((tool, tested[split..].to_vec(), before, lately, compared));
            }
        }
        let p: Vec<f64> = dropped.iter().map(|(.., compared)| compared.p).collect();
        let q = benjamini_hochberg(&p);
        for ((tool, rows, before, lately, compared), q) in dropped.into_iter().zip(q) {
            if q < Q_MAX && compared.is_worse() {
                self.dropped(tool, &rows, (before, lately), compared, q);
            }
        }
    }

    fn fails(&mut self, tool: Symbol, rows: &[&'w Row], all: Tally) {
        let (name, bounds) = (self.world.symbols().text(tool), all.wilson(self.confidence));
        let failed = rows.iter().filter(|row| passed(row) == Some(false)).copied();
        self.tell(Found {
            kind: "consistently_fails",
            about: name,
            severity: Severity::Critical,
            title: format!("{name} fails consistently"),
            statement: format!(
                "It passed {} of {} evaluations; its true rate lies between {} and {}.",
                all.passed,
                all.tries,
                percent(bounds.low),
                percent(bounds.high)
            ),
            numbers: json!({ "passed": all.passed, "tries": all.tries, "rate": all.rate(), "low": bounds.low, "high": bounds.high }),
            filter: filter(&[("tool", name)]),
            evaluations: examples(failed),
            since: rows.first().map(|row| row.at),
            reach: all.failed(),
        });
    }

    fn dropped(
        &mut self,
        tool: Symbol,
        rows: &[&'w Row],
        (before, lately): (Tally, Tally),
        by: Comparison,
        q: f64,
    ) {
        let name = self.world.symbols().text(tool);
        let failed = rows.iter().filter(|row| passed(row) == Some(false)).copied();
        self.tell(Found {
            kind: "dropped",
            about: name,
            severity: Severity::Critical,
            title: format!("{name} passes less often than before"),
            statement: format!(
                "Its newest {} evaluations passed in {}, the {} before in {}: {:.1} points ({:.1} to {:.1}), false discovery rate {q:.1e}.",
                lately.tries,
                rate(lately),
                before.tries,
                rate(before),
                by.difference * 100.0,
                by.interval.low * 100.0,
                by.interval.high * 100.0
            ),
            numbers: json!({ "before": before, "lately": lately, "difference": by.difference, "low": by.interval.low,
                "high": by.interval.high, "p": by.p, "q": q }),
            filter: filter(&[("tool", name)]),
            evaluations: examples(failed.clone()),
            since: failed.map(|row| row.at).next(),
            reach: lately.tries,
        });
    }

    /// Tools whose durations changed for good.
    fn slower(&mut self) {
        for (tool, rows) in self.by(Row::tool) {
            let Some(last) = time_changes(&rows).pop() else { continue };
            let times = last.after / last.before;
            if (1.0 / 1.2..=1.2).contains(&times) {
                continue;
            }
            let name = self.world.symbols().text(tool);
            let (word, severity) =
                if times > 1.0 { ("slower", Severity::Warning) } else { ("faster", Severity::Info) };
            let after = last.at.as_millisecond();
            let since = rows.iter().filter(|row| row.at >= after).copied();
            self.tell(Found {
                kind: "slower",
                about: name,
                severity,
                title: format!("{name} became {word}"),
                statement: format!(
                    "Since {} it takes {:.0} ms where it took {:.0} ms before: {times:.2} times as long.",
                    shown(after), last.after, last.before
                ),
                numbers: json!({ "before_ms": last.before, "after_ms": last.after, "times": times, "evidence_nats": last.evidence }),
                filter: filter(&[("tool", name), ("since", &last.at.to_string())]),
                evaluations: examples(since.clone()),
                since: Some(after),
                reach: since.count() as u64,
            });
        }
    }

    /// Failures that are one, by what was said of them.
    fn clusters(&mut self) {
        for infrastructure in [false, true] {
            let failed: Vec<&Row> = self
                .rows
                .iter()
                .filter(|row| row.error.is_some() && row.outcome() != Some(Outcome::Passed))
                .filter(|row| passed(row).is_none() == infrastructure)
                .copied()
                .collect();
            let mut clusters = Clusters::new(Settings::default());
            let mut templates = Vec::new();
            for row in &failed {
                let message = row.error.as_deref().unwrap_or_default();
                let attributes = attributes(self.world, row);
                templates.push(clusters.push(&Failure { message, at: row.at, attributes: &attributes }));
            }
            let (mut clusters, places) = clusters.report();
            let mut members: Vec<Vec<&Row>> = vec![Vec::new(); clusters.len()];
            for (row, template) in failed.iter().zip(templates) {
                members[places[template]].push(row);
            }
            let mut order: Vec<usize> = (0..clusters.len()).collect();
            order.sort_by_key(|index| std::cmp::Reverse(clusters[*index].count));
            for index in order.into_iter().take(OF_A_KIND) {
                let cluster = &mut clusters[index];
                if cluster.count >= CLUSTER_MIN {
                    let began = self.began_with(&members[index], cluster.first);
                    self.cluster(cluster, &members[index], infrastructure, began);
                }
            }
        }
    }

    fn cluster(
        &mut self,
        cluster: &evalfleet_analytics::cluster::Cluster,
        rows: &[&'w Row],
        infrastructure: bool,
        began: Option<(&'static str, &str)>,
    ) {
        let whose = if infrastructure { "a machine's or the request's doing" } else { "the subject's doing" };
        let with = began.map_or(String::new(), |(name, value)| {
            format!(" It began when {name} {} was first used.", short(value))
        });
        let mut wanted = filter(&[("q", cluster.example.lines().next().unwrap_or_default())]);
        wanted.retain(|_, value| value.as_str().is_some_and(|text| text.len() <= super::list::TEXT_MAX));
        self.tell(Found {
            kind: "cluster",
            about: &cluster.template,
            severity: if infrastructure { Severity::Warning } else { Severity::Info },
            title: cluster.template.chars().take(120).collect(),
            statement: format!(
                "{} evaluations failed like this, {whose}, first at {}, last at {}.{with}",
                cluster.count,
                shown(cluster.first),
                shown(cluster.last)
            ),
            numbers: json!({ "count": cluster.count, "example": cluster.example, "by": cluster.attributes,
                "began_with": began.map(|(name, value)| json!({ name: value })) }),
            filter: wanted,
            evaluations: examples(rows.iter().copied()),
            since: Some(cluster.first),
            reach: cluster.count,
        });
    }

    /// The attribute that most members of a cluster share and that was first seen when it began, though the
    /// history goes further back.
    fn began_with(&self, rows: &[&Row], first: i64) -> Option<(&'static str, &'w str)> {
        const DAY: i64 = super::series::DAY;
        let mut firsts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for row in &self.rows {
            for pair in attributes(self.world, row) {
                firsts.entry(pair).or_insert(row.at);
            }
        }
        let oldest = self.rows.first().map(|row| row.at)?;
        let mut shared: BTreeMap<(&'static str, &'w str), usize> = BTreeMap::new();
        for row in rows {
            attributes(self.world, row).into_iter().for_each(|pair| *shared.entry(pair).or_default() += 1);
        }
        let most = shared.into_iter().filter(|(_, count)| count * 5 >= rows.len() * 4);
        let mut new = most.map(|(pair, _)| pair).filter(|pair| {
            firsts.get(pair).is_some_and(|seen| *seen > oldest && *seen <= first && first - seen < DAY)
        });
        new.next()
    }

    /// What explains failures best.
    fn drivers(&mut self) {
        let pairs: Vec<Vec<(&str, &str)>> = self
            .rows
            .iter()
            // A tool that fails is told of by itself.
            .map(|row| attributes(self.world, row).into_iter().filter(|(name, _)| *name != "tool").collect())
            .collect();
        for infrastructure in [false, true] {
            let failed = |row: &Row| match row.outcome()? {
                Outcome::Not(Cause::Infrastructure) => infrastructure.then_some(true),
                Outcome::Not(Cause::Harness) => None,
                Outcome::Passed => Some(false),
                Outcome::Not(Cause::Subject | Cause::Budget) => Some(!infrastructure),
            };
            let cases: Vec<Case<'_>> = self
                .rows
                .iter()
                .zip(&pairs)
                .filter_map(|(row, attributes)| Some(Case { failed: failed(row)?, attributes }))
                .collect();
            let found = drivers(&cases, self.confidence);
            let strong = found.into_iter().filter(|driver| {
                driver.q < Q_MAX && driver.risk_difference > DIFFERENCE_MIN && driver.interval.low > 0.0
            });
            for driver in strong.take(OF_A_KIND) {
                self.driver(&driver, infrastructure);
            }
        }
    }

    fn driver(&mut self, driver: &evalfleet_analytics::drivers::Driver, infrastructure: bool) {
        let share = |tally: Tally| percent(tally.failed() as f64 / tally.tries.max(1) as f64);
        let (name, value) = (driver.attribute.as_str(), driver.value.as_str());
        let (cause, what) =
            if infrastructure { ("infrastructure", "fails by itself") } else { ("", "goes with failures") };
        let mut wanted = filter(&[(name, value)]);
        if infrastructure {
            wanted.insert("cause".to_owned(), cause.into());
        }
        let with: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| attributes(self.world, row).contains(&(attribute(name), value)))
            .filter(|row| match row.outcome() {
                Some(Outcome::Not(Cause::Infrastructure)) => infrastructure,
                Some(Outcome::Not(Cause::Subject | Cause::Budget)) => !infrastructure,
                _ => false,
            })
            .copied()
            .collect();
        self.tell(Found {
            kind: "driver",
            about: &format!("{cause}{name}/{value}"),
            severity: Severity::Warning,
            title: format!("{name} {} {what}", short(value)),
            statement: format!(
                "With it {} of {} evaluations failed, without it {} of {}: {:.1} points more ({:.1} to {:.1}), odds {:.1} times as high, false discovery rate {:.1e}. That is no proof of a cause.",
                share(driver.with),
                driver.with.tries,
                share(driver.without),
                driver.without.tries,
                driver.risk_difference * 100.0,
                driver.interval.low * 100.0,
                driver.interval.high * 100.0,
                driver.odds_ratio,
                driver.q
            ),
            numbers: serde_json::to_value(driver).unwrap_or_default(),
            filter: wanted,
            evaluations: examples(with.iter().copied()),
            since: with.first().map(|row| row.at),
            reach: driver.with.failed(),
        });
    }

    /// Cases that pass and fail in the same image.
    fn flaky(&mut self) {
        let mut groups: BTreeMap<(Symbol, Option<Symbol>), Vec<&'w Row>> = BTreeMap::new();
        for row in &self.rows {
            if let (Some(case), Some(_)) = (row.case, passed(row)) {
                groups.entry((case, row.image)).or_default().push(row);
            }
        }
        let mut flaky: Vec<_> = groups
            .into_iter()
            .map(|((case, _), rows)| (case, tally(&rows), rows))
            .filter(|(_, runs, _)| nature(*runs, 0.95, self.confidence) == Nature::Flaky)
            .collect();
        flaky.sort_by_key(|(_, runs, _)| std::cmp::Reverse(runs.tries));
        for (case, runs, rows) in flaky.into_iter().take(OF_A_KIND) {
            let (name, bounds) = (self.world.symbols().text(case), runs.wilson(self.confidence));
            self.tell(Found {
                kind: "flaky",
                about: name,
                severity: Severity::Warning,
                title: format!("{name} is flaky"),
                statement: format!(
                    "In the same image it passed {} of {} times: its rate lies between {} and {}, so that it is surely neither steady nor broken.",
                    runs.passed,
                    runs.tries,
                    percent(bounds.low),
                    percent(bounds.high)
                ),
                numbers: json!({ "passed": runs.passed, "tries": runs.tries, "low": bounds.low, "high": bounds.high }),
                filter: filter(&[("case", name)]),
                evaluations: examples(rows.iter().copied()),
                since: None,
                reach: runs.failed(),
            });
        }
    }

    /// Single evaluations that took far longer than their tool usually does.
    fn outliers(&mut self) {
        let mut all = Vec::new();
        for (tool, rows) in self.by(Row::tool) {
            let rows: Vec<&Row> =
                rows.into_iter().filter(|row| row.outcome() == Some(Outcome::Passed)).collect();
            let times: Vec<f64> = rows.iter().map(|row| row.measures.wall as f64).collect();
            let slow = outliers(&times, USUAL_BOUND).into_iter().filter(|one| one.times_usual > 3.0);
            all.extend(slow.map(|one| (tool, rows[one.at], one)));
        }
        all.sort_by(|one, other| other.2.times_usual.total_cmp(&one.2.times_usual));
        for (tool, row, one) in all.into_iter().take(OF_A_KIND / 2) {
            let name = self.world.symbols().text(tool);
            self.tell(Found {
                kind: "outlier",
                about: &row.id,
                severity: Severity::Info,
                title: format!("an evaluation of {name} took {:.0} times as long as usual", one.times_usual),
                statement: format!(
                    "It took {:.0} ms; the median is {:.0} ms, and this lies {:.1} robust deviations above it.",
                    one.value / 1000.0,
                    one.value / 1000.0 / one.times_usual,
                    one.z
                ),
                numbers: json!({ "wall_ms": one.value / 1000.0, "times_usual": one.times_usual, "z": one.z }),
                filter: filter(&[("tool", name)]),
                evaluations: vec![row.id.to_string()],
                since: Some(row.at),
                reach: 1,
            });
        }
    }

    /// How often our own machines failed.
    fn infrastructure(&mut self) {
        let failed: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.outcome() == Some(Outcome::Not(Cause::Infrastructure)))
            .copied()
            .collect();
        let tries = self.rows.len() as u64;
        let faults = Tally { passed: failed.len() as u64, tries };
        let bounds = faults.wilson(self.confidence);
        if bounds.low <= 0.01 {
            return;
        }
        self.tell(Found {
            kind: "infrastructure",
            about: "share",
            severity: if bounds.low > 0.1 { Severity::Critical } else { Severity::Warning },
            title: format!("{} of evaluations failed by infrastructure", rate(faults)),
            statement: format!(
                "{} of {tries} evaluations failed for no fault of their subject (true share {} to {}). They count against no tool and no model.",
                failed.len(),
                percent(bounds.low),
                percent(bounds.high)
            ),
            numbers: json!({ "faults": failed.len(), "evaluations": tries, "low": bounds.low, "high": bounds.high }),
            filter: filter(&[("cause", "infrastructure")]),
            evaluations: examples(failed.iter().copied()),
            since: failed.first().map(|row| row.at),
            reach: failed.len() as u64,
        });
    }
}

/// The static name of an attribute that [`attributes`] gives.
fn attribute(name: &str) -> &'static str {
    let all = ["tool", "worker", "image", "model", "accelerator"];
    all.into_iter().find(|one| *one == name).unwrap_or("")
}

/// A moment within a sentence.
fn shown(milliseconds: i64) -> String {
    time(milliseconds).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Digests are long: their beginning tells them apart.
fn short(value: &str) -> &str {
    if value.starts_with("sha256:") { value.get(..19).unwrap_or(value) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("e{index}")).collect()
    }

    fn kinds(found: &Insights) -> Vec<(&str, &str)> {
        found.insights.iter().map(|insight| (insight.kind, insight.title.as_str())).collect()
    }

    #[test]
    fn a_quiet_history_has_nothing_to_tell() {
        let names = names(200);
        let jobs: Vec<Job<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, id)| Job {
                id,
                wall: 100 + index as u64 % 5,
                worker: ["w1", "w2"][index / 10 % 2],
                cause: (index % 10 == 3).then_some("subject"),
                ..Job::default()
            })
            .collect();
        let world = history(&jobs);
        let found = insights(&world, world.at(None).unwrap());
        assert_eq!(found.looked_at, 200);
        assert!(found.insights.is_empty(), "{:?}", kinds(&found));
    }

    #[test]
    fn a_tool_that_fails_and_one_that_got_worse_come_first_with_their_numbers() {
        let names = names(300);
        let jobs: Vec<Job<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, id)| match index % 3 {
                0 => Job {
                    id,
                    tool: "broken",
                    cause: Some("subject"),
                    error: "no such file: /tmp/x",
                    ..Job::default()
                },
                1 => Job { id, tool: "worse", cause: (index > 240).then_some("subject"), ..Job::default() },
                _ => Job { id, tool: "fine", ..Job::default() },
            })
            .collect();
        let world = history(&jobs);
        let found = insights(&world, world.at(None).unwrap());
        let told = |id: &str| found.insights.iter().find(|insight| insight.id == id);
        let broken = told("consistently_fails/broken").unwrap_or_else(|| panic!("{:?}", kinds(&found)));
        assert_eq!((&broken.numbers["passed"], &broken.numbers["tries"]), (&json!(0), &json!(100)));
        assert_eq!(broken.filter["tool"], "broken");
        assert_eq!(broken.evaluations.len(), EXAMPLES);
        assert!(told("dropped/worse").is_some(), "{:?}", kinds(&found));
        assert!(found.insights.iter().any(|one| one.kind == "cluster" && one.numbers["count"] == 100));
        assert!(found.insights.iter().all(|insight| !insight.id.ends_with("/fine")), "{:?}", kinds(&found));
        assert!(found.insights.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    #[test]
    fn a_worker_whose_machine_fails_is_named_and_no_subject_is() {
        let names = names(300);
        let jobs: Vec<Job<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, id)| Job {
                id,
                worker: ["w1", "w2", "w3"][index % 3],
                cause: (index % 3 == 1 && index % 2 == 0).then_some("infrastructure"),
                error: "QEMU: was killed",
                ..Job::default()
            })
            .collect();
        let world = history(&jobs);
        let found = insights(&world, world.at(None).unwrap());
        let worker = found
            .insights
            .iter()
            .find(|one| one.kind == "driver")
            .unwrap_or_else(|| panic!("{:?}", kinds(&found)));
        assert_eq!(
            (worker.filter["worker"].as_str(), worker.filter["cause"].as_str()),
            (Some("w2"), Some("infrastructure"))
        );
        assert!(found.insights.iter().any(|one| one.kind == "infrastructure"));
        assert!(!found.insights.iter().any(|one| ["consistently_fails", "dropped"].contains(&one.kind)));
    }
}
