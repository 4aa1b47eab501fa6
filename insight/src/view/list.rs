//! Lists of evaluations: filtered, sorted, page by page. Pure.
//!
//! A cursor holds the place where a page ended and the transaction that it stood on, so that the pages of
//! one list belong to one moment however much is recorded meanwhile.

use super::Brief;
use crate::projection::{At, Field, Order, Row, Symbol, World};
use evalfleet_proto::Timestamp;
use evalfleet_proto::status::Cause;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The most evaluations of a page.
pub const LIMIT_MAX: u16 = 1000;
/// The longest text of a filter, in characters.
pub const TEXT_MAX: usize = 500;

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Sort {
    /// The newest first.
    #[default]
    #[serde(rename = "newest")]
    Newest,
    /// The oldest first.
    #[serde(rename = "oldest")]
    Oldest,
    /// The longest on the clock first.
    #[serde(rename = "slowest")]
    Slowest,
    /// Those that took the most memory first.
    #[serde(rename = "largest")]
    Largest,
}

/// Which evaluations. Filters of different names must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default)]
pub struct Filter {
    /// The model, or the model of the batch.
    #[param(max_length = 500)]
    pub model: Option<String>,
    /// A function that was called.
    #[param(max_length = 500)]
    pub tool: Option<String>,
    /// The case, as `suite/case`; a question.
    #[param(max_length = 500)]
    pub case: Option<String>,
    /// The suite.
    #[param(max_length = 500)]
    pub suite: Option<String>,
    /// The run.
    #[param(max_length = 500)]
    pub run: Option<String>,
    /// The batch: its parts are listed.
    #[param(max_length = 500)]
    pub batch: Option<String>,
    /// `passed`, `failed`, `timed_out`, …
    #[param(max_length = 500)]
    pub status: Option<String>,
    /// `subject`, `budget`, `infrastructure`, `harness`, or `none` for those that passed.
    #[param(max_length = 500)]
    pub cause: Option<String>,
    /// `function_call`, `command`, `batch`, `question`, … Questions are listed only when they or their
    /// batch are asked for.
    #[param(max_length = 500)]
    pub kind: Option<String>,
    /// The worker.
    #[param(max_length = 500)]
    pub worker: Option<String>,
    /// The image's digest, or its beginning.
    #[param(max_length = 500)]
    pub image: Option<String>,
    /// `kvm` or `tcg`.
    #[param(max_length = 500)]
    pub accelerator: Option<String>,
    /// A label, `key=value`.
    #[param(max_length = 500)]
    pub label: Option<String>,
    /// A text in the id, the case, the tool or the error; letters' case does not matter.
    #[param(max_length = 500)]
    pub q: Option<String>,
    /// Finished at or after this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Finished before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// A filter with its texts looked up once.
#[derive(Debug)]
pub(crate) struct Matcher {
    wanted: Vec<(Field, Symbol)>,
    image: Option<String>,
    cause: Option<Option<Cause>>,
    needle: Option<String>,
    since: i64,
    until: i64,
    questions: bool,
    question: Option<Symbol>,
    /// Something is asked for that no row has.
    nothing: bool,
}

impl Filter {
    /// The texts, with the fields they are looked for in.
    fn texts(&self) -> [(Field, Option<&str>); 11] {
        [
            (Field::Model, self.model.as_deref()),
            (Field::Tool, self.tool.as_deref()),
            (Field::Case, self.case.as_deref()),
            (Field::Suite, self.suite.as_deref()),
            (Field::Run, self.run.as_deref()),
            (Field::Batch, self.batch.as_deref()),
            (Field::Status, self.status.as_deref()),
            (Field::Kind, self.kind.as_deref()),
            (Field::Worker, self.worker.as_deref()),
            (Field::Accelerator, self.accelerator.as_deref()),
            (Field::Label, self.label.as_deref()),
        ]
    }

