//! Images that others built: a disk with a boot loader, an init and a channel of its own.
//!
//! ```text
//!  FILE.qcow2 or raw ── header, qemu-img info, check ──▶ disk.raw   the same disk, sparse
//!                                    ssh-keygen ──▶ ssh_key         who may enter
//!                                    cloud-init's form ──▶ seed.img told to its first boot
//! ```
//!
//! The file is hostile until its header has been read here: what names other files is refused before any
//! program opens it, and the programs that do are bounded. Finding out how the image is reached takes a
//! boot, which is the worker's; [`found`] writes it down.

mod header;
mod seed;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::command::{self, command};
use crate::digest::Digest;
use crate::manifest::{self, DebianInfo, FileInfo, Inputs, KernelInfo, Manifest, Part};
use crate::recipe::{MachineSpec, Scenario, is_image_name};
use crate::store::{self, BUILD_PREFIX, Image, ImageRef, Store};

pub use header::{DISK_BYTES_MAX, Format};

/// Bounds of the programs that read the file: address space and processor time.
const PROGRAM_BOUNDS: [&str; 2] = ["--as=4294967296", "--cpu=600"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{path} cannot be imported: {why}")]
    Refused { path: PathBuf, why: String },
    #[error(
        "`{0}` is no name for an image: at most 63 small letters, digits and `-`; give another with --name"
    )]
    Name(String),
    #[error("`{0}` is no user's name")]
    User(String),
    #[error("{0} (Debian: packages qemu-utils, openssh-client, util-linux)")]
    Command(#[from] command::Error),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("writing cloud-init's seed: {0}")]
    Seed(io::Error),
}

/// How the inside of a foreign image is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Not known yet: whichever answers first.
    #[default]
    Auto,
    /// An sshd that takes our key.
    Ssh,
    /// The QEMU guest agent.
    Qga,
}

impl Channel {
    /// The word that people and documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ssh => "ssh",
            Self::Qga => "qga",
        }
    }
}

/// What a manifest says of a foreign image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// The name of the file it came from.
    pub source: String,
    /// That file's digest.
    pub source_sha256: Digest,
    /// How it is reached.
    pub channel: Channel,
    /// Who enters it over ssh; others than root need `sudo` without a password there.
    pub user: String,
}

/// What an import is told.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The folder of images.
    pub images: PathBuf,
    /// The qcow2 or raw file.
    pub file: PathBuf,
    /// The image's name; the file's own without its ending when missing.
    pub name: Option<String>,
    /// How it is reached.
    pub channel: Channel,
    /// Who enters it over ssh.
    pub user: String,
}

/// Imports a file, or finds it imported: the second is told by `false`. Blocks for as long as that takes.
///
/// # Errors
/// When the file is refused, or cannot be read or kept.
pub fn import(options: &ImportOptions) -> Result<(Image, bool), Error> {
    let name = image_name(options)?;
    let user = options.user.as_str();
    if user.is_empty()
        || user.starts_with('-')
        || !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return Err(Error::User(user.to_owned()));
    }
    let refused = |why: String| Error::Refused { path: options.file.clone(), why };
    let format = header::look(&options.file).map_err(|error| refused(error.to_string()))?;
    let source_sha256 = Digest::of_file(&options.file)
        .map_err(|source| Error::File { path: options.file.clone(), source })?;
    let inputs = Digest::of(
        serde_json::json!(["foreign", 1, source_sha256, user, options.channel]).to_string().as_bytes(),
    );
    let store = Store::new(&options.images);
    if let Some(image) = imported(&store, &name, &inputs)? {
        return Ok((image, false));
    }
    let lock = store.lock(&name)?;
    store.remove_left_overs(&name, &lock)?;
    let work = options.images.join(&name).join(format!("{BUILD_PREFIX}import"));
    let made = || -> Result<Image, Error> {
        fs::create_dir_all(&work).map_err(|source| Error::File { path: work.clone(), source })?;
        // What the program says of the file is what people want to know, and not how it was called.
        let converted = convert(&options.file, format, &work);
        if let Err(Error::Command(command::Error::Failed { tail, .. })) = converted {
            return Err(refused(tail));
        }
        converted?;
        let id = &source_sha256.as_str()[..16];
        seed::write(&work, &name, id, user)?;
        let foreign = Foreign {
            source: options.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            source_sha256: source_sha256.clone(),
            channel: options.channel,
            user: user.to_owned(),
        };
        let manifest = manifest(&work, &name, inputs.clone(), foreign)?;
        write_manifest(&work, &manifest)?;
        Ok(store.publish(&work, &manifest, &lock)?)
    };
    let image = made();
    if image.is_err() {
        let _ = fs::remove_dir_all(&work);
    }
    Ok((image?, true))
}

