//! Contents under their hash: written before anything points to them, verified when they are read.
//!
//! They are files of a folder, or objects of a bucket ([`Blobs::open`] does as the settings say); nobody else
//! needs to know which.

mod bucket;
mod credentials;
mod http;

use crate::settings::Settings;
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::Sha256;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, local::LocalFileSystem,
    memory::InMemory, path::Path,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

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
    /// There is no such bucket.
    #[error("the blob store at {place}: there is no such bucket. Make it, or name another in blobs.url")]
    NoBucket {
        /// Where it is not.
        place: String,
    },
    /// The bucket is there, and not for us.
    #[error("the blob store at {place} refuses our credentials, or they do not go so far ({reason})")]
    Denied {
        /// Where it is.
        place: String,
        /// What it said.
        reason: String,
    },
    /// There is nothing to show to a bucket.
    #[error(
        "the blob store at {place} wants credentials: {why}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file in blobs.credentials_file"
    )]
    NoCredentials {
        /// Where it is.
        place: String,
        /// Where they were looked for.
        why: String,
    },
    /// A bucket cannot be as the settings and the environment say.
    #[error("the blob store at {place}: {why}")]
    Settings {
        /// Where it is.
        place: String,
        /// What cannot be.
        why: String,
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

/// How old a content may look to whoever keeps it again. What nobody points to goes when it is old; what is
/// about to be pointed to must not look old.
const RENEW_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What is there, without its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Sha256,
    /// Its size.
    pub bytes: u64,
    /// When it was kept last.
    pub kept: Timestamp,
}

/// A store of contents.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Arc<dyn ObjectStore>,
    place: String,
    /// Whether a look costs less than a writing in vain, as where that is an upload.
    looks_first: bool,
}

