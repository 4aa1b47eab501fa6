//! A log: a stream of the broker's, which keeps what was read until it is old.
//!
//! Whoever starts late, or lost its connection, reads it again from where it wants.

use crate::delivery::Consumer;
use crate::transport::{Answer, Start};
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
pub struct Log {
    consumer: Consumer<()>,
    /// The acknowledgement of the entry that was given last.
    asking: Option<Answer<'static, ()>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

impl Log {
    /// Begins to read the log `name`.
    ///
    /// # Errors
    /// When it is missing or the connection broke.
    pub async fn open(session: &Session, name: &str, from: Start) -> Result<Self, Error> {
        let source = session.open_channel().await?.follow(name, from, PREFETCH).await?;
        Ok(Self { consumer: Consumer::new(source), asking: None })
    }

    /// Waits for the next entry. Cancel-safe: dropped and asked again, it gives every entry once.
    ///
    /// # Errors
    /// When the connection broke: open it again on a new session, from a place that was read.
    pub async fn next(&mut self) -> Result<Entry, Error> {
        // To acknowledge an entry takes it out of nowhere: it asks for one more. Done before that is waited for,
        // and not after the entry came: whoever is dropped in between would have taken it along.
        if let Some(asking) = &mut self.asking {
            let asked = asking.await;
            self.asking = None;
            asked?;
        }
        let mut delivery = self.consumer.next().await?;
        let (envelope, body) = (delivery.envelope.take(), std::mem::take(&mut delivery.body));
        self.asking = Some(Box::pin(delivery.settle(&())));
        Ok(Entry { envelope, body })
    }
}
