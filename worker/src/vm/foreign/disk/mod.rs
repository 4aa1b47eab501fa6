//! A foreign image's disk as it was and as it is, read without mounting it.
//!
//! ```text
//!  disk.raw ── frozen ── scratch      Stack: the topmost file that has a cluster gives it
//!     │ Partition                     where the file systems are, as the template left them
//!     ▼
//!  Journaled                          what is committed and not yet in its place
//!     ▼
//!  Ext4
//! ```
//!
//! The guest's root can write whatever it likes into the disk; the files around it are QEMU's. So
//! everything above the stack is bounded and hostile, and reading it can end only in an error.

mod journal;
mod partition;
mod qcow2;
mod ranges;

pub use journal::Journaled;
pub use partition::{Partition, partitions};
pub use qcow2::Overlay;
pub use ranges::Ranges;

use super::super::ext4::{Ext4, ReadAt};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// A disk out of several files.
#[derive(Debug)]
pub struct Stack {
    disk: File,
    bytes: u64,
    /// The topmost last.
    overlays: Vec<Overlay>,
}

impl Stack {
    /// Opens a raw disk with overlays over it, the lowest first.
    ///
    /// # Errors
    /// When a file cannot be read, or is no overlay of QEMU's.
    pub fn open(disk: &Path, overlays: &[&Path]) -> io::Result<Self> {
        let disk = File::open(disk)?;
        let overlays = overlays.iter().map(|path| Overlay::open(path)).collect::<io::Result<_>>()?;
        Ok(Self { bytes: disk.metadata()?.len(), disk, overlays })
    }

    /// What the topmost overlay has of its own.
    pub fn written(&self) -> Ranges {
        self.overlays.last().map(Overlay::written).unwrap_or_default()
    }

    /// The disk's length in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl ReadAt for Stack {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.bytes);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            // No further than the smallest cluster's end that is concerned.
            let mut count = (buffer.len() - done) as u64;
            let mut source = qcow2::Place::Below;
            for overlay in self.overlays.iter().rev() {
                let (place, left) = overlay.locate(at)?;
                count = count.min(left);
                source = place;
                if source != qcow2::Place::Below {
                    break;
                }
            }
            let part = &mut buffer[done..done + count as usize];
            match source {
                qcow2::Place::Zero => part.fill(0),
                qcow2::Place::Below => self.disk.read_exact_at(part, at)?,
                qcow2::Place::At(layer_offset) => {
                    let overlay = self.overlays.iter().rev().find(|overlay| overlay.has(at));
                    let overlay = overlay.ok_or_else(|| io::Error::other("a cluster of no overlay"))?;
                    overlay.read(layer_offset, part)?;
                }
            }
            done += count as usize;
        }
        Ok(())
    }
}

/// A part of a disk.
#[derive(Debug)]
pub struct Window<D> {
    disk: D,
    start: u64,
    bytes: u64,
}

impl<D: ReadAt> ReadAt for Window<D> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.bytes);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.disk.read_at(self.start + offset, buffer)
    }
}

/// A file system of a foreign image's disk.
pub type Filesystem = Ext4<Journaled<Window<Arc<Stack>>>>;

/// Opens the file system in `partition`, and tells which bytes of it are not where they belong yet.
///
/// # Errors
/// When there is no readable ext4.
pub fn open(
    stack: &Arc<Stack>,
    partition: &Partition,
) -> Result<(Filesystem, Ranges), super::super::ext4::Error> {
    let window = Window { disk: stack.clone(), start: partition.start, bytes: partition.bytes };
    let journaled = Journaled::open(window)?;
    let moved = journaled.moved();
    Ok((Ext4::open(journaled)?, moved))
}
