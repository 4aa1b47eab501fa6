//! The folder of images on this machine: listing, choosing, verifying and publishing.
//!
//! ```text
//! <images>/<name>/current            a symbolic link to the digest in use, replaced atomically
//! <images>/<name>/<digest>/          one image, complete and read-only
//! <images>/<name>/.lock              held by whoever builds
//! <images>/<name>/.build-XXXXXX/     a build under way; what a killed one left goes with the next build
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::digest::Digest;
use crate::index::{self, Index};
use crate::manifest::{self, Manifest, Part};
use crate::recipe::is_image_name;
use crate::tool::ToolSpec;

mod superseded;

const CURRENT: &str = "current";
pub(crate) const BUILD_PREFIX: &str = ".build-";

/// Files of an image that are none of its parts; the manifest comes last, for it says that the others are there.
const BESIDE: [&str; 2] = [manifest::PACKAGES_FILE_NAME, manifest::FILE_NAME];

/// A program that is just being started shares its starter's files, locks too, until it runs: a lock that was given
/// back may seem to be held for a moment.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("there is no image `{0}`; make it with `evalfleet image build {0}`")]
    Missing(String),
    #[error("no image `{name}` has the digest {digest}; `evalfleet image list` shows those that are here")]
    NoSuchDigest { name: String, digest: String },
    #[error("`{name}@{digest}` is ambiguous: {count} images begin so")]
    Ambiguous { name: String, digest: String, count: usize },
    #[error(
        "the image `{name}` is damaged: {path} {what}; repair it with `evalfleet image build {name} --force`"
    )]
    Damaged { name: String, path: PathBuf, what: String },
    #[error("another build of the image `{0}` is running; wait for it to end")]
    Locked(String),
}

/// A text that does not name an image.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` names no image: NAME or NAME@DIGEST, with at least 6 digits of the digest")]
pub struct NotAReference(String);

/// An image as people name it: `base`, or `base@3f2a91…` for one that stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    pub name: String,
    /// The first digits of the digest, or all of them. None means the current one.
    pub digest: Option<String>,
}

impl FromStr for ImageRef {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, NotAReference> {
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(digest.strip_prefix("sha256:").unwrap_or(digest))),
        };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let sound =
            digest.is_none_or(|digest| (6..=64).contains(&digest.len()) && digest.bytes().all(is_digit));
        if !is_image_name(name) || !sound {
            return Err(NotAReference(text.to_owned()));
        }
        Ok(Self { name: name.to_owned(), digest: digest.map(str::to_owned) })
    }
}

/// One image on this machine.
#[derive(Debug, Clone)]
pub struct Image {
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// Whether its name alone means it.
    pub current: bool,
}

impl Image {
    pub fn path(&self, part: Part) -> PathBuf {
        self.folder.join(part.file_name())
    }

    /// Every object of the root.
    pub fn index(&self) -> Result<Index, index::Error> {
        Index::load(&self.path(Part::Index))
    }

