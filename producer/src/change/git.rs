//! The program `git`, held to what is needed of it: no hooks, no filters, no network, no prompt, and an end.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What one call may answer.
const ANSWER_MAX: u64 = 512 << 20;
/// What is kept of its complaints.
const COMPLAINT_MAX: u64 = 64 << 10;

/// Settings that no repository and no user may change for us. A hook or a helper of the repository would be
/// code of the change running on this machine.
const SETTINGS: [&str; 8] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.quotePath=false",
    "protocol.allow=never",
    "protocol.file.allow=always",
    "gc.auto=0",
    "submodule.recurse=false",
];

/// Why git did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be run.
    #[error("git cannot be run: {0}. Install it: apt install git")]
    Missing(std::io::Error),
    /// It says no.
    #[error("git {what}: {said}")]
    Refused {
        /// What it was asked for.
        what: String,
        /// What it said.
        said: String,
    },
    /// It did not come to an end.
    #[error("git {what} did not end within {} s", PATIENCE.as_secs())]
    Endless {
        /// What it was asked for.
        what: String,
    },
    /// It answers too much.
    #[error("git {what} answers more than {} MiB", ANSWER_MAX >> 20)]
    TooMuch {
        /// What it was asked for.
        what: String,
    },
}

/// A repository, as git is to see it.
#[derive(Debug, Clone)]
pub(super) struct Git {
    /// Where git runs: a folder of ours.
    cwd: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Git {
    /// Git in `cwd`, without a repository named.
    pub(super) fn new(cwd: &Path) -> Self {
        Self { cwd: cwd.to_owned(), environment: Vec::new() }
    }

    /// The same with one more variable.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Asks for one line of text.
    pub(super) async fn line(&self, args: &[&str]) -> Result<String, Error> {
        let answer = self.ask(args, Vec::new()).await?;
        Ok(String::from_utf8_lossy(&answer).trim_end_matches('\n').to_owned())
    }

    /// Asks, with something to read.
    pub(super) async fn ask(&self, args: &[impl AsRef<OsStr>], input: Vec<u8>) -> Result<Vec<u8>, Error> {
        let what = args.first().map(|word| word.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
        let mut command = Command::new("git");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
            command.env_remove(name);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
            .args(args)
            .current_dir(&self.cwd)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(Error::Missing)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let talk = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // One that reads no further has said why, or is content.
                    let _ = stdin.write_all(&input).await;
                }
            };
            let ((), out, err) =
                tokio::join!(feed, read(stdout, ANSWER_MAX + 1), read(stderr, COMPLAINT_MAX));
            (child.wait().await, out, err)
        };
        let Ok((status, out, err)) = tokio::time::timeout(PATIENCE, talk).await else {
            return Err(Error::Endless { what });
        };
        if out.len() as u64 > ANSWER_MAX {
            return Err(Error::TooMuch { what });
        }
        if status.map_err(Error::Missing)?.success() {
            return Ok(out);
        }
        let said = String::from_utf8_lossy(&err).trim().to_owned();
        Err(Error::Refused {
            what,
            said: if said.is_empty() { "failed without a word".to_owned() } else { said },
        })
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // A stream that breaks is one that ends: the exit status says the rest.
        let _ = stream.take(max).read_to_end(&mut bytes).await;
    }
    bytes
}
