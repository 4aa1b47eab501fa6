//! Notices that are to be told: each a file, until all of its channels have taken it.
//!
//! A notice is written before the recorder hears of its alert, and let go to the channels after: whoever starts anew
//! finds what was not told, has it recorded (which adds nothing to what is) and tells it. So none is lost with its
//! process; one whose answer was lost with it comes twice. At most [`NOTICES_MAX`] wait; beyond that, further ones are
//! named in the log, and not told: the alerts themselves are in the history.

use evalfleet_proto::alert::Alert;
use evalfleet_proto::ids::AlertId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The most notices that wait.
const NOTICES_MAX: usize = 256;

/// What names a notice: an alert, and how far it was.
type Key = (AlertId, u32);

/// An alert that is to be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Notice {
    alert: Alert,
    /// The channels that have not taken it.
    to: BTreeSet<String>,
    /// Whether its alert is recorded.
    #[serde(skip)]
    released: bool,
}

impl Notice {
    fn key(&self) -> Key {
        (self.alert.id, self.alert.revision)
    }
}

/// The notices that wait, the oldest first.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
    notices: Mutex<Vec<Notice>>,
    changed: watch::Sender<()>,
}

impl Outbox {
    /// The outbox of this folder, with what an earlier process left there for one of `channels`.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(dir: &Path, channels: &[&str]) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut notices = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            let read = std::fs::read(&path);
            let Some(notice) = read.ok().and_then(|text| serde_json::from_slice::<Notice>(&text).ok()) else {
                // Half-written, by a process that ended there: what it would have told is found anew.
                tracing::debug!(path = %path.display(), "no notice");
                std::fs::remove_file(&path)?;
                continue;
            };
            notices.push(notice);
        }
        let at = |notice: &Notice| (notice.alert.closed.or(notice.alert.confirmed), notice.alert.revision);
        notices.sort_by_key(at);
        let this =
            Self { dir: dir.to_owned(), notices: Mutex::new(Vec::new()), changed: watch::Sender::new(()) };
        for mut notice in notices {
            notice.to.retain(|channel| channels.contains(&channel.as_str()));
            this.keep(&notice);
            this.lock().extend((!notice.to.is_empty()).then_some(notice));
        }
        Ok(this)
    }

    /// What waits.
    pub fn alerts(&self) -> Vec<Alert> {
        self.lock().iter().map(|notice| notice.alert.clone()).collect()
    }

    /// Takes a notice to these channels in; nothing changes where it is in already.
    pub fn put(&self, alert: &Alert, channels: &[&str]) {
        let to = channels.iter().map(|&channel| channel.to_owned()).collect();
        let notice = Notice { alert: alert.clone(), to, released: false };
        let mut notices = self.lock();
        if notice.to.is_empty() || notices.iter().any(|other| other.key() == notice.key()) {
            return;
        }
        if notices.len() >= NOTICES_MAX {
            tracing::error!(alert = %alert.id, "{NOTICES_MAX} notices wait to be told: this one is not");
            return;
        }
        self.keep(&notice);
        notices.push(notice);
    }

    /// The alert of a notice is recorded: it may be told.
    pub fn release(&self, alert: &Alert) {
        let key = (alert.id, alert.revision);
        if let Some(notice) = self.lock().iter_mut().find(|notice| notice.key() == key) {
            notice.released = true;
        }
        self.changed.send_replace(());
    }

    /// The next notice to a channel: waits until there is one.
    pub async fn next(&self, channel: &str) -> Alert {
        let mut changed = self.changed.subscribe();
        loop {
            let fits = |notice: &&Notice| notice.released && notice.to.contains(channel);
            let found = self.lock().iter().find(fits).map(|notice| notice.alert.clone());
            if let Some(alert) = found {
                return alert;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// A channel is done with a notice.
    pub fn done(&self, alert: &Alert, channel: &str) {
        let key = (alert.id, alert.revision);
        let mut notices = self.lock();
        if let Some(at) = notices.iter().position(|notice| notice.key() == key) {
            notices[at].to.remove(channel);
            self.keep(&notices[at]);
            if notices[at].to.is_empty() {
                notices.remove(at);
            }
        }
    }

    /// Makes a notice's file what it is now; removes it where nobody is to be told any more. Where that cannot be done,
    /// it is told all the same, if this process lasts.
    fn keep(&self, notice: &Notice) {
        let (id, revision) = notice.key();
        let path = self.dir.join(format!("{id}-{revision}.json"));
        let kept = if notice.to.is_empty() { std::fs::remove_file(&path) } else { write(&path, notice) };
        match kept {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "a notice is not kept");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Notice>> {
        // Nothing that is done under it leaves a list half changed.
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is there after a loss of power as a whole or not at all.
fn write(path: &Path, notice: &Notice) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(&serde_json::to_vec(notice)?)?;
    file.sync_all()?;
    std::fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::testing::alert;
    use futures::FutureExt as _;

    const BOTH: &[&str] = &["log", "webhook"];

    fn told(outbox: &Outbox, channel: &str) -> Option<Alert> {
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
        assert_eq!(next.alerts(), std::slice::from_ref(&raised));
        assert_eq!(told(&next, "webhook"), None);
        next.release(&raised);
        assert!(told(&next, "webhook").is_some() && told(&next, "log").is_none());
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
        assert!(next.alerts().is_empty());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn they_are_bounded_and_come_back_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), BOTH).unwrap();
        for nth in 0..NOTICES_MAX as u32 + 5 {
            outbox.put(&alert(nth, 1), BOTH);
        }
        let all = outbox.alerts();
        assert_eq!(all.len(), NOTICES_MAX);
        assert_eq!(Outbox::open(dir.path(), BOTH).unwrap().alerts(), all);
    }
}
