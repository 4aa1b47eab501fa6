//! A person's visit to a throw-away VM of an imported image.

use crate::supply::Supply;
use anyhow::{Context as _, bail};
use evalfleet_proto::ids::{ImageRef, WorkerId};
use evalfleet_proto::status::Exit;
use evalfleet_service::settings::Settings;

/// Makes a clean VM of `image`, lets ssh have the terminal until it ends, and destroys the VM.
///
/// # Errors
/// When no VM can be made, or its image is not one that ssh leads into.
pub async fn visit(settings: &Settings, image: &ImageRef, argv: &[String]) -> anyhow::Result<Exit> {
    let name: WorkerId = format!("visit-{}", std::process::id()).parse()?;
    let mut supply = Supply::new(settings, &name)?;
    let supplied = supply.clean(image, None).await?;
    let active = supplied.clean.claim(settings.qemu.reset_timeout).await?;
    let visited = async {
        let Some(mut ssh) = active.ssh(argv) else {
            bail!(
                "the image {image} is one of ours, without an sshd: `evalfleet run --image {image} -- CMD` runs in it"
            );
        };
        eprintln!("a clean VM of {image}, thrown away with all that is done in it when ssh ends");
        ssh.status().await.context("starting ssh (Debian: package openssh-client)")
    };
    let status = visited.await;
    active.stop().await?.destroy().await?;
    let _ = std::fs::remove_dir_all(settings.state_dir().join("vms").join(name.as_str()));
    Ok(match status?.code() {
        Some(0) => Exit::Passed,
        // ssh's own word for a connection that it could not make or lost.
        Some(255) => Exit::Infrastructure,
        Some(_) | None => Exit::Subject,
    })
}