    /// What is wrong with it, if anything.
    pub fn fault(&self) -> Option<String> {
        let others = [&self.cause, &self.image, &self.q];
        let all = self.texts().into_iter().filter_map(|(_, text)| text);
        let all = all.chain(others.into_iter().flatten().map(String::as_str));
        if let Some(long) = all.map(|text| text.chars().count()).find(|long| *long > TEXT_MAX) {
            return Some(format!("a filter has {long} characters, and may have {TEXT_MAX}"));
        }
        let cause = self.cause.as_deref().filter(|cause| parse_cause(cause).is_none());
        cause.map(|cause| {
            format!("cause is {cause:?}, and must be subject, budget, infrastructure, harness or none")
        })
    }

    pub(crate) fn matcher(&self, world: &World) -> Matcher {
        let symbols = world.symbols();
        let mut nothing = false;
        let mut wanted = Vec::new();
        for (field, text) in self.texts() {
            match text.map(|text| symbols.find(text)) {
                Some(Some(symbol)) => wanted.push((field, symbol)),
                Some(None) => nothing = true,
                None => {}
            }
        }
        Matcher {
            wanted,
            image: self.image.clone(),
            cause: self.cause.as_deref().and_then(parse_cause),
            needle: self.q.as_ref().filter(|text| !text.is_empty()).map(|text| text.to_lowercase()),
            since: self.since.map_or(i64::MIN, Timestamp::as_millisecond),
            until: self.until.map_or(i64::MAX, Timestamp::as_millisecond),
            questions: self.batch.is_some() || self.kind.is_some() || self.case.is_some(),
            question: symbols.find("question"),
            nothing,
        }
    }
}

/// `Some(None)`: those that passed.
fn parse_cause(word: &str) -> Option<Option<Cause>> {
    let all = [Cause::Subject, Cause::Budget, Cause::Infrastructure, Cause::Harness];
    match all.into_iter().find(|cause| cause.as_str() == word) {
        Some(cause) => Some(Some(cause)),
        None => (word == "none").then_some(None),
    }
}

impl Sort {
    fn order(self) -> Order {
        match self {
            Self::Newest => Order::Newest,
            Self::Oldest => Order::Oldest,
            Self::Slowest => Order::Slowest,
            Self::Largest => Order::Largest,
        }
    }
}

impl Matcher {
    /// The rarest of the values that are wanted, and how many rows have all of them if chance decides.
    fn rarest(&self, world: &World) -> Option<(Field, Symbol, f64)> {
        let rows = world.kept().max(1) as f64;
        let most = |(field, value): &(Field, Symbol)| world.most(*field, *value);
        let expected = self.wanted.iter().map(|wanted| most(wanted) as f64 / rows).product::<f64>() * rows;
        let (field, value) = self.wanted.iter().min_by_key(|wanted| most(wanted))?;
        Some((*field, *value, expected))
    }

    /// Where to begin in an order: after the page before, and not before the end of the time that is meant.
    fn from(&self, order: Order, after: Option<(i64, u64)>) -> Option<(i64, u64)> {
        let end = (order == Order::Newest && self.until != i64::MAX).then_some((self.until, 0));
        match (after, end) {
            (Some(after), Some(end)) => Some(after.min(end)),
            (after, end) => after.or(end),
        }
    }

