//! The history as pages need it, in memory: fed by the log, rebuilt from it at will, as of any moment.
//!
//! ```text
//! gateway ── tx-range ──▶ follow ──▶ fold (datoms to rows) ──▶ World ──▶ answers
//!                           │                                    │
//!                           └── a log that is another one: begin anew
//! ```
//!
//! [`fold`] turns a transaction's datoms into new versions of rows; [`world`] keeps the versions, so that a
//! row can be seen as of every transaction; [`summary`] counts them by hour; [`alerts`] and [`healings`] are kept beside
//! them, each as [`cards`].
//! All of these are pure; [`follow`] is the one that does I/O.
//!
//! **Bounds.** At most `api.evaluations_max` versions of rows are kept. Beyond that the oldest recorded go:
//! lists and rates count from the oldest kept on, `/v1/projection` says from which transaction that is, and
//! a moment before it is refused (`POST /v1/query` has no such bound). Summaries of other moments than now
//! are kept for the last few asked.

pub mod alerts;
pub mod cards;
pub mod follow;
pub mod healings;
pub mod row;
pub mod summary;
pub mod symbols;
pub mod world;

mod fold;
mod group;
mod index;
mod letters;
#[cfg(test)]
mod tests;

pub use group::Group;
pub use index::{Field, Order};
pub use row::{Call, DeadLetter, Measures, Outcome, Question, Row};
pub use summary::{Counts, HOUR, Line, Summary};
pub use symbols::{Symbol, Symbols};
pub use world::{At, TooEarly, World};
