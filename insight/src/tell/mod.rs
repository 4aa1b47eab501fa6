//! People are told: what the watch raised, and what the healer found and did.
//!
//! ```text
//! watch, heal ── Notice ──▶ Outbox (a file each) ── once it is recorded ──▶ Channels: log, stdout, webhook, e-mail
//! ```
//!
//! A [`notice`] is what is said, and pure; the [`outbox`] keeps it until it is said; [`channels`] say it.

pub mod channels;
pub mod notice;
pub mod outbox;
