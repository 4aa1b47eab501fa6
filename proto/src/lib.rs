//! What crosses the wire in evalfleet, and nothing that moves it.
//!
//! A person writes a [`submission::Submission`] (JSON); the client turns it into a [`job::Job`],
//! wraps it in an [`envelope::Envelope`] and publishes it to an exchange of [`topology`]. A worker
//! talks to the agent in its VM with [`guest`] frames and answers with an
//! [`evaluation::Evaluation`], or, when a job cannot be run, with a [`dead::DeadLetter`].
//! [`wire`] is the one way in and out of bytes.
//!
//! This crate does no I/O and reads no clock: whoever needs the time passes it in.

pub mod ids;
pub mod units;
mod words;

pub mod job;
pub mod network;
pub mod submission;

pub mod effect;
pub mod evaluation;
pub mod status;

pub mod alert;
pub mod amendment;
pub mod control;
pub mod dead;
pub mod envelope;
pub mod healing;
pub mod kept;
pub mod topology;
pub mod wire;

pub mod guest;

#[cfg(feature = "schema")]
pub mod schema;

pub use jiff::Timestamp;

/// The version of every message this build writes, and the newest it reads.
pub const SCHEMA_VERSION: u16 = 1;
