//! What a jail needs of the host: each right tried, and where it is missing, its fix.

use super::Error;
use super::cgroup::Cgroups;
use super::plan::{Account, Plan, Walls};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The account that has no rights anywhere, on every distribution.
const NOBODY: u32 = 65_534;

/// One right, and what was found of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Right {
    /// Which: `namespaces`, `account`, `cgroup`, `seccomp`, `kvm`.
    pub name: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// How to get it, where it is missing.
    pub fix: Option<String>,
}

impl Right {
    fn have(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), fix: None }
    }

    fn lack(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, ok: false, found: found.into(), fix: Some(fix.into()) }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.found)?;
        if let Some(fix) = &self.fix {
            write!(f, " (fix: {fix})")?;
        }
        Ok(())
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Finds out which walls can be put up, the best first, by putting them up.
pub(super) fn walls(program: &Path, vms_dir: &Path, rights: &mut Vec<Right>) -> Walls {
    let name = "namespaces";
    let mut why = Vec::new();
    let candidates: &[Walls] =
        if is_root() { &[Walls::Namespaces, Walls::UserNamespace] } else { &[Walls::UserNamespace] };
    for walls in candidates {
        match attempt(program, &Plan { walls: *walls, ..Plan::bare(vms_dir.to_owned()) }) {
            Ok(()) => {
                let how = if *walls == Walls::Namespaces { "of its own" } else { "inside a user namespace" };
                rights.push(Right::have(name, format!("mount, network, pid, ipc and uts, {how}")));
                return *walls;
            }
            Err(error) => why.push(error),
        }
    }
    rights.push(Right::lack(name, why.join("; "), namespaces_fix()));
    Walls::None
}

/// Which switch of this host is in the way.
fn namespaces_fix() -> String {
    let reads = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if reads("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl -w user.max_user_namespaces=15000".to_owned()
    } else if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
    } else if reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        format!(
            "give {} an AppArmor profile with `userns,`, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            super::PROGRAM
        )
    } else if is_root() {
        "run the worker with CAP_SYS_ADMIN (in a container: --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined)".to_owned()
    } else {
        "allow user namespaces (in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined)".to_owned()
    }
}

/// Finds out as whom QEMU can run.
pub(super) fn account(
    program: &Path,
    vms_dir: &Path,
    walls: Walls,
    wanted: &str,
    base: u32,
    rights: &mut Vec<Right>,
) -> Result<Account, Error> {
    let name = "account";
    if !is_root() || walls == Walls::UserNamespace {
        let uid = rustix::process::geteuid().as_raw();
        if !wanted.is_empty() {
            tracing::warn!(user = wanted, "qemu.user is for workers that are root");
        }
        rights.push(if uid == 0 {
            Right::lack(name, "root, inside a user namespace", "start the worker as an ordinary user")
        } else {
            Right::have(name, format!("the worker's own, {uid}"))
        });
        return Ok(Account::Same);
    }
    let candidates = if wanted.is_empty() {
        vec![Account::Own { base }, Account::Fixed { uid: NOBODY, gid: NOBODY }]
    } else {
        vec![lookup(wanted)?]
    };
    let mut why = String::new();
    // A folder of its own: what is tried here changes hands.
    let folder = vms_dir.join(".account");
    for account in candidates {
        let tried = fs::create_dir_all(&folder)
            .map_err(|error| error.to_string())
            .and_then(|()| attempt(program, &Plan { walls, account, ..Plan::bare(folder.clone()) }));
        let _ = fs::remove_dir_all(&folder);
        match tried {
            Ok(()) => {
                let found = match account {
                    Account::Own { base } => format!("one for each VM, from {base} on"),
                    Account::Fixed { uid, .. } => format!("{uid}, which VMs share"),
                    Account::Same => "the worker's own".to_owned(),
                };
                rights.push(Right::have(name, found));
                return Ok(account);
            }
            Err(error) => why = error,
        }
    }
    rights.push(Right::lack(
        name,
        format!("root, since no other can be had: {why}"),
        "start the worker as an ordinary user, or with CAP_SETUID, CAP_SETGID and CAP_CHOWN",
    ));
    Ok(Account::Same)
}

