//! Contents under their hash: written before anything points to them, verified when they are read.

use evalfleet_proto::ids::Sha256;
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, local::LocalFileSystem, memory::InMemory,
    path::Path,
};
use std::sync::Arc;

/// Why a content is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("the blob store has nothing under {0}")]
    Missing(Sha256),
    /// It is not what it says.
    #[error("the blob {key} is damaged: its content has the hash {found}")]
    Damaged {
        /// What was asked for.
        key: Sha256,
        /// What is there.
        found: Sha256,
    },
    /// The store does not answer, or is full.
    #[error("the blob store at {place}: {source}")]
    Store {
        /// Where it is.
        place: String,
        /// Why.
        source: Box<object_store::Error>,
    },
}

/// A store of contents.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    place: String,
}

impl Blobs {
    /// A store in a folder, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn in_dir(dir: &std::path::Path) -> Result<Self, Error> {
        let place = dir.display().to_string();
        let failed =
            |source: object_store::Error| Error::Store { place: place.clone(), source: Box::new(source) };
        std::fs::create_dir_all(dir).map_err(|source| {
            failed(object_store::Error::Generic { store: "folder", source: Box::new(source) })
        })?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(failed)?;
        Ok(Self { store: Arc::new(store), place })
    }

    /// A store that forgets with its last handle.
    pub fn in_memory() -> Self {
        Self { store: Arc::new(InMemory::new()), place: "memory".to_owned() }
    }

    /// Keeps `bytes` and tells their key. Keeping the same bytes again costs a look.
    ///
    /// # Errors
    /// When the store refuses, for example because its disk is full.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Sha256, Error> {
        let key = Sha256::of(&bytes);
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path_of(key), bytes.into(), options).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(key),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Reads the content of `key` and checks that it is that.
    ///
    /// # Errors
    /// When it is missing or damaged, or the store does not answer.
    pub async fn get(&self, key: Sha256) -> Result<Vec<u8>, Error> {
        let found = match self.store.get(&path_of(key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(Error::Missing(key)),
            Err(source) => return Err(self.failed(source)),
        };
        let bytes = found.bytes().await.map_err(|source| self.failed(source))?.to_vec();
        match Sha256::of(&bytes) {
            hash if hash == key => Ok(bytes),
            found => Err(Error::Damaged { key, found }),
        }
    }

    fn failed(&self, source: object_store::Error) -> Error {
        Error::Store { place: self.place.clone(), source: Box::new(source) }
    }
}

/// Two levels of folders, so that none grows too large.
fn path_of(key: Sha256) -> Path {
    let key = key.to_string();
    Path::from(format!("{}/{}/{key}", &key[..2], &key[2..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_content_comes_back_and_a_damaged_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::in_dir(dir.path()).unwrap();
        let key = blobs.put(b"hello".to_vec()).await.unwrap();
        assert_eq!(blobs.put(b"hello".to_vec()).await.unwrap(), key);
        assert_eq!(blobs.get(key).await.unwrap(), b"hello");

        std::fs::write(dir.path().join(path_of(key).as_ref()), b"hullo").unwrap();
        assert!(matches!(blobs.get(key).await, Err(Error::Damaged { .. })));
        let other = Sha256::of(b"other");
        assert!(matches!(blobs.get(other).await, Err(Error::Missing(key)) if key == other));
    }
}
