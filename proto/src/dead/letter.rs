//! What can be told of a dead letter, whoever made it: one of our workers, the recorder, or the broker
//! itself, which passes on the job's message as it was.

use super::{Card, DeadLetter, Reason, State};
use crate::envelope::{Envelope, MessageType};
use crate::evaluation::{Evaluation, Evidence, Source};
use crate::ids::{JobId, Lane, Sha256};
use crate::job::{Attempt, Content, Job, Task};
use crate::status::{Cause, Status};
use crate::topology::is_dead_key;
use crate::wire;
use jiff::Timestamp;

/// How much of a file or of a standard input the document shows.
const TEXT_BYTES_MAX: usize = 64 << 10;

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
    /// The message as it came.
    pub body: Vec<u8>,
}

impl Letter {
    /// Reads what a message tells that was published under `key`; nothing in it can fail this.
    pub fn read(envelope: Option<&Envelope>, key: &str, body: &[u8]) -> Self {
        let by_us = envelope.is_some_and(|envelope| envelope.kind == MessageType::Dead);
        match wire::decode::<DeadLetter>(body) {
            Ok(letter) if by_us => Self::of_ours(letter),
            Ok(_) | Err(_) if is_dead_key(key) => Self::of_broker(envelope, body),
            Ok(_) | Err(_) => Self::unroutable(envelope, key, body),
        }
    }

    /// Takes a letter that one of our parts wrote.
    pub fn of_ours(letter: DeadLetter) -> Self {
        Self {
            id: Some(letter.id),
            reason: letter.reason,
            error: letter.error,
            lane: Some(letter.lane),
            attempts: letter.attempts,
            worker: Some(letter.worker),
            died: Some(letter.died),
            job: wire::decode_job(&letter.body).map_err(|error| error.to_string()),
            body: letter.body,
        }
    }

    fn of_broker(envelope: Option<&Envelope>, body: &[u8]) -> Self {
        let job = wire::decode_job(body).map_err(|error| error.to_string());
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
            body: body.to_vec(),
        }
    }

    /// What nobody was bound for comes as it was published.
    fn unroutable(envelope: Option<&Envelope>, key: &str, body: &[u8]) -> Self {
        let error = format!(
            "no queue takes the key {key:?}: name its lane in broker.lanes and its wait in broker.retry_tiers, declare them with `evalfleet up`, and replay it, or replay it in another lane"
        );
        Self { reason: Reason::Unroutable, error, ..Self::of_broker(envelope, body) }
    }

    /// What the letter is called: its job's id; for what is no job, a name of its own.
    pub fn name(&self) -> String {
        match self.id {
            Some(id) if self.lane == Some(Lane::results()) => {
                format!("{id}/result")
            }
            Some(id) => id.to_string(),
            None => format!("body-{}", Sha256::of(&self.body)),
        }
    }

    /// The result of a job that the broker gave up, or never had a queue for: nobody else will report it.
    pub fn result(&self, now: Timestamp) -> Option<Evaluation> {
        let job = self.job.as_ref().ok()?;
        let given_up = match self.reason {
            Reason::Broker => "the broker gave it up: it was handed out again and again, and never answered",
            Reason::Unroutable => "the broker had no queue for it",
            Reason::Poison | Reason::AttemptsSpent | Reason::Unknown => return None,
        };
        let evidence = [given_up, self.error.as_str()].map(|message| Evidence::new(Source::Host, message));
        Some(Evaluation::of_job(job, now, (Status::Dead, Some(Cause::Infrastructure)), evidence.to_vec()))
    }

    /// Whether a new job can ask the same again.
    pub fn is_replayable(&self) -> bool {
        self.job.as_ref().is_ok_and(|job| job.task != Task::Unknown)
    }

    /// The letter as lists show it, as one that nothing was done with yet; `now` stands for a time that
    /// nobody noted.
    pub fn card(&self, now: Timestamp) -> Card {
        let job = self.job.as_ref().ok();
        let label = |name: &str| job.and_then(|job| job.labels.get(name).cloned());
        Card {
            id: self.name(),
            job: self.id,
            state: State::Waiting,
            reason: self.reason.as_str().to_owned(),
            cause: Some(cause(self.reason, self.lane.as_ref())),
            error: self.error.clone(),
            lane: self.lane.as_ref().map(ToString::to_string),
            kind: job.map(|job| job.task.kind().to_owned()),
            tool: job.map(|job| subject(&job.task)),
            worker: self.worker.clone(),
            batch: job.and_then(|job| job.batch.as_ref()).map(ToString::to_string),
            model: label("model"),
            image: job.map(|job| job.image.to_string()),
            attempts: self.attempts.len() as u64,
            submitted: job.map(|job| job.submitted),
            died: self.died.unwrap_or(now),
            replay_of: job.and_then(|job| job.replay_of),
            replays: Vec::new(),
            handled: None,
            handled_by: None,
            drop_reason: None,
            replayable: self.is_replayable(),
        }
    }

    /// Everything that is known of it, for people: its card, every try, what was asked, or why that
    /// cannot be read.
    pub fn document(&self, now: Timestamp) -> serde_json::Value {
        let mut document = serde_json::to_value(self.card(now)).unwrap_or_default();
        document["tries"] = serde_json::to_value(&self.attempts).unwrap_or_default();
        document["bytes"] = self.body.len().into();
        document["body_sha256"] = Sha256::of(&self.body).to_string().into();
        match &self.job {
            Ok(job) => document["input"] = input(job),
            Err(error) => document["undecodable"] = error.as_str().into(),
        }
        document
    }
}

