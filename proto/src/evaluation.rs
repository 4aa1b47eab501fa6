//! An evaluation: what is reported of one job. Its JSON is the product's main document.

use crate::amendment::Amended;
use crate::effect::Effect;
use crate::ids::{BatchId, JobId, Lane, Sha256};
use crate::job::{Attempt, Job};
use crate::network::Contact;
use crate::status::{Cause, Status};
use crate::units::millis;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The result of one job: how it ended and whose doing that was, what it left behind, what it used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Evaluation {
    /// The version of this document.
    pub schema: u16,
    /// The job's id.
    pub id: JobId,
    /// The job's kind: `command`, `function_call`, …
    pub kind: String,
    /// The batch it was submitted with.
    pub batch: Option<BatchId>,
    /// How it ended.
    pub status: Status,
    /// Whose doing it was; null exactly when it passed.
    pub cause: Option<Cause>,
    /// What the status and the cause rest on; never empty when there is a cause.
    pub evidence: Vec<Evidence>,
    /// 1 or 0; null when the subject was not put to the test (infrastructure, harness, cancelled).
    pub success_rate: Option<f64>,
    /// The functions that were called.
    pub calls: Vec<Call>,
    /// The exit status of the subject, when it ended by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it, otherwise.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: Output,
    /// Its standard error.
    pub stderr: Output,
    /// What it left different on its disk.
    pub effects: Vec<Effect>,
    /// How many effects at least are not in the list: beyond its bound, or unreadable on the disk.
    #[serde(default)]
    pub effects_omitted: u64,
    /// What it tried to reach outside of its VM, as the host saw it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<Contact>,
    /// How many more attempts there were than the bound lets the list hold.
    #[serde(default, skip_serializing_if = "none")]
    pub network_omitted: u64,
    /// Processes that it left running.
    #[serde(default)]
    pub processes_left: u32,
    /// Their names, the first few, as the guest tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes_left_names: Vec<String>,
    /// The files that the job asked to keep.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// What it used, measured from the host.
    pub metrics: Metrics,
    /// What a reader must know of this report though its verdict does not rest on it: where host and guest
    /// disagree by more than measuring explains, what the list of effects may lack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Where the time went.
    pub timings: Timings,
    /// Who ran it, in what.
    pub provenance: Provenance,
    /// The job's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How its verdict was amended since it was recorded, oldest first; `status` and `cause` are the last one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amendments: Vec<Amended>,
    /// The job that this one repeats.
    #[serde(default)]
    pub replay_of: Option<JobId>,
    /// The tries before this one.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// When the client made the job.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub submitted: Timestamp,
    /// When a worker took it.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub started: Timestamp,
    /// When its result was complete.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub finished: Timestamp,
}

/// Whether a count may be left out of the document, as it was before there was such a count.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn none(count: &u64) -> bool {
    *count == 0
}

impl Evaluation {
    /// A report of `kind` that says how it `ended` and on what `evidence`, and nothing else.
    pub fn blank(
        id: JobId,
        kind: &str,
        (status, cause): (Status, Option<Cause>),
        evidence: Vec<Evidence>,
        submitted: Timestamp,
    ) -> Self {
        Self {
            schema: crate::SCHEMA_VERSION,
            id,
            kind: kind.to_owned(),
            batch: None,
            status,
            cause,
            evidence,
            success_rate: status.success_rate(cause),
            calls: Vec::new(),
            exit_code: None,
            signal: None,
            stdout: Output::default(),
            stderr: Output::default(),
            effects: Vec::new(),
            effects_omitted: 0,
            network: Vec::new(),
            network_omitted: 0,
            processes_left: 0,
            processes_left_names: Vec::new(),
            artifacts: Vec::new(),
            metrics: Metrics::default(),
            warnings: Vec::new(),
            timings: Timings::default(),
            provenance: Provenance::default(),
            labels: BTreeMap::new(),
            amendments: Vec::new(),
            replay_of: None,
            attempts: Vec::new(),
            submitted,
            started: submitted,
            finished: Timestamp::now(),
        }
    }

    /// The same for `job`, which was taken at `taken`: with all that its message says.
    pub fn of_job(
        job: &Job,
        taken: Timestamp,
        ended: (Status, Option<Cause>),
        evidence: Vec<Evidence>,
    ) -> Self {
        // Two hosts' clocks may disagree: never negative.
        let queued = taken.duration_since(job.submitted).try_into().unwrap_or(Duration::ZERO);
        Self {
            batch: job.batch.clone(),
            timings: Timings { queued, ..Timings::default() },
            provenance: Provenance {
                lane: Some(job.lane.clone()),
                attempt: job.attempt(),
                content_key: Some(crate::wire::content_key(job)),
                ..Provenance::default()
            },
            labels: job.labels.clone(),
            replay_of: job.replay_of,
            attempts: job.attempts.clone(),
            started: taken,
            ..Self::blank(job.id, job.task.kind(), ended, evidence, job.submitted)
        }
    }

    /// How it ended, and whose doing that was.
    pub fn verdict(&self) -> Verdict {
        Verdict { status: self.status, cause: self.cause }
    }

    /// Tells which rule of the document `self` breaks, if any: a cause exactly when not passed, and
    /// evidence for every cause.
    pub fn broken_rule(&self) -> Option<&'static str> {
        if let Some(rule) = self.verdict().broken_rule() {
            return Some(rule);
        }
        if self.cause.is_some() && self.evidence.is_empty() {
            return Some("a cause rests on evidence");
        }
        None
    }
}

/// How something ended, and whose doing that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verdict {
    /// How it ended.
    pub status: Status,
    /// Whose doing it was; null exactly when it passed.
    pub cause: Option<Cause>,
}

