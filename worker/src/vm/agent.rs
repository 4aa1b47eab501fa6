//! The host's end of the channel to the agent. Everything that comes out of it is hostile.

use super::Error;
use super::frames::Frames;
use evalfleet_proto::guest::{CHUNK_BYTES, FRAME_BYTES_MAX, FromGuest, ToGuest};
use evalfleet_proto::wire;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::time::sleep;

/// A channel to one VM's agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) voice: Voice,
    pub(super) ear: Ear,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Voice(WriteHalf<UnixStream>);

/// The receiving half: cancel-safe, since what was read of a frame is kept.
#[derive(Debug)]
pub(super) struct Ear {
    from: ReadHalf<UnixStream>,
    frames: Frames,
}

impl Agent {
    /// Connects to QEMU's end of the port; the caller bounds the wait.
    pub(super) async fn connect(socket: &Path) -> Result<Self, Error> {
        let stream = loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_micros(500)).await,
            }
        };
        Ok(Self::over(stream))
    }

    /// Takes whoever plays the agent at the other end of `stream`.
    pub(super) fn over(stream: UnixStream) -> Self {
        let (from, to) = tokio::io::split(stream);
        Self { voice: Voice(to), ear: Ear { from, frames: Frames::default() } }
    }
}

impl Voice {
    /// Says one thing.
    pub(super) async fn say(&mut self, message: &ToGuest) -> Result<(), Error> {
        self.say_all(std::slice::from_ref(message)).await
    }

    /// Says several things in one breath: each write wakes the guest, which costs more than the bytes.
    pub(super) async fn say_all(&mut self, messages: &[ToGuest]) -> Result<(), Error> {
        let mut frames = Vec::new();
        for message in messages {
            let body = wire::encode(message);
            debug_assert!(body.len() <= FRAME_BYTES_MAX, "the host splits what it says");
            frames.extend_from_slice(&(body.len() as u32).to_le_bytes());
            frames.extend_from_slice(&body);
        }
        self.0.write_all(&frames).await.map_err(|error| Error::Agent(format!("cannot be spoken to: {error}")))
    }
}

impl Ear {
    /// Waits for the next thing the agent says.
    pub(super) async fn hear(&mut self) -> Result<FromGuest, Error> {
        loop {
            if let Some(frame) = self.frames.take().map_err(|error| Error::Agent(error.to_string()))? {
                return Ok(frame);
            }
            let buffer = self.frames.buffer();
            buffer.reserve(CHUNK_BYTES);
            match self.from.read_buf(buffer).await {
                Ok(0) => return Err(Error::Agent("hung up".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(Error::Agent(format!("cannot be heard: {error}"))),
            }
        }
    }
}
