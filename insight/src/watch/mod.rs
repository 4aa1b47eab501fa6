//! The watch: what became worse is suspected, looked into, and told of once it is confirmed.
//!
//! ```text
//! projection ── new rows ──▶ Sighting ──▶ Detector ──▶ Suspicion ──▶ Alarm ──▶ deeds ─┬─▶ recorder (how it stands)
//!      ▲                        │     outcomes, amounts                 ▲              ├─▶ channels (raised, closed)
//!      │                        └── reruns, new evaluations of the same ┘              └─▶ reruns
//!      └──────────────── jobs that were run again, recorded like any other ◀──────────────────┘
//! ```
//!
//! Everything up to the deeds is pure: [`sighting`], [`detect`] (over its `rates`, its `amounts` of each `measure`
//! and the `lineage` of versions), [`alarm`] (with its `evidence`, `culprit`, `bisect` and `words`) and [`watcher`], which has all of them. [`task`] drives it by what the projection
//! learns and carries the deeds out, by way of [`rerun`] and of [`tell`](crate::tell).
//!
//! **What counts.** Failures of our machines and of the request never do, nor does what a worker says on which this and
//! that fails which passes elsewhere (`workers`); times count by the `pace` of machines. Calls count for their tool; commands for the
//! tool that their label `tool` names (with its version, `code`), or else for their case; other commands are nobody's.
//! **Confirmation.** What is bad is run again from its kept job ([`rerun::Kept`]), and something from before; where that
//! cannot be, or decides nothing, new evaluations of the same do.
//! **Culprit.** What is new in all that is bad; where several versions or images lie between the last that was well and the
//! first that is known to be bad, those are run again as well, until one is surely the first (`bisect`).
//! **State.** What an alert is, is in the history: who starts anew takes open ones up from there. Beside it, in the state
//! directory, is how far was watched (`mark`) and what is to be told still (`alerts/`).

pub mod alarm;
pub mod detect;
pub mod sighting;
pub mod watcher;

pub mod rerun;
pub mod task;

mod amounts;
mod bisect;
mod culprit;
mod evidence;
mod lineage;
mod mark;
mod measure;
mod pace;
mod rates;
mod words;
mod workers;

#[cfg(test)]
pub(crate) mod testing;
