//! `image import`: a disk that somebody else built, and one boot to find out how it is reached.

use super::args::Channel;
use super::failure::Failure;
use super::{Context, emit, image, print_json};
use crate::machine::plan;
use evalfleet_images::foreign::{self, Error, ImportOptions};
use evalfleet_images::{Image, ImageRef, Store};
use evalfleet_proto::status::Exit;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Stdio;

pub(super) async fn import(
    context: &Context,
    file: PathBuf,
    name: Option<String>,
    channel: Channel,
    user: String,
    no_boot: bool,
) -> Result<Exit, Failure> {
    let channel = match channel {
        Channel::Auto => foreign::Channel::Auto,
        Channel::Ssh => foreign::Channel::Ssh,
        Channel::Qga => foreign::Channel::Qga,
    };
    let options = ImportOptions { images: context.settings.images_dir(), file, name, channel, user };
    // Copying a disk: work for a thread of its own.
    let imported = tokio::task::spawn_blocking(move || foreign::import(&options)).await;
    let (image, new) = imported.map_err(|error| Failure::new(Exit::Defect, error))?.map_err(failure)?;
    let image = if no_boot { image } else { boot(context, image).await? };
    report(context, &image, new)
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Refused { .. } | Error::Name(_) | Error::User(_) => Failure::usage(error),
        Error::Store(_) | Error::Command(_) | Error::File { .. } | Error::Seed(_) => {
            Failure::new(Exit::Unreachable, error)
        }
    }
}

/// Has the worker make a template of it, which it keeps, and a clean VM, which it puts away.
async fn boot(context: &Context, image: Image) -> Result<Image, Failure> {
    let name = image.manifest.name.clone();
    eprintln!("{name}: booting it once, which under emulation takes minutes");
    let mut command = worker(context, &["probe", "--json"])?;
    let pinned = format!("{name}@sha256:{}", image.manifest.digest);
    command.env("EVALFLEET_CLIENT__IMAGE", pinned).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = command.output().await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let probed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if probed["works"] != Value::Bool(true) {
        let why = probed["error"].as_str().unwrap_or("the worker does not answer");
        return Err(Failure::new(
            Exit::Infrastructure,
            format!(
                "{name} is imported, and no VM of it stands: {why}. It needs an sshd that cloud-init gives our key, or \
                 the QEMU guest agent; qemu.boot_timeout bounds the wait"
            ),
        ));
    }
    let reference = ImageRef { name, digest: Some(image.manifest.digest.to_string()) };
    Store::new(context.settings.images_dir()).resolve(&reference).map_err(image::failed)
}

/// The worker's program, with this command's own configuration.
pub(super) fn worker(context: &Context, arguments: &[&str]) -> Result<tokio::process::Command, Failure> {
    let program = plan::sibling("evalfleet-worker")?;
    let mut command = tokio::process::Command::new(program);
    if let Some(config) = &context.config {
        command.arg("--config").arg(config);
    }
    command.args(arguments).kill_on_drop(true);
    Ok(command)
}

fn report(context: &Context, imported: &Image, new: bool) -> Result<Exit, Failure> {
    let manifest = &imported.manifest;
    let channel = manifest.foreign.as_ref().map_or("", |foreign| foreign.channel.as_str());
    if context.json {
        let mut document = image::document(imported);
        document["imported"] = Value::from(new);
        print_json(&document, true)?;
    } else {
        let done = if new { "imported" } else { "was imported before" };
        eprintln!("{}: {done}, reached by {channel}", manifest.name);
        emit(&format!("{}@sha256:{}", manifest.name, manifest.digest))?;
    }
    Ok(Exit::Passed)
}
