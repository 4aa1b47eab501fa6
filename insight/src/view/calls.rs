//! Calls of functions, one by one. Pure.

use super::list::{Cursor, Filter};
use super::{milliseconds, text, time};
use crate::projection::{At, Call, Row, Symbol, World};
use evalfleet_proto::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// Bits of a cursor's number that tell the calls of one evaluation apart.
const INDEX_BITS: u32 = 16;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FunctionCall {
    /// The function, or the program.
    pub name: String,
    /// 1 or 0; a share where it stands for several calls; null where the subject was not put to the test.
    pub success_rate: Option<f64>,
    /// How many calls it stands for: a batch, and a tool's evaluation, sum those of one function.
    pub count: u64,
    /// How many of them failed.
    pub failures: u64,
    /// The evaluation that it was made in.
    pub evaluation: String,
    /// That evaluation's kind: `function_call`, `command`, `batch`, …
    pub kind: Option<String>,
    /// How it ended; null for batches.
    pub status: Option<String>,
    /// Whose doing that was, unless it passed.
    pub cause: Option<&'static str>,
    /// Its exit status.
    pub exit_code: Option<i64>,
    /// Its time on the clock.
    pub wall_ms: Option<f64>,
    /// When it finished.
    #[schema(value_type = String, format = DateTime)]
    pub finished: Timestamp,
    /// The model that was evaluated.
    pub model: Option<String>,
    /// Who ran it.
    pub worker: Option<String>,
    /// The image's digest.
    pub image: Option<String>,
    /// The case it tried.
    pub case: Option<String>,
    /// The run it is part of.
    pub run: Option<String>,
    /// The batch it is part of.
    pub batch: Option<String>,
}

/// A page of calls.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Calls {
    /// The calls, those of the newest evaluation first.
    pub calls: Vec<FunctionCall>,
    /// Give this as `cursor` for the next page; null on the last.
    pub next: Option<String>,
    /// The transaction that the list stands on.
    pub basis_t: u64,
}

fn shown(world: &World, row: &Row, name: Symbol, call: &Call) -> FunctionCall {
    let text = |symbol| text(world, symbol);
    FunctionCall {
        name: world.symbols().text(name).to_owned(),
        success_rate: call.success_rate,
        count: call.count,
        failures: failures(call),
        evaluation: row.id.to_string(),
        kind: text(row.kind),
        status: text(row.status),
        cause: row.cause.map(evalfleet_proto::status::Cause::as_str),
        exit_code: row.exit_code,
        wall_ms: milliseconds(row.measures.wall),
        finished: time(row.at),
        model: text(row.model),
        worker: text(row.worker),
        image: text(row.image),
        case: text(row.case),
        run: text(row.run),
        batch: text(row.batch),
    }
}

/// One call is known to have failed by its rate alone.
fn failures(call: &Call) -> u64 {
    if call.count == 1 { u64::from(call.success_rate.is_some_and(|rate| rate < 1.0)) } else { call.failures }
}

/// A page of the calls in the evaluations of a moment that `filter` means; its `tool` means those calls alone.
pub fn calls(world: &World, at: At, filter: &Filter, limit: usize, after: Option<Cursor>) -> Calls {
    let matcher = filter.matcher(world);
    let only = filter.tool.as_deref().and_then(|name| world.symbols().find(name));
    let place = after.map(|cursor| (cursor.key, cursor.number >> INDEX_BITS, cursor.number & INDEX_MASK));
    // The evaluation that a page ended in is looked at again, for the calls after that place.
    let rows = world.by_time(at, place.map(|(key, number, _)| (key, number + 1)));
    let rows = rows.filter(|(_, row)| matcher.admits(world, row));
    let all = rows.flat_map(|(number, row)| {
        let named = (0..=INDEX_MASK).zip(row.calls.iter());
        named.filter_map(move |(index, call)| Some((row, number, index, call.name?, call)))
    });
    let beyond = |key: i64, number: u64, index: u64| {
        place.is_none_or(|(at, last, end)| (key, number) != (at, last) || index > end)
    };
    let all = all.filter(|(row, number, index, name, _)| {
        only.is_none_or(|only| only == *name) && beyond(row.at, *number, *index)
    });
    let mut taken: Vec<_> = all.take(limit + 1).collect();
    let more = taken.len() > limit;
    taken.truncate(limit);
    let cursor = |(row, number, index, ..): &(&Row, u64, u64, Symbol, &Call)| {
        Cursor { t: at.t, key: row.at, number: (number << INDEX_BITS) | index }.to_string()
    };
    Calls {
        next: taken.last().filter(|_| more).map(cursor),
        calls: taken.iter().map(|(row, _, _, name, call)| shown(world, row, *name, call)).collect(),
        basis_t: at.t,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Job, history};

    fn names(world: &World, filter: &Filter, limit: usize) -> Vec<String> {
        let at = world.at(None).unwrap();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = calls(world, at, filter, limit, after);
            assert!(page.calls.len() <= limit);
            found.extend(page.calls.into_iter().map(|call| format!("{} {}", call.evaluation, call.name)));
            match page.next {
                Some(next) => after = Some(Cursor::parse(&next).unwrap()),
                None => return found,
            }
        }
    }

    #[test]
    fn calls_are_listed_once_whatever_a_page_holds_and_filtered_by_their_evaluation() {
        let world = history(&[
            Job { id: "a", tool: "read", worker: "w1", ..Job::default() },
            Job { id: "b", tool: "write", more: "read", at: 2, ..Job::default() },
            // At the same moment as the one before.
            Job { id: "c", tool: "read", more: "write", at: 2, cause: Some("subject"), ..Job::default() },
        ]);
        let whole = ["c read", "c write", "b write", "b read", "a read"];
        for limit in 1..7 {
            assert_eq!(names(&world, &Filter::default(), limit), whole, "{limit}");
        }
        let text = |text: &str| Some(text.to_owned());
        for limit in 1..4 {
            let reads = Filter { tool: text("read"), ..Filter::default() };
            assert_eq!(names(&world, &reads, limit), ["c read", "b read", "a read"], "{limit}");
        }
        let first = Filter { worker: text("w1"), ..Filter::default() };
        assert_eq!(names(&world, &first, 9), ["a read"]);
        let failed = Filter { cause: text("subject"), tool: text("read"), ..Filter::default() };
        let found = calls(&world, world.at(None).unwrap(), &failed, 9, None);
        assert_eq!((found.calls[0].success_rate, found.calls[0].failures), (Some(0.0), 1));
    }
}
