//! The registries of the images that a client has met, read again when their file changed.

use crate::registry::{Error, Registry};
use evalfleet_proto::ids::ImageRef;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Images kept at one moment; beyond it, all are read anew.
const IMAGES_MAX: usize = 64;

/// A registry, and when its file was written.
type Known = (Option<SystemTime>, Arc<Registry>);

#[derive(Debug)]
pub(super) struct Tools {
    images_dir: PathBuf,
    known: Mutex<HashMap<ImageRef, Known>>,
}

impl Tools {
    pub(super) fn new(images_dir: PathBuf) -> Self {
        Self { images_dir, known: Mutex::default() }
    }

    /// The tools of `image`, as its file has them now.
    pub(super) fn of(&self, image: &ImageRef) -> Result<Arc<Registry>, Error> {
        let path = Registry::path(&self.images_dir, image);
        let written = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, registry)) = known.get(image)
            && *then == written
            && written.is_some()
        {
            return Ok(registry.clone());
        }
        let registry = Arc::new(Registry::load(&self.images_dir, image)?);
        if known.len() >= IMAGES_MAX {
            known.clear();
        }
        known.insert(image.clone(), (written, registry.clone()));
        Ok(registry)
    }
}
