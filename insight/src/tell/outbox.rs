//! Notices that are to be told: each a file, until all of its channels have taken it.
//!
//! A notice is written before the recorder hears of what it tells, and let go to the channels after: whoever starts anew
//! finds what was not told, has it recorded (which adds nothing to what is) and tells it. So none is lost with its
//! process; one whose answer was lost with it comes twice. At most [`NOTICES_MAX`] wait; beyond that, further ones are
//! named in the log, and not told: what they tell is in the history.

use super::notice::Notice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// The most notices that wait.
const NOTICES_MAX: usize = 256;

/// How soon a folder that cannot be made is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A notice that is to be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    notice: Notice,
    /// The channels that have not taken it.
    to: BTreeSet<String>,
    /// Whether what it tells is recorded.
    #[serde(skip)]
    released: bool,
}

/// The notices that wait, the oldest first.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
    entries: Mutex<Vec<Entry>>,
    changed: watch::Sender<()>,
}

impl Outbox {
    /// The outbox of this folder, with what an earlier process left there for one of `channels`.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(dir: &Path, channels: &[&str]) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut entries = Vec::new();
        for file in std::fs::read_dir(dir)? {
            let path = file?.path();
            let read = std::fs::read(&path);
            let Some(entry) = read.ok().and_then(|text| serde_json::from_slice::<Entry>(&text).ok()) else {
                // Half-written, by a process that ended there: what it would have told is found anew.
                tracing::debug!(path = %path.display(), "no notice");
                std::fs::remove_file(&path)?;
                continue;
            };
            entries.push(entry);
        }
        entries.sort_by_key(|entry| (entry.notice.at(), entry.notice.key().1));
        let this =
            Self { dir: dir.to_owned(), entries: Mutex::new(Vec::new()), changed: watch::Sender::new(()) };
        for mut entry in entries {
            entry.to.retain(|channel| channels.contains(&channel.as_str()));
            this.keep(&entry);
            this.lock().extend((!entry.to.is_empty()).then_some(entry));
        }
        Ok(this)
    }

    /// The same, as soon as the folder can be made and read.
    pub async fn opened(dir: &Path, channels: &[&str]) -> Self {
        loop {
            match Self::open(dir, channels) {
                Ok(outbox) => return outbox,
                Err(error) => tracing::warn!(%error, path = %dir.display(), "nothing can be told yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What waits.
    pub fn notices(&self) -> Vec<Notice> {
        self.lock().iter().map(|entry| entry.notice.clone()).collect()
    }

    /// What waits, and is not recorded as far as this process knows.
    pub fn unrecorded(&self) -> Vec<Notice> {
        self.lock().iter().filter(|entry| !entry.released).map(|entry| entry.notice.clone()).collect()
    }

    /// Takes a notice to these channels in; nothing changes where it is in already.
    pub fn put(&self, notice: &Notice, channels: &[&str]) {
        let to = channels.iter().map(|&channel| channel.to_owned()).collect();
        let entry = Entry { notice: notice.clone(), to, released: false };
        let mut entries = self.lock();
        if entry.to.is_empty() || entries.iter().any(|other| other.notice.key() == notice.key()) {
            return;
        }
        if entries.len() >= NOTICES_MAX {
            let id = notice.key().0;
            tracing::error!(id, "{NOTICES_MAX} notices wait to be told: this one is not");
            return;
        }
        self.keep(&entry);
        entries.push(entry);
    }

    /// What a notice tells is recorded: it may be told.
    pub fn release(&self, notice: &Notice) {
        if let Some(entry) = self.lock().iter_mut().find(|entry| entry.notice.key() == notice.key()) {
            entry.released = true;
        }
        self.changed.send_replace(());
    }

    /// The next notice to a channel: waits until there is one.
    pub async fn next(&self, channel: &str) -> Notice {
        let mut changed = self.changed.subscribe();
        loop {
            let fits = |entry: &&Entry| entry.released && entry.to.contains(channel);
            let found = self.lock().iter().find(fits).map(|entry| entry.notice.clone());
            if let Some(notice) = found {
                return notice;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A channel is done with a notice.
    pub fn done(&self, notice: &Notice, channel: &str) {
        let mut entries = self.lock();
        if let Some(at) = entries.iter().position(|entry| entry.notice.key() == notice.key()) {
            entries[at].to.remove(channel);
            self.keep(&entries[at]);
            if entries[at].to.is_empty() {
                entries.remove(at);
            }
        }
    }

    /// Makes a notice's file what it is now; removes it where nobody is to be told any more. Where that cannot be done,
    /// it is told all the same, if this process lasts.
    fn keep(&self, entry: &Entry) {
        let (id, revision) = entry.notice.key();
        let path = self.dir.join(format!("{id}-{revision}.json"));
        let kept = if entry.to.is_empty() { std::fs::remove_file(&path) } else { write(&path, entry) };
        match kept {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "a notice is not kept");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Nothing that is done under it leaves a list half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is there after a loss of power as a whole or not at all.
fn write(path: &Path, entry: &Entry) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec(entry)?)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::alert as alert_of;
    use futures::FutureExt as _;

    fn alert(nth: u32, revision: u32) -> Notice {
        Notice::Alert(Box::new(alert_of(nth, revision)))
    }

    const BOTH: &[&str] = &["log", "webhook"];

    fn told(outbox: &Outbox, channel: &str) -> Option<Notice> {
        outbox.next(channel).now_or_never()
    }

    #[test]
    fn what_a_channel_has_not_taken_outlives_the_process_and_waits_for_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), BOTH).unwrap();
        let raised = alert(0, 3);
        outbox.put(&raised, BOTH);
        outbox.put(&raised, BOTH);
        assert_eq!(told(&outbox, "log"), None, "it is not recorded");
        outbox.release(&raised);
        assert_eq!(told(&outbox, "log").as_ref(), Some(&raised));
        outbox.done(&raised, "log");
        assert!(told(&outbox, "log").is_none() && told(&outbox, "webhook").is_some());

        let next = Outbox::open(dir.path(), BOTH).unwrap();
        assert_eq!(next.notices(), std::slice::from_ref(&raised));
        assert_eq!(next.unrecorded(), next.notices());
        assert_eq!(told(&next, "webhook"), None);
        next.release(&raised);
        assert!(told(&next, "webhook").is_some() && told(&next, "log").is_none());
        assert!(next.unrecorded().is_empty());
        next.done(&raised, "webhook");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_no_channel_wants_any_more_or_was_half_written_goes() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), BOTH).unwrap();
        outbox.put(&alert(0, 1), &["webhook"]);
        std::fs::write(dir.path().join("half.next"), "{").unwrap();
        let next = Outbox::open(dir.path(), &["log"]).unwrap();
        assert!(next.notices().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn they_are_bounded_and_come_back_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), BOTH).unwrap();
        for nth in 0..NOTICES_MAX as u32 + 5 {
            outbox.put(&alert(nth, 1), BOTH);
        }
        let all = outbox.notices();
        assert_eq!(all.len(), NOTICES_MAX);
        assert_eq!(Outbox::open(dir.path(), BOTH).unwrap().notices(), all);
    }
}
