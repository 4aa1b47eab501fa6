//! The folder of templates on this machine: what is there, how good it is, and what has to go.
//!
//! ```text
//! <templates>/<key>/            a good template: it appears by a rename, complete and probed
//! <templates>/<key>/template.json   what it was made of; whoever uses the template holds a shared lock on it
//! <templates>/<key>/used        touched at each use
//! <templates>/<key>.lock        held by whoever makes or opens it
//! <templates>/<key>.failed      why it could not be made
//! <templates>/.build-<key>/     one under way, or what a killed maker left
//! ```
//!
//! Workers make templates; this module only keeps the books, so that the command needs no worker for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The name of the record in a template's folder.
pub const RECORD: &str = "template.json";
const USED: &str = "used";
const BUILD_PREFIX: &str = ".build-";
const BLOCK: usize = 64 << 10;

/// What a template was made of, and what it consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// A digest over everything it was made of: its key.
    pub digest: String,
    /// The image's digest.
    pub image: String,
    /// The image's name.
    pub image_name: String,
    /// What it was warmed with.
    pub scenario: String,
    /// How clones of it are made.
    pub strategy: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// QEMU's version.
    pub qemu: String,
    /// The machine type.
    pub machine: String,
    /// The processor's model.
    pub cpu: String,
    /// A VM's memory, in bytes.
    pub memory: u64,
    /// A VM's processors.
    pub cpus: u32,
    /// When it was made.
    pub made: Timestamp,
    /// How long its guest took to boot, in milliseconds.
    pub boot_ms: u64,
    /// Its files, as they were when it was probed.
    pub files: BTreeMap<String, Content>,
    /// The pages of memory that a clone differs in once it is loaded.
    pub touched: BTreeSet<u64>,
}

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its length in bytes, holes included.
    pub bytes: u64,
    /// Over its blocks that are not zero, with their places.
    pub sha256: String,
}

impl Content {
    /// Reads a file, but not its holes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut hasher = sha2::Sha256::new();
        let mut block = vec![0; BLOCK];
        let mut at = 0;
        while at < bytes {
            let data = match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => data,
                // Nothing but a hole follows.
                Err(rustix::io::Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            // What is a hole and what a written zero is the file system's business: only content counts.
            at = data - data % BLOCK as u64;
            let count = (bytes - at).min(BLOCK as u64) as usize;
            file.read_exact_at(&mut block[..count], at)?;
            if block[..count].iter().any(|byte| *byte != 0) {
                hasher.update(at.to_le_bytes());
                hasher.update(&block[..count]);
            }
            at += count as u64;
        }
        Ok(Self { bytes, sha256: hex::encode(hasher.finalize()) })
    }
}

/// How a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It passed its probe.
    Good,
    /// The same, and a worker has it open.
    InUse,
    /// It is being made.
    Building,
    /// It could not be made, or nobody can tell what it is.
    Failed,
}

impl State {
    /// The word that people read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::InUse => "in use",
            Self::Building => "building",
            Self::Failed => "failed",
        }
    }
}

/// One template.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its key: the first digits of its digest.
    pub key: String,
    /// How it is.
    pub state: State,
    /// What it was made of, where that is known.
    pub record: Option<Record>,
    /// What it takes on the disk.
    pub bytes: u64,
    /// When it was last used.
    pub last_use: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    path: PathBuf,
}

/// Why a template could not be made: the content of `<key>.failed`.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    record: Option<Record>,
    error: String,
}

/// The folder of a machine's templates.
#[derive(Debug, Clone)]
pub struct Templates {
    dir: PathBuf,
}

impl Templates {
    /// The templates in `dir`, which need not be there.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where the template `key` is when it is good.
    pub fn home(&self, key: &str) -> PathBuf {
        self.dir.join(key)
    }

    /// Where it is made.
    pub fn build(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{BUILD_PREFIX}{key}"))
    }

