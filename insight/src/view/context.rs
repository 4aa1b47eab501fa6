//! What surrounds one evaluation: its repeats, its parts, the last runs of the same case. Pure.

use super::Brief;
use super::dead::Letter;
use crate::projection::{At, Field, Row, World};
use serde::Serialize;
use utoipa::ToSchema;

/// The most parts that are shown; the list has the rest.
const PARTS_MAX: usize = 200;
/// The most neighbours.
const NEIGHBOURS_MAX: usize = 20;

/// One evaluation among others.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Context {
    /// Itself.
    pub evaluation: Brief,
    /// Evaluations that repeat it.
    pub replays: Vec<Brief>,
    /// A batch's parts, the first 200 that failed or else passed.
    pub parts: Vec<Brief>,
    /// The last evaluations of the same case, or where it has none of the same tool, newest first.
    pub neighbours: Vec<Brief>,
    /// Its dead letter.
    pub dead_letter: Option<Letter>,
    /// The transaction that all this stands on.
    pub basis_t: u64,
}

/// The surroundings of `id`; none where there is no such evaluation at that moment.
pub fn context(world: &World, at: At, id: &str) -> Option<Context> {
    let row = world.find(id, at).filter(|row| row.kind.is_some())?;
    let brief = |row| Brief::of(world, row);
    let own = world.symbols().find(id);
    let having = |field, value| world.having(field, value, at).map(|(_, row)| row);
    let replays = own.into_iter().flat_map(|own| having(Field::ReplayOf, own));
    let replays: Vec<Brief> = replays.take(NEIGHBOURS_MAX).map(brief).collect();
    let parts = own.filter(|_| row.is_batch()).into_iter().flat_map(|own| having(Field::Batch, own));
    let mut parts: Vec<&Row> = parts.filter(|part| part.kind.is_some()).collect();
    parts.sort_by_key(|part| (part.cause.is_none(), part.at));
    let question = world.symbols().find("question");
    let alike = match (row.case, row.tool()) {
        (Some(case), _) => Some((Field::Case, case)),
        (None, Some(tool)) if !row.is_batch() => Some((Field::Tool, tool)),
        _ => None,
    };
    let others = alike.into_iter().flat_map(|(field, value)| having(field, value));
    let others = others.filter(|other| other.id != row.id && !other.is_batch() && other.kind.is_some());
    // Questions are no neighbours of those that only called the same tool.
    let mut others: Vec<&Row> = others.filter(|other| row.case.is_some() || other.kind != question).collect();
    others.sort_by_key(|other| std::cmp::Reverse(other.at));
    let neighbours: Vec<Brief> = others.into_iter().take(NEIGHBOURS_MAX).map(brief).collect();
    let letter = world.letters_of(&row.id, at).next();
    Some(Context {
        evaluation: brief(row),
        replays,
        parts: parts.into_iter().take(PARTS_MAX).map(brief).collect(),
        neighbours,
        dead_letter: letter.map(|letter| Letter::of(world, at, letter)),
        basis_t: at.t,
    })
}