    /// What the image's tools take.
    pub fn tools(&self) -> Result<Vec<ToolSpec>, Error> {
        let path = self.path(Part::Tools);
        let text = fs::read(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        serde_json::from_slice(&text).map_err(|error| self.damaged(path, error.to_string()))
    }

    /// Looks whether every file is there with its size. Costs next to nothing.
    pub fn check(&self) -> Result<(), Error> {
        for part in self.manifest.parts() {
            let path = self.path(*part);
            let Some(expected) = self.manifest.files.get(part) else {
                return Err(self.damaged(path, "is not in the manifest".to_owned()));
            };
            match fs::metadata(&path) {
                Ok(found) if found.len() == expected.size => {}
                Ok(found) => {
                    let what = format!("has {} bytes instead of {}", found.len(), expected.size);
                    return Err(self.damaged(path, what));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(self.damaged(path, "is missing".to_owned()));
                }
                Err(source) => return Err(Error::File { path, source }),
            }
        }
        Ok(())
    }

    /// Reads every file and compares its digest. Costs about half a second.
    pub fn verify(&self) -> Result<(), Error> {
        self.check()?;
        for (part, expected) in &self.manifest.files {
            let path = self.path(*part);
            let found =
                part.digest(&self.folder).map_err(|source| Error::File { path: path.clone(), source })?;
            if found != expected.sha256 {
                return Err(self.damaged(path, "was altered since it was built".to_owned()));
            }
        }
        if Manifest::digest_of(&self.manifest.files) != self.manifest.digest {
            let path = self.folder.join(manifest::FILE_NAME);
            return Err(self.damaged(path, "was altered since it was built".to_owned()));
        }
        Ok(())
    }

    fn damaged(&self, path: PathBuf, what: String) -> Error {
        Error::Damaged { name: self.manifest.name.clone(), path, what }
    }
}

/// The folder of images.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// A store in `folder`, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every image, by name, the newest of a name first. Damaged manifests are errors.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        let mut images = Vec::new();
        for name in names(&self.folder)?.into_iter().filter(|name| is_image_name(name)) {
            for digest in self.digests(&name)? {
                images.push(self.open(&name, &digest)?);
            }
        }
        images.sort_by(|a, b| {
            (&a.manifest.name, b.manifest.built_at).cmp(&(&b.manifest.name, a.manifest.built_at))
        });
        Ok(images)
    }

    /// The image that `reference` means, with all of its files in place.
    pub fn resolve(&self, reference: &ImageRef) -> Result<Image, Error> {
        let name = &reference.name;
        let digest = match &reference.digest {
            None => self.current(name)?.ok_or_else(|| Error::Missing(name.clone()))?,
            Some(begin) => {
                let missing = || Error::NoSuchDigest { name: name.clone(), digest: begin.clone() };
                let found: Vec<_> = self
                    .digests(name)?
                    .into_iter()
                    .filter(|digest| digest.as_str().starts_with(begin))
                    .collect();
                match found.as_slice() {
                    [one] => one.clone(),
                    [] => return Err(missing()),
                    several => {
                        let (name, digest) = (name.clone(), begin.clone());
                        return Err(Error::Ambiguous { name, digest, count: several.len() });
                    }
                }
            }
        };
        let image = self.open(name, &digest)?;
        image.check()?;
        Ok(image)
    }

    /// The digest that `name` alone means.
    pub fn current(&self, name: &str) -> Result<Option<Digest>, Error> {
        let link = self.folder.join(name).join(CURRENT);
        match fs::read_link(&link) {
            Ok(target) => Ok(Digest::try_from(target.to_string_lossy().into_owned()).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { path: link, source }),
        }
    }

    pub(crate) fn image_folder(&self, name: &str, digest: &Digest) -> PathBuf {
        self.folder.join(name).join(digest.as_str())
    }

    fn digests(&self, name: &str) -> Result<Vec<Digest>, Error> {
        Ok(names(&self.folder.join(name))?
            .into_iter()
            .filter_map(|name| Digest::try_from(name).ok())
            .collect())
    }

    fn open(&self, name: &str, digest: &Digest) -> Result<Image, Error> {
        let folder = self.image_folder(name, digest);
        let damaged = |path: PathBuf, what: String| Error::Damaged { name: name.to_owned(), path, what };
        let manifest = Manifest::load(&folder).map_err(|error| {
            damaged(folder.join(manifest::FILE_NAME), format!("cannot be read ({error})"))
        })?;
        if manifest.digest != *digest || manifest.name != name {
            return Err(damaged(folder, "holds another image's manifest".to_owned()));
        }
        let current = self.current(name)?.is_some_and(|current| current == *digest);
        Ok(Image { folder, manifest, current })
    }

    /// Takes the right to build `name`, until the lock is dropped or its process ends, however it ends.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, Error> {
        let folder = self.folder.join(name);
        let path = folder.join(".lock");
        let opened = fs::create_dir_all(&folder)
            .and_then(|()| OpenOptions::new().create(true).truncate(false).write(true).open(&path));
        let file = opened.map_err(|source| Error::File { path: path.clone(), source })?;
        for _ in 0..LOCK_TRIES {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(Error::File { path, source: error.into() }),
            }
        }
        Err(Error::Locked(name.to_owned()))
    }

    /// Removes what killed builds left. Only under the lock: whatever is there then belongs to nobody.
    pub(crate) fn remove_left_overs(&self, name: &str, _lock: &Lock) -> Result<(), Error> {
        let folder = self.folder.join(name);
        for left in names(&folder)?.into_iter().filter(|name| name.starts_with(BUILD_PREFIX)) {
            let path = folder.join(left);
            remove_abandoned(&path).map_err(|source| Error::File { path, source })?;
        }
        Ok(())
    }

    /// Makes `name` alone mean another of its images that are here, as long as it means `from`; gives what it means then.
    /// Done twice it changes nothing.
    ///
    /// # Errors
    /// When there is no such image, it is damaged, or somebody builds one of this name.
    pub fn switch(&self, name: &str, from: &Digest, to: &Digest) -> Result<Option<Digest>, Error> {
        let lock = self.lock(name)?;
        let current = self.current(name)?;
        if current.as_ref() != Some(from) {
            return Ok(current);
        }
        self.open(name, to)?.check()?;
        self.point(name, to)?;
        drop(lock);
        Ok(Some(to.clone()))
    }

    /// Makes `name` alone mean this digest, at one moment. Only under the lock.
    fn point(&self, name: &str, digest: &Digest) -> Result<(), Error> {
        let folder = self.folder.join(name);
        let (next, link) = (folder.join(format!("{BUILD_PREFIX}{CURRENT}")), folder.join(CURRENT));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        let _ = fs::remove_file(&next);
        symlink(digest.as_str(), &next).map_err(failed(&next))?;
        fs::rename(&next, &link).map_err(failed(&link))?;
        File::open(&folder).and_then(|opened| opened.sync_all()).map_err(failed(&folder))
    }

    /// Makes the complete image in `built` the current one. What of it was there already is replaced.
    pub(crate) fn publish(&self, built: &Path, manifest: &Manifest, _lock: &Lock) -> Result<Image, Error> {
        let folder = self.image_folder(&manifest.name, &manifest.digest);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { path, source }
        };
        let packages = built.join(manifest::PACKAGES_FILE_NAME);
        fs::write(&packages, manifest.packages_text()).map_err(failed(&packages))?;
        if folder.exists() {
            // Same digest, same contents: either a new manifest for them, or the repair of a damaged image. One file
            // at a time, the manifest last: at no moment is a file missing, and who has an old one open keeps it.
            let parts = manifest.parts().iter().map(|part| part.file_name());
            for name in parts.chain(BESIDE) {
                fs::rename(built.join(name), folder.join(name)).map_err(failed(&folder))?;
            }
        } else {
            fs::rename(built, &folder).map_err(failed(&folder))?;
        }
        self.point(&manifest.name, &manifest.digest)?;
        Ok(Image { folder, manifest: manifest.clone(), current: true })
    }
}

/// The right to build one image.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Removes a folder that nobody owns, but in which the programs of a build killed just now may still be ending.
fn remove_abandoned(folder: &Path) -> io::Result<()> {
    const ATTEMPTS: u32 = 50;
    for _ in 1..ATTEMPTS {
        match fs::remove_dir_all(folder) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy) =>
            {
                std::thread::sleep(Duration::from_millis(100));
            }
            removed => return removed,
        }
    }
    fs::remove_dir_all(folder)
}

/// The names in `folder`, sorted; none where it does not exist.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
