//! Jobs are kept, so that what was evaluated can be run again: what a job asks goes into the blob store before the
//! result that points to it is published.
//!
//! A job is kept whole or not at all: one that lacks something would be another job. What is not kept is a job with a
//! secret in its environment, told by the name of the variable (`worker.secret_env`).

use evalfleet_proto::evaluation::Provenance;
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::job::{Job, Task};
use evalfleet_proto::kept::KeptJob;
use evalfleet_service::blobs::{self, Blobs};
use evalfleet_service::settings::Settings;
use globset::GlobSet;

/// Keeps jobs.
#[derive(Debug, Clone)]
pub struct Keeper {
    blobs: Blobs,
    secret: GlobSet,
}

/// What became of a job that was to be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    job: Option<Sha256>,
    withheld: Option<String>,
}

impl Kept {
    /// Says it in the provenance of the job's evaluation.
    pub fn note(self, provenance: &mut Provenance) {
        (provenance.job, provenance.job_withheld) = (self.job, self.withheld);
    }
}

impl Keeper {
    /// A keeper that puts jobs into `blobs`.
    pub fn new(blobs: Blobs, settings: &Settings) -> Self {
        Self { blobs, secret: settings.worker.secret_env() }
    }

    /// Keeps what `job` asks, unless that is secret.
    ///
    /// # Errors
    /// When the blob store refuses.
    pub async fn keep(&self, job: &Job) -> Result<Kept, blobs::Error> {
        if let Some(name) = self.secret_of(job) {
            let why = format!("its environment has {name}, which worker.secret_env says is a secret");
            return Ok(Kept { job: None, withheld: Some(why) });
        }
        match KeptJob::of(job) {
            Some(kept) => Ok(Kept { job: Some(self.blobs.put(kept.encode()).await?), withheld: None }),
            None => Ok(Kept { job: None, withheld: Some("its kind is not known to its worker".to_owned()) }),
        }
    }

    /// The first variable of its environment that is a secret.
    fn secret_of<'a>(&self, job: &'a Job) -> Option<&'a str> {
        let Task::Command(command) = &job.task else { return None };
        command.env.keys().map(String::as_str).find(|name| self.secret.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::Timestamp;
    use evalfleet_proto::submission::{Defaults, Submission};
    use evalfleet_service::settings::Layers;

    fn job(variable: &str) -> Job {
        let mut submission = Submission::command(["true"]);
        submission.env.insert(variable.to_owned(), "value".to_owned());
        submission.into_job(&Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH }).unwrap()
    }

    fn keeper(blobs: &Blobs) -> Keeper {
        Keeper::new(blobs.clone(), &Settings::from_layers(&Layers::default()).unwrap())
    }

    #[tokio::test]
    async fn a_job_is_kept_whole_and_the_same_question_once() {
        let blobs = Blobs::in_memory();
        let keeper = keeper(&blobs);
        let job = job("LANG");
        let kept = keeper.keep(&job).await.unwrap();
        assert_eq!(keeper.keep(&self::job("LANG")).await.unwrap(), kept);
        let bytes = blobs.get(kept.job.unwrap()).await.unwrap();
        assert_eq!(KeptJob::decode(&bytes).unwrap(), KeptJob::of(&job).unwrap());
    }

    #[tokio::test]
    async fn a_secret_is_not_kept_and_the_evaluation_says_why() {
        let blobs = Blobs::in_memory();
        for variable in ["GEMINI_API_KEY", "GITHUB_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY"] {
            let mut provenance = Provenance::default();
            keeper(&blobs).keep(&job(variable)).await.unwrap().note(&mut provenance);
            assert_eq!(provenance.job, None);
            assert!(provenance.job_withheld.is_some_and(|why| why.contains(variable)), "{variable}");
        }
        assert!(blobs.entries().await.unwrap().is_empty());
    }
}
