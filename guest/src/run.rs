//! One run: a program, its streams, its process tree.

use crate::cgroup::Cgroup;
use crate::left;
use evalfleet_proto::guest::{Exited, Run};
use rustix::process::{Pid, PidfdFlags, WaitStatus};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What jobs find in their environment unless they say otherwise.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
    ("PYTHONUNBUFFERED", "1"),
];
/// The room of the pipe for standard output.
const PIPE_BYTES: usize = 512 << 10;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
/// How many names of left processes are told.
const LEFT_NAMES_MAX: usize = 16;

/// A run under way.
pub(crate) struct Running {
    pub(crate) cgroup: Cgroup,
    pid: Pid,
    /// Readable once the first process ended.
    pub(crate) pidfd: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    /// What the host sent for standard input and the program has not read.
    pub(crate) to_stdin: VecDeque<u8>,
    /// Whether the host has said that there is no more.
    pub(crate) stdin_ends: bool,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) status: Option<WaitStatus>,
}

/// Why a run could not begin.
pub(crate) struct NotStarted {
    pub(crate) error: String,
    pub(crate) errno: i32,
}

impl NotStarted {
    pub(crate) fn of(what: &str, error: &io::Error) -> Self {
        Self { error: format!("{what}: {error}"), errno: error.raw_os_error().unwrap_or(0) }
    }
}

/// Starts the program in `cgroup`, all its streams piped.
pub(crate) fn start(cgroup: Cgroup, run: &Run) -> Result<Running, NotStarted> {
    let program = run.argv.first().ok_or(NotStarted { error: "no program".to_owned(), errno: 22 })?;
    if !Path::new(&run.cwd).is_dir() {
        return Err(NotStarted { error: format!("there is no directory {}", run.cwd), errno: 2 });
    }
    let account = account(run.user.as_deref())?;
    // A program by its whole path, and no folder of its own to change to: that is what the standard
    // library can start with `posix_spawn`, which spares the copying of this process.
    let path = run.env.get("PATH").map_or(ENVIRONMENT[0].1, String::as_str);
    let _there = Visit::begin(&run.cwd).map_err(|error| NotStarted::of(&run.cwd, &error))?;
    let found = find(program, path).map_err(|error| NotStarted::of(program, &error))?;
    let mut command = Command::new(found);
    command.arg0(program).args(&run.argv[1..]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
        .env_clear()
        .envs(ENVIRONMENT)
        .env("HOME", &account.home)
        .env("USER", &account.name)
        .envs(&run.env);
    if account.uid != 0 {
        command.gid(account.gid).uid(account.uid);
    }
    cgroup.limit_memory(run.memory).map_err(|error| NotStarted::of("cgroup", &error))?;
    let spawned = cgroup.born_inside(|| command.spawn()).map_err(|error| NotStarted::of("cgroup", &error))?;
    let mut child = spawned.map_err(|error| NotStarted::of(program, &error))?;
    cgroup.limit_processes(run.processes).map_err(|error| NotStarted::of("cgroup", &error))?;
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK);
    let pidfd = pidfd.map_err(|error| NotStarted::of("pidfd", &error.into()))?;
    let stdout = child.stdout.take().map(OwnedFd::from);
    if let Some(stdout) = &stdout {
        // Fewer turns between a program that writes much and the one that reads it, on one processor.
        // Without it the pipe is as large as pipes are.
        let _ = rustix::pipe::fcntl_setpipe_size(stdout, PIPE_BYTES);
    }
    Ok(Running {
        cgroup,
        pid,
        pidfd,
        stdin: child.stdin.take().map(OwnedFd::from),
        to_stdin: VecDeque::new(),
        stdin_ends: false,
        stdout,
        stderr: child.stderr.take().map(OwnedFd::from),
        status: None,
    })
}

impl Running {
    /// Notes the status of a child that has ended, if it is the run's first process.
    pub(crate) fn note(&mut self, pid: Pid, status: WaitStatus) {
        if pid == self.pid {
            self.status = Some(status);
        }
    }

    /// Whether there is something to do for standard input: bytes to write, or its end to tell.
    pub(crate) fn stdin_wants(&self) -> bool {
        !self.to_stdin.is_empty() || self.stdin_ends
    }

    /// Tells who is left now that the first process is gone, and ends them.
    pub(crate) fn sweep(&self) -> (u32, Vec<String>) {
        let left = left::processes(&self.cgroup, self.pid);
        let names = left.iter().take(LEFT_NAMES_MAX).map(|pid| name_of(*pid)).collect();
        if !left.is_empty() {
            self.cgroup.kill();
            left::end(&self.cgroup, self.pid);
        }
        (left.len() as u32, names)
    }

    /// Sums the run up. Only after its end.
    pub(crate) fn exited(&self, left: u32, left_names: Vec<String>) -> Exited {
        let [cpu_user_us, cpu_system_us] = self.cgroup.counters("cpu.stat", ["user_usec", "system_usec"]);
        let [oom_kills] = self.cgroup.counters("memory.events", ["oom_kill"]);
        let [fork_denials] = self.cgroup.counters("pids.events", ["max"]);
        Exited {
            code: self.status.and_then(WaitStatus::exit_status),
            signal: self.status.and_then(WaitStatus::terminating_signal),
            cpu_user_us,
            cpu_system_us,
            memory_peak: self.cgroup.number("memory.peak"),
            oom_kills,
            fork_denials,
            // Read only where it is told: a run that was denied nothing need not pay for it.
            processes_peak: if fork_denials > 0 { self.cgroup.number("pids.peak") } else { 0 },
            left,
            left_names,
        }
    }
}

/// A stay in another folder; over when dropped.
struct Visit;

impl Visit {
    fn begin(folder: &str) -> io::Result<Self> {
        rustix::process::chdir(folder)?;
        Ok(Self)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // The root is always there; were it not, the next run would say so.
        let _ = rustix::process::chdir("/");
    }
}

/// Finds a program as a shell does: a name with a slash is a path, any other is looked for in `path`.
fn find(program: &str, path: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    let mut error = io::Error::from_raw_os_error(ENOENT);
    for folder in path.split(':') {
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(program);
        match fs::metadata(&candidate) {
            Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(_) => error = io::Error::from_raw_os_error(EACCES),
            Err(_) => {}
        }
    }
    Err(error)
}

fn name_of(pid: Pid) -> String {
    let path = format!("/proc/{}/comm", pid.as_raw_nonzero());
    fs::read_to_string(path).map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// Looks a user up in the guest's own /etc/passwd.
fn account(user: Option<&str>) -> Result<Account, NotStarted> {
    let Some(user) = user else {
        return Ok(Account { name: "root".to_owned(), uid: 0, gid: 0, home: "/root".to_owned() });
    };
    let passwd = fs::read_to_string("/etc/passwd").map_err(|error| NotStarted::of("/etc/passwd", &error))?;
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| *name == user)?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1)?.to_owned();
        Some(Account { name, uid, gid, home })
    });
    found.ok_or_else(|| NotStarted { error: format!("the image has no user {user:?}"), errno: 2 })
}
