//! Self-healing: what of the fleet itself is not well is found, and healed within bounds; people see it, undo it, or
//! have it proposed only.
//!
//! ```text
//! projection ── tries of jobs ──┐
//!                               ├─▶ Seen ──▶ detect (by the table of rules) ──▶ Finding ──▶ Healer ──▶ deeds ─┬─▶ recorder
//! parts, queues, disks, tags ───┘                                                              ▲              └─▶ Hands
//!                                             people's decisions, out of the history ──────────┘
//! ```
//!
//! Everything up to the deeds is pure: [`rules`] is the table (a detector, its remedy, thresholds and bounds), [`seen`]
//! what is looked at, [`detect`] finds, and [`healer`] decides what is to be done, with its words in `words`. [`task`]
//! drives it by what the projection learns and [`senses`] see, and carries the deeds out by way of [`hands`].
//!
//! **Blame.** Nothing here says anything of a subject: only faults of ours are counted (`attempts`, dead letters), and a
//! fault that strikes all alike is nobody's.
//! **Before and after.** A healing is recorded as proposed before anything is done, and as applied once it is done: who
//! starts anew does again what was not told to be done. All that [`hands`] do may be done twice.
//! **People.** What a person decides is recorded first, and carried out from the history: whoever heals then does it,
//! also where nothing is looked for (`insight.healing.mode = "off"`).

pub mod detect;
pub mod healer;
pub mod rules;
pub mod seen;

pub mod hands;
pub mod senses;
pub mod task;

mod words;
