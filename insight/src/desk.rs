//! What the API has done for those who may: jobs are submitted, repeated and called off, dead letters replayed and
//! dropped, workers drained.
//! By the client library, so that the same checks hold and the same is lost: nothing.

use crate::problem::Problem;
use crate::watch::sighting::LABEL;
use evalfleet::client::{self, Client};
use evalfleet::dead::{self, Office, Order, Outcome};
use evalfleet::replay::refusal::{self, Refusal};
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::{Alert, Said};
use evalfleet_proto::evaluation::{Evaluation, Verdict};
use evalfleet_proto::healing::{Healing, Wanted};
use evalfleet_proto::ids::{AlertId, BatchId, HealingId, JobId, WorkerId};
use evalfleet_proto::job::Job;
use evalfleet_proto::status::Exit;
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::{Mutex, OnceCell};

/// The desk; it connects when it is first needed.
#[derive(Debug)]
pub struct Desk {
    settings: Settings,
    client: OnceCell<Client>,
    /// Whoever looks through the queue of the dead holds its letters: one at a time.
    office: Mutex<()>,
}

impl Desk {
    /// A desk at the broker that `settings` name.
    pub fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), client: OnceCell::new(), office: Mutex::new(()) }
    }

    async fn client(&self) -> Result<&Client, Problem> {
        self.client.get_or_try_init(async || Client::connect(&self.settings).await).await.map_err(problem)
    }

    /// Checks all documents, then submits them; gives the jobs' ids in their order.
    ///
    /// # Errors
    /// Names each document that is no job: then none was submitted. When the broker is lost on the way, some were:
    /// those with a `key` may be submitted again.
    pub async fn submit(&self, documents: Vec<Submission>) -> Result<Vec<JobId>, Problem> {
        let client = self.client().await?;
        let (mut jobs, mut wrong) = (Vec::<Job>::new(), Vec::new());
        for (number, submission) in documents.into_iter().enumerate() {
            match client.prepare(submission) {
                Ok(job) => jobs.push(job),
                Err(error) if error.exit() == Exit::Harness => {
                    wrong.push(format!("document {number}: {error}"))
                }
                Err(error) => return Err(problem(error)),
            }
        }
        if !wrong.is_empty() {
            return Err(Problem::misfit(format!("{}; nothing was submitted", wrong.join("; "))));
        }
        client.enqueue_many(jobs).boxed().try_collect().await.map_err(problem)
    }

    /// Submits a job that asks again what `original` asked, as `kept` has it.
    ///
    /// # Errors
    /// When that cannot be, or its image is gone.
    pub async fn replay(&self, original: &Evaluation, kept: &[u8]) -> Result<JobId, Problem> {
        let job = self.again(original, kept)?;
        self.client().await?.enqueue_job(&job).await.map_err(problem)
    }

    /// Submits a job that asks again for an alert what `original` asked, as `kept` has it, under the id that it is told.
    ///
    /// # Errors
    /// As [`Desk::replay`].
    pub async fn rerun(
        &self,
        original: &Evaluation,
        kept: &[u8],
        alert: AlertId,
        id: JobId,
    ) -> Result<(), Problem> {
        let mut job = self.again(original, kept)?;
        job.id = id;
        job.labels.insert(LABEL.to_owned(), alert.to_string());
        self.client().await?.enqueue_job(&job).await.map(drop).map_err(problem)
    }

    fn again(&self, original: &Evaluation, kept: &[u8]) -> Result<Job, Problem> {
        let refused = |refusal: Refusal| Problem::misfit(refusal.to_string());
        let kept = refusal::read(original, kept).map_err(refused)?;
        let job = refusal::again(original, &kept, Timestamp::now());
        refusal::present(original, &job, &self.settings.images_dir()).map_err(refused)?;
        Ok(job)
    }

    /// Calls a job off.
    ///
    /// # Errors
    /// When the word cannot be said.
    pub async fn cancel(&self, id: JobId, reason: Option<&str>) -> Result<(), Problem> {
        self.client().await?.cancel(id, reason).await.map_err(problem)
    }

    /// Calls those jobs of a batch off that were submitted until now.
    ///
    /// # Errors
    /// When the word cannot be said.
    pub async fn cancel_batch(&self, batch: &BatchId, reason: Option<&str>) -> Result<(), Problem> {
        self.client().await?.cancel_batch(batch, reason).await.map_err(problem)
    }

    /// Has a worker take no jobs.
    ///
    /// # Errors
    /// When the word cannot be said.
    pub async fn drain(&self, worker: &WorkerId, reason: Option<&str>) -> Result<(), Problem> {
        self.client().await?.drain(Some(worker), reason).await.map_err(problem)
    }

    /// Has a worker take jobs again.
    ///
    /// # Errors
    /// When the word cannot be said.
    pub async fn resume(&self, worker: &WorkerId) -> Result<(), Problem> {
        self.client().await?.resume(Some(worker)).await.map_err(problem)
    }

    /// Amends a verdict.
    ///
    /// # Errors
    /// When it is none that can be given, the reason says nothing, or the word cannot be said.
    pub async fn amend(&self, id: JobId, to: Verdict, reason: &str) -> Result<(), Problem> {
        self.client().await?.amend(id, to, reason).await.map_err(problem)
    }

    /// Tells the recorder how an alert stands.
    ///
    /// # Errors
    /// When the word cannot be said.
    pub async fn tell_of(&self, alert: &Alert) -> Result<(), Problem> {
        self.client().await?.tell_of(alert).await.map_err(problem)
    }

    /// Says whether an alert was right.
    ///
    /// # Errors
    /// When the reason says nothing, or the word cannot be said.
    pub async fn judge(&self, alert: AlertId, said: Said, reason: &str) -> Result<(), Problem> {
        self.client().await?.judge(alert, said, reason).await.map_err(problem)
    }

    /// Tells the recorder how a healing stands.
    ///
    /// # Errors
    /// When the word cannot be said.
    pub async fn tell_of_healing(&self, healing: &Healing) -> Result<(), Problem> {
        self.client().await?.tell_of_healing(healing).await.map_err(problem)
    }

    /// Decides about a healing.
    ///
    /// # Errors
    /// When the reason says nothing, or the word cannot be said.
    pub async fn decide(&self, healing: HealingId, wanted: Wanted, reason: &str) -> Result<(), Problem> {
        self.client().await?.decide(healing, wanted, reason).await.map_err(problem)
    }

    /// Does with dead letters what `order` says, and tells `tell` what came of each.
    ///
    /// # Errors
    /// When broker or history is lost on the way: what was done is done, and the same order goes on.
    pub async fn carry_out(
        &self,
        order: &Order,
        mut tell: impl FnMut(&Outcome),
    ) -> Result<Vec<Outcome>, Problem> {
        let _alone = self.office.lock().await;
        let office = Office::open(&self.settings).await.map_err(dead_problem)?;
        let mut outcomes = Vec::new();
        let note = |outcome: &Outcome| {
            tell(outcome);
            outcomes.push(outcome.clone());
        };
        office.carry_out(order, note).await.map_err(dead_problem)?;
        Ok(outcomes)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn problem(error: client::Error) -> Problem {
    if let client::Error::Blobs(error) = &error {
        return Problem::unavailable(error.to_string());
    }
    match error.exit() {
        Exit::Harness => Problem::misfit(error.to_string()),
        Exit::Usage => Problem::bad_request(error.to_string()),
        Exit::Passed
        | Exit::Subject
        | Exit::Budget
        | Exit::Infrastructure
        | Exit::Cancelled
        | Exit::Unreachable
        | Exit::Defect => Problem::no_broker(error.to_string()),
    }
}

fn dead_problem(error: dead::Error) -> Problem {
    match error {
        dead::Error::Missing { .. } => Problem::not_found(error.to_string()),
        dead::Error::Client(error) => problem(error),
        dead::Error::Broker(_) => Problem::no_broker(error.to_string()),
        dead::Error::Api(_) | dead::Error::Blobs(_) => Problem::unavailable(error.to_string()),
    }
}
