//! Groups of evaluations, page by page. Pure.

use super::list::Cursor;
use crate::projection::{At, Group, World};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A group in a list, with what tells it from others that ended at the same moment.
pub(super) struct Item<'g, T> {
    pub(super) what: T,
    pub(super) number: u64,
    pub(super) group: &'g Group,
}

/// A page of groups, those that last finished something first.
pub(super) struct Taken<'g, T> {
    pub(super) items: Vec<Item<'g, T>>,
    pub(super) next: Option<String>,
    /// How many there are on all pages.
    pub(super) count: u64,
}

/// The page after a place: at most `limit` of `all`.
pub(super) fn take<T>(
    mut all: Vec<Item<'_, T>>,
    at: At,
    limit: usize,
    after: Option<Cursor>,
) -> Taken<'_, T> {
    let count = all.len() as u64;
    let key = |item: &Item<'_, T>| (item.group.last(), item.number);
    if let Some(after) = after {
        all.retain(|item| key(item) < (after.key, after.number));
    }
    all.sort_unstable_by_key(|item| Reverse(key(item)));
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(|last| {
        let (key, number) = key(last);
        Cursor { t: at.t, key, number }.to_string()
    });
    Taken { items: all, next, count }
}

/// How many of a group ended how.
pub(super) fn statuses(world: &World, group: &Group) -> BTreeMap<String, u64> {
    group.statuses.iter().map(|(status, count)| (world.symbols().text(*status).to_owned(), *count)).collect()
}

/// Where a page of groups stands.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Paged {
    /// Give this as `cursor` for the next page; null on the last.
    pub next: Option<String>,
    /// How many there are on all pages.
    pub count: u64,
    /// The transaction that the list stands on.
    pub basis_t: u64,
}

impl Paged {
    pub(super) fn of<T>(taken: &Taken<'_, T>, at: At) -> Self {
        Self { next: taken.next.clone(), count: taken.count, basis_t: at.t }
    }
}
