//! The program `evalfleet-jail`: two short-lived roles around one QEMU.
//!
//! ```text
//! worker ──▶ warden ──▶ inmate ──exec──▶ QEMU
//!    │         │          │  joins its cgroups, builds its root, gives up every right
//!    │ pipe    │ waits, and ends as QEMU ended
//!    └────────▶│ the pipe closes (the worker died): QEMU is killed
//!              └─ the warden dies: the kernel kills QEMU
//! ```
//!
//! The warden tells the worker QEMU's process number as the host sees it. Both roles are one thread and
//! allocate little; QEMU is never started half-jailed: whatever fails ends the program with a message.

use super::plan::{Account, Network, Plan, Walls};
use super::root;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};
use rustix::thread::UnshareFlags;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::{env, fs};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// What the program answers when the jail itself cannot be made.
pub const NO_JAIL: u8 = 70;
/// A host that runs out of memory is to kill VMs before anything of its own.
const OOM_SCORE: &str = "700";

/// Runs the program; its arguments are a role, a plan, and QEMU's command line.
pub fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (role, plan) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let command: Vec<OsString> = arguments.collect();
    let plan = serde_json::from_str::<Plan>(&plan.to_string_lossy());
    let (Ok(plan), Some(role), [_, ..]) = (plan, role.to_str(), &command[..]) else {
        eprintln!(
            "evalfleet-jail is what a worker starts QEMU with; there is nothing to run it for by hand."
        );
        return ExitCode::from(64);
    };
    let done = match role {
        "warden" => warden(plan, &command),
        "inmate" => inmate(&plan, &command).map(|never| match never {}),
        _ => Err(io::Error::other(format!("there is no role {role}"))),
    };
    done.unwrap_or_else(|error| {
        eprintln!("jail: {error}");
        ExitCode::from(NO_JAIL)
    })
}

fn step<T>(what: &str, result: Result<T, impl Into<io::Error>>) -> io::Result<T> {
    result.map_err(|error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })
}

/// Starts the inmate, tells its number, and stays until it is dead.
fn warden(mut plan: Plan, command: &[OsString]) -> io::Result<ExitCode> {
    if let Account::Own { base } = plan.account {
        let own = base + std::process::id();
        plan.account = Account::Fixed { uid: own, gid: own };
    }
    if let Account::Fixed { uid, gid } = plan.account {
        give(&plan, uid, gid)?;
    }
    match plan.walls {
        Walls::Namespaces => leave("a process namespace", UnshareFlags::NEWPID)?,
        Walls::UserNamespace => {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            leave("a user namespace", UnshareFlags::NEWUSER | UnshareFlags::NEWPID)?;
            step("setgroups", fs::write("/proc/self/setgroups", "deny"))?;
            step("gid_map", fs::write("/proc/self/gid_map", format!("0 {gid} 1")))?;
            step("uid_map", fs::write("/proc/self/uid_map", format!("0 {uid} 1")))?;
        }
        Walls::None => {}
    }
    let plan = serde_json::to_string(&plan)?;
    let mut inmate = Command::new("/proc/self/exe");
    inmate.arg("inmate").arg(plan).args(command).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = step("starting the inmate", inmate.spawn())?;
    // Held open for as long as this process lives.
    let _leash = child.stdin.take();
    println!("{}", child.id());
    io::stdout().flush()?;
    let pidfd = step("pidfd", rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()))?;
    let worker = io::stdin();
    let mut fds =
        [PollFd::new(&pidfd, PollFlags::IN), PollFd::from_borrowed_fd(worker.as_fd(), PollFlags::empty())];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if fds[0].revents().is_empty() {
        child.kill()?;
    }
    Ok(end_like(child.wait()?))
}

/// Gives what the inmate may write to it, and opens what it may read, which a careful umask closed: of
/// the host it owns nothing.
fn give(plan: &Plan, uid: u32, gid: u32) -> io::Result<()> {
    for path in &plan.read {
        let mode = step(&path.display().to_string(), fs::metadata(path))?.permissions().mode();
        let open = if path.is_dir() { mode | 0o055 } else { mode | 0o044 };
        if open != mode {
            step(&path.display().to_string(), fs::set_permissions(path, fs::Permissions::from_mode(open)))?;
        }
    }
    for dir in [&plan.run_dir].into_iter().chain(&plan.write) {
        let own = |path: &Path| {
            let what = || format!("giving {} to the VM's account", path.display());
            std::os::unix::fs::lchown(path, Some(uid), Some(gid))
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", what())))
        };
        own(dir)?;
        for entry in fs::read_dir(dir)? {
            own(&entry?.path())?;
        }
    }
    Ok(())
}

