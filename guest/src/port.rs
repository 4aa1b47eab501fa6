//! The virtio-serial port and its frames.

use evalfleet_proto::guest::{FRAME_BYTES_MAX, FromGuest, LENGTH_BYTES, PORT_NAME, ToGuest};
use evalfleet_proto::wire;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{fs, io};

/// The open port.
pub(crate) struct Port {
    file: OwnedFd,
    /// What was read and is not yet a whole frame.
    pending: Vec<u8>,
    /// The frame that is being said; kept, because output comes in many of the same size.
    frame: Vec<u8>,
}

/// What a read gave.
pub(crate) enum Heard {
    /// Perhaps whole frames now.
    Something,
    /// Nothing for now.
    Nothing,
    /// No host has the other end open.
    Nobody,
}

impl Port {
    /// Finds the port by its name and opens it.
    pub(crate) fn open() -> io::Result<Self> {
        let begun = Instant::now();
        loop {
            if let Some(device) = find()? {
                let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let file = rustix::fs::openat(CWD, format!("/dev/{device}"), flags, Mode::empty())?;
                return Ok(Self { file, pending: Vec::new(), frame: Vec::new() });
            }
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("no virtio port {PORT_NAME}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads what is there.
    pub(crate) fn hear(&mut self) -> io::Result<Heard> {
        let mut chunk = [0; 64 << 10];
        match rustix::io::read(&self.file, &mut chunk) {
            Ok(0) => {
                // Half a frame of a host that is gone must not meet the next one's first.
                self.pending.clear();
                Ok(Heard::Nobody)
            }
            Ok(count) => {
                self.pending.extend_from_slice(&chunk[..count]);
                Ok(Heard::Something)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Heard::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the next whole frame out of what was heard.
    pub(crate) fn next_frame(&mut self) -> Result<Option<ToGuest>, wire::DecodeError> {
        let Some((length, rest)) = self.pending.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(wire::DecodeError::TooLarge(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let frame = wire::decode(&rest[..length]);
        self.pending.drain(..LENGTH_BYTES + length);
        frame.map(Some)
    }

    /// Says one thing, waiting until the host has room for it.
    pub(crate) fn say(&mut self, message: &FromGuest) -> io::Result<()> {
        self.frame.clear();
        self.frame.resize(LENGTH_BYTES, 0);
        wire::encode_into(&mut self.frame, message);
        let length = (self.frame.len() - LENGTH_BYTES) as u32;
        self.frame[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        let mut rest = self.frame.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => {
                    let room = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                    poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], Some(&room))?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn find() -> io::Result<Option<String>> {
    let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else { return Ok(None) };
    for port in ports {
        let port = port?;
        let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
        if name.trim() == PORT_NAME {
            return Ok(Some(port.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}
