//! Files of the state directory: replaced as a whole, secret where they must be, logs of bounded size.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A log that has grown beyond this is put aside when its part starts.
const LOG_BYTES_MAX: u64 = 10 << 20;
/// How much of a log's end is read.
const TAIL_BYTES: u64 = 16 << 10;

/// Makes a directory that only its owner may enter.
pub(super) fn make_private_dir(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file as a whole: a reader sees the old text or the new one.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    // A left-over of a power loss may have another mode.
    let _ = std::fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// The secret in `path`, made up at the first time.
pub(crate) fn secret(path: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut bytes = [0; 24];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let secret = hex::encode(bytes);
    write_atomically(path, secret.as_bytes(), 0o600)?;
    Ok(secret)
}

/// Opens a part's log to append, marks the start, and puts a log aside that has grown too large.
pub(super) fn open_log(path: &Path) -> std::io::Result<File> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    let mut log = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    writeln!(log, "{START_MARK}{} starting", evalfleet_proto::Timestamp::now())?;
    Ok(log)
}

/// What a line of a log begins with that says its part was started.
pub(super) const START_MARK: &str = "--- ";

/// The last lines of a log since its part was started last, at most `lines`.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut all: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if let Some(start) = all.iter().rposition(|line| line.starts_with(START_MARK)) {
        all.drain(..=start);
    }
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Where a part's log is.
pub fn log_path(state_dir: &Path, part: &str) -> PathBuf {
    state_dir.join("logs").join(format!("{part}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_made_once_and_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = secret(&path).unwrap();
        assert_eq!(made.len(), 48);
        assert_eq!(secret(&path).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_tail_is_the_end_and_nothing_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "one\n\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&path, 2), ["two", "three"]);
        std::fs::write(&path, "one\n--- 2026 starting\ntwo\n").unwrap();
        assert_eq!(tail(&path, 9), ["two"]);
        assert!(tail(&dir.path().join("none"), 2).is_empty());
    }
}
