//! What a foreign image sees of its machine: a disk with a boot loader, cloud-init's seed, a network
//! with nobody on it, a port for QEMU's guest agent.

use super::super::qemu::{Line, SCRATCH_NODE};
use super::network::NETDEV;
use std::path::PathBuf;

/// QEMU's end of the guest agent's port.
pub(super) const QGA_SOCKET: &str = "qga";

/// The files behind a foreign image's machine.
#[derive(Debug, Clone)]
pub(in crate::vm) struct Parts {
    /// The image's whole disk, which nobody writes to.
    pub(in crate::vm) disk: PathBuf,
    /// Over it, what the template wrote; none while the template itself runs.
    pub(in crate::vm) frozen: Option<PathBuf>,
    /// What cloud-init is told.
    pub(in crate::vm) seed: PathBuf,
}

/// Adds the disks; the one that is written to is `scratch`, over all others. The files below are named
/// here, one by one: what an image's own header says of them is not read.
pub(in crate::vm) fn add(line: &mut Line, parts: &Parts, scratch: &std::path::Path) {
    let below = "read-only=on,file.driver=file,file.locking=off,file.filename=";
    line.path("-blockdev", &format!("driver=raw,node-name=disk,{below}"), &parts.disk);
    let mut backing = "disk";
    if let Some(frozen) = &parts.frozen {
        line.path("-blockdev", &format!("driver=qcow2,node-name=frozen,backing=disk,{below}"), frozen);
        backing = "frozen";
    }
    let written = format!(
        "driver=qcow2,node-name={SCRATCH_NODE},backing={backing},read-only=off,discard=unmap,cache.no-flush=on,file.driver=file,file.locking=off,file.filename="
    );
    line.path("-blockdev", &written, scratch);
    line.text("-device", format!("virtio-blk-pci,drive={SCRATCH_NODE},bootindex=0"));
    line.path("-blockdev", &format!("driver=raw,node-name=seed,{below}"), &parts.seed);
    line.text("-device", "virtio-blk-pci,drive=seed".to_owned());
    line.text("-netdev", format!("user,id={NETDEV},restrict=on,ipv6=off"));
    line.text("-device", format!("virtio-net-pci,netdev={NETDEV},romfile="));
    line.text("-chardev", format!("socket,id=qga,server=on,wait=off,path={QGA_SOCKET}"));
    line.text(
        "-device",
        "virtserialport,bus=serial0.0,nr=2,chardev=qga,name=org.qemu.guest_agent.0".to_owned(),
    );
}
