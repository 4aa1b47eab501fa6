//! A connection that mends itself: whoever needs the broker asks the link for a live session.

use crate::amqp::Amqp;
use crate::transport::Dial;
use crate::{Confirmed, Error, Options, Session};
use evalfleet_proto::envelope::Envelope;
use evalfleet_service::retry::Delays;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// The longest wait between two tries to reach the broker.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Keeps one live [`Session`], over and over.
#[derive(Debug)]
pub struct Link {
    options: Options,
    dial: Arc<dyn Dial>,
    session: Mutex<Option<Arc<Session>>>,
    /// Why something waits; none while all goes well.
    trouble: std::sync::Mutex<Option<String>>,
    stop: CancellationToken,
}

impl Link {
    /// A link that is not connected yet; `stop` ends every wait in it.
    pub fn new(options: Options, stop: CancellationToken) -> Self {
        Self::over(Arc::new(Amqp), options, stop)
    }

    /// The same, over connections that `dial` makes.
    pub fn over(dial: Arc<dyn Dial>, options: Options, stop: CancellationToken) -> Self {
        Self { options, dial, session: Mutex::new(None), trouble: std::sync::Mutex::default(), stop }
    }

    /// Gives the live session, connecting if there is none: one try.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn try_session(&self) -> Result<Arc<Session>, Error> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| session.is_alive()) {
            return Ok(session.clone());
        }
        let session = Arc::new(Session::connect_over(&*self.dial, &self.options).await?);
        tracing::info!(node = session.node(), "connected to the broker");
        *slot = Some(session.clone());
        Ok(session)
    }

    /// Gives the live session, waiting for the broker as long as it takes.
    ///
    /// # Errors
    /// When the link is stopped, or the broker says what no waiting mends.
    pub async fn session(&self) -> Result<Arc<Session>, Error> {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        let mut waited = false;
        loop {
            match self.try_session().await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "waiting for the broker");
                    self.note(Some(&error));
                    waited = true;
                    self.pause(delays.next_delay(), error).await?;
                }
                settled => {
                    if waited {
                        self.note(None);
                    }
                    return settled;
                }
            }
        }
    }

    /// Publishes one message, again and again on new sessions, until the broker holds it.
    ///
    /// # Errors
    /// When the link is stopped, or the broker says what no waiting mends.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        envelope: &Envelope,
        body: &[u8],
    ) -> Result<Confirmed, Error> {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        loop {
            let session = self.session().await?;
            match session.publish(exchange, key, envelope, body).await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "publishing again");
                    self.note(Some(&error));
                    // A channel that was opened during a change of leaders refuses for long: open another.
                    self.forget(&session).await;
                    self.pause(delays.next_delay(), error).await?;
                }
                settled => {
                    self.note(None);
                    return settled;
                }
            }
        }
    }

    /// Why whoever uses this link waits, in words for people; `None` when nothing is known to be wrong.
    pub fn waits_for(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.or_else(|| {
            // Whoever has it is about to connect, and will say what comes of it.
            let session = self.session.try_lock().ok()?;
            session.as_ref().filter(|session| session.is_blocked()).map(|_| Error::BLOCKED.to_owned())
        })
    }

    fn note(&self, error: Option<&Error>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if error.is_some() || trouble.is_some() {
            *trouble = error.map(ToString::to_string);
        }
    }

    /// Throws a session away, unless another one took its place already.
    pub async fn forget(&self, broken: &Arc<Session>) {
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|session| Arc::ptr_eq(session, broken)) {
            *slot = None;
        }
    }

    /// Ends the connection in order.
    pub async fn close(&self) {
        if let Some(session) = self.session.lock().await.take() {
            session.close().await;
        }
    }

    async fn pause(&self, wait: Duration, error: Error) -> Result<(), Error> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(error),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}
