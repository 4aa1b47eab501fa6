//! Suites: questions put to a model, as its REPL would, every call run in a VM that is clean for it.
//!
//! [`file`] reads the questions, [`run`] puts them, [`verdict`] judges each (purely), [`journal`] keeps what is done,
//! so that a run that was stopped goes on. What comes of it is a result file in the REPL's own form
//! ([`evalfleet_recorder::history`]), which the history takes as a batch: its rate as reported, and the rate of the
//! questions that were really put to the test.

pub mod file;
pub mod journal;
pub mod run;
pub mod verdict;

pub use file::Suite;
pub use run::{Options, Report, run};
