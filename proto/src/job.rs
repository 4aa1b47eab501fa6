//! A job: what was asked, complete enough that any worker can run it.

use crate::ids::{BatchId, ImageRef, JobId, Lane, Sha256, ToolName};
pub use crate::network::Network;
use crate::status::Cause;
use crate::units::{self, ByteSize};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The bytes of a job's own files and standard input that may travel inside its message; what is
/// larger goes to the blob store and travels by its hash.
pub const INLINE_BYTES_MAX: usize = 256 * 1024;
/// The bytes of a job's own files and standard input, wherever they travel, that one document may have.
pub const INPUT_BYTES_MAX: usize = 64 << 20;

/// One job, as the wire carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The version of this document: [`crate::SCHEMA_VERSION`] when it was written.
    pub schema: u16,
    /// Fixed by the client before the first publish.
    pub id: JobId,
    /// The batch it was submitted with.
    #[serde(default)]
    pub batch: Option<BatchId>,
    /// What is to be done.
    pub task: Task,
    /// The image it runs in.
    pub image: ImageRef,
    /// The scenario of that image, `None` for its first.
    #[serde(default)]
    pub scenario: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach.
    #[serde(default)]
    pub network: Network,
    /// 0 to 9, larger first.
    #[serde(default)]
    pub priority: u8,
    /// The queue it waits in.
    pub lane: Lane,
    /// Not to be started after this moment.
    #[serde(default)]
    pub deadline: Option<Timestamp>,
    /// Files laid into the VM before the run.
    #[serde(default)]
    pub files: Vec<FileIn>,
    /// Guest paths whose contents are kept after the run.
    #[serde(default)]
    pub out: Vec<String>,
    /// Globs of the paths that this job is meant to change.
    #[serde(default)]
    pub expected_effects: Vec<String>,
    /// What it belongs to: suite, case, run, model, agent revision, …
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The job that this one repeats.
    #[serde(default)]
    pub replay_of: Option<JobId>,
    /// When the client made it.
    pub submitted: Timestamp,
    /// The tries before this one, oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

impl Job {
    /// The number of the try that is about to be made, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempts.len() as u32 + 1
    }
}

/// What is to be done in the VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Run a program.
    Command(Command),
    /// Call one tool of the image's registry.
    FunctionCall(FunctionCall),
    /// A kind that this build does not know: a newer client's. It is dead-lettered, not dropped.
    #[serde(other)]
    Unknown,
}

impl Task {
    /// The kind's name, as documents spell it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::FunctionCall(_) => "function_call",
            Self::Unknown => "unknown",
        }
    }
}

/// A program to run, without a shell around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// What it reads on standard input.
    #[serde(default)]
    pub stdin: Option<Content>,
    /// Its environment, on top of the guest's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    #[serde(default = "workspace")]
    pub cwd: String,
    /// The guest's user that runs it; `None` is root, who is nobody outside the VM.
    #[serde(default)]
    pub user: Option<String>,
}

/// Where jobs start, and where tools find their files.
pub fn workspace() -> String {
    "/workspace".to_owned()
}

/// A call of a tool, as the Gemini API spells it: `{"name": …, "args": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FunctionCall {
    /// The tool.
    #[serde(alias = "tool")]
    pub name: ToolName,
    /// Its arguments: an object that fits the tool's `parameters`.
    #[serde(default = "no_args")]
    pub args: serde_json::Value,
}

fn no_args() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

/// What goes back to the model: `{"name": …, "response": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FunctionResponse {
    /// The tool.
    pub name: ToolName,
    /// What it answered.
    pub response: serde_json::Value,
}

/// A file to lay into the VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileIn {
    /// Its absolute path in the guest.
    pub path: String,
    /// Its permission bits.
    #[serde(default = "ordinary_mode")]
    pub mode: u32,
    /// What is in it.
    pub content: Content,
}

/// The permission bits of a file for which nobody named any.
pub fn ordinary_mode() -> u32 {
    0o644
}

/// Bytes in the message, or in the blob store under their hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// In the message.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// In the blob store.
    Blob {
        /// Its key there.
        sha256: Sha256,
        /// Its length.
        bytes: u64,
    },
}

impl Content {
    /// The length, wherever the bytes are.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Blob { bytes, .. } => *bytes,
        }
    }
}

/// What a job may use. Crossing one ends the run with cause `budget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Time on the clock, from the start of the run.
    #[serde(with = "units::duration")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub wall: Duration,
    /// Time on the processors, user and system together.
    #[serde(with = "units::duration")]
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub cpu: Duration,
    /// Memory of all its processes together.
    pub memory: ByteSize,
    /// Processes and threads at one moment.
    pub processes: u32,
    /// Growth of the disk.
    pub disk: ByteSize,
    /// Standard output and standard error together.
    pub output: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(30),
            cpu: Duration::from_secs(30),
            memory: ByteSize::mib(256),
            processes: 64,
            disk: ByteSize::mib(256),
            output: ByteSize::mib(1),
        }
    }
}

/// A limit that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {name} is {value}, and must be {bound}")]
pub struct LimitError {
    /// Which limit.
    pub name: &'static str,
    /// What was asked.
    pub value: String,
    /// What can be had.
    pub bound: String,
}

/// The longest a job may run: the broker takes a job back from its worker after two hours.
pub const WALL_MAX: Duration = Duration::from_secs(90 * 60);
/// The most output a job may be granted: it is held in memory on its way to the blob store.
pub const OUTPUT_MAX: ByteSize = ByteSize::mib(64);

impl Limits {
    /// Checks that the limits can be kept at all; a worker checks its own VM's size as well.
    ///
    /// # Errors
    /// Names the first limit that cannot, and what would do.
    pub fn check(&self) -> Result<(), LimitError> {
        let time = |name, value: Duration| {
            let text = humantime::format_duration;
            if value.is_zero() || value > WALL_MAX {
                let bound = format!("between 1ms and {}", text(WALL_MAX));
                return Err(LimitError { name, value: text(value).to_string(), bound });
            }
            Ok(())
        };
        let size = |name, value: ByteSize, min: ByteSize, max: ByteSize| {
            if value < min || value > max {
                let bound = format!("between {min} and {max}");
                return Err(LimitError { name, value: value.to_string(), bound });
            }
            Ok(())
        };
        time("wall", self.wall)?;
        time("cpu", self.cpu)?;
        size("memory", self.memory, ByteSize::mib(4), ByteSize::mib(1 << 20))?;
        size("disk", self.disk, ByteSize::mib(1), ByteSize::mib(1 << 20))?;
        size("output", self.output, ByteSize(0), OUTPUT_MAX)?;
        if !(1..=32_768).contains(&self.processes) {
            let bound = "between 1 and 32768".to_owned();
            return Err(LimitError { name: "processes", value: self.processes.to_string(), bound });
        }
        Ok(())
    }
}

/// A try that did not lead to a result, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attempt {
    /// Which try, from 1.
    pub number: u32,
    /// Who made it.
    pub worker: String,
    /// Whose fault its end was.
    pub cause: Cause,
    /// What went wrong.
    pub error: String,
    /// When it ended.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub ended: Timestamp,
}
