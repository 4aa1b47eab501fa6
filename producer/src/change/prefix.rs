//! What was seen of a base, kept: candidates on one base pay for it once. And the judge, compiled, for each image.
//!
//! What was seen is kept under a digest of all that it depends on (tree, suite, image, judge), so that another base, suite
//! or judge is another entry. That the VMs are still of the same kind is checked by their template afterwards.

use super::suite::Safety;
use evalfleet_proto::ids::{ImageRef, Sha256};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Entries that are kept; the oldest go.
const ENTRIES_MAX: usize = 100;

/// The folder of what is kept.
#[derive(Debug)]
pub(super) struct Prefixes(PathBuf);

impl Prefixes {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join("changes"))
    }

    /// The digest of all that looks at a base depend on.
    pub(super) fn key(tree_id: &str, safety: &Safety, image: &ImageRef, judge: &Sha256) -> Sha256 {
        let parts = (tree_id, safety, image.to_string(), judge.to_string());
        // Values of ours always have a JSON form; were one without, it would only never be found again.
        Sha256::of(&serde_json::to_vec(&parts).unwrap_or_default())
    }

    /// What is kept under `key`. What cannot be read is made anew.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &Sha256) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.path(key)).ok()?).ok()
    }

    /// Keeps it. That this fails is no matter of the verdict: it only costs time, later.
    pub(super) fn put(&self, key: &Sha256, what: &impl Serialize) {
        let write = || {
            std::fs::create_dir_all(&self.0)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
            file.write_all(&serde_json::to_vec(what)?)?;
            file.persist(self.path(key))?;
            self.prune()
        };
        if let Err(error) = write() {
            tracing::warn!(%error, folder = %self.0.display(), "what was found out for changes is not kept");
        }
    }

    /// Keeps it no longer.
    pub(super) fn forget(&self, key: &Sha256) {
        let _ = std::fs::remove_file(self.path(key));
    }

    fn prune(&self) -> std::io::Result<()> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            entries.push((entry.metadata()?.modified()?, entry.path()));
        }
        entries.sort();
        let over = entries.len().saturating_sub(ENTRIES_MAX);
        entries.iter().take(over).try_for_each(|(_, path)| std::fs::remove_file(path))
    }

    fn path(&self, key: &Sha256) -> PathBuf {
        self.0.join(format!("{key}.json"))
    }
}
