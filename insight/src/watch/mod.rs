//! The watch: what became worse is suspected, looked into, and told of once it is confirmed.
//!
//! ```text
//! projection ── new rows ──▶ Sighting ──▶ Detector ──▶ Suspicion ──▶ Alarm ──▶ deeds ─┬─▶ recorder (how it stands)
//!      ▲                        │     outcomes, durations               ▲              ├─▶ channels (raised, closed)
//!      │                        └── reruns, new evaluations of the same ┘              └─▶ reruns
//!      └──────────────── jobs that were run again, recorded like any other ◀──────────────────┘
//! ```
//!
//! Everything up to the deeds is pure: [`sighting`], [`detect`] (over its `rates` and `times`), [`alarm`] (with its
//! `evidence`, `culprit` and `words`) and [`watcher`], which has all of them. [`task`] drives it by what the projection
//! learns and carries the deeds out, by way of [`rerun`], [`outbox`] and [`channels`].
//!
//! **What counts.** Failures of our machines and of the request never do. Calls count for their tool; commands for the
//! tool that their label `tool` names (with its version, `code`), or else for their case; other commands are nobody's.
//! **Confirmation.** What is bad is run again from its kept job ([`rerun::Kept`]), and something from before; where that
//! cannot be, or decides nothing, new evaluations of the same do.
//! **State.** What an alert is, is in the history: who starts anew takes open ones up from there. Beside it, in the state
//! directory, is how far was watched (`mark`) and what is to be told still ([`outbox`]).

pub mod alarm;
pub mod detect;
pub mod sighting;
pub mod watcher;

pub mod channels;
pub mod outbox;
pub mod rerun;
pub mod task;

mod culprit;
mod evidence;
mod mark;
mod rates;
mod times;
mod words;

#[cfg(test)]
mod testing;
