//! A QEMU process: started in its jail, watched, and certainly dead when we say so.
//!
//! Between the worker and QEMU stands the jail's warden. It ends as QEMU ends, so waiting for it is
//! waiting for QEMU; it holds the other end of a pipe from the worker, so QEMU dies with the worker,
//! however that dies.

use super::Error;
use super::complaints::Complaints;
use super::jail::{Bounds, Cgroup, Needs, Tally};
use super::qemu::{Accelerator, Machine};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// How long the jail may take to be made.
const JAILING: Duration = Duration::from_secs(20);
/// How long the kernel may take to bury a killed process.
const BURIAL: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// What a QEMU needs besides its guest's memory: itself, and what it reads of files.
const OVERHEAD: u64 = 512 << 20;

/// A running QEMU and its folder; both are gone when it is.
#[derive(Debug)]
pub(super) struct Process {
    /// There until QEMU is dead.
    warden: Option<Child>,
    /// Its end means to the warden that the worker is gone.
    leash: Option<ChildStdin>,
    /// QEMU itself, as this host counts processes.
    pid: u32,
    pidfd: OwnedFd,
    /// Its folder, open: a socket in it is reached by a short path however deep it lies.
    folder: OwnedFd,
    cgroup: Option<Cgroup>,
    complaints: Complaints,
    run_dir: Folder,
    /// Dropped when it is dead.
    gone: Option<oneshot::Sender<()>>,
}

/// A folder that goes when its owner goes.
#[derive(Debug)]
struct Folder(PathBuf);

