//! A log: a stream of the broker's, which keeps what was read until it is old.
//!
//! Whoever starts late, or lost its connection, reads it again from where it wants.

use crate::delivery::Consumer;
use crate::transport::Start;
use crate::{Error, Session};
use evalfleet_proto::envelope::Envelope;

/// Entries on their way to a reader.
const PREFETCH: u16 = 200;

/// One entry of a log.
#[derive(Debug)]
pub struct Entry {
    /// What the envelope says; `None` when it names no job.
    pub envelope: Option<Envelope>,
    /// The body, as it came.
    pub body: Vec<u8>,
}

/// A log that is being read.
#[derive(Debug)]
pub struct Log {
    consumer: Consumer<()>,
}

impl Log {
    /// Begins to read the log `name`.
    ///
    /// # Errors
    /// When it is missing or the connection broke.
    pub async fn open(session: &Session, name: &str, from: Start) -> Result<Self, Error> {
        let source = session.open_channel().await?.follow(name, from, PREFETCH).await?;
        Ok(Self { consumer: Consumer::new(source) })
    }

    /// Waits for the next entry.
    ///
    /// # Errors
    /// When the connection broke: open it again on a new session, from a place that was read.
    pub async fn next(&mut self) -> Result<Entry, Error> {
        let mut delivery = self.consumer.next().await?;
        let (envelope, body) = (delivery.envelope.take(), std::mem::take(&mut delivery.body));
        // To acknowledge an entry takes it out of nowhere: it asks for one more.
        delivery.settle(&()).await?;
        Ok(Entry { envelope, body })
    }
}
