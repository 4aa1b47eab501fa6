//! What happened to a job so far, and what happens to it: out of the log of events, which keeps them.

use super::{Client, Error};
use evalfleet_broker::transport::Start;
use evalfleet_broker::{Entry, Error as BrokerError, Link, Log, Session};
use evalfleet_proto::control::Event;
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::{Timestamp, topology, wire};
use evalfleet_service::retry::Delays;
use std::sync::Arc;
use std::time::Duration;

/// How far back the log is read at most: it holds the events of all jobs.
const BACK_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// By how much the client's clock may be ahead of the broker's.
const SKEW: Duration = Duration::from_secs(60);
/// The longest wait before the log is opened again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The events of one job, from its submission on; see [`Client::events`].
#[derive(Debug)]
pub struct Events {
    link: Arc<Link>,
    id: JobId,
    from: Timestamp,
    reading: Option<(Arc<Session>, Log)>,
    /// Events that were given already, of which as many are passed over when the log is read again.
    given: usize,
    passed_over: usize,
}

impl Client {
    /// The events of a job from its submission on, or from a day ago, whoever submitted it: what is past
    /// comes first. There is no end to them; wait for the result beside it.
    pub fn events(&self, id: JobId) -> Events {
        let now = Timestamp::now();
        let earliest = now.checked_sub(BACK_MAX).unwrap_or(now);
        // An id that was made out of a key tells no time.
        let made = id.made().and_then(|made| made.checked_sub(SKEW).ok());
        let from = made.map_or(earliest, |made| made.clamp(earliest, now));
        Events { link: self.link.clone(), id, from, reading: None, given: 0, passed_over: 0 }
    }
}

impl Events {
    /// Waits for the next event. When the connection breaks, the log is read again from where it began,
    /// and no event is given twice.
    ///
    /// Cancel-safe: may be dropped and asked again, and then gives every event once.
    ///
    /// # Errors
    /// When the client is closed, or the broker says what no waiting mends.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        loop {
            match self.read().await {
                Ok(entry) => {
                    if let Some(event) = self.take(&entry) {
                        return Ok(event);
                    }
                }
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "reading the events again");
                    if let Some((session, _)) = self.reading.take() {
                        self.link.forget(&session).await;
                    }
                    tokio::time::sleep(delays.next_delay()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn read(&mut self) -> Result<Entry, BrokerError> {
        if self.reading.is_none() {
            let session = self.link.session().await?;
            let log = Log::open(&session, topology::EVENTS_LOG, Start::At(self.from)).await?;
            self.passed_over = 0;
            self.reading = Some((session, log));
        }
        match &mut self.reading {
            Some((_, log)) => log.next().await,
            None => Err(BrokerError::Broken("no log is open".to_owned())),
        }
    }

    fn take(&mut self, entry: &Entry) -> Option<Event> {
        let envelope = entry.envelope.as_ref()?;
        if envelope.id != self.id || envelope.kind != MessageType::Event {
            return None;
        }
        if self.passed_over < self.given {
            self.passed_over += 1;
            return None;
        }
        self.given += 1;
        self.passed_over += 1;
        wire::decode(&entry.body).ok()
    }
}
