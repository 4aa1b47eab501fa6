//! The folder of backups: taking one, finding them, letting the oldest go.

use super::fingerprint::Fingerprint;
use super::{Checked, Error, MANIFEST, Manifest, SCHEMA, check, contents, file};
use crate::machine::files::write_atomically;
use evalfleet_datomic::Client;
use evalfleet_proto::Timestamp;
use evalfleet_service::settings::Settings;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The contents that facts point to, by hash, for all backups.
const BLOBS: &str = "blobs";
/// What the folder of a check begins with.
pub(super) const CHECKING: &str = "check-";
/// A copy that has no manifest for so long will not get one: whoever took it was ended on the way.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// A backup's name: when it was taken.
const NAME: &str = "%Y%m%dT%H%M%SZ";

/// A folder of backups.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
}

/// Takes a backup of the running fleet's history and checks it; then the oldest go that are too many.
///
/// # Errors
/// When it cannot be taken, or does not say the same as the history: then it stays, unchecked, and no other goes.
pub async fn take(settings: &Settings, store: &Client) -> Result<Manifest, Error> {
    let shelf = Shelf::of(settings);
    std::fs::create_dir_all(&shelf.dir).map_err(file("making", &shelf.dir))?;
    let taken = Timestamp::now();
    let name = taken.strftime(NAME).to_string();
    let uri = store.health().await?.uri;
    let copied = store.back_up(&name).await?;
    // After the facts: whatever they point to was there before them.
    contents::keep(settings, &shelf.blobs()).await?;
    let mut manifest = Manifest {
        schema: SCHEMA,
        name,
        taken,
        uri,
        basis_t: copied.basis_t,
        bytes: copied.bytes,
        checked: None,
    };
    shelf.write(&manifest)?;
    let original = Fingerprint::of(store, manifest.basis_t).await?;
    let restored = check::read(settings, &shelf, &manifest).await?;
    let checked = check::same(&shelf, &manifest.name, &original, &restored).await?;
    manifest.checked = Some(checked);
    shelf.write(&manifest)?;
    shelf.rotate(settings.datomic.backups_max)?;
    shelf.sweep()?;
    Ok(manifest)
}

impl Shelf {
    /// The folder that the settings name.
    pub fn of(settings: &Settings) -> Self {
        Self { dir: settings.backup_dir() }
    }

    /// Its path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join(BLOBS)
    }

    /// All backups, the newest first. What has no manifest is none.
    ///
    /// # Errors
    /// When the folder cannot be read; that there is none is no error.
    pub fn list(&self) -> Result<Vec<Manifest>, Error> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file("reading", &self.dir)(error)),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path().join(MANIFEST)));
        let texts = paths.filter_map(|path| std::fs::read_to_string(path).ok());
        let mut all: Vec<Manifest> = texts.filter_map(|text| serde_json::from_str(&text).ok()).collect();
        all.sort_by(|one, other| other.name.cmp(&one.name));
        Ok(all)
    }

    /// One by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, name: &str) -> Result<Manifest, Error> {
        let missing = || Error::Missing { name: name.to_owned(), dir: self.dir.clone() };
        self.list()?.into_iter().find(|manifest| manifest.name == name).ok_or_else(missing)
    }

    pub(super) fn write(&self, manifest: &Manifest) -> Result<(), Error> {
        let path = self.path(&manifest.name).join(MANIFEST);
        let text = serde_json::to_string_pretty(manifest).unwrap_or_default() + "\n";
        write_atomically(&path, text.as_bytes(), 0o600).map_err(file("writing", &path))
    }

    /// Notes that a backup was checked again.
    pub(super) fn note(&self, mut manifest: Manifest, checked: Checked) -> Result<Manifest, Error> {
        manifest.checked = Some(checked);
        self.write(&manifest)?;
        Ok(manifest)
    }

    /// Removes the oldest of those that were checked, until `max` of them are left. One that was not checked is
    /// nobody's only hope, and goes with them when all that are left are newer.
    fn rotate(&self, max: usize) -> Result<(), Error> {
        let all = self.list()?;
        let Some(oldest) = all.iter().filter(|manifest| manifest.checked.is_some()).nth(max - 1) else {
            return Ok(());
        };
        for manifest in all.iter().filter(|manifest| manifest.name < oldest.name) {
            let path = self.path(&manifest.name);
            std::fs::remove_dir_all(&path).map_err(file("removing", &path))?;
            tracing::info!(name = manifest.name, "an old backup is gone");
        }
        Ok(())
    }

    /// Removes what somebody left who was ended in the middle.
    fn sweep(&self) -> Result<(), Error> {
        let entries = std::fs::read_dir(&self.dir).map_err(file("reading", &self.dir))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_abandoned(path)) {
            std::fs::remove_dir_all(&path).map_err(file("removing", &path))?;
            tracing::info!(path = %path.display(), "an unfinished backup is gone");
        }
        Ok(())
    }
}

