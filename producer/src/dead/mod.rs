//! Dead letters: looked at without loss, and replayed without doubling.
//!
//! Looking takes letters out of `eval.dead` and gives them back; its queue has no delivery limit, so no
//! look destroys one. A replay publishes a new job first, and settles the letter only with the proof
//! that the broker holds that job. The new job's id is derived from the dead one's, so that a replay
//! that is interrupted or repeated cannot make two jobs.

mod letter;
mod replay;

pub use letter::{Letter, Summary};
pub use replay::{Outcome, replay_of};

use evalfleet_broker::{Confirmed, Delivery, Error as BrokerError, Options, Session};
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::{Timestamp, topology, wire};
use evalfleet_service::settings::Settings;

/// How many letters a command takes out at once, where it is not told otherwise.
pub const LIMIT: usize = 1000;

/// Why the letters are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker does not answer.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// There is no such letter among those that were looked at.
    #[error(
        "no dead letter of {id} among the first {looked}: `evalfleet dead list` shows what there is, `--limit` looks further"
    )]
    Missing {
        /// What was asked for.
        id: JobId,
        /// How many were looked at.
        looked: usize,
    },
}

/// Which letters are meant.
#[derive(Debug, Clone)]
pub enum Which {
    /// All that are looked at.
    All,
    /// Those of these jobs.
    Of(Vec<JobId>),
}

impl Which {
    fn has(&self, id: Option<JobId>) -> bool {
        match self {
            Self::All => true,
            Self::Of(ids) => id.is_some_and(|id| ids.contains(&id)),
        }
    }
}

/// The queue of dead letters, over a connection of its own: whatever is not settled goes back when
/// that ends.
#[derive(Debug)]
pub struct Office {
    session: Session,
    attempts_max: u32,
}

impl Office {
    /// Connects to the broker that `settings` name.
    ///
    /// # Errors
    /// When none of its nodes answers.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let options = Options::new(&settings.broker, "evalfleet dead letters");
        let session = Session::connect(&options).await?;
        Ok(Self { session, attempts_max: settings.broker.attempts_max })
    }

    /// Looks at the first `limit` letters, oldest first.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn list(&self, limit: usize) -> Result<Vec<Letter>, Error> {
        Ok(self.take(limit).await?.iter().map(Letter::read).collect())
    }

    /// Looks for the letter of one job among the first `limit`.
    ///
    /// # Errors
    /// When it is not there, or the connection breaks.
    pub async fn show(&self, id: JobId, limit: usize) -> Result<Letter, Error> {
        let letters = self.list(limit).await?;
        let looked = letters.len();
        letters.into_iter().find(|letter| letter.id == Some(id)).ok_or(Error::Missing { id, looked })
    }

    /// Replays the letters that `which` means among the first `limit`; with `dry`, says what would be
    /// done. A letter that cannot be replayed stays.
    ///
    /// # Errors
    /// When the connection breaks, or a job that was named has no letter: those before it are replayed.
    pub async fn replay(&self, which: &Which, limit: usize, dry: bool) -> Result<Vec<Outcome>, Error> {
        let taken = self.take(limit).await?;
        let looked = taken.len();
        let mut outcomes = Vec::new();
        for delivery in taken {
            let letter = Letter::read(&delivery);
            if which.has(letter.id) {
                outcomes.push(self.replay_one(letter, delivery, dry).await?);
            }
        }
        if let Which::Of(ids) = which {
            let found = |id: &JobId| outcomes.iter().any(|outcome| outcome.letter.id == Some(*id));
            if let Some(id) = ids.iter().find(|id| !found(id)) {
                return Err(Error::Missing { id: *id, looked });
            }
        }
        Ok(outcomes)
    }

    async fn replay_one(
        &self,
        letter: Letter,
        delivery: Delivery<Confirmed>,
        dry: bool,
    ) -> Result<Outcome, Error> {
        let now = Timestamp::now();
        let job = match letter.job.as_ref().map(|job| replay_of(job, now)) {
            Ok(job) => job,
            Err(reason) => {
                let refused = Some(format!("it cannot be replayed: {reason}"));
                return Ok(Outcome { letter, job: None, refused });
            }
        };
        if !dry {
            let envelope = Envelope::of_job(&job, self.attempts_max, now);
            let body = wire::encode(&job);
            let proof = self.session.publish(topology::JOBS, job.lane.as_str(), &envelope, &body).await?;
            delivery.settle(&proof).await?;
        }
        Ok(Outcome { letter, job: Some(job.id), refused: None })
    }

    async fn take(&self, limit: usize) -> Result<Vec<Delivery<Confirmed>>, Error> {
        Ok(self.session.take(topology::DEAD_QUEUE, limit).await?)
    }

    /// Ends the connection; what was looked at is back in the queue.
    pub async fn close(self) {
        self.session.close().await;
    }
}