    /// Whether `row` is meant.
    pub(crate) fn admits(&self, world: &World, row: &Row) -> bool {
        if self.nothing || row.kind.is_none() || row.at < self.since || row.at >= self.until {
            return false;
        }
        if !self.questions && row.kind == self.question {
            return false;
        }
        let fields = self.wanted.iter().all(|(field, value)| row.has(*field, *value));
        let image = self.image.as_ref().is_none_or(|wanted| {
            row.image.is_some_and(|image| world.symbols().text(image).starts_with(wanted.as_str()))
        });
        let cause = self.cause.is_none_or(|wanted| row.cause == wanted && row.outcome().is_some());
        fields && image && cause && self.needle.as_ref().is_none_or(|needle| found(world, row, needle))
    }
}

fn found(world: &World, row: &Row, needle: &str) -> bool {
    let text = |symbol: Option<Symbol>| symbol.map_or("", |symbol| world.symbols().text(symbol));
    let places = [&*row.id, text(row.case), text(row.tool()), row.error.as_deref().unwrap_or("")];
    places.iter().any(|place| place.to_lowercase().contains(needle))
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The transaction of the whole list.
    pub t: u64,
    pub(super) key: i64,
    pub(super) number: u64,
}

impl Cursor {
    /// Reads what a page gave.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut part = || parts.next();
        let (t, key, number) = (part()?.parse().ok()?, part()?.parse().ok()?, part()?.parse().ok()?);
        part().is_none().then_some(Self { t, key, number })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.t, self.key, self.number)
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Page {
    /// The evaluations.
    pub evaluations: Vec<Brief>,
    /// Give this as `cursor` for the next page; null on the last.
    pub next: Option<String>,
    /// How many evaluations the whole list has, where that was asked for.
    pub count: Option<u64>,
    /// The transaction that the list stands on.
    pub basis_t: u64,
}

/// Which page.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The order.
    pub sort: Sort,
    /// How many, 1 to [`LIMIT_MAX`].
    pub limit: usize,
    /// From here on.
    pub after: Option<Cursor>,
    /// Whether the whole list is to be counted.
    pub count: bool,
}

