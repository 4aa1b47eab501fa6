//! How a clean VM comes out of a template. Whichever it is, each job has a QEMU of its own.

use super::Error;
use super::qapi::qmp::Qmp;
use super::qemu::STATE_NODE;
use evalfleet_service::settings;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// The oldest QEMU whose clones are sound: with 7.2, 9 of 200 came up broken.
pub const CLONES_FROM_MAJOR: u32 = 9;
/// What an internal snapshot is called.
const TAG: &str = "clean";

/// A way to a clean VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The template's memory file is mapped privately, the devices' state loaded.
    TemplateClone,
    /// Memory and devices are loaded from one file, in which each page has its place.
    MappedRam,
    /// Memory and devices are loaded from an internal snapshot, in a copy of the file that holds it.
    SnapshotLoad,
    /// It boots and warms up.
    ColdBoot,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::TemplateClone, Self::MappedRam, Self::SnapshotLoad, Self::ColdBoot];

    /// Chooses for a QEMU of this version.
    ///
    /// # Errors
    /// When the strategy that was asked for is not sound with it.
    pub fn choose(wanted: settings::Strategy, version: &str) -> Result<Self, Error> {
        use settings::Strategy as Wanted;
        let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        let sound = major >= CLONES_FROM_MAJOR;
        let newer = |strategy: Self| {
            let message = format!(
                "is version {version}, and qemu.strategy {} takes {CLONES_FROM_MAJOR} or newer: install that, or set it to auto",
                strategy.as_str()
            );
            if sound { Ok(strategy) } else { Err(Error::Qemu(message)) }
        };
        match wanted {
            Wanted::Auto if sound => Ok(Self::TemplateClone),
            Wanted::Auto => {
                tracing::warn!(
                    version,
                    "QEMU is too old for template clones: every VM loads a snapshot instead, which is slower"
                );
                Ok(Self::SnapshotLoad)
            }
            Wanted::TemplateClone => newer(Self::TemplateClone),
            Wanted::MappedRam => newer(Self::MappedRam),
            Wanted::SnapshotLoad => Ok(Self::SnapshotLoad),
            Wanted::ColdBoot => Ok(Self::ColdBoot),
        }
    }

    /// The word that results use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TemplateClone => "template-clone",
            Self::MappedRam => "mapped-ram",
            Self::SnapshotLoad => "snapshot-load",
            Self::ColdBoot => "cold-boot",
        }
    }

    /// Whether clones map the template's memory, which can then be compared with theirs.
    pub fn maps_memory(self) -> bool {
        self == Self::TemplateClone
    }

    /// The template's file with the devices' state, in its folder.
    pub(super) fn state_file(self) -> Option<&'static str> {
        match self {
            Self::TemplateClone | Self::MappedRam => Some("state"),
            Self::SnapshotLoad => Some("state.qcow2"),
            Self::ColdBoot => None,
        }
    }

    /// Gives a VM in `dir` the state file that its QEMU opens as a disk, a copy of `of` if that is there.
    pub(super) async fn lay_state(self, dir: &Path, of: Option<&Path>) -> Result<Option<PathBuf>, Error> {
        if self != Self::SnapshotLoad {
            return Ok(None);
        }
        let file = dir.join("state.qcow2");
        match of {
            Some(of) => {
                super::sparse::copy(of, &file).map_err(Error::host("copying the snapshot"))?;
            }
            None => empty_qcow2(&file).await?,
        }
        Ok(Some(file))
    }

    /// Keeps the state of a guest that stands still; `file` is the template's.
    pub(super) async fn freeze(self, qmp: &Qmp, file: Option<&Path>, limit: Duration) -> Result<(), Error> {
        match (self, file) {
            (Self::TemplateClone, Some(file)) => qmp.save_state(file, limit).await,
            (Self::MappedRam, Some(file)) => qmp.save_memory(file, limit).await,
            (Self::SnapshotLoad, _) => qmp.save_snapshot(STATE_NODE, TAG, limit).await,
            (Self::TemplateClone | Self::MappedRam, None) | (Self::ColdBoot, _) => Ok(()),
        }
    }

    /// Takes that state into a fresh QEMU.
    pub(super) async fn load(self, qmp: &Qmp, file: Option<&Path>, limit: Duration) -> Result<(), Error> {
        match (self, file) {
            (Self::TemplateClone, Some(file)) => qmp.load_state(file, limit).await,
            (Self::MappedRam, Some(file)) => qmp.load_memory(file, limit).await,
            (Self::SnapshotLoad, _) => qmp.load_snapshot(STATE_NODE, TAG, limit).await,
            (Self::TemplateClone | Self::MappedRam, None) | (Self::ColdBoot, _) => Ok(()),
        }
    }
}

/// Makes a disk that holds nothing but snapshots.
async fn empty_qcow2(file: &Path) -> Result<(), Error> {
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]).arg(file).arg("1M").kill_on_drop(true);
    let output =
        command.output().await.map_err(Error::host("starting qemu-img (Debian: package qemu-utils)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Qemu(format!("qemu-img: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::Strategy as Wanted;

    #[test]
    fn an_old_qemu_loads_snapshots_unless_it_is_told_what_it_cannot() {
        for (version, auto) in [
            ("10.0.2", Strategy::TemplateClone),
            ("9.0.0", Strategy::TemplateClone),
            ("8.2.2", Strategy::SnapshotLoad),
            ("7.2.17", Strategy::SnapshotLoad),
        ] {
            assert_eq!(Strategy::choose(Wanted::Auto, version).unwrap(), auto, "{version}");
        }
        let error = Strategy::choose(Wanted::TemplateClone, "8.2.2").unwrap_err().to_string();
        assert!(error.contains("8.2.2") && error.contains("qemu.strategy"), "{error}");
        assert_eq!(Strategy::choose(Wanted::ColdBoot, "7.2.17").unwrap(), Strategy::ColdBoot);
    }
}
