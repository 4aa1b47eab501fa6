//! What a jail is to be: written by the worker, carried out by the program `evalfleet-jail`.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One jail. A document on the program's command line: both ends are of one build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The VM's folder: QEMU starts in it, and may write in it.
    pub run_dir: PathBuf,
    /// What else it may read. Paths mean the same inside and outside.
    pub read: Vec<PathBuf>,
    /// What else it may write, such as the folder of a template that is being made.
    pub write: Vec<PathBuf>,
    /// How it is set apart.
    pub walls: Walls,
    /// Who it is.
    pub account: Account,
    /// Which network it sees.
    pub network: Network,
    /// The cgroups it is born into: folders, one for each hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// The most threads it may have, where its account is its own and no cgroup counts them.
    pub threads: Option<u64>,
}

/// How a QEMU is set apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Walls {
    /// Namespaces of its own for mounts, network, processes, names and System V objects.
    Namespaces,
    /// The same, made by an ordinary user inside a user namespace.
    UserNamespace,
    /// None: only what needs no right at all, which is no new privileges and a bound life.
    None,
}

/// As whom QEMU runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// As a user that nobody else is: this number and the jail's process number, which no two VMs of a
    /// host have at the same time.
    Own {
        /// The number that is added to.
        base: u32,
    },
    /// As this user.
    Fixed {
        /// Its number.
        uid: u32,
        /// Its group's.
        gid: u32,
    },
    /// As whoever the worker is.
    Same,
}

/// Which network a QEMU sees: not the guest, which sees what devices it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// An empty namespace, not even loopback. Unix sockets in its folder work.
    #[default]
    None,
    /// The host's, for user-mode networking with forwarded ports.
    Host,
}

impl Plan {
    /// A jail with nothing but a folder.
    pub fn bare(run_dir: PathBuf) -> Self {
        Self {
            run_dir,
            read: Vec::new(),
            write: Vec::new(),
            walls: Walls::None,
            account: Account::Same,
            network: Network::None,
            cgroups: Vec::new(),
            threads: None,
        }
    }
}