impl Process {
    /// Starts the machine's QEMU, with its folder made. It is killed when this process dies.
    pub(super) async fn start(
        machine: &Machine,
        arguments: Vec<OsString>,
        run_dir: &Path,
        needs: Needs,
    ) -> Result<Self, Error> {
        let run_dir = Folder(run_dir.to_owned());
        let (complaints, told) = Complaints::listen()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&run_dir.0, flags, Mode::empty())
            .map_err(|error| Error::host(format!("opening {}", run_dir.0.display()))(error.into()))?;
        let (program, plan, cgroup) = machine.jail.plan(&run_dir.0, needs, bounds(machine))?;
        let plan = serde_json::to_string(&plan).map_err(|error| Error::Jail(error.to_string()))?;
        let warden = Command::new(&program)
            .args(["warden", &plan])
            .arg(&machine.binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(told)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut warden = warden.map_err(Error::host(format!("starting {}", program.display())))?;
        let leash = warden.stdin.take();
        let number = timeout(JAILING, inmate(&mut warden)).await.unwrap_or(None);
        let Some(pid) = number else {
            let how =
                warden.try_wait().ok().flatten().map_or_else(String::new, |status| format!(" ({status})"));
            return Err(Error::Jail(format!("was not made{how}{}", complaints.tell())));
        };
        // Whoever is dead already is not buried before its warden is, and that one waits for us.
        let pidfd = Pid::from_raw(pid.cast_signed())
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK))
            .map_err(|_| Error::Qemu(format!("ended before it began{}", complaints.tell())))?;
        Ok(Self { warden: Some(warden), leash, pid, pidfd, folder, cgroup, complaints, run_dir, gone: None })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The folders of its cgroup.
    pub(super) fn cgroups(&self) -> &[PathBuf] {
        self.cgroup.as_ref().map_or(&[], Cgroup::dirs)
    }

    /// What its cgroup says it used, if it has one.
    pub(super) fn books(&self) -> Option<Tally> {
        self.cgroup.as_ref()?.books()
    }

    /// Its folder.
    pub(super) fn run_dir(&self) -> &Path {
        &self.run_dir.0
    }

    /// Waits for `future`, or for the end of QEMU, which is an error then.
    pub(super) async fn alive_while<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Error> {
        let mut future = std::pin::pin!(future);
        let mut glance = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                done = &mut future => return Ok(done),
                _ = glance.tick() => if let Some(end) = self.ended() {
                    return Err(Error::Qemu(end));
                }
            }
        }
    }

    /// The path of one of its sockets, short however deep its folder lies.
    pub(super) fn socket(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()))
    }

    /// Whether somebody on the host killed it: no guest can do that to its QEMU. Waits a moment, for a
    /// process that has closed its sockets and is not buried yet.
    pub(super) async fn was_killed(&mut self) -> bool {
        let Some(warden) = &mut self.warden else { return false };
        match timeout(Duration::from_millis(500), warden.wait()).await {
            Ok(Ok(status)) => matches!(status.signal(), Some(SIGKILL | SIGTERM)),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Tells how much memory it had, if the kernel killed it for want of more in its cgroup: that was
    /// the guest's doing.
    pub(super) fn was_starved(&self) -> Option<u64> {
        let books = self.books().filter(|books| books.oom_kills > 0)?;
        Some(books.memory_peak.unwrap_or_default())
    }

    /// Tells how it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        match self.warden.as_mut().map(Child::try_wait)? {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("{status}{}", self.complaints.tell())),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Tells how it ended, as the error that this is, if it does within a moment.
    pub(super) async fn last_words(&mut self) -> Option<Error> {
        self.alive_while(tokio::time::sleep(Duration::from_millis(500))).await.err()
    }

    /// Waits until it has ended by itself.
    pub(super) async fn until_end(&mut self) -> Result<(), Error> {
        let Some(warden) = &mut self.warden else { return Ok(()) };
        let ended = timeout(BURIAL, warden.wait()).await;
        ended.map_err(|_| late())?.map(drop).map_err(Error::host("waiting for QEMU's warden"))
    }

    /// Kills it, waits until it is dead, and removes its folder and its cgroup.
    pub(super) async fn kill(mut self) -> Result<(), Error> {
        self.strike();
        self.until_end().await?;
        // A warden that was killed itself waited for nobody: then QEMU's own end is still to come.
        let gone = async {
            while !self.is_gone() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(BURIAL, gone).await.map_err(|_| late())?;
        self.warden = None;
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

    fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let looked = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        looked.is_ok() && !fds[0].revents().is_empty()
    }

    fn strike(&self) {
        // It may be dead already, which is what is wanted.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.warden.is_some() {
            self.strike();
        }
        if let (Some(mut warden), Ok(runtime)) = (self.warden.take(), tokio::runtime::Handle::try_current()) {
            let (leash, cgroup, gone) = (self.leash.take(), self.cgroup.take(), self.gone.take());
            runtime.spawn(async move {
                // Buried with its warden; whoever waits for its end hears of it only then.
                let _ = timeout(BURIAL, warden.wait()).await;
                drop((leash, cgroup, gone));
            });
        }
        // Without a runtime the warden goes by `kill_on_drop`; open files live on until QEMU is gone.
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(dir = %self.0.display(), %error, "a VM's folder stays behind");
        }
    }
}

fn late() -> Error {
    Error::TimedOut { what: "the end of QEMU", seconds: BURIAL.as_secs() }
}

/// Hears from the warden which process QEMU is.
async fn inmate(warden: &mut Child) -> Option<u32> {
    let mut line = String::new();
    BufReader::new(warden.stdout.take()?).read_line(&mut line).await.ok()?;
    line.trim().parse().ok()
}

/// What a machine's QEMU may use of the host: no guest comes near it, and one that breaks out stays in it.
fn bounds(machine: &Machine) -> Bounds {
    let translation = match machine.accelerator {
        Accelerator::Kvm => 0,
        // Twice: QEMU keeps books about every piece of code that it translated.
        Accelerator::Tcg => 2 * machine.translations_max.bytes(),
    };
    let cpus = u64::from(machine.cpus);
    Bounds {
        memory: machine.memory.bytes() + OVERHEAD + translation,
        // Half a processor for QEMU's own work, or a busy guest would slow its own devices down.
        cpu_percent: cpus * 100 + 50,
        // Its pool of threads for files has 64, and each processor of the guest is one.
        threads: 128 + 4 * cpus,
    }
}
