//! From the kernel's first process to a root that jobs can be let loose on.
//!
//! ```text
//! /dev/vda  erofs, read-only, shared by every VM of the image ──┐ lower
//! /dev/vdb  ext4, this VM's own scratch disk ── /upper, /work ──┴ upper ──▶ overlay = /
//! ```
//!
//! Everything a job writes lands in `/upper` of the scratch disk, where the host finds it.

use crate::{network, wake};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

/// What went wrong, and at which step.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub(crate) struct Error {
    step: String,
    source: io::Error,
}

fn step<T>(name: impl Into<String>, result: Result<T, impl Into<io::Error>>) -> Result<T, Error> {
    result.map_err(|source| Error { step: name.into(), source: source.into() })
}

/// Says something on the console, which the host keeps with a failed boot.
pub(crate) fn complain(text: &str) {
    let line = format!("<2>evalfleet-guest: {text}\n");
    if fs::write("/dev/kmsg", &line).is_err() {
        eprint!("{line}");
    }
}

/// Mounts the root, loads what the kernel lacks, and moves in.
pub(crate) fn boot() -> Result<(), Error> {
    for dir in ["/dev", "/proc", "/sys", "/lower", "/scratch", "/root"] {
        step(dir, fs::create_dir_all(dir))?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    step("mount /dev", mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, None))?;
    step("mount /proc", mount("proc", "/proc", "proc", quiet, None))?;
    step("mount /sys", mount("sysfs", "/sys", "sysfs", quiet, None))?;
    load_modules()?;
    wait_for("/dev/vda")?;
    wait_for("/dev/vdb")?;
    step(
        "mount the image",
        mount("/dev/vda", "/lower", "erofs", MountFlags::RDONLY | MountFlags::NOATIME, None),
    )?;
    // The disk lives as long as the VM, and the host reads it through the same page cache: no barriers.
    let unsafe_at_a_crash = c"nobarrier";
    step(
        "mount the scratch disk",
        mount("/dev/vdb", "/scratch", "ext4", MountFlags::NOATIME, unsafe_at_a_crash),
    )?;
    for dir in ["/scratch/upper", "/scratch/work"] {
        step(dir, fs::create_dir_all(dir))?;
    }
    let layers = c"lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work,redirect_dir=off,metacopy=off,index=off";
    step("mount the overlay", mount("overlay", "/root", "overlay", MountFlags::NOATIME, layers))?;
    for dir in ["/dev", "/proc", "/sys"] {
        step(format!("move {dir}"), mount_move(dir, format!("/root{dir}")))?;
    }
    step("enter the root", rustix::process::chdir("/root"))?;
    step("move the root", mount_move(".", "/"))?;
    step("change the root", rustix::process::chroot("."))?;
    step("enter /", rustix::process::chdir("/"))?;
    furnish()
}

/// What programs expect below /dev and /sys.
fn furnish() -> Result<(), Error> {
    for dir in ["/dev/pts", "/dev/shm"] {
        step(dir, fs::create_dir_all(dir))?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    step("mount /dev/pts", mount("devpts", "/dev/pts", "devpts", quiet, c"mode=620,ptmxmode=666"))?;
    step("mount /dev/shm", mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::NOSUID, c"mode=1777"))?;
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        step(link, std::os::unix::fs::symlink(target, format!("/dev/{link}")))?;
    }
    // Moving a process between cgroups otherwise waits for a grace period of the kernel, some
    // milliseconds, twice a run.
    let cgroups = mount("cgroup2", "/sys/fs/cgroup", "cgroup2", quiet, c"favordynmods");
    step("mount the cgroups", cgroups)?;
    step("cgroup controllers", fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +pids"))?;
    lay_machine_id()?;
    // A job without its network is better than no VM.
    if let Err(error) = network::configure() {
        complain(&format!("network: {error}"));
    }
    Ok(())
}

/// Puts a file of memory over /etc/machine-id. Each clone writes its own there, which is then no effect
/// of any job: what a job writes to it is none either.
fn lay_machine_id() -> Result<(), Error> {
    let fresh = "/dev/.machine-id";
    step(fresh, fs::write(fresh, ""))?;
    step(fresh, fs::set_permissions(fresh, fs::Permissions::from_mode(0o444)))?;
    if !Path::new(wake::MACHINE_ID).exists() {
        step(wake::MACHINE_ID, fs::write(wake::MACHINE_ID, ""))?;
    }
    step(wake::MACHINE_ID, mount_bind(fresh, wake::MACHINE_ID))?;
    // The mount keeps it.
    step(fresh, fs::remove_file(fresh))
}

/// Loads the modules of the initramfs in the order that its builder found out.
fn load_modules() -> Result<(), Error> {
    let order = step("/modules/order", fs::read_to_string("/modules/order"))?;
    for name in order.lines().filter(|line| !line.is_empty()) {
        let path = format!("/modules/{name}");
        let file =
            step(&path, rustix::fs::openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            // A module for hardware that this machine type lacks is no reason to stop here.
            Err(error) => complain(&format!("module {name}: {error}")),
        }
    }
    Ok(())
}

fn wait_for(device: &str) -> Result<(), Error> {
    let begun = Instant::now();
    while !Path::new(device).exists() {
        if begun.elapsed() > Duration::from_secs(60) {
            return step(device, Err(io::Error::from(io::ErrorKind::NotFound)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
