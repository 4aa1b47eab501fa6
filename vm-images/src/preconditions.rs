//! What a build needs of its host, each with its fix.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command;
use crate::recipe::Recipe;

/// Programs that a build runs, and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 11] = [
    ("mmdebstrap", "mmdebstrap"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("mkfs.erofs", "erofs-utils"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("tar", "tar"),
    ("find", "findutils"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Free space that a build needs for what it keeps: the finished image, and the files it is made of.
const IMAGES_BYTES_MIN: u64 = 1 << 30;

/// Something that a build needs and the host lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}

/// Everything that keeps this host from building `recipe` into `images`; nothing if it can.
pub fn problems(recipe: &Recipe, images: &Path) -> Vec<Problem> {
    let mut problems = missing_programs(&PROGRAMS);
    problems.extend(user_problem());
    problems.extend(keyring_problem(recipe));
    let temporary = recipe.spec.root.build_space.bytes();
    let elsewhere = "choose another folder for images";
    if rustix::process::geteuid().is_root() {
        // Root's temporary files lie beside the images.
        problems.extend(space_problem(images, IMAGES_BYTES_MIN + temporary, elsewhere));
    } else {
        problems.extend(space_problem(images, IMAGES_BYTES_MIN, elsewhere));
        problems.extend(space_problem(&std::env::temp_dir(), temporary, "set TMPDIR to a larger disk"));
    }
    problems
}

fn missing_programs(programs: &[(&str, &str)]) -> Vec<Problem> {
    let missing = programs.iter().filter(|(program, _)| command::find(program).is_none());
    missing
        .map(|(program, package)| Problem {
            what: format!("`{program}` is not installed"),
            fix: format!("apt install {package}"),
        })
        .collect()
}

/// Others than root build in a user namespace, which needs a range of user ids of their own.
fn user_problem() -> Option<Problem> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    if let Some(problem) = missing_programs(&[("newuidmap", "uidmap")]).pop() {
        return Some(problem);
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    let name = name.unwrap_or_else(|| uid.clone());
    let has_range = |file: &str| {
        let ranges = fs::read_to_string(file).unwrap_or_default();
        ranges.lines().filter_map(|line| line.split(':').next()).any(|owner| owner == name || owner == uid)
    };
    if has_range("/etc/subuid") && has_range("/etc/subgid") {
        return None;
    }
    Some(Problem {
        what: format!("the user {name} has no range of subordinate ids, which building without root needs"),
        fix: format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"),
    })
}

fn keyring_problem(recipe: &Recipe) -> Option<Problem> {
    let wanted = recipe.spec.debian.keyring.clone();
    let default = || PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg");
    let keyring = wanted.unwrap_or_else(default);
    (!keyring.is_file()).then(|| Problem {
        what: format!("Debian's signing keys are not at {}", keyring.display()),
        fix: "apt install debian-archive-keyring".to_owned(),
    })
}

fn space_problem(folder: &Path, wanted: u64, fix: &str) -> Option<Problem> {
    // The folder may not exist yet: its nearest ancestor that does is on the same disk.
    let existing = folder.ancestors().find(|ancestor| ancestor.is_dir())?;
    let status = rustix::fs::statvfs(existing).ok()?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    (free < wanted).then(|| Problem {
        what: format!(
            "{} has {} MiB free, and a build needs {}",
            existing.display(),
            free >> 20,
            wanted >> 20
        ),
        fix: format!("free some space, or {fix}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let missing = missing_programs(&[("sh", "dash"), ("no-such-program", "its-package")]);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].to_string(), "`no-such-program` is not installed: apt install its-package");
    }

    #[test]
    fn too_little_space_says_where_and_how_much() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(space_problem(&folder.path().join("not/yet"), 1, ""), None);
        let problem = space_problem(&folder.path().join("not/yet"), u64::MAX, "move").unwrap();
        assert!(
            problem.what.starts_with(&folder.path().display().to_string())
                && problem.fix.ends_with("or move")
        );
    }
}