impl Verdict {
    /// Tells which rule it breaks, if any.
    pub fn broken_rule(self) -> Option<&'static str> {
        ((self.status == Status::Passed) != self.cause.is_none())
            .then_some("cause is null exactly when status is passed")
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.status.as_str())?;
        self.cause.map_or(Ok(()), |cause| write!(f, " ({})", cause.as_str()))
    }
}

/// One thing that a verdict rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Evidence {
    /// Who saw it.
    pub source: Source,
    /// What was seen.
    pub message: String,
}

impl Evidence {
    /// What `source` saw.
    pub fn new(source: Source, message: impl Into<String>) -> Self {
        Self { source, message: message.into() }
    }
}

/// Who saw a piece of evidence. What the guest says weighs less than what the host sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Source {
    /// The worker's own clock, counters and processes.
    Host,
    /// The VM's QEMU.
    Qemu,
    /// The agent in the VM.
    Guest,
    /// The broker.
    Broker,
    /// The client that submitted the job.
    Client,
    /// The service that a model was asked through, in imported history.
    Service,
}

/// One function that was called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Call {
    /// The tool's name; for a command, the program's.
    pub name: String,
    /// 1 or 0; null when the subject was not put to the test.
    pub success_rate: Option<f64>,
    /// The exit status of its entry.
    pub exit_code: Option<i32>,
    /// What it answered, when that was JSON.
    pub value: Option<serde_json::Value>,
    /// How long it took.
    #[serde(rename = "duration_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub duration: Duration,
}

/// What was written to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Output {
    /// Its beginning; bytes that are not UTF-8 show as U+FFFD.
    pub text: String,
    /// How many bytes were written in all, as far as they were read.
    pub bytes: u64,
    /// The hash of everything read: its key in the blob store where `text` is not all of it.
    pub sha256: Option<Sha256>,
    /// Whether `text` is not all of it.
    pub truncated: bool,
}

/// A file that the job asked to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Artifact {
    /// Its path in the guest.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its key in the blob store; null when it could not be kept.
    pub sha256: Option<Sha256>,
    /// Why it could not.
    pub error: Option<String>,
}

/// What a job used. Measured from the host where the host can see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Metrics {
    /// From the start of the subject to its end.
    #[serde(rename = "wall_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub wall: Duration,
    /// Processor time of the VM outside its kernel's idle loop, in user mode.
    #[serde(rename = "cpu_user_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub cpu_user: Duration,
    /// The same, on behalf of the host's kernel.
    #[serde(rename = "cpu_system_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub cpu_system: Duration,
    /// The most memory the VM held beyond its template.
    pub memory_peak_bytes: u64,
    /// Read from its disks.
    pub disk_read_bytes: u64,
    /// Written to its disks.
    pub disk_written_bytes: u64,
    /// Received from the network.
    pub net_rx_bytes: u64,
    /// Sent to the network.
    pub net_tx_bytes: u64,
    /// What the guest says of the same: a second opinion.
    #[serde(default)]
    pub guest: Option<GuestMetrics>,
    /// The most memory of the VM's whole QEMU since it was started, what it read of files included; null
    /// where no cgroup counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_memory_peak_bytes: Option<u64>,
}

/// What the guest's kernel says that the subject used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GuestMetrics {
    /// Time on the processors in user mode.
    #[serde(rename = "cpu_user_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub cpu_user: Duration,
    /// The same in the guest's kernel.
    #[serde(rename = "cpu_system_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub cpu_system: Duration,
    /// The most memory of the job's processes together.
    pub memory_peak_bytes: u64,
}

/// Where the time went, stage by stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Timings {
    /// From submission until a worker took it.
    #[serde(rename = "queued_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub queued: Duration,
    /// From then until it had a clean VM.
    #[serde(rename = "claim_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub claim: Duration,
    /// Laying files in, running, and hearing of the end.
    #[serde(rename = "run_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub run: Duration,
    /// Flushing the guest's disk and reading what changed.
    #[serde(rename = "effects_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub effects: Duration,
    /// Storing large outputs and composing the result; its publish is not in it.
    #[serde(rename = "report_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub report: Duration,
}

/// Who ran a job, and in what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Provenance {
    /// The worker.
    pub worker: String,
    /// Its host.
    pub host: String,
    /// The image: `sha256:…`.
    pub image: Option<String>,
    /// The template the VM was cloned from: `sha256:…`.
    pub template: Option<String>,
    /// QEMU's version.
    pub qemu: Option<String>,
    /// `kvm` or `tcg`: never compared with each other.
    pub accelerator: Option<String>,
    /// The lane that it waited in; null where no worker took it from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Which try this was, from 1.
    pub attempt: u32,
    /// The hash of what the job asked: the same question has the same key.
    #[serde(default)]
    pub content_key: Option<Sha256>,
    /// What the job asked, whole, in the blob store: what a replay asks again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Sha256>,
    /// Why that was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_withheld: Option<String>,
    /// How the VM came to be clean.
    pub reset: Option<Reset>,
}

/// How a VM came to be clean, and the proof.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reset {
    /// `template-clone` or `snapshot-load`.
    pub strategy: String,
    /// From asking for the VM until it stood proved, and warmed unless it was rushed.
    #[serde(rename = "ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub took: Duration,
    /// How much of that no job waited for.
    #[serde(rename = "hidden_ms", with = "millis")]
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    pub hidden: Duration,
    /// What only this clone's agent was told.
    pub nonce: String,
    /// Pages of its memory compared with the template before its first instruction.
    pub pages_checked: u32,
    /// The job waited for it, so the scenario's warming was cut short: what it would have run once more,
    /// the job ran for the first time. Under emulation that costs the job the time that it saved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rushed: bool,
}
