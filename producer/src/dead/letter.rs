//! What can be told of a dead letter, whoever made it: one of our workers, or the broker itself, which
//! passes on the job's message as it was.

use evalfleet_broker::{Confirmed, Delivery};
use evalfleet_proto::Timestamp;
use evalfleet_proto::dead::{DeadLetter, Reason};
use evalfleet_proto::envelope::MessageType;
use evalfleet_proto::ids::{JobId, Lane};
use evalfleet_proto::job::{Attempt, Job, Task};
use evalfleet_proto::wire;
use serde::Serialize;

/// One dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The job; `None` when not even the envelope names one.
    pub id: Option<JobId>,
    /// Why it is here.
    pub reason: Reason,
    /// What went wrong last.
    pub error: String,
    /// The lane it came from.
    pub lane: Option<Lane>,
    /// Every try that was made.
    pub attempts: Vec<Attempt>,
    /// The worker that gave it up; `None` when the broker did.
    pub worker: Option<String>,
    /// When it was given up, as far as it is known.
    pub died: Option<Timestamp>,
    /// The job, or why there is none.
    pub job: Result<Job, String>,
    /// The length of the message.
    pub bytes: usize,
}

/// A letter as documents show it.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The job.
    pub id: Option<JobId>,
    /// `poison`, `attempts_spent`, `broker`, …
    pub reason: &'static str,
    /// What went wrong last.
    pub error: String,
    /// The lane it came from.
    pub lane: Option<Lane>,
    /// `command`, `function_call`, …; null when it does not decode.
    pub kind: Option<&'static str>,
    /// The program or the tool.
    pub subject: Option<String>,
    /// Every try that was made.
    pub attempts: Vec<Attempt>,
    /// The worker that gave it up.
    pub worker: Option<String>,
    /// When it was submitted.
    pub submitted: Option<Timestamp>,
    /// When it was given up.
    pub died: Option<Timestamp>,
    /// The job that it repeats.
    pub replay_of: Option<JobId>,
    /// Whether it can be replayed.
    pub replayable: bool,
}

impl Letter {
    /// Reads what a delivery tells; nothing in it can fail this.
    pub(super) fn read(delivery: &Delivery<Confirmed>) -> Self {
        let kind = delivery.envelope.as_ref().map(|envelope| envelope.kind);
        match wire::decode::<DeadLetter>(&delivery.body) {
            Ok(letter) if kind == Some(MessageType::Dead) => Self::of_worker(letter),
            _ => Self::of_broker(delivery),
        }
    }

    pub(super) fn of_worker(letter: DeadLetter) -> Self {
        Self {
            id: Some(letter.id),
            reason: letter.reason,
            error: letter.error,
            lane: Some(letter.lane),
            attempts: letter.attempts,
            worker: Some(letter.worker),
            died: Some(letter.died),
            job: wire::decode_job(&letter.body).map_err(|error| error.to_string()),
            bytes: letter.body.len(),
        }
    }

    fn of_broker(delivery: &Delivery<Confirmed>) -> Self {
        let job = wire::decode_job(&delivery.body).map_err(|error| error.to_string());
        let envelope = delivery.envelope.as_ref();
        let headers = envelope.map(|envelope| &envelope.headers);
        let last = headers.and_then(|headers| headers.last_error.clone());
        let given_up = "delivered too often without an answer: its workers may have died of it";
        Self {
            id: envelope.map(|envelope| envelope.id).or(job.as_ref().ok().map(|job| job.id)),
            reason: Reason::Broker,
            error: last.unwrap_or_else(|| given_up.to_owned()),
            lane: headers.and_then(|headers| headers.lane.clone()),
            attempts: job.as_ref().map(|job| job.attempts.clone()).unwrap_or_default(),
            worker: headers.and_then(|headers| headers.last_worker.clone()),
            died: None,
            job,
            bytes: delivery.body.len(),
        }
    }

    /// The letter as documents show it.
    pub fn summary(&self) -> Summary {
        let job = self.job.as_ref().ok();
        Summary {
            id: self.id,
            reason: self.reason.as_str(),
            error: self.error.clone(),
            lane: self.lane.clone(),
            kind: job.map(|job| job.task.kind()),
            subject: job.map(|job| subject(&job.task)),
            attempts: self.attempts.clone(),
            worker: self.worker.clone(),
            submitted: job.map(|job| job.submitted),
            died: self.died,
            replay_of: job.and_then(|job| job.replay_of),
            replayable: job.is_some_and(|job| job.task != Task::Unknown),
        }
    }
}

/// The program or the tool.
fn subject(task: &Task) -> String {
    match task {
        Task::Command(command) => command.argv.join(" "),
        Task::FunctionCall(call) => call.name.to_string(),
        Task::Unknown => "unknown".to_owned(),
    }
}
