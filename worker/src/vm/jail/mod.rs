//! The jail around every QEMU: as little of the host as it needs, in as much of it as it may use.
//!
//! [`Jail::find`] looks once what this worker has the rights for: namespaces (as root, or in a user
//! namespace), an account that is nobody else's, a cgroup. What is missing is said with its fix
//! ([`rights`]), and every QEMU gets the rest. The program `evalfleet-jail` ([`inside`]) carries a
//! [`plan::Plan`] out; [`cgroup`] is the host's half.

pub mod inside;
pub mod plan;
pub mod rights;

mod cgroup;
mod place;
mod root;

pub use cgroup::{Bounds, Tally};
pub use plan::Network;
pub use rights::Right;

pub(super) use cgroup::Cgroup;

use super::Error;
use cgroup::Cgroups;
use evalfleet_proto::ids::Sha256;
use evalfleet_service::settings;
use plan::{Account, Plan, Walls};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The program that starts QEMU.
pub(super) const PROGRAM: &str = "evalfleet-jail";
/// Accounts of VMs are this number and a process number: a stretch that no distribution, service manager
/// or container runtime hands out.
const ACCOUNTS: u32 = 0x7000_0000;

/// What a worker jails its VMs in. Cheap to clone: all its VMs share one.
#[derive(Debug, Clone, Default)]
pub struct Jail(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    walls: Walls,
    account: Account,
    cgroups: Option<Cgroups>,
    rights: Vec<Right>,
    made: AtomicU64,
}

/// A jail says nothing of what is in it: two machines are the same whatever they are locked up in.
impl PartialEq for Jail {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Jail {}

/// What one QEMU needs of the host, beside its folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// Files and folders that it reads.
    pub(super) read: Vec<PathBuf>,
    /// And that it writes.
    pub(super) write: Vec<PathBuf>,
    /// The network that it, not its guest, sees.
    pub(super) network: Network,
}

impl Jail {
    /// Looks what this process may do, for the VMs whose folders are in `vms_dir`.
    ///
    /// # Errors
    /// When the program is not there, the account is unknown, or a right is missing that the settings
    /// require.
    pub fn find(qemu: &settings::Qemu, vms_dir: &Path) -> Result<Self, Error> {
        let program = program().ok_or_else(|| {
            Error::Jail(format!("{PROGRAM} is not beside this program: cargo build --workspace --bins"))
        })?;
        let mut rights = Vec::new();
        let walls = rights::walls(&program, vms_dir, &mut rights);
        let account = rights::account(&program, vms_dir, walls, &qemu.user, ACCOUNTS, &mut rights)?;
        let name = &Sha256::of(vms_dir.as_os_str().as_encoded_bytes()).to_string()[..12];
        let cgroups = rights::cgroups(Cgroups::find(name), &mut rights);
        rights.extend(rights::seccomp());
        rights.extend(rights::kvm());
        let missing: Vec<String> = rights.iter().filter(|right| !right.ok).map(ToString::to_string).collect();
        if qemu.jail == settings::Jail::Required && !missing.is_empty() {
            return Err(Error::Jail(format!("qemu.jail is `required`, and {}", missing.join("; "))));
        }
        for right in &missing {
            tracing::warn!(right, "VMs are jailed with less than could be");
        }
        Ok(Self(Some(Arc::new(Inner { program, walls, account, cgroups, rights, made: AtomicU64::new(0) }))))
    }

    /// What was found, right by right.
    pub fn rights(&self) -> &[Right] {
        self.0.as_ref().map_or(&[], |inner| &inner.rights)
    }

    /// Makes the cgroup and the plan of one QEMU with `memory` and `cpus`; also gives the program.
    pub(super) fn plan(
        &self,
        run_dir: &Path,
        needs: Needs,
        bounds: Bounds,
    ) -> Result<(PathBuf, Plan, Option<Cgroup>), Error> {
        let inner = self.0.as_ref().ok_or_else(|| Error::Jail("none was found: no VM starts".to_owned()))?;
        let number = inner.made.fetch_add(1, Ordering::Relaxed);
        let cgroup = match &inner.cgroups {
            Some(cgroups) => {
                Some(cgroups.make(&number.to_string(), bounds).map_err(Error::host("making a VM's cgroup"))?)
            }
            None => None,
        };
        let counted = inner.cgroups.as_ref().is_some_and(Cgroups::counts_threads);
        let own = matches!(inner.account, Account::Own { .. });
        let plan = Plan {
            run_dir: run_dir.to_owned(),
            read: needs.read,
            write: needs.write,
            walls: inner.walls,
            account: inner.account,
            network: needs.network,
            cgroups: cgroup.as_ref().map_or_else(Vec::new, |cgroup| cgroup.dirs().to_vec()),
            threads: (own && !counted).then_some(bounds.threads),
        };
        Ok((inner.program.clone(), plan, cgroup))
    }
}

/// Takes back what a QEMU wrote and later ones are to read: only its account owned it.
///
/// # Errors
/// When a file is gone.
pub(super) fn reclaim(files: &[PathBuf]) -> Result<(), Error> {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for file in files {
        let done = chown(file, Some(uid), Some(gid))
            .and_then(|()| std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)));
        done.map_err(Error::host(format!("taking back {}", file.display())))?;
    }
    Ok(())
}

/// The program, beside this one; tests run one folder below.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let folders = own.ancestors().skip(1).take(2);
    folders.map(|dir| dir.join(PROGRAM)).find(|path| path.is_file())
}
