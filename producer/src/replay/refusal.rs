//! Whether a recorded evaluation can be run again, and what is to be fetched for it. Pure, but for a look at the folder
//! of images.

use evalfleet_images::store::{ImageRef, Store};
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::{JobId, Sha256};
use evalfleet_proto::job::{Job, Task};
use evalfleet_proto::kept::KeptJob;
use evalfleet_proto::status::Status;
use evalfleet_proto::wire::DecodeError;
use std::path::Path;

/// The kinds of evaluations that are of one job each.
const OF_ONE_JOB: [&str; 2] = ["command", "function_call"];

/// Why an evaluation cannot be run again.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It sums several jobs up, or never was one.
    #[error(
        "{id} is a {kind}, and no job that could be run again: replay one of its jobs (`evalfleet list`, `evalfleet query`)"
    )]
    NotOneJob {
        /// The evaluation.
        id: String,
        /// What it is.
        kind: String,
    },
    /// It was given up unrun.
    #[error(
        "{id} is a dead letter: `evalfleet dead replay {id}` runs it, and takes the letter out of its queue"
    )]
    Dead {
        /// The evaluation.
        id: JobId,
    },
    /// Its job is not known.
    #[error(
        "the job of {id} was not kept: it was recorded before evalfleet kept jobs, or not by a worker. Submit what it asked anew; what is evaluated from now on can be replayed"
    )]
    NotKept {
        /// The evaluation.
        id: JobId,
    },
    /// Its job may not be known.
    #[error("the job of {id} was not kept: {why}. Submit it anew, with its secret")]
    Withheld {
        /// The evaluation.
        id: JobId,
        /// Why.
        why: String,
    },
    /// Its job is lost.
    #[error(
        "the job of {id} is not in the blob store any more ({why}): restore a backup, or submit what it asked anew"
    )]
    Lost {
        /// The evaluation.
        id: JobId,
        /// What the store says.
        why: String,
    },
    /// Its job is kept in a form that this build does not know.
    #[error("the job of {id} cannot be read: {source}")]
    Unreadable {
        /// The evaluation.
        id: JobId,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A newer client asked for it.
    #[error("the job of {id} is of a kind that this build does not know: update evalfleet")]
    UnknownKind {
        /// The evaluation.
        id: JobId,
    },
    /// What it ran in is gone.
    #[error("{id} ran in the image {image}, which is not here as it was then: {why}. `evalfleet image build {name}` makes the same one as long as its packages are what they were; `evalfleet image list` shows those that are here", name = .image.name)]
    Image {
        /// The evaluation.
        id: JobId,
        /// The image.
        image: evalfleet_proto::ids::ImageRef,
        /// What the folder of images says.
        why: String,
    },
}

/// What an evaluation's job is kept under.
///
/// # Errors
/// When it has none, or none that may be run again so.
pub fn key(evaluation: &Evaluation) -> Result<Sha256, Refusal> {
    let (id, from) = (evaluation.id, &evaluation.provenance);
    if !OF_ONE_JOB.contains(&evaluation.kind.as_str()) {
        return Err(Refusal::NotOneJob { id: id.to_string(), kind: evaluation.kind.clone() });
    }
    // As it was reported: what people made of it since does not take the letter out of its queue.
    let status = evaluation.amendments.first().map_or(evaluation.status, |first| first.from.status);
    match (status, from.job, &from.job_withheld) {
        (Status::Dead, ..) => Err(Refusal::Dead { id }),
        (_, Some(key), _) => Ok(key),
        (_, None, Some(why)) => Err(Refusal::Withheld { id, why: why.clone() }),
        (_, None, None) => Err(Refusal::NotKept { id }),
    }
}

/// What was kept of its job.
///
/// # Errors
/// When it is none that this build can run.
pub fn read(evaluation: &Evaluation, kept: &[u8]) -> Result<KeptJob, Refusal> {
    let id = evaluation.id;
    let kept = KeptJob::decode(kept).map_err(|source| Refusal::Unreadable { id, source })?;
    if kept.task == Task::Unknown { Err(Refusal::UnknownKind { id }) } else { Ok(kept) }
}

/// A job that asks the same again `now`, in the very image that the evaluation ran in. One that ran in none gets what
/// its job asked for.
pub fn again(evaluation: &Evaluation, kept: &KeptJob, now: Timestamp) -> Job {
    let digest = evaluation.provenance.image.as_deref().and_then(|digest| digest.parse().ok());
    kept.again(evaluation.id, digest, now)
}

/// Looks whether the image of `job` is among those in `folder`, where there are any: a machine that only submits has
/// none, and its workers will say.
///
/// # Errors
/// When images are there, and this one is not.
pub fn present(evaluation: &Evaluation, job: &Job, folder: &Path) -> Result<(), Refusal> {
    let refused = |why: String| Refusal::Image { id: evaluation.id, image: job.image.clone(), why };
    if job.image.digest.is_none() || !folder.is_dir() {
        return Ok(());
    }
    let wanted: ImageRef = job.image.to_string().parse().map_err(|error| refused(format!("{error}")))?;
    Store::new(folder).resolve(&wanted).map(drop).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::sample;
    use evalfleet_proto::submission::{Defaults, Submission};

    fn job() -> Job {
        let defaults = Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH };
        Submission::command(["true"]).into_job(&defaults).unwrap()
    }

    #[test]
    fn what_cannot_be_run_again_is_refused_with_what_to_do() {
        let refused = |evaluation: &Evaluation| key(evaluation).unwrap_err().to_string();
        let mut evaluation = sample();
        assert!(refused(&evaluation).contains("before evalfleet kept jobs"));
        evaluation.provenance.job_withheld = Some("its environment has A_TOKEN".to_owned());
        assert!(refused(&evaluation).contains("A_TOKEN"));
        evaluation.provenance.job = Some(Sha256::of(b"job"));
        assert_eq!(key(&evaluation).unwrap(), Sha256::of(b"job"));
        evaluation.status = Status::Dead;
        assert!(refused(&evaluation).contains("evalfleet dead replay"));
        for kind in ["tool", "code_change", "batch"] {
            let evaluation = Evaluation { kind: kind.to_owned(), ..sample() };
            assert!(refused(&evaluation).contains(kind), "{kind}");
        }
    }

    #[test]
    fn the_same_is_asked_in_the_image_that_it_ran_in() {
        let mut evaluation = sample();
        let kept = read(&evaluation, &KeptJob::of(&job()).unwrap().encode()).unwrap();
        assert_eq!(again(&evaluation, &kept, Timestamp::UNIX_EPOCH).image.digest, None);
        let digest = Sha256::of(b"image");
        evaluation.provenance.image = Some(format!("sha256:{digest}"));
        let again = again(&evaluation, &kept, Timestamp::UNIX_EPOCH);
        assert_eq!((again.image.digest, again.replay_of), (Some(digest), Some(evaluation.id)));
        let error = read(&evaluation, b"nothing").unwrap_err();
        assert!(matches!(error, Refusal::Unreadable { .. }), "{error}");

        let folder = tempfile::tempdir().unwrap();
        let error = present(&evaluation, &again, folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(&digest.to_string()) && error.contains("evalfleet image build base"),
            "{error}"
        );
        present(&evaluation, &again, &folder.path().join("none")).unwrap();
    }
}