/// Finds an account by its name or number.
fn lookup(wanted: &str) -> Result<Account, Error> {
    if let Ok(uid) = wanted.parse::<u32>() {
        return Ok(Account::Fixed { uid, gid: uid });
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(Error::host("reading /etc/passwd"))?;
    parse(&passwd, wanted).ok_or_else(|| {
        Error::Jail(format!(
            "qemu.user names {wanted}, whom /etc/passwd does not know: useradd --system {wanted}"
        ))
    })
}

fn parse(passwd: &str, wanted: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        fields.next().filter(|name| *name == wanted)?;
        Some(Account::Fixed { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

/// Takes the cgroups that were found, if any.
pub(super) fn cgroups(found: io::Result<Cgroups>, rights: &mut Vec<Right>) -> Option<Cgroups> {
    let name = "cgroup";
    let unit = "run it in a cgroup of its own: `Delegate=yes` in the [Service] section of its unit, \
                or systemd-run --user --scope -p Delegate=yes evalfleet up";
    match found {
        Ok(cgroups) => {
            let lacking: Vec<&str> = ["cpu", "memory", "pids"]
                .into_iter()
                .filter(|name| !cgroups.controllers().contains(name))
                .collect();
            rights.push(if lacking.is_empty() {
                Right::have(name, cgroups.describe())
            } else {
                let found = format!("{}, without {}", cgroups.describe(), lacking.join(", "));
                Right::lack(name, found, format!("Delegate={} in its unit", lacking.join(" ")))
            });
            Some(cgroups)
        }
        Err(error) => {
            rights.push(Right::lack(name, format!("none can be made: {error}"), unit));
            None
        }
    }
}

/// Whether QEMU can filter its own system calls.
pub(super) fn seccomp() -> Option<Right> {
    let name = "seccomp";
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    Some(if actions.contains("kill") {
        Right::have(name, "QEMU's sandbox is on")
    } else {
        Right::lack(name, "the kernel filters no system calls", "a kernel with CONFIG_SECCOMP_FILTER")
    })
}

/// Whether /dev/kvm can be opened, where there is one.
pub(super) fn kvm() -> Option<Right> {
    let name = "kvm";
    if !Path::new("/dev/kvm").exists() {
        return None;
    }
    Some(match fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Right::have(name, "/dev/kvm opens"),
        Err(error) => Right::lack(
            name,
            format!("/dev/kvm: {error}"),
            "put the worker's account into the group kvm: usermod -aG kvm USER, and log in anew",
        ),
    })
}

/// Puts a jail up around a program that does nothing.
fn attempt(program: &Path, plan: &Plan) -> Result<(), String> {
    let plan = serde_json::to_string(plan).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    // Its standard input stays open until it has ended: a closed one means that its worker is gone.
    command
        .args(["warden", &plan, "true"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let leash = child.stdin.take();
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    drop(leash);
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nvm:x:998:997::/:/usr/sbin/nologin\n";
        assert_eq!(parse(passwd, "vm"), Some(Account::Fixed { uid: 998, gid: 997 }));
        assert_eq!(parse(passwd, "v"), None);
        assert_eq!(lookup("1234").unwrap(), Account::Fixed { uid: 1234, gid: 1234 });
    }

    #[test]
    fn what_is_missing_comes_with_its_fix() {
        let mut rights = Vec::new();
        let refused = io::Error::new(io::ErrorKind::PermissionDenied, "no");
        assert_eq!(cgroups(Err(refused), &mut rights), None);
        assert!(!rights[0].ok && rights[0].to_string().contains("Delegate=yes"), "{}", rights[0]);
    }
}