    /// Takes the lock of the template `key`, waiting for whoever has it: makers and openers, one at a time.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn lock(&self, key: &str) -> io::Result<File> {
        fs::create_dir_all(&self.dir)?;
        let file = File::create(self.lock_path(key))?;
        file.lock()?;
        Ok(file)
    }

    /// Reads a template's record, if it is there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn record(&self, key: &str) -> io::Result<Option<Record>> {
        match fs::read(self.home(key).join(RECORD)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that the template `key` is used, and holds it until the file is dropped.
    ///
    /// # Errors
    /// When it is not there.
    pub fn hold(&self, key: &str) -> io::Result<File> {
        let held = File::open(self.home(key).join(RECORD))?;
        held.lock_shared()?;
        self.touch(key)?;
        Ok(held)
    }

    /// Notes that the template `key` is used.
    ///
    /// # Errors
    /// When its folder is gone.
    pub fn touch(&self, key: &str) -> io::Result<()> {
        File::create(self.home(key).join(USED))?.set_modified(std::time::SystemTime::now())
    }

    /// Publishes what was made in [`Self::build`]: writes its record and renames it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn publish(&self, key: &str, record: &Record) -> io::Result<()> {
        let build = self.build(key);
        fs::write(build.join(RECORD), serde_json::to_vec_pretty(record)?)?;
        fs::rename(&build, self.home(key))?;
        let _ = fs::remove_file(self.failed_path(key));
        Ok(())
    }

    /// Takes the template `key` out of service, and notes why until it is made anew. Those who use it keep their open
    /// files.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn quarantine(&self, key: &str, why: &str) -> io::Result<()> {
        let record = self.record(key).unwrap_or_default();
        // Under another name first: nobody shall find half of it.
        let bad = self.dir.join(format!("{BUILD_PREFIX}{key}.bad-{}", std::process::id()));
        let _ = fs::remove_dir_all(&bad);
        fs::rename(self.home(key), &bad)?;
        self.note_failure(key, record, why);
        fs::remove_dir_all(&bad)
    }

    /// Notes why the template `key` could not be made, and removes what was begun.
    pub fn failed(&self, key: &str, record: Option<Record>, error: &str) {
        let _ = fs::remove_dir_all(self.build(key));
        self.note_failure(key, record, error);
    }

    fn note_failure(&self, key: &str, record: Option<Record>, error: &str) {
        if let Ok(text) = serde_json::to_vec_pretty(&Failure { record, error: error.to_owned() }) {
            // Only a note for people: on a full disk there is none.
            let _ = fs::write(self.failed_path(key), text);
        }
    }

    /// Lists all templates, the last used first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(key) = name.strip_prefix(BUILD_PREFIX) {
                found.push(self.listed_build(key, path.clone()));
            } else if let Some(key) = name.strip_suffix(".failed") {
                found.push(listed_failure(key, &path));
            } else if path.is_dir() {
                found.push(self.listed_home(name, path.clone()));
            }
        }
        found.sort_by(|one, other| other.last_use.cmp(&one.last_use).then_with(|| one.key.cmp(&other.key)));
        Ok(found)
    }

    fn listed_home(&self, key: &str, path: PathBuf) -> Listed {
        let (record, error) = match self.record(key) {
            Ok(Some(record)) => (Some(record), None),
            Ok(None) => (None, Some("its record is missing".to_owned())),
            Err(error) => (None, Some(format!("its record cannot be read: {error}"))),
        };
        let in_use = File::open(path.join(RECORD)).is_ok_and(|file| file.try_lock().is_err());
        let state = match (&record, in_use) {
            (None, _) => State::Failed,
            (Some(_), true) => State::InUse,
            (Some(_), false) => State::Good,
        };
        let used = modified(&path.join(USED)).or_else(|| record.as_ref().map(|record| record.made));
        Listed { key: key.to_owned(), state, record, bytes: allocated(&path), last_use: used, error, path }
    }

    fn listed_build(&self, key: &str, path: PathBuf) -> Listed {
        let building = File::open(self.lock_path(key)).is_ok_and(|file| file.try_lock().is_err());
        let (state, error) = if building {
            (State::Building, None)
        } else {
            (State::Failed, Some("its maker was killed".to_owned()))
        };
        let used = modified(&path);
        Listed {
            key: key.to_owned(),
            state,
            record: None,
            bytes: allocated(&path),
            last_use: used,
            error,
            path,
        }
    }

    /// Removes failed ones, those whose image `keep` does not name, and then the least recently used until
    /// the rest takes no more than `bytes_max`. Never one that is in use or being made. Tells what went.
    ///
    /// # Errors
    /// When the folder cannot be read, or one of them not removed.
    pub fn gc(&self, bytes_max: u64, keep: &dyn Fn(&Record) -> bool) -> io::Result<Vec<Listed>> {
        self.sweep(bytes_max, keep, &mut |template| self.remove(template))
    }

    /// Tells what [`Self::gc`] would remove.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn would_go(&self, bytes_max: u64, keep: &dyn Fn(&Record) -> bool) -> io::Result<Vec<Listed>> {
        self.sweep(bytes_max, keep, &mut |_| Ok(true))
    }

    fn sweep(
        &self,
        bytes_max: u64,
        keep: &dyn Fn(&Record) -> bool,
        remove: &mut dyn FnMut(&Listed) -> io::Result<bool>,
    ) -> io::Result<Vec<Listed>> {
        let listed = self.list()?;
        let mut left: u64 = listed.iter().map(|template| template.bytes).sum();
        let mut gone = Vec::new();
        // The least recently used come first.
        for template in listed.into_iter().rev() {
            let goes = match template.state {
                State::Failed => true,
                State::Good => left > bytes_max || template.record.as_ref().is_some_and(|it| !keep(it)),
                State::InUse | State::Building => false,
            };
            if goes && remove(&template)? {
                left = left.saturating_sub(template.bytes);
                gone.push(template);
            }
        }
        Ok(gone)
    }

    /// Removes one unless somebody began to use it meanwhile.
    fn remove(&self, template: &Listed) -> io::Result<bool> {
        if template.path.is_file() {
            return fs::remove_file(&template.path).map(|()| true);
        }
        // Held until it is gone, so that nobody opens or makes it now.
        let lock = File::create(self.lock_path(&template.key))?;
        if lock.try_lock().is_err() {
            return Ok(false);
        }
        match File::open(template.path.join(RECORD)) {
            Ok(record) if record.try_lock().is_err() => Ok(false),
            Ok(_) | Err(_) => fs::remove_dir_all(&template.path).map(|()| true),
        }
    }

    fn lock_path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.lock"))
    }

    fn failed_path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.failed"))
    }
}

fn listed_failure(key: &str, path: &Path) -> Listed {
    let failure = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Failure>(&text).ok());
    let (record, error) = failure.map_or((None, None), |failure| (failure.record, Some(failure.error)));
    Listed {
        key: key.to_owned(),
        state: State::Failed,
        record,
        bytes: 0,
        last_use: modified(path),
        error,
        path: path.to_owned(),
    }
}

fn modified(path: &Path) -> Option<Timestamp> {
    fs::metadata(path).and_then(|file| file.modified()).ok().and_then(|at| Timestamp::try_from(at).ok())
}

/// What a template's folder takes on the disk.
fn allocated(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let files = entries.flatten().filter_map(|entry| entry.metadata().ok());
    files.map(|file| file.blocks() * 512).sum()
}

#[cfg(test)]
mod tests;