/// What a job asks, with its bytes as text where they are text.
fn input(job: &Job) -> serde_json::Value {
    let mut input = serde_json::to_value(job).unwrap_or_default();
    if let Some(fields) = input.as_object_mut() {
        // The card has them.
        for known in ["schema", "id", "attempts", "replay_of", "submitted"] {
            fields.remove(known);
        }
    }
    if let Task::Command(command) = &job.task
        && let Some(stdin) = &command.stdin
    {
        input["task"]["stdin"] = content(stdin);
    }
    for (index, file) in job.files.iter().enumerate() {
        input["files"][index]["content"] = content(&file.content);
    }
    input
}

fn content(content: &Content) -> serde_json::Value {
    match content {
        Content::Inline(bytes) => {
            let shown = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
            let text = String::from_utf8_lossy(shown);
            serde_json::json!({ "bytes": bytes.len(), "text": text, "truncated": shown.len() < bytes.len() })
        }
        Content::Blob { sha256, bytes } => serde_json::json!({ "bytes": bytes, "sha256": sha256 }),
    }
}

/// Whose doing it is that a letter is here.
fn cause(reason: Reason, lane: Option<&Lane>) -> Cause {
    match reason {
        // A result that is none is our own making.
        Reason::Poison if lane != Some(&Lane::results()) => Cause::Harness,
        Reason::Poison | Reason::AttemptsSpent | Reason::Broker | Reason::Unroutable | Reason::Unknown => {
            Cause::Infrastructure
        }
    }
}

/// The tool, or the program.
fn subject(task: &Task) -> String {
    match task {
        Task::Command(command) => command.argv.first().cloned().unwrap_or_default(),
        Task::FunctionCall(call) => call.name.to_string(),
        Task::Unknown => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::{Defaults, Submission};

    fn job() -> Job {
        let document = r#"{"kind": "function_call", "tool": "word_count", "args": {}, "batch": "night", "labels": {"model": "m-1"}}"#;
        let defaults = Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH };
        Submission::from_json(document).unwrap().into_job(&defaults).unwrap()
    }

    #[test]
    fn what_the_broker_passes_on_is_a_letter_as_well() {
        let job = job();
        let envelope = Envelope::of_job(&job, 2, Timestamp::UNIX_EPOCH);
        let now = Timestamp::from_second(9).unwrap();
        let card = Letter::read(Some(&envelope), "dead.default", &wire::encode(&job)).card(now);
        assert_eq!((card.id, card.reason.as_str(), card.died), (job.id.to_string(), "broker", now));
        assert_eq!(
            (card.tool.as_deref(), card.batch.as_deref(), card.model.as_deref(), card.replayable),
            (Some("word_count"), Some("night"), Some("m-1"), true)
        );
    }

    #[test]
    fn what_no_queue_takes_says_so_and_is_answered() {
        let job = job();
        let envelope = Envelope::of_job(&job, 2, Timestamp::UNIX_EPOCH);
        let letter = Letter::read(Some(&envelope), "typo", &wire::encode(&job));
        assert_eq!((letter.reason, letter.id), (Reason::Unroutable, Some(job.id)));
        assert!(letter.error.contains("\"typo\"") && letter.is_replayable());
        let result = letter.result(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            (result.id, result.status, result.cause),
            (job.id, Status::Dead, Some(Cause::Infrastructure))
        );
    }

    #[test]
    fn the_document_shows_what_was_asked_as_people_wrote_it() {
        let document = r#"{"kind": "command", "argv": ["cat"], "stdin": "hello", "files": [{"path": "/a", "text": "b"}]}"#;
        let defaults = Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH };
        let job = Submission::from_json(document).unwrap().into_job(&defaults).unwrap();
        let envelope = Envelope::of_job(&job, 2, Timestamp::UNIX_EPOCH);
        let shown = Letter::read(Some(&envelope), "dead.default", &wire::encode(&job))
            .document(Timestamp::UNIX_EPOCH);
        assert_eq!(shown["input"]["task"]["argv"], serde_json::json!(["cat"]));
        assert_eq!(shown["input"]["task"]["stdin"]["text"], "hello");
        assert_eq!(shown["input"]["files"][0]["content"]["text"], "b");
        assert_eq!(shown["id"], job.id.to_string());
    }

    #[test]
    fn what_is_no_job_has_a_name_and_cannot_be_replayed() {
        let letter = Letter::read(None, "dead.default", b"nonsense");
        assert!(letter.name().starts_with("body-") && !letter.is_replayable());
        assert_eq!(letter.name(), Letter::read(None, "dead.default", b"nonsense").name());
        let result = DeadLetter {
            schema: 1,
            id: job().id,
            reason: Reason::Poison,
            error: "it breaks a rule".to_owned(),
            lane: Lane::results(),
            attempts: Vec::new(),
            worker: "recorder-1".to_owned(),
            died: Timestamp::UNIX_EPOCH,
            body: Vec::new(),
        };
        let letter = Letter::of_ours(result.clone());
        assert_eq!(letter.name(), format!("{}/result", result.id));
        assert_eq!(letter.card(Timestamp::UNIX_EPOCH).cause, Some(Cause::Infrastructure));
    }
}
