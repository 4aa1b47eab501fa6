//! What is kept of a job, so that it can be asked again: all that it asks.
//!
//! Who asked, when, in which batch, with which labels and after which tries is in its evaluation, and is not kept
//! twice: so a question that is asked a thousand times is kept once, and its hash finds every run of it.

use crate::SCHEMA_VERSION;
use crate::ids::{ImageRef, JobId, Lane, Sha256};
use crate::job::{FileIn, Job, Limits, Network, Task};
use crate::wire::{self, DecodeError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a job asks. Contents that travel by hash stay where they are, under theirs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptJob {
    /// The version of this document.
    schema: u16,
    /// What is to be done.
    pub task: Task,
    /// The image, as it was asked for: what that meant then is in the evaluation.
    pub image: ImageRef,
    /// The scenario of that image.
    #[serde(default)]
    pub scenario: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// What it may reach.
    #[serde(default)]
    pub network: Network,
    /// 0 to 9, larger first.
    #[serde(default)]
    pub priority: u8,
    /// The queue it waits in.
    pub lane: Lane,
    /// Not to be started after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Files laid into the VM before the run.
    #[serde(default)]
    pub files: Vec<FileIn>,
    /// Guest paths whose contents are kept after the run.
    #[serde(default)]
    pub out: Vec<String>,
    /// Globs of the paths that it is meant to change.
    #[serde(default)]
    pub expected_effects: Vec<String>,
}

impl KeptJob {
    /// What is to be kept of `job`; nothing of a kind that this build does not know, for it cannot be kept whole.
    pub fn of(job: &Job) -> Option<Self> {
        if job.task == Task::Unknown {
            return None;
        }
        let job = job.clone();
        Some(Self {
            schema: SCHEMA_VERSION,
            task: job.task,
            image: job.image,
            scenario: job.scenario,
            limits: job.limits,
            network: job.network,
            priority: job.priority,
            lane: job.lane,
            deadline: job.deadline,
            files: job.files,
            out: job.out,
            expected_effects: job.expected_effects,
        })
    }

    /// Encodes it: the same question, the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// Decodes what was kept.
    ///
    /// # Errors
    /// When it is something else, or a newer version's.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        wire::decode_versioned(bytes)
    }

    /// A job of its own that asks the same `now`, in exactly the image of `digest`, if there is one.
    ///
    /// It belongs to no batch and has no labels: it is to change nobody's sums but its own. What was to be started by
    /// some moment was, and that moment does not bind what repeats it.
    pub fn again(&self, of: JobId, digest: Option<Sha256>, now: Timestamp) -> Job {
        let asked = self.clone();
        Job {
            schema: SCHEMA_VERSION,
            id: JobId::fresh(),
            batch: None,
            task: asked.task,
            image: ImageRef { digest: digest.or(asked.image.digest), ..asked.image },
            scenario: asked.scenario,
            limits: asked.limits,
            network: asked.network,
            priority: asked.priority,
            lane: asked.lane,
            deadline: None,
            files: asked.files,
            out: asked.out,
            expected_effects: asked.expected_effects,
            labels: BTreeMap::new(),
            replay_of: Some(of),
            submitted: now,
            attempts: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submission::{Defaults, Submission};

    fn job(document: &str) -> Job {
        let defaults = Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH };
        Submission::from_json(document).unwrap().into_job(&defaults).unwrap()
    }

    const DOCUMENT: &str = r#"{"kind": "command", "argv": ["sh", "-c", "cat"], "stdin": "in", "env": {"A": "b"}, "priority": 3,
        "files": [{"path": "/workspace/f", "text": "x"}], "out": ["/workspace/o"], "labels": {"suite": "s"}, "batch": "night",
        "network": {"allow": ["pypi.org:443"]}, "expected_effects": ["/workspace/**"], "lane": "gpu", "scenario": "s"}"#;

    #[test]
    fn whoever_asks_the_same_is_kept_once_and_whoever_asks_otherwise_is_not() {
        let (one, mut other) = (job(DOCUMENT), job(DOCUMENT));
        other.labels.clear();
        other.batch = None;
        other.submitted = Timestamp::from_second(9).unwrap();
        let bytes = |job: &Job| KeptJob::of(job).unwrap().encode();
        assert_ne!(one.id, other.id);
        assert_eq!(bytes(&one), bytes(&other));
        other.limits.processes += 1;
        assert_ne!(bytes(&one), bytes(&other));
    }

    #[test]
    fn what_is_kept_asks_the_same_again_in_the_image_that_was_meant() {
        let original = job(DOCUMENT);
        let kept = KeptJob::decode(&KeptJob::of(&original).unwrap().encode()).unwrap();
        let digest = Sha256::of(b"image");
        let again = kept.again(original.id, Some(digest), Timestamp::UNIX_EPOCH);
        assert_eq!(again.image.to_string(), format!("base@sha256:{digest}"));
        assert!(again.id != original.id && again.replay_of == Some(original.id));
        assert_eq!((again.batch.clone(), again.labels.len(), again.attempt()), (None, 0, 1));
        // But for that it is the same job.
        let expected = Job {
            id: again.id,
            batch: None,
            labels: BTreeMap::new(),
            image: again.image.clone(),
            replay_of: again.replay_of,
            ..original
        };
        assert_eq!(again, expected);
    }

    #[test]
    fn what_a_newer_version_kept_or_is_no_job_is_refused() {
        let mut newer = KeptJob::of(&job(DOCUMENT)).unwrap();
        newer.schema = SCHEMA_VERSION + 1;
        assert!(matches!(KeptJob::decode(&newer.encode()), Err(DecodeError::Newer(_))));
        assert!(matches!(KeptJob::decode(b"{}"), Err(DecodeError::Malformed(_) | DecodeError::Trailing(_))));
        let mut unknown = job(DOCUMENT);
        unknown.task = Task::Unknown;
        assert_eq!(KeptJob::of(&unknown), None);
    }
}
