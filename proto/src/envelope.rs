//! The envelope: what the broker and an operator can read of a message without opening it.

use crate::dead::DeadLetter;
use crate::ids::{JobId, Lane, Sha256};
use crate::job::Job;
use jiff::Timestamp;

/// The media type of every body.
pub const CONTENT_TYPE: &str = "application/msgpack";

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// A [`Job`].
    Job,
    /// An [`crate::evaluation::Evaluation`].
    Result,
    /// A [`crate::dead::DeadLetter`].
    Dead,
    /// A [`crate::dead::Handled`].
    Handled,
    /// A [`crate::amendment::Amendment`].
    Amendment,
    /// A [`crate::alert::Alert`].
    Alert,
    /// A [`crate::alert::Judgement`].
    Judgement,
    /// A [`crate::healing::Healing`].
    Healing,
    /// A [`crate::healing::Decision`].
    Decision,
    /// A [`crate::control::Control`].
    Control,
    /// A [`crate::control::Event`].
    Event,
}

impl MessageType {
    /// The word in the `type` property.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Result => "result",
            Self::Dead => "dead",
            Self::Handled => "handled",
            Self::Amendment => "amendment",
            Self::Alert => "alert",
            Self::Judgement => "judgement",
            Self::Healing => "healing",
            Self::Decision => "decision",
            Self::Control => "control",
            Self::Event => "event",
        }
    }

    /// Reads the `type` property.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [
            Self::Job,
            Self::Result,
            Self::Dead,
            Self::Handled,
            Self::Amendment,
            Self::Alert,
            Self::Judgement,
            Self::Healing,
            Self::Decision,
            Self::Control,
            Self::Event,
        ];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Properties and headers of a message, free of any client library.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// `message_id`: the job's id.
    pub id: JobId,
    /// `type`.
    pub kind: MessageType,
    /// `correlation_id`: the batch.
    pub batch: Option<String>,
    /// `priority`, 0 to 9.
    pub priority: u8,
    /// `timestamp`, whole seconds.
    pub timestamp: Timestamp,
    /// The inbox of a client that waits for the job: a job's message asks for an answer there (`reply_to`),
    /// results and events go there, too (`BCC`). Its name begins with [`crate::topology::INBOX_PREFIX`].
    pub inbox: Option<String>,
    /// The headers.
    pub headers: Headers,
}

/// The headers of a message; all but `schema` may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Headers {
    /// The version of the body.
    pub schema: u16,
    /// Which try this message asks for, from 1.
    pub attempt: u32,
    /// How many tries there may be.
    pub max_attempts: u32,
    /// The lane.
    pub lane: Option<Lane>,
    /// When it was first enqueued.
    pub enqueued: Option<Timestamp>,
    /// Not to be started after this moment.
    pub deadline: Option<Timestamp>,
    /// The hash of what is asked.
    pub content_key: Option<Sha256>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What went wrong at the last try.
    pub last_error: Option<String>,
    /// Who made it.
    pub last_worker: Option<String>,
    /// The job that this one repeats.
    pub replay_of: Option<JobId>,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            schema: crate::SCHEMA_VERSION,
            attempt: 1,
            max_attempts: 1,
            lane: None,
            enqueued: None,
            deadline: None,
            content_key: None,
            traceparent: None,
            last_error: None,
            last_worker: None,
            replay_of: None,
        }
    }
}

/// The most characters of an error text that a header carries.
pub const HEADER_TEXT_MAX: usize = 512;

impl Envelope {
    /// The envelope of a message about job `id`, with no more than that in it.
    pub fn new(kind: MessageType, id: JobId, now: Timestamp) -> Self {
        Self { id, kind, batch: None, priority: 0, timestamp: now, inbox: None, headers: Headers::default() }
    }

    /// The same, for the client that has this inbox.
    #[must_use]
    pub fn for_inbox(self, inbox: Option<&str>) -> Self {
        Self { inbox: inbox.map(str::to_owned), ..self }
    }

    /// The envelope of a dead letter.
    pub fn of_dead(letter: &DeadLetter) -> Self {
        let mut envelope = Self::new(MessageType::Dead, letter.id, letter.died);
        envelope.headers.lane = Some(letter.lane.clone());
        envelope.headers.last_error = Some(letter.error.chars().take(HEADER_TEXT_MAX).collect());
        envelope.headers.last_worker = Some(letter.worker.clone());
        envelope
    }

    /// The envelope of `job` on its way to a worker.
    pub fn of_job(job: &Job, max_attempts: u32, now: Timestamp) -> Self {
        let last = job.attempts.last();
        Self {
            id: job.id,
            kind: MessageType::Job,
            batch: job.batch.as_ref().map(ToString::to_string),
            priority: job.priority,
            timestamp: now,
            inbox: None,
            headers: Headers {
                attempt: job.attempt(),
                max_attempts,
                lane: Some(job.lane.clone()),
                enqueued: Some(job.submitted),
                deadline: job.deadline,
                content_key: Some(crate::wire::content_key(job)),
                last_error: last.map(|attempt| attempt.error.chars().take(HEADER_TEXT_MAX).collect()),
                last_worker: last.map(|attempt| attempt.worker.clone()),
                replay_of: job.replay_of,
                ..Headers::default()
            },
        }
    }
}
