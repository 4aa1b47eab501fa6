//! Alerts: something that is evaluated became worse, and that was confirmed before anyone is told.
//!
//! Whoever watches publishes the whole document at each change of its state, with a greater `revision`; people
//! judge by a [`Judgement`]. The recorder keeps both: an alert is one entity, and the history tells its life.

use crate::ids::{AlertId, JobId};
use crate::units::millis;
use crate::words::words;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most evaluations that an alert names.
pub const EVALUATIONS_MAX: usize = 20;
/// The most cases that an alert names.
pub const CASES_MAX: usize = 20;
/// The longest reason of a judgement, in characters.
pub const REASON_CHARS_MAX: usize = 1000;

/// One alert, as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Alert {
    /// The version of this document.
    pub schema: u16,
    /// Its name.
    pub id: AlertId,
    /// Greater at each change: of two documents the one with the greater is the newer.
    pub revision: u32,
    /// What became worse.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, as `attribute=value`: `tool=word_count`, or `case=suite/case` where there is no tool; of resets
    /// `image=sha256:…` or `worker=w1`.
    pub subject: String,
    /// The cases that are worse; empty: it cannot be told by cases. At most [`CASES_MAX`].
    #[serde(default)]
    pub cases: Vec<String>,
    /// How far it is.
    pub state: State,
    /// In a sentence or two, with the numbers.
    pub message: String,
    /// When it began, by the first evaluation that speaks for it.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub since: Timestamp,
    /// When it was first suspected.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub suspected: Timestamp,
    /// When it was confirmed, and people were told.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub confirmed: Option<Timestamp>,
    /// What confirmed it.
    #[serde(default)]
    pub confirmed_by: Option<Means>,
    /// When it was closed, because all was well again, or dismissed.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub closed: Option<Timestamp>,
    /// Why it was dismissed.
    #[serde(default)]
    pub dismissed: Option<Dismissal>,
    /// How the subject did before it began.
    pub before: Level,
    /// How it did since, in the evaluations that raised the suspicion.
    pub after: Level,
    /// What they ran on (`kvm`, `tcg`), where they are measured: two accelerators are never compared.
    #[serde(default)]
    pub accelerator: Option<String>,
    /// The evaluations that it rests on, the oldest first. At most [`EVALUATIONS_MAX`].
    #[serde(default)]
    pub evaluations: Vec<JobId>,
    /// The worker that all of these came from, where others are there: what it runs again decides nothing.
    #[serde(default)]
    pub suspect: Option<String>,
    /// What was run again to confirm it.
    #[serde(default)]
    pub reruns: Vec<Rerun>,
    /// What changed when it began.
    #[serde(default)]
    pub culprit: Option<Culprit>,
    /// What finding it took.
    pub cost: Cost,
    /// What people say of it.
    #[serde(default)]
    pub judgement: Option<Judged>,
}

/// What became worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Kind {
    /// It passes less often.
    Failing,
    /// It takes longer.
    Slower,
    /// It takes more memory.
    Memory,
    /// It writes more to its disk.
    Disk,
    /// Clean VMs take longer to make: of an image, or by a worker.
    Reset,
    /// A kind that this build does not know.
    #[serde(other)]
    Unknown,
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it soon.
    Warning,
    /// Look at it now.
    Critical,
    /// One that this build does not know.
    #[serde(other)]
    Unknown,
}

/// How far an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum State {
    /// Suspected, and looked into. Nobody is told.
    Confirming,
    /// Confirmed, and people were told.
    Raised,
    /// It was raised, and is well again.
    Closed,
    /// The suspicion came to nothing.
    Dismissed,
    /// A state that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What confirmed an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Means {
    /// Evaluations that failed were run again.
    Reruns,
    /// New evaluations of the same.
    Evaluations,
    /// Something that this build does not know.
    #[serde(other)]
    Unknown,
}

/// Why a suspicion came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Dismissal {
    /// What was run again, or came anew, was fine.
    Fine,
    /// Nothing decided it in time.
    OutOfTime,
    /// What was as it should be before is as bad now, unchanged: it is the machines, not the subject.
    Machines,
    /// A reason that this build does not know.
    #[serde(other)]
    Unknown,
}

/// How a subject did over some evaluations. Those that our machines or the request spoiled are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Level {
    /// How many passed.
    pub passed: u64,
    /// Of how many.
    pub tries: u64,
    /// What one typically took on the clock.
    #[serde(default)]
    pub wall_ms: Option<f64>,
    /// The most memory that one typically took beyond its template, in bytes; where the alert is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<f64>,
    /// What one typically wrote to its disks, in bytes; where the alert is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<f64>,
    /// What making a clean VM typically took; where the alert is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_ms: Option<f64>,
}

/// An evaluation that was run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rerun {
    /// The new job.
    pub id: JobId,
    /// The evaluation that it repeats.
    pub of: JobId,
    /// Whether that one was from before it became worse.
    #[serde(default)]
    pub before: bool,
    /// The version, agent or image in between that it was to judge, where it was run to find the first that is worse. It speaks
    /// for nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<String>,
    /// Who ran it again.
    #[serde(default)]
    pub worker: Option<String>,
    /// What came of it; missing while it is on its way.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

/// What came of a rerun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// It is as it was before.
    Fine,
    /// It is as bad as what raised the suspicion.
    Bad,
    /// Our machines or the request spoiled it: it says nothing.
    Spoiled,
    /// Something that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What changed when it began: all that are worse have it and most of those before do not, or it is the first of several
/// that was worse when they were run again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Culprit {
    /// `version` (of the tool's code), `image`, `model` or `worker`.
    pub attribute: String,
    /// What it is since.
    pub value: String,
    /// What it was before.
    pub before: String,
}

/// What finding it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cost {
    /// Jobs that were run again and have ended.
    pub reruns: u32,
    /// Their workers' time.
    #[serde(rename = "worker_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub worker: Duration,
}

/// Whether an alert was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Said {
    /// There was something to do.
    Right,
    /// There was not.
    Wrong,
    /// A word that this build does not know.
    #[serde(other)]
    Unknown,
}

/// What a person says of an alert, as the recorder is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The version of this document.
    pub schema: u16,
    /// Which alert.
    pub alert: AlertId,
    /// Whether it was right.
    pub said: Said,
    /// Why.
    pub reason: String,
    /// Who says so: the user and the host, as far as they are known.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What a person said of an alert, as documents tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Judged {
    /// Whether it was right.
    pub said: Said,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
}

words!(Kind {
    "failing" => Failing,
    "slower" => Slower,
    "memory" => Memory,
    "disk" => Disk,
    "reset" => Reset,
});
words!(Severity { "info" => Info, "warning" => Warning, "critical" => Critical });
words!(State { "confirming" => Confirming, "raised" => Raised, "closed" => Closed, "dismissed" => Dismissed });
words!(Means { "reruns" => Reruns, "evaluations" => Evaluations });
words!(Dismissal { "fine" => Fine, "out_of_time" => OutOfTime, "machines" => Machines });
words!(Said { "right" => Right, "wrong" => Wrong });
