//! A recipe: a folder with `recipe.toml`, the image's tools and its sample workspace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::scenario;
pub use crate::scenario::Scenario;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no recipe in {folder}: {source}")]
    Read { folder: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{path}: {what}")]
    Invalid { path: PathBuf, what: String },
}

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Where it was read from.
    pub folder: PathBuf,
    pub spec: Spec,
}

/// The content of `recipe.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub name: String,
    pub description: String,
    pub debian: Debian,
    pub root: Root,
    pub kernel: KernelSpec,
    pub scratch: Scratch,
    #[serde(default)]
    pub machine: MachineSpec,
    #[serde(default)]
    pub scenarios: Vec<Scenario>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    pub suite: String,
    /// Unset: the host's own where the host is Debian, else mmdebstrap's default.
    pub mirror: Option<String>,
    #[serde(default = "main_only")]
    pub components: Vec<String>,
    /// Unset: what the host's apt trusts.
    pub keyring: Option<PathBuf>,
    #[serde(default)]
    pub packages: Vec<String>,
}

fn main_only() -> Vec<String> {
    vec!["main".to_owned()]
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    pub hostname: String,
    #[serde(default)]
    pub compression: Compression,
    /// The folder that becomes /workspace, relative to the recipe's.
    pub workspace: Option<String>,
    /// Folders of tools, relative to the recipe's: together they become /opt/evalfleet/tools.
    #[serde(default = "own_tools")]
    pub tools: Vec<String>,
    /// Folders, relative to the recipe's, each of which becomes the one commit of a Git repository, as the bundle
    /// /opt/evalfleet/repositories/NAME.bundle. Needs the package git.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// Free space that a build takes and gives back: packages, unpacked, and the packed root.
    #[serde(default = "build_space")]
    pub build_space: Size,
}

fn own_tools() -> Vec<String> {
    vec!["tools".to_owned()]
}

fn build_space() -> Size {
    Size(3 << 29)
}

/// What the image asks of the machines that run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    /// VMs of the image have at least this much memory, whatever the worker's settings say.
    pub memory_min: Option<Size>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    Lz4,
    None,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSpec {
    pub package: String,
    pub modules: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    pub size: Size,
    pub inodes: u32,
}

/// A number of bytes, written with K, M, G or T for powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (digits, shift) = match text.char_indices().next_back() {
            Some((at, 'K')) => (&text[..at], 10),
            Some((at, 'M')) => (&text[..at], 20),
            Some((at, 'G')) => (&text[..at], 30),
            Some((at, 'T')) => (&text[..at], 40),
            _ => (text.as_str(), 0),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| format!("`{text}` is not a size such as 512M or 4G"))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        let unit = units.iter().find(|(shift, _)| size.0 != 0 && size.0.trailing_zeros() >= *shift);
        unit.map_or(size.0.to_string(), |(shift, letter)| format!("{}{letter}", size.0 >> shift))
    }
}

impl Recipe {
    /// Reads and checks the recipe in `folder`.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("recipe.toml");
        let text =
            fs::read_to_string(&path).map_err(|source| Error::Read { folder: folder.to_owned(), source })?;
        let spec: Spec = toml::from_str(&text)
            .map_err(|source| Error::Toml { path: path.clone(), source: Box::new(source) })?;
        spec.validate().map_err(|what| Error::Invalid { path, what })?;
        Ok(Self { folder: folder.to_owned(), spec })
    }

    /// The recipes that come with the source: the folders of this one that have a `recipe.toml`.
    pub fn source_folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    /// The folders with the image's tools.
    pub fn tools(&self) -> Vec<PathBuf> {
        self.spec.root.tools.iter().map(|name| self.folder.join(name)).collect()
    }

    /// The folder that becomes /workspace.
    pub fn workspace(&self) -> Option<PathBuf> {
        self.spec.root.workspace.as_ref().map(|name| self.folder.join(name))
    }

    /// The folders that become Git repositories, by name.
    pub fn repositories(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let folders = self.spec.root.repositories.iter();
        folders.map(|name| (name.rsplit('/').next().unwrap_or(name), self.folder.join(name)))
    }
}

