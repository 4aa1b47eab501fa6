//! How far was watched: the newest transaction of which all that was to be done is done.
//!
//! Who starts anew learns from what lies before it, and looks at what came after it as if it were just recorded: what
//! became worse while nobody watched is found all the same. It is kept in a file beside the lock, and may be a little
//! behind: what is looked at twice leads to the same alert.

use std::path::{Path, PathBuf};

/// The file.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    written: Option<u64>,
}

impl Mark {
    /// The mark in this folder.
    pub(super) fn of(place: &Path) -> Self {
        Self { path: place.join("watch.mark"), written: None }
    }

    /// The transaction; none where nobody watched yet.
    pub(super) fn read(&self) -> Option<u64> {
        std::fs::read_to_string(&self.path).ok()?.trim().parse().ok()
    }

    /// Moves it, if it is not there already.
    pub(super) fn set(&mut self, t: u64) {
        if self.written == Some(t) {
            return;
        }
        let next = self.path.with_extension("next");
        let moved = std::fs::write(&next, format!("{t}\n")).and_then(|()| std::fs::rename(&next, &self.path));
        match moved {
            Ok(()) => self.written = Some(t),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "how far was watched is not kept")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_was_set_last_and_none_at_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut mark = Mark::of(dir.path());
        assert_eq!(mark.read(), None);
        mark.set(7);
        mark.set(9);
        assert_eq!(Mark::of(dir.path()).read(), Some(9));
        std::fs::write(dir.path().join("watch.mark"), "").unwrap();
        assert_eq!(mark.read(), None);
    }
}
