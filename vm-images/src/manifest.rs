//! The manifest of an image: what it is made of, and the digest of each part and of the whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::foreign::Foreign;
use crate::recipe::{MachineSpec, Scenario};

/// The name of the manifest's file.
pub const FILE_NAME: &str = "manifest.json";

/// The name of the list of packages beside it: what [`Manifest::packages_text`] gives.
pub const PACKAGES_FILE_NAME: &str = "packages.txt";

/// The version of the manifest's form. A reader refuses what it does not know.
pub const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path} has form {found}, and this version reads form {FORMAT}")]
    Format { path: PathBuf, found: u32 },
}

/// The parts of an image. Each is one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The kernel as a bzImage.
    Kernel,
    /// The same kernel as an ELF file, for PVH.
    Vmlinux,
    Initrd,
    Root,
    Scratch,
    Index,
    Tools,
    /// Of a foreign image: its whole disk.
    Disk,
    /// What cloud-init is told.
    Seed,
    /// The key that may enter.
    SshKey,
}

impl Part {
    pub const ALL: [Self; 7] =
        [Self::Kernel, Self::Vmlinux, Self::Initrd, Self::Root, Self::Scratch, Self::Index, Self::Tools];

    /// What a foreign image consists of.
    pub const FOREIGN: [Self; 4] = [Self::Tools, Self::Disk, Self::Seed, Self::SshKey];

    pub fn file_name(self) -> &'static str {
        match self {
            Self::Kernel => "vmlinuz",
            Self::Vmlinux => "vmlinux",
            Self::Initrd => "initrd.cpio",
            Self::Root => "root.erofs",
            Self::Scratch => "scratch.ext4",
            Self::Index => "index.jsonl",
            Self::Tools => "tools.json",
            Self::Disk => "disk.raw",
            Self::Seed => "seed.img",
            Self::SshKey => "ssh_key",
        }
    }

    /// Whether its digest leaves its holes out, as [`Digest::of_sparse_file`] does.
    pub fn is_sparse(self) -> bool {
        matches!(self, Self::Scratch | Self::Disk)
    }

    /// The digest of the part in `folder`.
    pub(crate) fn digest(self, folder: &Path) -> io::Result<Digest> {
        let path = folder.join(self.file_name());
        if self.is_sparse() { Digest::of_sparse_file(&path) } else { Digest::of_file(&path) }
    }
}

/// One part's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Relative to the image's folder.
    pub path: String,
    pub sha256: Digest,
    /// In bytes, holes included.
    pub size: u64,
    /// The digest is that of a sparse file: what `sha256sum` says differs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sparse: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A Debian package in the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DebianInfo {
    pub suite: String,
    pub packages: Vec<Package>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelInfo {
    /// As `uname -r` says.
    pub release: String,
    /// In the order in which the agent loads them.
    pub modules: Vec<String>,
}

/// Digests of what went in: the same inputs need no new build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Of all but the agent and the descriptions: as long as it stays, the root is used again.
    pub root: Digest,
    /// Of everything.
    pub all: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    pub description: String,
    /// Of all parts: the image's identity, and the name of its folder.
    pub digest: Digest,
    pub inputs: Inputs,
    pub built_at: jiff::Timestamp,
    /// How long it took to make all but the initramfs, on the machine that did.
    #[serde(default)]
    pub build_ms: Option<u64>,
    /// The version of evalfleet that built it.
    pub builder: String,
    pub debian: DebianInfo,
    pub kernel: KernelInfo,
    pub files: BTreeMap<Part, FileInfo>,
    #[serde(default)]
    pub machine: MachineSpec,
    pub scenarios: Vec<Scenario>,
    /// The names of its tools; what they take is in `tools.json`.
    pub tools: Vec<String>,
    /// Of an image that others built: where it came from and how it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
}

impl Manifest {
    /// Reads the manifest of the image in `folder`.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let path = folder.join(FILE_NAME);
        let text = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let json = |source| Error::Json { path: path.clone(), source };
        let form: Form = serde_json::from_str(&text).map_err(json)?;
        if form.format != FORMAT {
            return Err(Error::Format { path, found: form.format });
        }
        serde_json::from_str(&text).map_err(json)
    }

    /// The digest of an image with these parts.
    pub(crate) fn digest_of(files: &BTreeMap<Part, FileInfo>) -> Digest {
        let lines: String = files.values().map(|file| format!("{} {}\n", file.sha256, file.path)).collect();
        Digest::of(lines.as_bytes())
    }

    /// The root's packages, one a line: name, blank, version.
    pub fn packages_text(&self) -> String {
        let packages = self.debian.packages.iter();
        packages.map(|package| format!("{} {}\n", package.name, package.version)).collect()
    }

    /// The parts that an image of this kind has.
    pub fn parts(&self) -> &'static [Part] {
        if self.foreign.is_some() { &Part::FOREIGN } else { &Part::ALL }
    }

    pub fn scenario(&self, name: &str) -> Option<&Scenario> {
        self.scenarios.iter().find(|scenario| scenario.name == name)
    }
}