impl Spec {
    fn validate(&self) -> Result<(), String> {
        if !is_image_name(&self.name) {
            return Err(format!(
                "`{}` is no name for an image: lower-case letters, digits and dashes",
                self.name
            ));
        }
        let plain = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte);
            !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits)
        };
        let debian = &self.debian;
        // These end up on command lines and in apt's sources.
        let texts =
            debian.packages.iter().chain(&debian.components).chain([&debian.suite, &self.kernel.package]);
        if let Some(strange) = texts.chain([&self.root.hostname]).find(|text| !plain(text)) {
            return Err(format!("`{strange}` is no name of a suite, component, package or host"));
        }
        if debian.mirror.as_ref().is_some_and(|mirror| mirror.contains(char::is_whitespace)) {
            return Err("the mirror is not a plain URL".to_owned());
        }
        if !(64 << 20..=16 << 40).contains(&self.scratch.size.bytes()) {
            return Err("the scratch disk's size must be between 64M and 16T".to_owned());
        }
        let memory_fits = |size: &Size| (64 << 20..=1 << 40).contains(&size.bytes());
        if !self.machine.memory_min.as_ref().is_none_or(memory_fits) {
            return Err("the memory of a VM must be between 64M and 1T".to_owned());
        }
        if let Some(strange) =
            self.root.repositories.iter().find(|path| !path.rsplit('/').next().is_some_and(plain))
        {
            return Err(format!("`{strange}` does not end with a name for a repository"));
        }
        if !self.root.repositories.is_empty() && !debian.packages.iter().any(|package| package == "git") {
            return Err("repositories are made by the image's own git: add that package".to_owned());
        }
        scenario::validate(&self.scenarios)
    }
}

/// Whether `name` can name an image, and with it a folder.
pub(crate) fn is_image_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && !name.starts_with('-') && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipes_of_the_source_are_sound() {
        for name in ["base", "eval", "rust"] {
            let recipe = Recipe::load(&Recipe::source_folder().join(name)).unwrap();
            assert_eq!(recipe.spec.name, name);
            assert_eq!(recipe.spec.scenarios[0].name, "default");
            assert!(
                recipe.workspace().unwrap().is_dir() && recipe.tools().iter().all(|folder| folder.is_dir())
            );
            assert!(recipe.repositories().all(|(_, folder)| folder.is_dir()));
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for text in ["512M", "4G", "0", "3K", "5000"] {
            assert_eq!(String::from(Size::try_from(text.to_owned()).unwrap()), text);
        }
        for text in ["", "G", "-1G", "4g", "1.5G", "99999999999T"] {
            assert!(Size::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_names_the_file_and_the_fault() {
        let folder = tempfile::tempdir().unwrap();
        let good = fs::read_to_string(Recipe::source_folder().join("base/recipe.toml")).unwrap();
        for (from, to, message) in [
            ("name = \"base\"", "name = \"../base\"", "no name for an image"),
            ("\"trixie\"", "\"trixie; rm\"", "no name of a suite"),
            ("\"python3-minimal\"", "\"--simulate\"", "no name of a suite"),
            ("\"4G\"", "\"4\"", "between 64M and 16T"),
            ("inodes", "inode", "unknown field"),
            ("compression", "repositories = [\"a/b c\"]\ncompression", "name for a repository"),
            ("compression", "repositories = [\"../workspace\"]\ncompression", "add that package"),
            ("[scratch]", "[machine]\nmemory_min = \"1M\"\n[scratch]", "between 64M and 1T"),
        ] {
            fs::write(folder.path().join("recipe.toml"), good.replace(from, to)).unwrap();
            let error = Recipe::load(folder.path()).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains("recipe.toml"), "{error}");
        }
    }
}
