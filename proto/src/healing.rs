//! Healings: something of ours that is not well, and what was done about it, or could be.
//!
//! Whoever heals publishes the whole document at each change of its state, with a greater `revision`; people decide by
//! a [`Decision`]. The recorder keeps both: a healing is one entity, and the history tells its life.
//!
//! ```text
//!            act                       undo
//! proposed ───────▶ applied ────────────────▶ undone
//!    │ │ ▲             │  └─ it is past ───▶ over
//!    │ │ └ apply       └──── it cannot ────▶ failed
//!    │ └── undo (declined) ──▶ undone
//!    └──── it is past ───────▶ over
//! ```

use crate::ids::{HealingId, JobId};
use crate::units::maybe_millis;
use crate::words::words;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most pieces of evidence that a healing names.
pub const EVIDENCE_MAX: usize = 10;
/// The most evaluations that all its evidence names together.
pub const EVALUATIONS_MAX: usize = 20;
/// The longest reason of a decision, in characters.
pub const REASON_CHARS_MAX: usize = 1000;
/// Who heals, where no person does.
pub const OURSELVES: &str = "evalfleet";

/// One healing, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Healing {
    /// The version of this document.
    pub schema: u16,
    /// Its name.
    pub id: HealingId,
    /// Greater at each change: of two documents the one with the greater is the newer.
    pub revision: u32,
    /// What found it.
    pub detector: Detector,
    /// What is not well, as `attribute=value`: `worker=w1`, `tool=word_count`, `image=base`, `queue=…`, `part=…`.
    pub subject: String,
    /// What helps.
    pub remedy: Remedy,
    /// What it was before and is to be, where that cannot be told from the subject: an image's digests.
    #[serde(default)]
    pub change: Option<Change>,
    /// How far it is.
    pub state: State,
    /// Whether it was to be done at once.
    pub mode: Mode,
    /// In a sentence or two, with the numbers.
    pub message: String,
    /// What it rests on. At most [`EVIDENCE_MAX`].
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// When it began, by the first evidence.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub since: Timestamp,
    /// When it was found.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub found: Timestamp,
    /// When the remedy was applied.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub applied: Option<Timestamp>,
    /// Who had it applied: [`OURSELVES`], or a person, as `user@host`.
    #[serde(default)]
    pub by: Option<String>,
    /// From its being found to the remedy.
    #[serde(default, rename = "took_ms", with = "maybe_millis")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>"))]
    pub took: Option<Duration>,
    /// When all was seen to be well again.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub well: Option<Timestamp>,
    /// From its being found until all was well.
    #[serde(default, rename = "well_ms", with = "maybe_millis")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<f64>"))]
    pub well_after: Option<Duration>,
    /// When it was undone, was over, or had failed for good.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub ended: Option<Timestamp>,
    /// Who undid it.
    #[serde(default)]
    pub undone_by: Option<String>,
    /// Why it was not done, or not at once: a bound, or what went wrong.
    #[serde(default)]
    pub held: Option<String>,
    /// The time of the newest decision that this document has taken in.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub answered: Option<Timestamp>,
}

impl Healing {
    /// Whether anything may still become of it.
    pub fn is_open(&self) -> bool {
        self.state.is_open()
    }
}

/// What finds that something is not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Detector {
    /// A worker that has more faults of ours than its peers.
    BadWorker,
    /// A tool whose jobs die on whichever worker takes them.
    PoisonTool,
    /// An image whose jobs turned bad when its name came to mean another digest.
    BadImage,
    /// A queue whose jobs wait while nothing is done.
    StuckQueue,
    /// Results that wait while nothing is recorded.
    SilentRecorder,
    /// A disk that is nearly full.
    FullDisk,
    /// A part that ended, and which the supervisor starts again.
    DeadPart,
    /// A template that failed its probe.
    BadTemplate,
    /// One that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Remedy {
    /// The worker takes no more jobs: others do.
    Drain,
    /// The tool is not called any more.
    Quarantine,
    /// The image's name means what it meant before.
    RollBack,
    /// It is made anew.
    Rebuild,
    /// It is started again.
    Restart,
    /// A person is told.
    Alert,
    /// One that this build does not know.
    #[serde(other)]
    Unknown,
}

/// How far a healing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum State {
    /// It could be done, or is about to be.
    Proposed,
    /// It is done.
    Applied,
    /// It could not be done.
    Failed,
    /// It was done and taken back, or declined.
    Undone,
    /// What was not well is past.
    Over,
    /// A state that this build does not know.
    #[serde(other)]
    Unknown,
}

impl Detector {
    /// All that this build knows.
    pub const ALL: [Self; 8] = [
        Self::BadWorker,
        Self::PoisonTool,
        Self::BadImage,
        Self::StuckQueue,
        Self::SilentRecorder,
        Self::FullDisk,
        Self::DeadPart,
        Self::BadTemplate,
    ];
}

impl State {
    /// Whether anything may still become of it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Proposed | Self::Applied)
    }
}

/// Whether what is found is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Mode {
    /// At once, within the bounds.
    Act,
    /// Once a person says so.
    Propose,
    /// One that this build does not know.
    #[serde(other)]
    Unknown,
}

/// From what to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Change {
    /// What it was when this was found: what undoing leads back to.
    pub from: String,
    /// What the remedy makes of it.
    pub to: String,
}

/// One thing that a healing rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Evidence {
    /// What was seen.
    pub text: String,
    /// How many of them, where it is counted.
    #[serde(default)]
    pub count: Option<u64>,
    /// Of how many.
    #[serde(default)]
    pub of: Option<u64>,
    /// The evaluations in which it was seen, the oldest first.
    #[serde(default)]
    pub evaluations: Vec<JobId>,
}

impl Evidence {
    /// Something that was seen, and is not counted.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), count: None, of: None, evaluations: Vec::new() }
    }

    /// The same, seen so often.
    #[must_use]
    pub fn counted(self, count: u64, of: u64) -> Self {
        Self { count: Some(count), of: Some(of), ..self }
    }

    /// The same, in these evaluations, of which [`EVALUATIONS_MAX`] are named.
    #[must_use]
    pub fn in_evaluations(self, evaluations: impl IntoIterator<Item = JobId>) -> Self {
        Self { evaluations: evaluations.into_iter().take(EVALUATIONS_MAX).collect(), ..self }
    }
}

/// What a person wants of a healing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Wanted {
    /// That it be done.
    Apply,
    /// That it be taken back, or not be done.
    Undo,
    /// A word that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What a person decides about a healing, as the recorder is told. Whoever heals carries it out once it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The version of this document.
    pub schema: u16,
    /// Which healing.
    pub healing: HealingId,
    /// What is wanted.
    pub wanted: Wanted,
    /// Why.
    pub reason: String,
    /// Who says so: the user and the host, as far as they are known.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

words!(Detector {
    "bad_worker" => BadWorker,
    "poison_tool" => PoisonTool,
    "bad_image" => BadImage,
    "stuck_queue" => StuckQueue,
    "silent_recorder" => SilentRecorder,
    "full_disk" => FullDisk,
    "dead_part" => DeadPart,
    "bad_template" => BadTemplate,
});
words!(Remedy {
    "drain" => Drain,
    "quarantine" => Quarantine,
    "roll_back" => RollBack,
    "rebuild" => Rebuild,
    "restart" => Restart,
    "alert" => Alert,
});
words!(State {
    "proposed" => Proposed,
    "applied" => Applied,
    "failed" => Failed,
    "undone" => Undone,
    "over" => Over,
});
words!(Mode { "act" => Act, "propose" => Propose });
words!(Wanted { "apply" => Apply, "undo" => Undo });
