//! The recorder: takes evaluations off the broker and batches them into Datomic.
//!
//! ```text
//! results ──▶ batch ──full, large or old──▶ facts ──▶ one transaction ──committed──▶ settled   (two at once)
//!                                                          │ refused for good
//!                                                          └──▶ halves, until the culprit is alone: a dead letter
//! ```
//!
//! Dead letters, and what is done with them, go the same way, out of a queue of their own ([`letters`]).
//! [`batch`], [`facts`] and [`history`] are pure; [`service`] moves. A result is settled only with a
//! [`proof::Recorded`], which only a committed transaction or a confirmed dead letter makes. Questions
//! are left to others.

pub mod batch;
pub mod believed;
pub mod columns;
pub mod export;
pub mod facts;
pub mod history;
pub mod letters;
pub mod proof;

pub mod gateway;
pub mod import;
pub mod service;
pub mod store;
mod under_way;
