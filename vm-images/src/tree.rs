//! Folders that go into an image: what is in them, in a fixed order, and their digest.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Names that development leaves in a folder and that belong to no image.
const IGNORED: [&str; 3] = ["__pycache__", ".git", "target"];

/// Files of one folder are bounded: an image's own data belongs in a package or a recipe, not in thousands of files.
const FILES_MAX: usize = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {what}")]
    Unsuitable { path: PathBuf, what: &'static str },
}

/// A regular file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Relative to the folder.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) executable: bool,
}

/// The regular files below `folder`, sorted by name.
pub(crate) fn files(folder: &Path) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    collect(folder, "", &mut files)?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// A digest of names, executable bits and contents: what decides whether an image has to be built again.
pub fn digest(folder: &Path) -> Result<Digest, Error> {
    let mut text = String::new();
    for file in files(folder)? {
        let content =
            Digest::of_file(&file.path).map_err(|source| Error::Read { path: file.path.clone(), source })?;
        text.push_str(&format!("{content} {} {:?}\n", file.executable, file.name));
    }
    Ok(Digest::of(text.as_bytes()))
}

/// Copies the folder, with plain permissions: what an umask or an editor did to them is nobody's intention.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(|source| Error::Read { path: to.to_owned(), source })?;
    for file in files(from)? {
        let target = to.join(&file.name);
        let copied = target.parent().map_or(Ok(()), fs::create_dir_all);
        let copied = copied.and_then(|()| fs::copy(&file.path, &target));
        let mode = if file.executable { 0o755 } else { 0o644 };
        copied
            .and_then(|_| fs::set_permissions(&target, fs::Permissions::from_mode(mode)))
            .map_err(|source| Error::Read { path: file.path, source })?;
    }
    Ok(())
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<(), Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let unsuitable = |what| Error::Unsuitable { path: path.clone(), what };
        let name = entry.file_name().into_string().map_err(|_| unsuitable("its name is not UTF-8"))?;
        if IGNORED.contains(&name.as_str()) {
            continue;
        }
        let metadata = entry.metadata().map_err(failed)?;
        let full_name = format!("{prefix}{name}");
        if metadata.is_dir() {
            collect(&path, &format!("{full_name}/"), files)?;
        } else if metadata.is_file() && files.len() < FILES_MAX {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            files.push(File { name: full_name, path, executable });
        } else if metadata.is_file() {
            return Err(unsuitable("one file too many for a folder of an image"));
        } else {
            return Err(unsuitable("only plain files and folders can go into an image"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_modes_and_contents_count_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("d/__pycache__")).unwrap();
        fs::write(at("d/a"), "1").unwrap();
        let first = digest(folder.path()).unwrap();
        fs::write(at("d/__pycache__/a.pyc"), "").unwrap();
        fs::create_dir(at("empty")).unwrap();
        assert_eq!(digest(folder.path()).unwrap(), first);
        fs::set_permissions(at("d/a"), fs::Permissions::from_mode(0o755)).unwrap();
        let second = digest(folder.path()).unwrap();
        assert_ne!(second, first);
        let copied = tempfile::tempdir().unwrap();
        copy(folder.path(), copied.path()).unwrap();
        assert_eq!(digest(copied.path()).unwrap(), second);
        fs::write(at("d/a"), "2").unwrap();
        assert_ne!(digest(folder.path()).unwrap(), second);
    }

    #[test]
    fn a_link_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(files(folder.path()).unwrap_err().to_string().contains("link: only plain files"));
    }
}
