//! Changes to a repository, evaluated before they are made.
//!
//! ```text
//!  repository ──▶ base ─┬─ safety.toml: the suite ───────────────┐
//!                       │                                        ▼
//!  patch, revision ─▶ apply (a tree, by id) ─▶ policy     looks, in clean VMs
//!                       │   on this machine, nothing runs   base:   judged, watched   (kept for the next change)
//!                       │                      │            change: judged, watched
//!                       │                      ▼                 │
//!                       └──▶ commit ◀─ safe ─ verdict ◀─ compare ┘
//! ```
//!
//! A change is held against its base on VMs of the same kind, so that what was already broken is not blamed on
//! it. It is judged by the base's suite and the base's tests: what it does to them is a violation, and has no
//! effect. Each tree is looked at twice, see [`order`](Look). What comes out of a VM is believed only as far as
//! the subject could not have written it.
//!
//! - [`source`] reads the repository and applies the change; [`tree`] packs what is run; [`suite`] says how.
//! - [`policy`], with [`dependencies`] and [`secrets`], judges the change as a text.
//! - [`order`] makes the jobs, `judge/` is what runs in the VMs, [`looks`] holds what was seen.
//! - [`compare`] decides, with [`tests_held`], [`behaviour`] and [`budget`].
//! - `evaluate` is the order of all this, `looking` asks the fleet.
//! - [`report`] is the document, [`prefix`] keeps what was seen of a base, [`commit`] makes a safe change.
//!
//! Known limit: tests in Python run in the process that imports the change. One that searches that process's
//! memory for the secret of its channel can forge that process's word on the tests; what it does elsewhere is
//! still seen.

mod git;
mod tree;

pub mod suite;

mod source;
mod violation;

mod dependencies;
mod secrets;

mod policy;

mod order;

mod looks;

mod behaviour;
mod budget;
mod tests_held;

mod compare;
mod prefix;
mod program;
mod report;

mod commit;
mod error;
mod evaluate;
mod looking;

pub use budget::Figure;
pub use commit::{Committed, TRAILER};
pub use compare::Check;
pub use error::Error;
pub use evaluate::{CANDIDATES_MAX, Candidate, Changes, Evaluated, Outcome, Request, UnsafeModification};
pub use order::Look;
pub use policy::Size;
pub use report::{BaseOf, ChangeOf, KIND, LookAt, SafetyResult, SuiteOf, Verdict};
pub use source::{Change, Error as RequestError, PATCH_MAX};
pub use violation::{VIOLATIONS_MAX, Violation};

/// One change to a repository, as a program states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeChange {
    /// A repository's folder, or a bundle.
    pub repository: std::path::PathBuf,
    /// The revision that the change stands on; HEAD when missing.
    pub base: Option<String>,
    /// The change.
    pub change: Change,
    /// The suite of the base's `safety.toml` to put it to; `default` when missing.
    pub suite: Option<String>,
}
