//! What surrounds one evaluation: its repeats, its parts, the last runs of the same case. Pure.

use super::Brief;
use super::dead::Letter;
use super::list::Filter;
use crate::projection::{At, World};
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
    let replays = world.rows(at).filter(|other| own.is_some() && other.replay_of == own);
    let replays: Vec<Brief> = replays.take(NEIGHBOURS_MAX).map(brief).collect();
    let mut parts: Vec<_> = if row.is_batch() {
        world.rows(at).filter(|other| own.is_some() && other.batch == own && other.kind.is_some()).collect()
    } else {
        Vec::new()
    };
    parts.sort_by_key(|part| (part.cause.is_none(), part.at));
    let filter = match (row.case, row.tool()) {
        (Some(case), _) => {
            Some(Filter { case: Some(world.symbols().text(case).to_owned()), ..Filter::default() })
        }
        (None, Some(tool)) if !row.is_batch() => {
            Some(Filter { tool: Some(world.symbols().text(tool).to_owned()), ..Filter::default() })
        }
        _ => None,
    };
    let neighbours = filter.map(|filter| filter.matcher(world)).map_or_else(Vec::new, |matcher| {
        let others = world.by_time(at, None).map(|(_, other)| other);
        let others =
            others.filter(|other| other.id != row.id && !other.is_batch() && matcher.admits(world, other));
        others.take(NEIGHBOURS_MAX).map(brief).collect()
    });
    let letter = world.letters(at).find(|letter| letter.job == row.id);
    Some(Context {
        evaluation: brief(row),
        replays,
        parts: parts.into_iter().take(PARTS_MAX).map(brief).collect(),
        neighbours,
        dead_letter: letter.map(|letter| Letter::of(world, at, letter)),
        basis_t: at.t,
    })
}
