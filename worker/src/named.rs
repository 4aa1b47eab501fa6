//! Images that the settings name: `[qemu.images]`, a name and a file, imported when a job first asks.

use crate::supply::Refusal;
use evalfleet_images::foreign::{self, Channel, ImportOptions};
use evalfleet_images::store;
use evalfleet_proto::ids::ImageRef;
use evalfleet_service::settings::{Qemu, Settings};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How long another worker of this host may take to import the same file.
const OTHERS: Duration = Duration::from_secs(600);
const GLANCE: Duration = Duration::from_millis(500);

/// The named images.
#[derive(Debug)]
pub(crate) struct Named {
    images: PathBuf,
    qemu: Qemu,
    /// What was imported by this worker, and how its file looked then.
    seen: HashMap<String, Look>,
}

/// A file as far as a change of it shows without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl Named {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { images: settings.images_dir(), qemu: settings.qemu.clone(), seen: HashMap::new() }
    }

    /// Sees that the image that `image` names is in the store, if the settings say which file it is.
    pub(crate) async fn provide(&mut self, image: &ImageRef) -> Result<(), Refusal> {
        let name = image.name.to_string();
        let Some(file) = self.qemu.images.get(&name) else { return Ok(()) };
        // Pinned to a digest, it is what it is, wherever it came from.
        if image.digest.is_some() {
            return Ok(());
        }
        let look = find(&self.qemu.image_places(file))
            .map_err(|places| Refusal::Request(missing(&name, file, &places)))?;
        if self.seen.get(&name) == Some(&look) {
            return Ok(());
        }
        let options = ImportOptions {
            images: self.images.clone(),
            file: look.path.clone(),
            name: Some(name.clone()),
            channel: Channel::Auto,
            user: "root".to_owned(),
        };
        import(options).await?;
        self.seen.insert(name, look);
        Ok(())
    }
}

async fn import(options: ImportOptions) -> Result<(), Refusal> {
    let begun = Instant::now();
    loop {
        let attempt = options.clone();
        // Copying a disk: minutes of work, not for the threads that serve.
        let imported = tokio::task::spawn_blocking(move || foreign::import(&attempt)).await;
        match imported.map_err(|error| Refusal::Fault(error.to_string()))? {
            Ok((image, new)) => {
                if new {
                    let took_ms = begun.elapsed().as_millis() as u64;
                    tracing::info!(image = image.manifest.name, digest = %image.manifest.digest, took_ms, "a named image was imported");
                }
                return Ok(());
            }
            Err(foreign::Error::Store(store::Error::Locked(_))) if begun.elapsed() < OTHERS => {
                tokio::time::sleep(GLANCE).await;
            }
            Err(
                error @ (foreign::Error::Refused { .. } | foreign::Error::Name(_) | foreign::Error::User(_)),
            ) => {
                return Err(Refusal::Request(error.to_string()));
            }
            Err(
                error @ (foreign::Error::Store(_)
                | foreign::Error::Command(_)
                | foreign::Error::File { .. }
                | foreign::Error::Seed(_)),
            ) => return Err(Refusal::Fault(error.to_string())),
        }
    }
}

/// The first of `places` where a file is; else all of them.
fn find(places: &[PathBuf]) -> Result<Look, Vec<PathBuf>> {
    let look = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(Look { path: path.clone(), length: metadata.len(), modified: metadata.modified().ok() })
    };
    places.iter().find_map(look).ok_or_else(|| places.to_vec())
}

fn missing(name: &str, file: &Path, places: &[PathBuf]) -> String {
    let listed: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
    format!(
        "the image {name} is {} in [qemu.images], which is not there; looked for {}",
        file.display(),
        listed.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_service::settings::Layers;

    fn named(toml: &str) -> Named {
        Named::new(
            &Settings::from_layers(&Layers { file: Some(toml.to_owned()), ..Layers::default() }).unwrap(),
        )
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_named_with_all_places() {
        let mut named = named("[qemu]\nsnapshot_dir = \"/no/such\"\n[qemu.images]\nbase = \"u.qcow2\"\n");
        let refused = named.provide(&"base".parse().unwrap()).await.unwrap_err().to_string();
        assert!(refused.contains("/no/such/u.qcow2") && refused.contains("looked for"), "{refused}");
        named.provide(&"other".parse().unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_is_no_disk_is_the_requests_own_fault() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("u.qcow2"), "no disk").unwrap();
        let path = dir.path().display();
        let mut named =
            named(&format!("[images]\ndir = \"{path}/images\"\n[qemu.images]\nbase = \"{path}/u.qcow2\"\n"));
        let refused = named.provide(&"base".parse().unwrap()).await.unwrap_err();
        assert!(matches!(refused, Refusal::Request(why) if why.contains("neither a qcow2")));
    }
}
