//! The contents that facts point to: onto the shelf, and back from it.
//!
//! Contents never change, so what is there already is right, or damaged: whoever reads one looks at its hash.
//! Files are copied as they are; what comes out of a bucket, or goes into one, is looked at on its way.

use super::{Error, shelf};
use evalfleet_proto::ids::Sha256;
use evalfleet_service::blobs::{self, Blobs};
use evalfleet_service::settings::Settings;
use std::collections::BTreeMap;
use std::path::Path;

/// Copies to `dir` what it does not have yet.
pub(super) async fn keep(settings: &Settings, dir: &Path) -> Result<(), Error> {
    match settings.blobs.bucket() {
        None => shelf::copy_new(&settings.blobs_dir(), dir),
        Some(_) => copy(&Blobs::open(settings).await?, &Blobs::in_dir(dir)?).await,
    }
}

/// Copies from `dir` what is missing.
pub(super) async fn bring_back(settings: &Settings, dir: &Path) -> Result<(), Error> {
    match settings.blobs.bucket() {
        None => shelf::copy_new(dir, &settings.blobs_dir()),
        Some(_) => copy(&Blobs::in_dir(dir)?, &Blobs::open(settings).await?).await,
    }
}

async fn copy(from: &Blobs, to: &Blobs) -> Result<(), Error> {
    let there: BTreeMap<Sha256, u64> =
        to.entries().await?.into_iter().map(|entry| (entry.key, entry.bytes)).collect();
    for entry in from.entries().await? {
        if there.get(&entry.key) == Some(&entry.bytes) {
            continue;
        }
        match from.get(entry.key).await {
            Ok(content) => _ = to.put(content).await?,
            // Whether a fact points to it, the check of the backup finds out.
            Err(error @ (blobs::Error::Missing(_) | blobs::Error::Damaged { .. })) => {
                tracing::warn!(%error, "a content is not copied");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_missing_is_copied_and_what_is_damaged_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (Blobs::in_dir(dir.path()).unwrap(), Blobs::in_memory());
        let (one, other) =
            (from.put(b"one".to_vec()).await.unwrap(), from.put(b"other".to_vec()).await.unwrap());
        copy(&from, &to).await.unwrap();
        assert_eq!(to.get(one).await.unwrap(), b"one");
        to.remove(one).await.unwrap();
        to.remove(other).await.unwrap();
        let key = one.to_string();
        std::fs::write(dir.path().join(format!("{}/{}/{key}", &key[..2], &key[2..4])), "two").unwrap();
        copy(&from, &to).await.unwrap();
        assert_eq!((to.entry(one).await.unwrap(), to.get(other).await.unwrap()), (None, b"other".to_vec()));
    }
}
