//! Where on this host cgroups for VMs can be made. Pure parsing, then a little looking.
//!
//! Version 2 has one tree, in which a group that holds processes cannot limit groups below it; version 1
//! has a tree for each controller and no such rule. A host may have both mounted: where version 2 has no
//! controllers of its own, version 1 does the work.

use std::io;
use std::path::{Path, PathBuf};
use std::{fs, process};

/// The controllers that a VM's cgroup uses; version 1 counts processor time in one of its own.
pub(super) const CONTROLLERS: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];
/// Where this process goes when its own cgroup has to be empty.
const LEAF: &str = "main";

/// How cgroups work here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A folder in which cgroups can be made, and what can be limited in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) controllers: Vec<String>,
}

/// Finds the places of this process, from what the kernel says of it and of what is mounted.
pub(super) fn own(cgroup: &str, mountinfo: &str) -> Option<(Version, Vec<Place>)> {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut places: Vec<Place> = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(path)) = (fields.next(), fields.next()) else { continue };
        let controllers: Vec<String> =
            names.split(',').filter(|name| CONTROLLERS.contains(name)).map(ToOwned::to_owned).collect();
        let Some(first) = controllers.first() else { continue };
        let mount =
            mounts.iter().find(|mount| !mount.unified && mount.options.split(',').any(|one| one == first));
        if let Some(mount) = mount {
            places.push(Place { dir: mount.below(path), controllers });
        }
    }
    if !places.is_empty() {
        return Some((Version::One, places));
    }
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.iter().find(|mount| mount.unified)?;
    Some((Version::Two, vec![Place { dir: mount.below(path), controllers: Vec::new() }]))
}

/// One mounted tree of cgroups.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
    options: &'a str,
    unified: bool,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let kind = right.next().filter(|kind| kind.starts_with("cgroup"))?;
        Some(Self { root, point, options: right.nth(1)?, unified: kind == "cgroup2" })
    }

    /// Where the cgroup `path` of this tree is seen, or the top of what is seen.
    fn below(&self, path: &str) -> PathBuf {
        let root = if self.root == "/" { "" } else { self.root };
        let rest = path.strip_prefix(root).unwrap_or("");
        Path::new(self.point).join(rest.trim_start_matches('/'))
    }
}

/// Makes a place of version 2 ready: its controllers handed down to the groups in it. Tries this
/// process's own cgroup, the one above, and as root the top of the tree.
pub(super) fn ready(own: &Path) -> io::Result<Place> {
    let mut refusals = Vec::new();
    let mut kind = io::ErrorKind::Other;
    let top = own.ancestors().take_while(|dir| dir.join("cgroup.controllers").exists()).last();
    let mut tried: Vec<&Path> = Vec::new();
    for dir in [Some(own), own.parent(), top].into_iter().flatten() {
        if tried.contains(&dir) || !dir.join("cgroup.controllers").exists() {
            continue;
        }
        tried.push(dir);
        match hand_down(dir) {
            Ok(controllers) if !controllers.is_empty() => {
                return Ok(Place { dir: dir.to_owned(), controllers });
            }
            Ok(_) => refusals.push(format!("{} has no controllers to hand down", dir.display())),
            Err(error) => {
                kind = error.kind();
                refusals.push(format!("{}: {error}", dir.display()));
            }
        }
    }
    // All of them: which one could have been made ready is for whoever gives the rights to know.
    Err(io::Error::new(kind, refusals.join("; ")))
}

fn hand_down(dir: &Path) -> io::Result<Vec<String>> {
    let words = |file: &str| -> io::Result<Vec<String>> {
        Ok(fs::read_to_string(dir.join(file))?.split_ascii_whitespace().map(ToOwned::to_owned).collect())
    };
    let wanted: Vec<String> = words("cgroup.controllers")?
        .into_iter()
        .filter(|name| CONTROLLERS.contains(&name.as_str()))
        .collect();
    let handed = words("cgroup.subtree_control")?;
    let missing: Vec<_> =
        wanted.iter().filter(|name| !handed.contains(name)).map(|name| format!("+{name}")).collect();
    if !missing.is_empty() {
        // Where processes are in it and it is ours, they can sit one level below as well. First: `cpu` and
        // `pids` alone could be handed down past them, which makes the group one for threads, and `memory`
        // impossible in it (EOPNOTSUPP).
        if is_ours(dir) && !words("cgroup.procs")?.is_empty() {
            move_down(dir)?;
        }
        // All of them or none.
        fs::write(dir.join("cgroup.subtree_control"), missing.join(" "))?;
    }
    // Whether groups can be made at all shows only when one is.
    let probe = dir.join(format!("evalfleet-probe.{}", process::id()));
    fs::create_dir(&probe)?;
    fs::remove_dir(&probe)?;
    Ok(wanted)
}

/// Whether a cgroup was given to whoever runs in it: by a service manager (it says so in an attribute,
/// or gave the files to an ordinary user), or because it is the top of a container.
fn is_ours(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let mut value = [0_u8; 4];
    let delegated = ["trusted.delegate", "user.delegate"]
        .iter()
        .any(|name| matches!(rustix::fs::getxattr(dir, *name, &mut value[..]), Ok(1) if value[0] == b'1'));
    let user = rustix::process::geteuid().as_raw();
    let owner = fs::metadata(dir.join("cgroup.subtree_control")).map(|file| file.uid());
    // The real top has no type, and its processes are the whole host's; a container's has one.
    let container =
        dir.join("cgroup.type").exists() && !dir.parent().is_some_and(|up| up.join("cgroup.procs").exists());
    delegated || container || (user != 0 && owner.is_ok_and(|owner| owner == user))
}

fn move_down(dir: &Path) -> io::Result<()> {
    let leaf = dir.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    for pid in fs::read_to_string(dir.join("cgroup.procs"))?.lines() {
        // One that has ended meanwhile is where it should be.
        let _ = fs::write(leaf.join("cgroup.procs"), pid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn version_1_has_a_place_in_every_tree() {
        let (version, places) = own("4:memory:/a/b\n2:cpu,cpuacct:/\n7:blkio:/\n0::/\n", HYBRID).unwrap();
        let dirs: Vec<_> = places.iter().map(|place| place.dir.to_str().unwrap()).collect();
        assert_eq!((version, dirs), (Version::One, vec!["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/cpu/"]));
        assert_eq!(places[1].controllers, ["cpu", "cpuacct"]);
    }

    #[test]
    fn version_2_has_one_place() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let (version, places) = own("0::/system.slice/evalfleet.service\n", mounts).unwrap();
        assert_eq!(version, Version::Two);
        assert_eq!(places[0].dir, Path::new("/sys/fs/cgroup/system.slice/evalfleet.service"));
    }

    #[test]
    fn a_container_sees_its_own_part_of_a_tree() {
        let mounts = "35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let (_, places) = own("4:memory:/docker/1/x\n", mounts).unwrap();
        assert_eq!(places[0].dir, Path::new("/sys/fs/cgroup/memory/x"));
    }

    #[test]
    fn a_host_without_cgroups_has_no_place() {
        assert_eq!(own("0::/\n", "22 1 8:1 / / rw - ext4 /dev/root rw\n"), None);
    }
}
