//! Changes to a repository: harmless ones, hostile ones, requests at fault, and what is committed.

mod attacks;
mod budgets;
mod candidates;
mod commits;
mod faulty;
pub(super) mod fixture;
mod harmless;
mod runners;

use super::Test;

/// Trials that take minutes each.
pub(crate) const LONG: &[&[(&str, Test)]] = &[harmless::LONG, runners::LONG];

pub(crate) const ALL: &[&[(&str, Test)]] =
    &[attacks::ALL, commits::ALL, faulty::ALL, candidates::ALL, budgets::ALL];
