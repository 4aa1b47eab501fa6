//! A QEMU process: started, watched, and certainly dead when we say so.

use super::Error;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// How long the kernel may take to bury a killed process.
const BURIAL: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// How much of QEMU's own complaints is kept.
const COMPLAINT_BYTES_MAX: usize = 2000;

/// A running QEMU and its folder; both are gone when it is.
#[derive(Debug)]
pub(super) struct Process {
    /// There until it is dead.
    child: Option<Child>,
    pid: u32,
    run_dir: PathBuf,
    /// Dropped when it is dead.
    gone: Option<oneshot::Sender<()>>,
}

impl Process {
    /// Starts `binary` with its folder made. It is killed when this process dies, however it dies:
    /// `setpriv` arranges that, and that it can gain no privileges.
    pub(super) fn start(binary: &Path, arguments: Vec<OsString>, run_dir: &Path) -> Result<Self, Error> {
        let log_path = run_dir.join("qemu.log");
        let log = std::fs::File::create(&log_path)
            .map_err(Error::host(format!("creating {}", log_path.display())))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--no-new-privs", "--"])
            .arg(binary)
            .args(arguments)
            .current_dir(run_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let child = child.map_err(Error::host("starting setpriv (package util-linux)"))?;
        let pid = child.id().ok_or_else(|| Error::Qemu("ended before it began".to_owned()))?;
        Ok(Self { child: Some(child), pid, run_dir: run_dir.to_owned(), gone: None })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The path of one of its sockets, short however deep its folder lies.
    pub(super) fn socket(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/cwd/{name}", self.pid))
    }

    /// Whether somebody on the host killed it: no guest can do that to its QEMU. Waits a moment, for a
    /// process that has closed its sockets and is not buried yet.
    pub(super) async fn was_killed(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        match tokio::time::timeout(Duration::from_millis(500), child.wait()).await {
            Ok(Ok(status)) => matches!(status.signal(), Some(SIGKILL | SIGTERM)),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Tells how it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.child.as_mut().map(Child::try_wait)? {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("{status}{}", self.complaint())),
            Err(error) => Some(error.to_string()),
        }
    }

    /// What QEMU itself complained of, with a colon in front.
    pub(super) fn complaint(&self) -> String {
        let log = std::fs::read(self.run_dir.join("qemu.log")).unwrap_or_default();
        let tail =
            String::from_utf8_lossy(&log[log.len().saturating_sub(COMPLAINT_BYTES_MAX)..]).trim().to_owned();
        if tail.is_empty() { tail } else { format!(": {tail}") }
    }

    /// Kills it, waits until it is dead, and removes its folder.
    pub(super) async fn kill(mut self) -> Result<(), Error> {
        let Some(child) = &mut self.child else { return Ok(()) };
        child.start_kill().map_err(Error::host("killing QEMU"))?;
        let buried = tokio::time::timeout(BURIAL, child.wait()).await;
        buried
            .map_err(|_| Error::TimedOut { what: "the end of QEMU", seconds: BURIAL.as_secs() })?
            .map_err(Error::host("waiting for QEMU"))?;
        self.child = None;
        Ok(())
    }

    /// Resolves when it is dead, however that came about.
    pub(super) fn until_gone(&mut self) -> oneshot::Receiver<()> {
        let (gone, told) = oneshot::channel();
        self.gone = Some(gone);
        told
    }

    /// Whether somebody on the host holds it (SIGSTOP, a debugger): no guest can do that to its QEMU.
    pub(super) fn is_held(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The state follows the name, which may hold anything.
        stat.rsplit_once(')').is_some_and(|(_, fields)| fields.trim_start().starts_with(['T', 't']))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let (Some(mut child), Ok(runtime)) = (self.child.take(), tokio::runtime::Handle::try_current()) {
            let gone = self.gone.take();
            runtime.spawn(async move {
                // Killed and buried; whoever waits for its end hears of it only then.
                let _ = tokio::time::timeout(BURIAL, child.kill()).await;
                drop(gone);
            });
        }
        // Without a runtime `kill_on_drop` kills it; open files live on until it is gone.
        if let Err(error) = std::fs::remove_dir_all(&self.run_dir) {
            tracing::debug!(dir = %self.run_dir.display(), %error, "a VM's folder stays behind");
        }
    }
}