/// Ends as the inmate did, so that whoever waits learns whether it was killed.
fn end_like(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, Some(signal @ (SIGKILL | SIGTERM))) => {
            let signal = if signal == SIGKILL { Signal::KILL } else { Signal::TERM };
            // This process has not changed what either does by default.
            let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
            ExitCode::FAILURE
        }
        (None, signal) => {
            eprintln!("jail: ended by signal {}", signal.unwrap_or_default());
            ExitCode::from(128_u8.saturating_add(signal.unwrap_or_default() as u8))
        }
    }
}

/// Becomes QEMU, with every right gone.
fn inmate(plan: &Plan, command: &[OsString]) -> io::Result<std::convert::Infallible> {
    for cgroup in &plan.cgroups {
        step(&format!("joining {}", cgroup.display()), fs::write(cgroup.join("cgroup.procs"), "0"))?;
    }
    // A process may always offer itself; where /proc is not to be written, nothing is lost.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    if plan.walls != Walls::None {
        let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
        if plan.network == Network::None {
            flags |= UnshareFlags::NEWNET;
        }
        leave("namespaces", flags)?;
        root::build(plan, Path::new(&command[0]))?;
    }
    step("entering the VM's folder", env::set_current_dir(&plan.run_dir))?;
    give_up(plan)?;
    let mut qemu = Command::new(&command[0]);
    qemu.args(&command[1..]).stdin(Stdio::null()).env_clear();
    qemu.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
    Err(step::<()>(&Path::new(&command[0]).display().to_string(), Err(qemu.exec())).expect_err("it failed"))
}

/// Gives up account, groups, capabilities, core dumps, and the chance to gain anything anew.
fn give_up(plan: &Plan) -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    step("no core dumps", rustix::process::setrlimit(Resource::Core, none))?;
    if let Some(threads) = plan.threads {
        let limit = Rlimit { current: Some(threads), maximum: Some(threads) };
        step("a bound on threads", rustix::process::setrlimit(Resource::Nproc, limit))?;
    }
    if plan.walls != Walls::None || plan.account != Account::Same {
        // The last of them is what removing takes, so it goes in the order of the kernel's numbers, and
        // a kernel that has fewer ends the loop.
        for number in 0..u64::BITS {
            let Some(one) = rustix::thread::CapabilitySet::from_bits(1 << number) else { break };
            if rustix::thread::remove_capability_from_bounding_set(one).is_err() {
                break;
            }
        }
    }
    if let Account::Fixed { uid, gid } = plan.account {
        let (user, group) = (rustix::thread::Uid::from_raw(uid), rustix::thread::Gid::from_raw(gid));
        step("groups", rustix::thread::set_thread_groups(&kvm_group()))?;
        step("group", rustix::thread::set_thread_res_gid(group, group, group))?;
        step("account", rustix::thread::set_thread_res_uid(user, user, user))?;
    }
    let nothing = rustix::thread::CapabilitySets {
        effective: rustix::thread::CapabilitySet::empty(),
        permitted: rustix::thread::CapabilitySet::empty(),
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    step("capabilities", rustix::thread::set_capabilities(None, nothing))?;
    step("no new privileges", rustix::thread::set_no_new_privs(true))?;
    // A change of account clears this, so it comes last.
    step("a bound life", rustix::process::set_parent_process_death_signal(Some(Signal::KILL)))?;
    let stdin = io::stdin();
    let mut leash = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::empty())];
    poll(&mut leash, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if !leash[0].revents().is_empty() {
        // It died before it could be asked to take this process along.
        return Err(io::Error::other("the warden is gone"));
    }
    Ok(())
}

/// The group that may open /dev/kvm, where not everybody may.
fn kvm_group() -> Vec<rustix::thread::Gid> {
    use std::os::unix::fs::MetadataExt as _;
    let group = fs::metadata("/dev/kvm").ok().filter(|kvm| kvm.mode() & 0o006 != 0o006).map(|kvm| kvm.gid());
    group.filter(|gid| *gid != 0).map(rustix::thread::Gid::from_raw).into_iter().collect()
}

/// Moves this process out of namespaces of its host.
#[expect(unsafe_code, reason = "unshare has no safe form in rustix")]
fn leave(what: &str, flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "file descriptors stay shared");
    // SAFETY: what can go wrong is that threads lose sight of each other's files, under `FILES` alone,
    // which is not among the flags; and this process has one thread.
    step(what, unsafe { rustix::thread::unshare_unsafe(flags) })
}
