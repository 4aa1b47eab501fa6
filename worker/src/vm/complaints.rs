//! What a QEMU says on standard error: kept to say why it ended, and bounded, for a guest may make it
//! complain without end.
//!
//! It goes into a pipe that nobody needs to empty: where the pipe is full, what else is written is lost
//! rather than waited for, so neither a disk nor this process's memory grows, and QEMU never stands still.

use super::Error;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// How much of it is told: its end.
const BYTES_MAX: usize = 2000;

/// The end of the pipe that is read.
#[derive(Debug)]
pub(super) struct Complaints {
    pipe: OwnedFd,
    heard: Mutex<Vec<u8>>,
}

impl Complaints {
    /// Gives also the end that is written to, for a process to have as its standard error.
    pub(super) fn listen() -> Result<(Self, OwnedFd), Error> {
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (pipe, told) = pipe.map_err(|error| Error::host("making a pipe for QEMU")(error.into()))?;
        Ok((Self { pipe, heard: Mutex::default() }, told))
    }

    /// What was said so far, with a colon in front; nothing if nothing was.
    pub(super) fn tell(&self) -> String {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(Errno::INTR) => {}
                // Nothing more for now.
                Err(_) => break,
            }
            let old = heard.len().saturating_sub(BYTES_MAX);
            heard.drain(..old);
        }
        match String::from_utf8_lossy(&heard).trim() {
            "" => String::new(),
            said => format!(": {said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_end_of_what_was_said_is_told_and_a_flood_stops_nobody() {
        let (complaints, told) = Complaints::listen().unwrap();
        assert_eq!(complaints.tell(), "");
        // Far more than a pipe holds, and nobody reads meanwhile.
        let script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 0";
        let mut child = Command::new("sh").args(["-c", script]).stderr(Stdio::from(told)).spawn().unwrap();
        child.wait().unwrap();
        let said = complaints.tell();
        assert!(said.len() <= BYTES_MAX + 2 && said.ends_with("xxx"), "{} bytes", said.len());
        assert_eq!(complaints.tell(), said);
    }
}
