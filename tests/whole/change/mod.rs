//! Changes to a repository: harmless ones, hostile ones, requests at fault, and what is committed.

mod attacks;
mod candidates;
mod commits;
pub(super) mod fixture;
mod harmless;

use super::Test;

pub(crate) use harmless::LONG;

pub(crate) const ALL: &[&[(&str, Test)]] = &[attacks::ALL, commits::ALL, candidates::ALL];