/// Makes a page of the evaluations of a moment.
pub fn page(world: &World, at: At, filter: &Filter, wanted: Wanted) -> Page {
    let matcher = filter.matcher(world);
    let admitted = |row: &Row| matcher.admits(world, row);
    let after = wanted.after.map(|cursor| (cursor.key, cursor.number));
    let order = wanted.sort.order();
    let rarest = matcher.rarest(world);
    let few = rarest.filter(|(field, value, expected)| {
        // Going through the list in its order, one passes over so many before a page is full.
        let passed_over = (wanted.limit + 1) as f64 * world.kept() as f64 / expected.max(1.0);
        (world.most(*field, *value) as f64) < passed_over
    });
    let mut taken: Vec<(i64, u64, &Row)> = match few {
        Some((field, value, _)) => {
            let all = world.having(field, value, at).filter(|(_, row)| admitted(row));
            let keyed = all.map(|(number, row)| (order.key(row), number, row));
            let mut all: Vec<_> =
                keyed.filter(|(key, number, _)| after.is_none_or(|after| (*key, *number) < after)).collect();
            all.sort_unstable_by_key(|(key, number, _)| std::cmp::Reverse((*key, *number)));
            all.truncate(wanted.limit + 1);
            all
        }
        None => world
            .ordered(order, at, matcher.from(order, after))
            .take_while(|(_, row)| order != Order::Newest || row.at >= matcher.since)
            .filter(|(_, row)| admitted(row))
            .take(wanted.limit + 1)
            .map(|(number, row)| (order.key(row), number, row))
            .collect(),
    };
    let more = taken.len() > wanted.limit;
    taken.truncate(wanted.limit);
    let last = taken.last().filter(|_| more);
    Page {
        next: last.map(|(key, number, _)| Cursor { t: at.t, key: *key, number: *number }.to_string()),
        evaluations: taken.iter().map(|(_, _, row)| Brief::of(world, row)).collect(),
        count: wanted.count.then(|| match rarest {
            Some((field, value, _)) => {
                world.having(field, value, at).filter(|(_, row)| admitted(row)).count() as u64
            }
            None => world.rows(at).filter(|row| admitted(row)).count() as u64,
        }),
        basis_t: at.t,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};
    use proptest::prelude::*;

    /// Some have few evaluations, and some many.
    const TOOLS: &[&str] = &["rare", "common", "seldom"];

    fn ids(page: &Page) -> Vec<&str> {
        page.evaluations.iter().map(|brief| brief.id.as_str()).collect()
    }

    fn all_pages(world: &World, filter: &Filter, sort: Sort, limit: usize) -> Vec<String> {
        let at = world.at(None).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = page(world, at, filter, Wanted { sort, limit, after, count: true });
            assert!(page.evaluations.len() <= limit);
            found.extend(ids(&page).into_iter().map(str::to_owned));
            match page.next {
                Some(next) => after = Some(Cursor::parse(&next).unwrap()),
                None => return found,
            }
        }
    }

    #[test]
    fn filters_must_all_hold() {
        let world = history(&[
            Job { id: "a", tool: "read", worker: "w1", ..Job::default() },
            Job {
                id: "b",
                tool: "read",
                worker: "w2",
                cause: Some("subject"),
                error: "No such FILE",
                ..Job::default()
            },
            Job { id: "c", tool: "write", worker: "w2", cause: Some("budget"), ..Job::default() },
        ]);
        let listed = |filter: Filter| all_pages(&world, &filter, Sort::Newest, 10);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(listed(Filter::default()), ["c", "b", "a"]);
        assert_eq!(listed(Filter { tool: text("read"), ..Filter::default() }), ["b", "a"]);
        assert_eq!(listed(Filter { tool: text("read"), worker: text("w2"), ..Filter::default() }), ["b"]);
        assert_eq!(listed(Filter { cause: text("none"), ..Filter::default() }), ["a"]);
        assert_eq!(listed(Filter { q: text("such file"), ..Filter::default() }), ["b"]);
        assert!(listed(Filter { model: text("unheard-of"), ..Filter::default() }).is_empty());
        assert!(Filter { cause: text("nobody"), ..Filter::default() }.fault().is_some());
        assert!(Filter { q: Some("x".repeat(501)), ..Filter::default() }.fault().is_some());
    }

    #[test]
    fn a_cursor_is_what_it_was_written_as() {
        let cursor = Cursor { t: 7, key: -12, number: 3 };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        for text in ["", "1", "1.2", "1.2.3.4", "a.b.c"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn pages_together_are_the_list_once_each(times in prop::collection::vec((1_u64..50, 0_u64..9), 1..40), limit in 1_usize..9) {
            let names: Vec<String> = (0..times.len()).map(|index| format!("e{index}")).collect();
            let jobs: Vec<Job<'_>> = names
                .iter()
                .zip(&times)
                .map(|(id, (at, wall))| {
                    let tool = TOOLS[usize::from(*wall > 1) + usize::from(*wall > 7)];
                    Job { id, at: *at, wall: *wall, tool, ..Job::default() }
                })
                .collect();
            let world = history(&jobs);
            for sort in [Sort::Newest, Sort::Oldest, Sort::Slowest] {
                let paged = all_pages(&world, &Filter::default(), sort, limit);
                let whole = all_pages(&world, &Filter::default(), sort, 1000);
                prop_assert_eq!(&paged, &whole);
                prop_assert_eq!(whole.len(), times.len());
            }
            // However few have what is asked for: the same as looking at every one.
            let at = world.at(None).unwrap();
            for tool in TOOLS {
                let filter = Filter { tool: Some((*tool).to_owned()), status: Some("passed".to_owned()), ..Filter::default() };
                for sort in [Sort::Newest, Sort::Oldest, Sort::Slowest, Sort::Largest] {
                    let mut all: Vec<_> = world
                        .by_time(at, None)
                        .filter(|(_, row)| filter.matcher(&world).admits(&world, row))
                        .map(|(number, row)| (std::cmp::Reverse((sort.order().key(row), number)), row.id.to_string()))
                        .collect();
                    all.sort();
                    let all: Vec<String> = all.into_iter().map(|(_, id)| id).collect();
                    prop_assert_eq!(all_pages(&world, &filter, sort, limit), all);
                }
            }
        }
    }
}
