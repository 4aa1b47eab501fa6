//! One part: a process that is killed, and started again however it ended.

use anyhow::Context as _;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A part that ended by itself is started again after this long.
const REST: Duration = Duration::from_millis(500);

/// How to start a part.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// What its environment has beyond ours.
    pub environment: Vec<(String, String)>,
}

/// A process, ended when dropped.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub name: String,
    start: Start,
    log: PathBuf,
    child: Option<Child>,
    changed: Instant,
    /// How often it was killed.
    pub kills: u32,
    /// How often it ended by itself.
    pub ends: u32,
    /// Whether it ended with 0: its work is done.
    pub done: bool,
}

impl Part {
    /// Starts it; what it says goes to `log`.
    ///
    /// # Errors
    /// When its program or the log is not there.
    pub fn start(name: impl Into<String>, start: Start, log: PathBuf) -> anyhow::Result<Self> {
        let (changed, name) = (Instant::now(), name.into());
        let mut part = Self { name, start, log, child: None, changed, kills: 0, ends: 0, done: false };
        part.spawn()?;
        Ok(part)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        // Should this process be killed, nothing stays behind. The signal is kept over every exec.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.start.program).args(&self.start.args);
        for (name, _) in std::env::vars().filter(|(name, _)| {
            ["EVALFLEET_", "RABBITMQ_", "ERL_"].iter().any(|prefix| name.starts_with(prefix))
                && name != "EVALFLEET_AGENT"
        }) {
            command.env_remove(name);
        }
        command.envs(self.start.environment.iter().cloned()).stdin(std::process::Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{} cannot be started", self.name))?;
        (self.child, self.changed) = (Some(child), Instant::now());
        Ok(())
    }

    /// For how long it has been running, if it is.
    pub fn up_for(&mut self) -> Option<Duration> {
        let child = self.child.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| self.changed.elapsed())
    }

    /// `kill -9`, and nobody starts it again before [`Part::tend`].
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
            (self.kills, self.changed) = (self.kills + 1, Instant::now());
        }
        Ok(())
    }

    /// Starts it again where it is not there, a little later than it ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn tend(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.done = status.success();
            self.ends += u32::from(!self.done);
            (self.child, self.changed) = (None, Instant::now());
        }
        if self.child.is_none() && !self.done && self.changed.elapsed() >= REST {
            self.spawn()?;
        }
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
