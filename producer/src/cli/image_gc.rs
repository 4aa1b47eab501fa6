//! `image gc`, the part about images: those that a newer one of their name has replaced.

use super::failure::Failure;
use super::image::{document, mebibytes};
use super::{Context, emit, print_json};
use evalfleet_images::{Manifest, Store, store};
use evalfleet_proto::ids::ImageRef;
use evalfleet_proto::status::Exit;
use std::collections::BTreeSet;

/// Removes the superseded images that no template in `used` (digests of images) was made of, and that the settings
/// do not pin.
pub(super) fn sweep(context: &Context, used: &BTreeSet<&str>, dry_run: bool) -> Result<Exit, Failure> {
    let store = Store::new(context.settings.images_dir());
    let pinned = &context.settings.client.image;
    let stays = |manifest: &Manifest| used.contains(manifest.digest.as_str()) || pins(pinned, manifest);
    let (mut count, mut size) = (0, 0.0);
    for image in store.superseded(&stays).map_err(failed)? {
        if !dry_run && !store.remove(&image).map_err(failed)? {
            continue;
        }
        count += 1;
        size += mebibytes(&image);
        if context.json {
            print_json(&document(&image), false)?;
        } else {
            let manifest = &image.manifest;
            emit(&format!(
                "    {}@{}  {:>7.1} MiB",
                manifest.name,
                manifest.digest.short(),
                mebibytes(&image)
            ))?;
        }
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    eprintln!("{count} images, {size:.1} MiB {verb}");
    Ok(Exit::Passed)
}

/// Whether a reference with a digest means the image of this manifest.
fn pins(reference: &ImageRef, manifest: &Manifest) -> bool {
    let text = reference.to_string();
    let pinned = text.parse::<store::ImageRef>().ok();
    pinned.is_some_and(|pinned| {
        let digest = pinned.digest.as_deref();
        pinned.name == manifest.name
            && digest.is_some_and(|digest| manifest.digest.as_str().starts_with(digest))
    })
}

fn failed(error: store::Error) -> Failure {
    Failure::new(Exit::Unreachable, error)
}