/// Writes down how `image` was reached.
///
/// # Errors
/// When its manifest cannot be replaced.
pub fn found(image: &mut Image, channel: Channel) -> Result<(), Error> {
    if let Some(foreign) = &mut image.manifest.foreign
        && foreign.channel != channel
    {
        foreign.channel = channel;
        write_manifest(&image.folder, &image.manifest)?;
    }
    Ok(())
}

fn image_name(options: &ImportOptions) -> Result<String, Error> {
    let name = options.name.clone().unwrap_or_else(|| name_of(&options.file));
    if is_image_name(&name) { Ok(name) } else { Err(Error::Name(name)) }
}

/// A name out of the file's: `Ubuntu-22.04_minimal.qcow2` gives `ubuntu-22-04-minimal`.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let fitting = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    stem.chars().map(fitting).collect::<String>().trim_matches('-').to_owned()
}

/// The current image of `name`, if it is of the same inputs and whole.
fn imported(store: &Store, name: &str, inputs: &Digest) -> Result<Option<Image>, Error> {
    match store.resolve(&ImageRef { name: name.to_owned(), digest: None }) {
        Ok(image) if image.manifest.inputs.all == *inputs => Ok(Some(image)),
        Ok(_) | Err(store::Error::Missing(_) | store::Error::Damaged { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Checks the file with QEMU's own tool, and unpacks it.
fn convert(file: &Path, format: Format, work: &Path) -> Result<(), Error> {
    let bounded = |verb: &str| {
        let mut run = command("prlimit");
        run.args(PROGRAM_BOUNDS).args(["--", "qemu-img", verb, "-f", format.as_str()]);
        run
    };
    if format == Format::Qcow2 {
        let mut check = bounded("check");
        check.arg("-q").arg(file);
        command::run(check, |_| ())?;
    }
    let mut convert = bounded("convert");
    convert.args(["-O", "raw"]).arg(file).arg(work.join(Part::Disk.file_name()));
    Ok(command::run(convert, |_| ())?)
}

fn manifest(work: &Path, name: &str, inputs: Digest, foreign: Foreign) -> Result<Manifest, Error> {
    fs::write(work.join(Part::Tools.file_name()), "[]")
        .map_err(|source| Error::File { path: work.join(Part::Tools.file_name()), source })?;
    let mut files = BTreeMap::new();
    for part in Part::FOREIGN {
        let path = work.join(part.file_name());
        let failed = |source| Error::File { path: path.clone(), source };
        let mode = if part == Part::SshKey { 0o400 } else { 0o444 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        let info = FileInfo {
            path: part.file_name().to_owned(),
            sha256: part.digest(work).map_err(failed)?,
            size: fs::metadata(&path).map_err(failed)?.len(),
            sparse: part.is_sparse(),
        };
        files.insert(part, info);
    }
    Ok(Manifest {
        format: manifest::FORMAT,
        name: name.to_owned(),
        description: format!("imported from {}", foreign.source),
        digest: Manifest::digest_of(&files),
        inputs: Inputs { root: inputs.clone(), all: inputs },
        built_at: jiff::Timestamp::now(),
        build_ms: None,
        builder: env!("CARGO_PKG_VERSION").to_owned(),
        debian: DebianInfo { suite: String::new(), packages: Vec::new() },
        kernel: KernelInfo { release: String::new(), modules: Vec::new() },
        files,
        machine: MachineSpec::default(),
        scenarios: vec![Scenario {
            name: "base".to_owned(),
            description: "as it boots".to_owned(),
            setup: Vec::new(),
            setup_seconds: 1,
            warm: vec![vec!["true".to_owned()]],
            rewarm: vec![vec!["true".to_owned()]],
        }],
        tools: Vec::new(),
        foreign: Some(foreign),
    })
}

/// Replaces the manifest in `folder` at one stroke.
fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), Error> {
    let (next, path) = (folder.join(".manifest.json"), folder.join(manifest::FILE_NAME));
    let failed = |source| Error::File { path: path.clone(), source };
    let text = serde_json::to_vec_pretty(manifest).map_err(|error| failed(error.into()))?;
    fs::write(&next, text).map_err(failed)?;
    fs::rename(&next, &path).map_err(failed)
}

#[cfg(test)]
mod tests;