impl Blobs {
    /// The store that `settings` name. A bucket is asked whether it is there and lets us in; its folder is made.
    ///
    /// # Errors
    /// When it is not there, does not let us in or does not answer, or there is nothing to show to it.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let Some(bucket) = settings.blobs.bucket() else { return Self::in_dir(&settings.blobs_dir()) };
        let opened = bucket::open(&settings.blobs, &bucket, &|name| std::env::var(name).ok())?;
        let blobs = Self { store: opened.store, place: opened.place, looks_first: true };
        match blobs.look().await {
            Err(Error::Store { place, source }) if opened.by_role => Err(Error::NoCredentials {
                place,
                why: format!("none are set, and the host has no role: {source}"),
            }),
            done => done.map(|()| blobs),
        }
    }

    /// Asks for what is never there.
    async fn look(&self) -> Result<(), Error> {
        let none = Path::from("look");
        let found = self.store.list(Some(&none)).next().await.transpose();
        found.map(drop).map_err(|source| self.failed(source))
    }

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
        Ok(Self { store: Arc::new(store), place, looks_first: false })
    }

    /// A store that forgets with its last handle.
    pub fn in_memory() -> Self {
        Self { store: Arc::new(InMemory::new()), place: "memory".to_owned(), looks_first: false }
    }

    /// Keeps `bytes` and tells their key. Keeping the same bytes again costs a look, and a writing when what is
    /// there is not whole or was kept long ago.
    ///
    /// # Errors
    /// When the store refuses, for example because its disk is full.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<Sha256, Error> {
        let (key, length) = (Sha256::of(&bytes), bytes.len() as u64);
        let bytes = PutPayload::from(bytes);
        if !self.looks_first {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&path_of(key), bytes.clone(), options).await {
                Ok(_) => return Ok(key),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        let there = self.entry(key).await?;
        let age = |entry: &Entry| Timestamp::now().duration_since(entry.kept);
        if there.is_some_and(|entry| entry.bytes == length && age(&entry).unsigned_abs() < RENEW_AFTER) {
            return Ok(key);
        }
        // Of a bucket, this renews its time as well: objects cannot be touched.
        self.store.put(&path_of(key), bytes).await.map_err(|source| self.failed(source))?;
        Ok(key)
    }

    /// What is known of a content without reading it; `None` when it is not there.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn entry(&self, key: Sha256) -> Result<Option<Entry>, Error> {
        match self.store.head(&path_of(key)).await {
            Ok(meta) => Ok(entry(&meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// All that is there, in any order. What is no content of ours is left out.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn entries(&self) -> Result<Vec<Entry>, Error> {
        let listed = self.store.list(None).try_filter_map(|meta| std::future::ready(Ok(entry(&meta))));
        listed.try_collect().await.map_err(|source| self.failed(source))
    }

    /// Removes a content; that it is not there is no error.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn remove(&self, key: Sha256) -> Result<(), Error> {
        match self.store.delete(&path_of(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
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
            // Without the bucket, nothing is there either, and that is not the content's fault.
            Err(source @ object_store::Error::NotFound { .. }) => {
                let error = self.failed(source);
                return Err(if matches!(error, Error::NoBucket { .. }) {
                    error
                } else {
                    Error::Missing(key)
                });
            }
            Err(source) => return Err(self.failed(source)),
        };
        let bytes = found.bytes().await.map_err(|source| self.failed(source))?.to_vec();
        match Sha256::of(&bytes) {
            hash if hash == key => Ok(bytes),
            found => Err(Error::Damaged { key, found }),
        }
    }

    fn failed(&self, source: object_store::Error) -> Error {
        let (place, text) = (self.place.clone(), source.to_string());
        let denied = matches!(
            source,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
        );
        // What a server says by a name says more than its status, and lists keep the status to themselves.
        match code(&text) {
            Some("NoSuchBucket") => Error::NoBucket { place },
            Some(
                reason @ ("AccessDenied"
                | "ExpiredToken"
                | "InvalidAccessKeyId"
                | "InvalidToken"
                | "SignatureDoesNotMatch"),
            ) => Error::Denied { place, reason: reason.to_owned() },
            Some(reason) if denied => Error::Denied { place, reason: reason.to_owned() },
            // A folder denies as well, and says that in its own words.
            None if denied && self.looks_first => Error::Denied { place, reason: text },
            Some(_) | None => Error::Store { place, source: Box::new(source) },
        }
    }
}

/// The name that S3 gives an error, out of its answer.
fn code(text: &str) -> Option<&str> {
    text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}

/// A store that is opened when it is first needed.
#[derive(Debug)]
pub struct Deferred {
    settings: Settings,
    opened: OnceCell<Blobs>,
}

impl Deferred {
    /// The store that `settings` name.
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), opened: OnceCell::new() }
    }

    /// The store.
    ///
    /// # Errors
    /// As [`Blobs::open`]; then it is tried again the next time.
    pub async fn get(&self) -> Result<&Blobs, Error> {
        self.opened.get_or_try_init(|| Blobs::open(&self.settings)).await
    }
}

fn entry(meta: &ObjectMeta) -> Option<Entry> {
    let key: Sha256 = meta.location.filename()?.parse().ok()?;
    let kept = Timestamp::from_second(meta.last_modified.timestamp()).ok()?;
    (path_of(key) == meta.location).then_some(Entry { key, bytes: meta.size, kept })
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
        assert_eq!(blobs.put(b"hello".to_vec()).await.unwrap(), key);
        assert!(matches!(blobs.get(key).await, Err(Error::Damaged { .. })), "of the right size, and new");
        let file = std::fs::File::options().write(true).open(dir.path().join(path_of(key).as_ref())).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * RENEW_AFTER).unwrap();
        assert_eq!(blobs.put(b"hello".to_vec()).await.unwrap(), key);
        assert_eq!(blobs.get(key).await.unwrap(), b"hello", "it was kept long ago, and is kept anew");
        let other = Sha256::of(b"other");
        assert!(matches!(blobs.get(other).await, Err(Error::Missing(key)) if key == other));
        std::fs::write(dir.path().join("notes"), "no content").unwrap();
        let entries = blobs.entries().await.unwrap();
        assert_eq!(entries.iter().map(|entry| (entry.key, entry.bytes)).collect::<Vec<_>>(), [(key, 5)]);
        blobs.remove(key).await.unwrap();
        blobs.remove(key).await.unwrap();
        assert_eq!(blobs.entry(key).await.unwrap(), None);
    }
}
