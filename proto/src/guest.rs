//! What the host and the agent in the VM say to each other.
//!
//! A frame is a length (four bytes, little endian) and that many bytes of named MessagePack: a
//! [`ToGuest`] one way, a [`FromGuest`] the other. Frames are bounded both ways; the host treats every
//! frame from the guest as hostile input.
//!
//! ```text
//! host                              guest
//!  │── Hello {nonce, clock, entropy} ─▶│  sets its clock, reseeds, takes its name
//!  │◀───────────── Hello {nonce, …} ───│  stale bytes before it are thrown away
//!  │── Put … ─────────────────────────▶│  files, then
//!  │── Run ───────────────────────────▶│  one process tree in a cgroup of its own
//!  │── Stdin … StdinEnd ──────────────▶│
//!  │◀─────────────────────── Output … ─│
//!  │── Kill (at a limit) ─────────────▶│  the whole tree
//!  │◀─────────────────────── Exited ───│
//!  │── Sync ──────────────────────────▶│
//!  │◀─────────────────────── Synced ───│  now the host stops the VM and reads the disk itself
//! ```

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the virtio-serial port that the agent opens.
pub const PORT_NAME: &str = "evalfleet.agent.0";
/// The largest frame, without its length.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// How much of a file or stream goes into one frame.
pub const CHUNK_BYTES: usize = 64 << 10;
/// The bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// What the host says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToGuest {
    /// Wake up: a clone begins its life.
    Hello(Hello),
    /// Lay a chunk of a file; the first chunk creates it.
    Put(Put),
    /// Start the run; there is at most one at a time.
    Run(Run),
    /// Bytes for its standard input.
    Stdin(#[serde(with = "serde_bytes")] Vec<u8>),
    /// No more of them.
    StdinEnd,
    /// End the whole process tree.
    Kill,
    /// Flush everything to the disk.
    Sync,
}

/// The host's greeting to a clone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Unique to this clone; the answer must carry it.
    pub nonce: String,
    /// The time, in nanoseconds since 1970.
    pub clock_ns: u64,
    /// Fresh random bytes.
    #[serde(with = "serde_bytes")]
    pub entropy: Vec<u8>,
    /// The clone's name.
    pub hostname: String,
    /// The hardware address that its network device takes, if it is to take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<[u8; 6]>,
}

/// A chunk of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// Its absolute path; missing directories are made.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Where the chunk goes.
    pub offset: u64,
    /// The chunk.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
}

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its environment, on top of the agent's.
    pub env: BTreeMap<String, String>,
    /// Where it starts.
    pub cwd: String,
    /// Who runs it; `None` is root.
    pub user: Option<String>,
    /// Bytes of memory for the whole tree, 0 for no limit.
    pub memory: u64,
    /// Processes and threads of the whole tree, 0 for no limit.
    pub processes: u32,
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromGuest {
    /// The answer to [`ToGuest::Hello`].
    Hello(Awake),
    /// A file is complete, or not.
    Laid {
        /// Why not.
        error: Option<String>,
    },
    /// The run's process exists.
    Started,
    /// It could not be made.
    NotStarted {
        /// Why.
        error: String,
        /// The system's error number.
        errno: i32,
    },
    /// Bytes that the run wrote.
    Output {
        /// To standard error rather than standard output.
        stderr: bool,
        /// What.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// The run's first process ended, and both its streams were read to their end.
    Exited(Exited),
    /// The disk is flushed.
    Synced,
    /// The agent could not do as it was told.
    Error {
        /// Why.
        error: String,
    },
}

/// What a clone says of itself when it wakes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Awake {
    /// The nonce it was greeted with.
    pub nonce: String,
    /// The agent's version.
    pub agent: String,
    /// Random bytes drawn after the reseeding: no two clones may show the same.
    #[serde(with = "serde_bytes")]
    pub random: Vec<u8>,
    /// Its clock after it was set, in nanoseconds since 1970.
    pub clock_ns: u64,
    /// What went wrong on the way: setting the clock, feeding entropy.
    pub errors: Vec<String>,
}

/// How a run ended, as the guest's kernel tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Exited {
    /// Its exit status.
    pub code: Option<i32>,
    /// Or the signal that ended it.
    pub signal: Option<i32>,
    /// Processor time in user mode of the whole tree, in microseconds.
    pub cpu_user_us: u64,
    /// Processor time in the kernel, likewise.
    pub cpu_system_us: u64,
    /// The most memory of the whole tree, in bytes.
    pub memory_peak: u64,
    /// How often the tree was denied memory by killing one of its processes.
    pub oom_kills: u64,
    /// How often it was denied a process.
    pub fork_denials: u64,
    /// The most processes and threads at one moment; 0 where the guest's kernel does not tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub processes_peak: u64,
    /// Processes that were left running; they are dead now.
    pub left: u32,
    /// Their names, the first few.
    pub left_names: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
