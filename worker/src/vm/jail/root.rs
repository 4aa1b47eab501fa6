//! The root that a jailed QEMU sees: programs, its image and template, its own folder, a few devices.
//!
//! A small tmpfs, into which what is needed is bound under its own path, read-only wherever that will do.
//! No /proc, no /sys, no home directories, no other VM's folder, nothing of the state directory but what
//! was named.

use super::plan::Plan;
use rustix::fs::StatVfsMountFlags;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where distributions keep programs and what they load.
const PROGRAMS: [&str; 9] = ["/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix", "/gnu"];
/// What the dynamic linker looks libraries up in.
const FILES: [&str; 2] = ["/etc/ld.so.cache", "/etc/qemu"];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/kvm"];

/// Builds the root and moves in. Only in mount and process namespaces of one's own.
pub(super) fn build(plan: &Plan, program: &Path) -> io::Result<()> {
    let at =
        |what: &'static str| move |error: rustix::io::Errno| io::Error::other(format!("{what}: {error}"));
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(at("private mounts"))?;
    let root = plan.run_dir.join(".root");
    fs::create_dir_all(&root)?;
    mount("tmpfs", &root, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755,size=256k")
        .map_err(at("a root"))?;
    for path in PROGRAMS.iter().map(Path::new) {
        bind_program(&root, path)?;
    }
    for path in FILES.iter().chain(&DEVICES).map(Path::new).filter(|path| path.exists()) {
        let device = path.starts_with("/dev");
        bind(&root, path, if device { Access::Write } else { Access::Read })?;
    }
    if let Some(home) = elsewhere(program) {
        bind(&root, &home, Access::Read)?;
    }
    let read = plan.read.iter().map(|path| (path, Access::Read));
    let write = plan.write.iter().chain([&plan.run_dir]).map(|path| (path, Access::Write));
    let mut binds: Vec<_> = read.chain(write).collect();
    // What lies within another comes after it, or it would be covered.
    binds.sort_by_key(|(path, _)| path.components().count());
    for (path, access) in binds {
        bind(&root, path, access)?;
    }
    env::set_current_dir(&root)?;
    rustix::process::pivot_root(".", ".").map_err(at("the new root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(at("leaving the old root"))?;
    let sealed = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount("/", sealed, c"").map_err(at("sealing the root"))?;
    env::set_current_dir("/")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A folder of programs, or the link that stands for one.
fn bind_program(root: &Path, path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => symlink(fs::read_link(path)?, inside(root, path)),
        Ok(found) if found.is_dir() => bind(root, path, Access::Read),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Where a program is that no distribution put there: the folder above its own, for what lies beside it.
fn elsewhere(program: &Path) -> Option<PathBuf> {
    let known = PROGRAMS.iter().any(|known| program.starts_with(known));
    let home = program.parent()?.parent()?;
    (program.is_absolute() && !known && home != Path::new("/")).then(|| home.to_owned())
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn bind(root: &Path, path: &Path, access: Access) -> io::Result<()> {
    let target = inside(root, path);
    let failed =
        |error: io::Error| io::Error::new(error.kind(), format!("binding {}: {error}", path.display()));
    let made = if fs::metadata(path).map_err(failed)?.is_dir() {
        fs::create_dir_all(&target)
    } else {
        target
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| if target.exists() { Ok(()) } else { fs::write(&target, "") })
    };
    made.map_err(failed)?;
    mount_bind(path, &target)
        // An ordinary user may not show what another mount hides: then it comes with all below it.
        .or_else(|_| mount_bind_recursive(path, &target))
        .map_err(|error| failed(error.into()))?;
    let kept = rustix::fs::statvfs(&target).map_err(|error| failed(error.into()))?.f_flag;
    let read_only = if access == Access::Read { MountFlags::RDONLY } else { MountFlags::empty() };
    let flags = MountFlags::BIND | read_only | MountFlags::NOSUID | kept_flags(kept);
    mount_remount(&target, flags, c"").map_err(|error| failed(error.into()))
}

/// What a mount forbids already stays forbidden: an ordinary user could not allow it.
fn kept_flags(kept: StatVfsMountFlags) -> MountFlags {
    [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ]
    .into_iter()
    .filter(|(has, _)| kept.contains(*has))
    .fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_outside_the_known_folders_brings_its_own_along() {
        assert_eq!(elsewhere(Path::new("/usr/bin/qemu-system-x86_64")), None);
        assert_eq!(elsewhere(Path::new("qemu-system-x86_64")), None);
        assert_eq!(elsewhere(Path::new("/q/qemu")), None, "never the whole of the host");
        assert_eq!(elsewhere(Path::new("/srv/qemu/bin/qemu")), Some("/srv/qemu".into()));
    }

    #[test]
    fn paths_mean_the_same_inside() {
        assert_eq!(inside(Path::new("/v/.root"), Path::new("/t/ram")), PathBuf::from("/v/.root/t/ram"));
    }
}
