//! VMs of images that others built: no agent of ours, no overlay, a whole disk and an init of its own.
//!
//! ```text
//!  disk.raw ◀── frozen ◀── scratch        three files, one disk: the image, what the template wrote, what the job did
//!              template     clone
//!
//!  Clean, Active ──frames── bridge ── hands ─┬─ ssh ────── sshd
//!                                            └─ qapi::qga ─ QEMU guest agent
//! ```
//!
//! The reset is the same as for our own images: memory mapped privately, devices' state loaded, a disk of
//! its own, pages compared before the first instruction. What differs is how the inside is reached
//! ([`bridge`], [`hands`], [`script`]), what the machine looks like ([`devices`]), and how effects are
//! found ([`effects`]): by comparing two file systems, never mounted.

mod bridge;
mod devices;
pub mod disk;
pub mod effects;
mod hands;
mod network;
mod script;
pub mod shell;
mod ssh;
mod tree;

use super::Error;
use super::agent::Agent;
use super::process::Process;
use super::qapi::qga::Qga;
use super::qapi::qmp::Qmp;
use super::qemu::QMP_SOCKET;
use devices::QGA_SOCKET;
use evalfleet_images::foreign::Channel;
use evalfleet_images::manifest::Part;
use evalfleet_images::store::Image;
use evalfleet_service::settings::network::Network;
use hands::Hands;
use ssh::{Door, Ssh};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::sleep;

pub(super) use devices::{Parts, add as add_devices};

/// How often a guest that boots is tried.
const TRY: Duration = Duration::from_millis(700);
/// How long QEMU's guest agent may take to answer a try.
const QGA_TRY: Duration = Duration::from_secs(3);

/// How the inside of one image is reached.
#[derive(Debug, Clone)]
pub(super) struct Way {
    channel: Channel,
    user: String,
    key: PathBuf,
    network: Network,
}

/// What became known when a guest answered.
pub(super) type Found = Arc<OnceLock<Channel>>;

impl Way {
    /// The way into `image`; `None` if it is one of ours.
    pub(super) fn into(image: &Image, network: &Network) -> Option<Self> {
        let foreign = image.manifest.foreign.as_ref()?;
        Some(Self {
            channel: foreign.channel,
            user: foreign.user.clone(),
            key: image.path(Part::SshKey),
            network: network.clone(),
        })
    }

    /// The same, once it is known which channel answers.
    pub(super) fn by(self, channel: Channel) -> Self {
        Self { channel, ..self }
    }

    fn door(&self, address: SocketAddr) -> Door {
        Door { address, key: self.key.clone(), user: self.user.clone() }
    }

    /// Connects to a fresh QEMU, opens the ports that lead into it, and puts somebody there who plays the
    /// agent. `settle` has the guest come to rest before it answers: for one that boots.
    pub(super) async fn connect(
        &self,
        process: &mut Process,
        settle: bool,
        limit: Duration,
    ) -> Result<(Qmp, Agent, Found), Error> {
        let socket = process.socket(QMP_SOCKET);
        let late = Error::TimedOut { what: "the start of QEMU", seconds: limit.as_secs() };
        let connected =
            process.alive_while(tokio::time::timeout(limit, Qmp::connect(&socket, limit))).await?;
        let qmp = connected.unwrap_or(Err(late))?;
        let door = self.door(network::open(&qmp, &self.network).await?);
        door.write_configuration(process.run_dir())?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::host("making a pair of sockets"))?;
        let found = Found::default();
        let search = Search {
            channel: self.channel,
            door,
            qga: process.socket(QGA_SOCKET),
            dir: process.run_dir().to_owned(),
            found: found.clone(),
        };
        tokio::spawn(bridge::serve(theirs, search.find(), settle));
        Ok((qmp, Agent::over(ours), found))
    }
}

/// Looks for a way in, again and again.
struct Search {
    channel: Channel,
    door: Door,
    qga: PathBuf,
    dir: PathBuf,
    found: Found,
}

impl Search {
    async fn find(self) -> Hands {
        let hands = match self.channel {
            Channel::Ssh => self.over_ssh().await,
            Channel::Qga => self.over_qga().await,
            Channel::Auto => tokio::select! {
                hands = self.over_ssh() => hands,
                hands = self.over_qga() => hands,
            },
        };
        // Told once: there is one search.
        let _ = self.found.set(hands.channel());
        hands
    }

    async fn over_ssh(&self) -> Hands {
        loop {
            match Ssh::connect(&self.door, &self.dir).await {
                Ok(ssh) => return Hands::Ssh(ssh),
                Err(error) => tracing::trace!(%error, "no sshd yet"),
            }
            sleep(TRY).await;
        }
    }

    async fn over_qga(&self) -> Hands {
        loop {
            let connected = Qga::connect(&self.qga, std::process::id(), QGA_TRY).await;
            match connected {
                Ok(qga) => match qga.ping().await {
                    Ok(()) => return Hands::Qga(qga),
                    Err(error) => tracing::trace!(%error, "no guest agent yet"),
                },
                Err(error) => tracing::trace!(%error, "no guest agent yet"),
            }
            sleep(TRY).await;
        }
    }
}

/// Makes an empty disk as large as `below`, to be written to in its place.
pub(super) async fn make_overlay(below: &Path, overlay: &Path) -> Result<(), Error> {
    let length =
        std::fs::metadata(below).map_err(Error::host(format!("looking at {}", below.display())))?.len();
    let mut command = tokio::process::Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]).arg(overlay).arg(length.to_string()).kill_on_drop(true);
    let output =
        command.output().await.map_err(Error::host("starting qemu-img (Debian: package qemu-utils)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Qemu(format!("qemu-img: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests;
