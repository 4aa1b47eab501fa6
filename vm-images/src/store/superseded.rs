//! Images that nothing needs any more: which they are, and their removal.

use std::fs;

use super::{BUILD_PREFIX, Error, Image, Store, remove_abandoned};
use crate::manifest::Manifest;

impl Store {
    /// The images that a newer one of their name has replaced and that `used` does not claim, as [`Self::list`] orders.
    pub fn superseded(&self, used: &dyn Fn(&Manifest) -> bool) -> Result<Vec<Image>, Error> {
        let mut images = self.list()?;
        images.retain(|image| !image.current && !used(&image.manifest));
        Ok(images)
    }

    /// Removes a superseded image, unless it has become the current one meanwhile. Says whether it went.
    ///
    /// Takes the lock of builds: one could make this very image the current one again.
    pub fn remove(&self, image: &Image) -> Result<bool, Error> {
        let manifest = &image.manifest;
        let _lock = self.lock(&manifest.name)?;
        if self.current(&manifest.name)?.is_some_and(|current| current == manifest.digest) {
            return Ok(false);
        }
        // Under another name first: nobody shall find half an image. If this is killed, the next build removes the rest.
        let going = self.folder.join(&manifest.name).join(format!("{BUILD_PREFIX}gone-{}", manifest.digest));
        let failed = |source| Error::File { path: image.folder.clone(), source };
        fs::rename(&image.folder, &going).map_err(failed)?;
        remove_abandoned(&going).map_err(failed)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::publish_as;
    use super::*;

    #[test]
    fn what_is_current_or_used_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("images"));
        let digests =
            ["one", "two", "three"].map(|content| publish_as(&store, "base", content).manifest.digest);
        publish_as(&store, "other", "one");

        let used = |manifest: &Manifest| manifest.digest == digests[0];
        let gone = store.superseded(&used).unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].manifest.digest, digests[1]);
        assert!(store.remove(&gone[0]).unwrap());
        assert_eq!(store.list().unwrap().len(), 3);

        let folder = store.folder().join("base");
        assert!(
            !fs::read_dir(&folder)
                .unwrap()
                .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with(BUILD_PREFIX) })
        );
    }

    #[test]
    fn a_name_is_switched_to_an_image_that_is_here_and_only_from_what_it_means() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("images"));
        let [one, two] = ["one", "two"].map(|content| publish_as(&store, "base", content).manifest.digest);
        assert_eq!(store.switch("base", &two, &one).unwrap(), Some(one.clone()));
        assert_eq!(store.current("base").unwrap(), Some(one.clone()));
        assert_eq!(store.switch("base", &two, &one).unwrap(), Some(one.clone()), "twice is once");
        // Somebody built meanwhile: that stays.
        let three = publish_as(&store, "base", "three").manifest.digest;
        assert_eq!(store.switch("base", &one, &two).unwrap(), Some(three.clone()));
        let unknown = crate::digest::Digest::of(b"nothing");
        assert!(store.switch("base", &three, &unknown).is_err());
        assert_eq!(store.current("base").unwrap(), Some(three));
    }

    #[test]
    fn one_that_became_current_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("images"));
        publish_as(&store, "base", "one");
        publish_as(&store, "base", "two");
        let old = store.superseded(&|_| false).unwrap().remove(0);
        publish_as(&store, "base", "one");
        assert!(!store.remove(&old).unwrap());
        assert!(store.resolve(&"base".parse().unwrap()).unwrap().check().is_ok());
    }
}