/// Whether it is of the form of [`NAME`].
fn is_name(name: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    };
    name.len() == 16 && name.bytes().enumerate().all(fits)
}

/// Whether a folder looks like a backup that somebody began long ago and never finished.
fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let age = path.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
    (is_name(name) || name.starts_with(CHECKING))
        && !path.join(MANIFEST).exists()
        && age.is_some_and(|age| age > ABANDONED_AFTER)
}

/// Copies the files of a tree that are not in the other.
pub(super) fn copy_new(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(to).map_err(file("making", to))?;
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file("reading", from)(error)),
    };
    for entry in entries {
        let path = entry.map_err(file("reading", from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_new(&path, &target)?;
        } else if !target.exists() {
            // Whole or not at all: what is half a content would pass for one.
            let partial = target.with_extension("partial");
            std::fs::copy(&path, &partial).map_err(file("copying", &path))?;
            std::fs::rename(&partial, &target).map_err(file("naming", &target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::ids::Sha256;
    use std::time::SystemTime;

    fn manifest(name: &str, checked: bool) -> Manifest {
        let checked = checked.then(|| Checked {
            at: Timestamp::UNIX_EPOCH,
            transactions: 1,
            datoms: 1,
            digest: Sha256::of(b""),
            documents: 0,
        });
        let (name, uri) = (name.to_owned(), "datomic:local://x".to_owned());
        Manifest { schema: SCHEMA, name, taken: Timestamp::UNIX_EPOCH, uri, basis_t: 1, bytes: 1, checked }
    }

    #[test]
    fn the_oldest_go_and_never_the_last_that_was_checked() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf { dir: dir.path().to_owned() };
        let put = |name: &str, checked| {
            std::fs::create_dir(shelf.path(name)).unwrap();
            shelf.write(&manifest(name, checked)).unwrap();
        };
        for (name, checked) in
            [("1", true), ("2", false), ("3", true), ("4", true), ("5", false), ("6", false)]
        {
            put(name, checked);
        }
        std::fs::create_dir(shelf.path("7.partial")).unwrap();
        let names = || shelf.list().unwrap().into_iter().map(|manifest| manifest.name).collect::<Vec<_>>();
        shelf.rotate(5).unwrap();
        assert_eq!(names().len(), 6, "three were checked, and five may be");
        shelf.rotate(2).unwrap();
        assert_eq!(names(), ["6", "5", "4", "3"]);
        shelf.rotate(1).unwrap();
        assert_eq!(names(), ["6", "5", "4"]);
        assert!(matches!(shelf.find("3"), Err(Error::Missing { .. })));
    }

    #[test]
    fn what_was_left_in_the_middle_goes_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf { dir: dir.path().to_owned() };
        let whole = Timestamp::UNIX_EPOCH.strftime(NAME).to_string();
        let put = |name: &str, days: u32| {
            std::fs::create_dir(shelf.path(name)).unwrap();
            if name == whole {
                shelf.write(&manifest(name, false)).unwrap();
            }
            let folder = std::fs::File::open(shelf.path(name)).unwrap();
            folder.set_modified(SystemTime::now() - days * ABANDONED_AFTER).unwrap();
        };
        for (name, days) in [
            (whole.as_str(), 9),
            ("20260102T030405Z", 2),
            ("20260102T030406Z", 0),
            ("20260102T0304050", 2),
            ("check-Xy3", 2),
            ("check-Xy4", 0),
            (BLOBS, 2),
        ] {
            put(name, days);
        }
        shelf.sweep().unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [whole.as_str(), "20260102T0304050", "20260102T030406Z", BLOBS, "check-Xy4"]);
    }

    #[test]
    fn contents_are_copied_once() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::create_dir_all(from.join("ab")).unwrap();
        std::fs::write(from.join("ab/cd"), "one").unwrap();
        copy_new(&from, &to).unwrap();
        std::fs::write(from.join("ab/cd"), "other").unwrap();
        std::fs::write(from.join("ab/ef"), "two").unwrap();
        copy_new(&from, &to).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("ab/cd")).unwrap(), "one");
        assert_eq!(std::fs::read_to_string(to.join("ab/ef")).unwrap(), "two");
    }
}
