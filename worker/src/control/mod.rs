//! What is said to all workers: which jobs are called off, and who is to take none.
//!
//! ```text
//! eval.control ─▶ eval.control.log ── read from its beginning ─┬─▶ tombstones ──▶ a job that is taken
//!                      ▲                                       │       └────────▶ the job that runs
//!                      └── own mark: all before it was read    └─▶ drained ──▶ whether one is taken at all
//! ```
//!
//! A queue gives no message back out of its middle, so a job is called off where it is taken. The log is
//! read from its beginning at every start and after every lost connection, so that a worker that starts
//! after the word was said hears of it; only when it has read its own mark, which it published before,
//! does it know that it has read everything, and takes jobs.

mod drained;
pub mod tombstones;

use drained::Drained;
pub use drained::Why;
use evalfleet_broker::transport::Start;
use evalfleet_broker::{Error, Link, Log, Session};
use evalfleet_proto::control::Control as Word;
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::{JobId, WorkerId};
use evalfleet_proto::job::Job;
use evalfleet_proto::{Timestamp, topology, wire};
use evalfleet_service::retry::Delays;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tombstones::{CalledOff, Tombstones};

/// Tombstones that a worker keeps: tens of megabytes, if each has the longest reason.
const STONES_MAX: usize = 50_000;
/// The longest wait before the log is opened again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Whether all that was said is known.
#[derive(Debug, Clone)]
enum Reading {
    /// Not yet, or not any more.
    Behind,
    /// Up to now.
    Current,
    /// It cannot be, and waiting does not help.
    Failed(Error),
}

/// The job that this worker has in its hands.
#[derive(Debug)]
struct Held {
    job: Job,
    token: CancellationToken,
}

#[derive(Debug)]
struct State {
    stones: Tombstones,
    held: Option<Held>,
}

impl State {
    fn note(&mut self, word: &Word, said: Timestamp) {
        let now = Timestamp::now();
        let before = self.stones.forgotten();
        self.stones.note(word, said, now);
        if before == 0 && self.stones.forgotten() > 0 {
            tracing::warn!(
                max = STONES_MAX,
                "more is called off than can be remembered: the oldest is forgotten"
            );
        }
        if let Some(held) = &self.held
            && self.stones.of(&held.job, now).is_some()
        {
            held.token.cancel();
        }
    }
}

/// A worker's ear for what is said to all.
#[derive(Debug, Clone)]
pub struct Control {
    state: Arc<Mutex<State>>,
    reading: watch::Receiver<Reading>,
    drained: watch::Receiver<Option<Why>>,
}

impl Control {
    /// Reads the log over `link` for `worker`, from now until `stop`. Within a runtime: its task begins at once.
    pub fn listen(link: Arc<Link>, worker: WorkerId, stop: CancellationToken) -> Self {
        let (tell, reading) = watch::channel(Reading::Behind);
        let (tell_drained, drained) = watch::channel(None);
        let control = Self { state: Self::nothing_said(), reading, drained };
        let reader = Reader { link, worker, state: control.state.clone(), tell, tell_drained };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = reader.run() => {}
            }
        });
        control
    }

    /// An ear that hears nothing, for where nobody speaks.
    pub fn deaf() -> Self {
        // Its sender may go: what it said last is still there.
        let (_, reading) = watch::channel(Reading::Current);
        let (_, drained) = watch::channel(None);
        Self { state: Self::nothing_said(), reading, drained }
    }

    fn nothing_said() -> Arc<Mutex<State>> {
        let stones = Tombstones::new(STONES_MAX, topology::CONTROL_AGE);
        Arc::new(Mutex::new(State { stones, held: None }))
    }

    /// Waits until all that was said is known.
    ///
    /// # Errors
    /// When the log cannot be read, and waiting does not help. When its task was stopped, this waits for
    /// ever: whoever stopped it is going.
    pub async fn current(&self) -> Result<(), Error> {
        let mut reading = self.reading.clone();
        let known = reading.wait_for(|reading| !matches!(reading, Reading::Behind)).await;
        let known = known.map(|reading| reading.clone());
        match known {
            Ok(Reading::Failed(error)) => Err(error),
            Ok(Reading::Current | Reading::Behind) => Ok(()),
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether this worker is to take no jobs, and why; as of what was last known in full.
    pub fn drained(&self) -> watch::Receiver<Option<Why>> {
        self.drained.clone()
    }

    /// Takes a job in hand: it may be called off already, or be so while it is held.
    pub fn hold(&self, job: &Job) -> Hold {
        let token = CancellationToken::new();
        let mut state = lock(&self.state);
        if state.stones.of(job, Timestamp::now()).is_some() {
            token.cancel();
        }
        state.held = Some(Held { job: job.clone(), token: token.clone() });
        Hold { state: self.state.clone(), token }
    }
}

/// A job in a worker's hands. Dropping it lets go.
#[derive(Debug)]
pub struct Hold {
    state: Arc<Mutex<State>>,
    token: CancellationToken,
}

impl Hold {
    /// What ends when the job is called off.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Why it is called off, if it is.
    pub fn called_off(&self) -> Option<CalledOff> {
        let state = lock(&self.state);
        let held = state.held.as_ref()?;
        state.stones.of(&held.job, Timestamp::now()).cloned()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.state).held = None;
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task that reads the log.
struct Reader {
    link: Arc<Link>,
    worker: WorkerId,
    state: Arc<Mutex<State>>,
    tell: watch::Sender<Reading>,
    tell_drained: watch::Sender<Option<Why>>,
}

impl Reader {
    async fn run(self) {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        loop {
            let ended = match self.link.session().await {
                Ok(session) => match Box::pin(self.read(&session, &mut delays)).await {
                    Ok(never) => match never {},
                    Err(error) => {
                        self.tell.send_replace(Reading::Behind);
                        self.link.forget(&session).await;
                        error
                    }
                },
                Err(error) => error,
            };
            if !ended.is_transient() {
                tracing::error!(error = %ended, "what is called off cannot be heard");
                self.tell.send_replace(Reading::Failed(ended));
                return;
            }
            tracing::warn!(error = %ended, "listening again for what is called off: no job is taken before");
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn read(&self, session: &Session, delays: &mut Delays) -> Result<Never, Error> {
        let mark = JobId::fresh();
        let word = Word::Mark { nonce: mark.to_string() };
        let envelope = Envelope::new(MessageType::Control, mark, Timestamp::now());
        // The mark is in the log before it is read, so that it lies behind all that was said before.
        session.publish(topology::CONTROL, "mark", &envelope, &wire::encode(&word)).await?;
        let mut log = Log::open(session, topology::CONTROL_LOG, Start::First).await?;
        // Old words are read again: what they come to is told once all of them are known.
        let (mut drained, mut current) = (Drained::new(self.worker.clone()), false);
        loop {
            let entry = log.next().await?;
            let Some(envelope) = entry.envelope else { continue };
            match wire::decode::<Word>(&entry.body) {
                Ok(Word::Mark { .. }) if envelope.id == mark => {
                    let stones = lock(&self.state).stones.count();
                    tracing::info!(stones, "knows what is called off");
                    delays.reset();
                    self.tell_drained.send_replace(drained.why().cloned());
                    self.tell.send_replace(Reading::Current);
                    current = true;
                }
                Ok(word) => {
                    lock(&self.state).note(&word, envelope.timestamp);
                    if drained.note(&word) && current {
                        self.tell_drained.send_replace(drained.why().cloned());
                    }
                }
                Err(error) => tracing::warn!(%error, "a word to all workers does not decode"),
            }
        }
    }
}

/// Reading a log ends in an error only.
enum Never {}
