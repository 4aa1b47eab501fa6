//! What reading one disk may cost. A few kilobytes can describe files without end, so that what is asked
//! for is counted, and not only what is kept.

use super::{Error, ReadAt};
use std::cell::Cell;
use std::time::Instant;

/// What one read costs beside its bytes, so that many small ones end as well.
const READ_COST: u64 = 64;

/// How much of a disk may be read.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes in all, those of holes included.
    pub bytes: u64,
    /// When reading ends, whatever is left.
    pub until: Option<Instant>,
}

impl Default for Bounds {
    /// Eight gigabytes, in whatever time they take.
    fn default() -> Self {
        Self { bytes: 8 << 30, until: None }
    }
}

/// A disk that is read within bounds; beyond them every read is an error.
#[derive(Debug)]
pub(super) struct Metered<D> {
    disk: D,
    left: Cell<u64>,
    until: Option<Instant>,
}

impl<D: ReadAt> Metered<D> {
    pub(super) fn new(disk: D, bounds: Bounds) -> Self {
        Self { disk, left: Cell::new(bounds.bytes), until: bounds.until }
    }

    /// Fills `buffer` from `offset`.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.charge(buffer.len() as u64)?;
        Ok(self.disk.read_at(offset, buffer)?)
    }

    /// Pays for the work of `bytes` that are not read, such as a hole's.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), Error> {
        let left = self.left.get().checked_sub(bytes.saturating_add(READ_COST));
        let late = self.until.is_some_and(|until| Instant::now() >= until);
        // Once spent, nothing smaller is let through.
        self.left.set(if late { 0 } else { left.unwrap_or(0) });
        if left.is_none() || late { Err(Error::Spent) } else { Ok(()) }
    }
}
