//! What the supervisor writes down, so that others can see it and a successor can clean up after it.
//!
//! | file | says |
//! |---|---|
//! | `machine.lock` | held by the supervisor as long as it lives; names it |
//! | `machine.json` | every part with its process, replaced at each change |
//! | `endpoints.toml` | where the parts are, read as a layer of the settings |

use super::files::{make_private_dir, write_atomically};
use super::part::{Kind, State};
use super::process::Process;
use evalfleet_proto::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file with the parts.
pub const MACHINE_FILE: &str = "machine.json";
const LOCK_FILE: &str = "machine.lock";

/// One machine, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Its state directory.
    pub state_dir: PathBuf,
    /// The boot of which the processes are.
    pub boot: String,
    /// The process that owns the others.
    pub supervisor: Process,
    /// Since when.
    pub since: Timestamp,
    /// The parts, in the order of their start.
    pub parts: Vec<PartRecord>,
    /// Where the API is.
    pub api: Option<String>,
}

/// One part, as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartRecord {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its process.
    pub pid: Option<i32>,
    /// When that began, in ticks since the boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// How often it was started again.
    pub restarts: u32,
    /// Where it listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Its log, how it ended last, …
    pub detail: Value,
}

impl PartRecord {
    /// Its process, with its identity.
    pub fn process(&self) -> Option<Process> {
        Some(Process { pid: self.pid?, began: self.began? })
    }
}

impl Machine {
    /// Reads what a supervisor wrote last, if one did.
    pub fn read(state_dir: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(state_dir.join(MACHINE_FILE)).ok()?).ok()
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn write(&self) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        write_atomically(&self.state_dir.join(MACHINE_FILE), text.as_bytes(), 0o600)
    }

    /// Removes the file and the addresses: nothing is there any more.
    pub(super) fn forget(state_dir: &Path) {
        for file in [MACHINE_FILE, evalfleet_service::settings::ENDPOINTS_FILE] {
            if let Err(error) = std::fs::remove_file(state_dir.join(file))
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, file, "a file of the state directory stays");
            }
        }
    }
}

/// The right to supervise a state directory; it ends with its process, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Asked {
    /// It is ours.
    Got(Lock),
    /// Another process has it; `None` in the moment before it says who it is.
    Held(Option<Process>),
}

impl Lock {
    /// Asks for the lock of `state_dir`, which is made if need be.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn ask(state_dir: &Path) -> std::io::Result<Asked> {
        make_private_dir(state_dir)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(state_dir.join(LOCK_FILE))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(serde_json::to_string(&Process::own())?.as_bytes())?;
                Ok(Asked::Got(Self { _file: file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.rewind()?;
                file.read_to_string(&mut text)?;
                let holder: Option<Process> = serde_json::from_str(&text).ok();
                Ok(Asked::Held(holder.filter(|holder| holder.is_alive())))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_lock_and_the_other_hears_who() {
        let dir = tempfile::tempdir().unwrap();
        let Asked::Got(lock) = Lock::ask(dir.path()).unwrap() else { panic!("the lock is free") };
        let Asked::Held(holder) = Lock::ask(dir.path()).unwrap() else { panic!("the lock is held") };
        assert_eq!(holder, Process::own());
        drop(lock);
        assert!(matches!(Lock::ask(dir.path()).unwrap(), Asked::Got(_)));
    }
}
