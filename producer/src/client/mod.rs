//! Submit jobs, and hear of them when they are done.
//!
//! ```text
//! submit ─▶ check ─▶ large inputs to the blob store ─▶ a slot in the mailbox ─▶ publish, confirmed ─▶ Pending
//!                                                                                       │ live output, then
//!                            mailbox (one task) ◀── results, events ── broker ──────────▶ Evaluation
//! ```
//!
//! A client has one inbox, a durable queue of its own, bound *before* a job is published whose envelope names
//! it: no result can slip by. What others submit, too, is bound job by job. When the connection breaks, the
//! mailbox opens the inbox again under the same name, so that what arrived meanwhile is there. Nothing polls.
//!
//! # What may be dropped
//!
//! Every future here may be dropped at any await, as `select!` and `timeout` do:
//!
//! - [`Client::submit`] and its like: the job is enqueued or not. [`Client::prepare`] fixes its id
//!   before, and to submit the prepared job again is safe: one id, one record.
//! - [`Client::submit_many`], [`as_they_come`]: what was given out is done, what was under way is as above.
//! - [`Pending::event`] is to be asked again and misses nothing; [`Pending::wait`] takes the job's `Pending`
//!   along, and [`Client::hear_of`] gives another, for what is yet to come. The job goes on whoever waits.
//! - [`Client::cancel`], [`Client::drain`], [`Client::amend`], [`Client::judge`]: the word is said or not, and may be said again.
//! - [`Events::next`] is to be asked again and gives every event once.
//!
//! # Examples
//!
//! `examples/submit.rs` submits and waits, `examples/cancel.rs` calls off, `examples/dead_letters.rs` looks
//! into what could not be run; each runs against `evalfleet up`. In short:
//!
//! ```no_run
//! use evalfleet::client::Client;
//! use evalfleet_proto::submission::Submission;
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = evalfleet_service::settings::Settings::load(None)?;
//! let client = Client::connect(&settings).await?;
//! let pending = client.submit(Submission::command(["echo", "hi"])).await?;
//! let evaluation = pending.wait().await?;
//! println!("{} {}", evaluation.id, evaluation.status.as_str());
//! client.close().await;
//! # Ok(()) }
//! ```

mod alert;
mod amend;
mod cancel;
mod drain;
mod error;
mod events;
mod healing;
mod inputs;
mod mailbox;
mod pending;
mod told;
mod tools;
mod words;

pub use error::Error;
pub use events::Events;
pub use pending::Pending;

use evalfleet_broker::transport::Dial;
use evalfleet_broker::{Amqp, Link, Options};
use evalfleet_proto::Timestamp;
use evalfleet_proto::envelope::Envelope;
use evalfleet_proto::ids::{ImageRef, JobId, Lane};
use evalfleet_proto::job::{Job, Task};
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_proto::{topology, wire};
use evalfleet_service::blobs::{Blobs, Deferred};
use evalfleet_service::settings::Settings;
use futures::{Stream, StreamExt as _};
use mailbox::{Mailbox, Whose};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use tools::Tools;

/// Publishes under way at one moment in [`Client::submit_many`]: as many as keep a broker busy whose confirms
/// take some milliseconds, and no more memory than as many jobs take, each below
/// [`INLINE_BYTES_MAX`](evalfleet_proto::job::INLINE_BYTES_MAX) and a little.
const WINDOW: usize = 512;
/// Jobs whose large inputs are on their way to the blob store at one moment: each is in memory until then.
const UPLOADS: usize = 4;
/// How long a submission may take, over lost connections and all.
const SUBMIT_PATIENCE: Duration = Duration::from_secs(120);

/// A connection to the fleet.
#[derive(Debug)]
pub struct Client {
    link: Arc<Link>,
    mailbox: Mailbox,
    tools: Tools,
    blobs: Deferred,
    image: ImageRef,
    lanes: Vec<Lane>,
    attempts_max: u32,
    patience: Duration,
    _stop: DropGuard,
}

impl Client {
    /// Connects to the broker that `settings` name.
    ///
    /// # Errors
    /// When none of its nodes answers now. Later losses are mended.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        Self::connect_over(Arc::new(Amqp), settings).await
    }

    /// The same, over connections that `dial` makes.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_over(dial: Arc<dyn Dial>, settings: &Settings) -> Result<Self, Error> {
        let stop = CancellationToken::new();
        let link =
            Arc::new(Link::over(dial, Options::new(&settings.broker, "evalfleet client"), stop.clone()));
        link.try_session().await?;
        Ok(Self {
            mailbox: Mailbox::start(link.clone(), stop.clone()),
            link,
            tools: Tools::new(settings.images_dir()),
            blobs: Deferred::new(settings),
            image: settings.client.image.clone(),
            lanes: settings.broker.lanes.clone(),
            attempts_max: settings.broker.attempts_max,
            patience: settings.client.patience,
            _stop: stop.drop_guard(),
        })
    }

    /// Checks a submission and makes it a job, without enqueuing it: its tool exists and its arguments
    /// fit.
    ///
    /// # Errors
    /// Names what does not fit; nothing is enqueued.
    pub fn prepare(&self, submission: Submission) -> Result<Job, Error> {
        let defaults = Defaults { image: self.image.clone(), now: Timestamp::now() };
        let mut job = submission.into_job(&defaults)?;
        admit(&job.lane, &self.lanes)?;
        if matches!(job.task, Task::FunctionCall(_)) {
            self.tools.of(&job.image)?.admit(&mut job)?;
        }
        Ok(job)
    }

    /// Submits a job and hears of it from now on.
    ///
    /// # Errors
    /// When it does not fit (nothing is enqueued), or the broker cannot take it.
    pub async fn submit(&self, submission: Submission) -> Result<Pending, Error> {
        let job = self.refer(self.prepare(submission)?).await?;
        self.submit_job(&job).await
    }

    /// Submits a prepared job and hears of it from now on. What is too large for its message goes to the blob store
    /// first, and travels by its hash.
    ///
    /// # Errors
    /// When the blob store or the broker cannot take it.
    pub async fn submit_job(&self, job: &Job) -> Result<Pending, Error> {
        let job = &*self.referred(job).await?;
        // A key stands for one job, whoever submits it: the first result counts, and it may be another's.
        let whose = if job.id.made().is_some() { Whose::Ours } else { Whose::Anybodys };
        let pending = self.pending(job.id, job.limits.wall, whose).await?;
        self.publish(job, Some(self.mailbox.name())).await?;
        Ok(pending)
    }

    /// Submits a job and forgets it: only its id is told, its evaluation is recorded.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub async fn enqueue(&self, submission: Submission) -> Result<JobId, Error> {
        let job = self.refer(self.prepare(submission)?).await?;
        self.enqueue_job(&job).await
    }

    /// Publishes a prepared job until the broker confirms it, with its large inputs as [`Client::submit_job`] has them.
    ///
    /// # Errors
    /// [`Error::Undecided`] leaves open whether the job is enqueued: submitting the same job again is
    /// safe, its id makes it one job.
    pub async fn enqueue_job(&self, job: &Job) -> Result<JobId, Error> {
        self.publish(&*self.referred(job).await?, None).await
    }

    /// The same job, its large inputs in the blob store.
    async fn refer(&self, mut job: Job) -> Result<Job, Error> {
        inputs::refer(&mut job, &self.blobs).await?;
        Ok(job)
    }

    async fn referred<'j>(&self, job: &'j Job) -> Result<Cow<'j, Job>, Error> {
        Ok(if inputs::fit(job) { Cow::Borrowed(job) } else { Cow::Owned(self.refer(job.clone()).await?) })
    }

    async fn publish(&self, job: &Job, inbox: Option<&str>) -> Result<JobId, Error> {
        let envelope = Envelope::of_job(job, self.attempts_max, Timestamp::now()).for_inbox(inbox);
        let body = wire::encode(job);
        let publish = self.link.publish(topology::JOBS, job.lane.as_str(), &envelope, &body);
        match tokio::time::timeout(SUBMIT_PATIENCE, publish).await {
            Ok(confirmed) => Ok(confirmed?.id()),
            Err(_) => {
                Err(Error::Undecided { id: job.id, waited: SUBMIT_PATIENCE, reason: self.link.waits_for() })
            }
        }
    }

    /// Submits many jobs, a bounded number of publishes at a time, and gives them in their order.
    pub fn submit_many<I>(&self, submissions: I) -> impl Stream<Item = Result<Pending, Error>>
    where
        I: IntoIterator<Item = Submission>,
    {
        let prepared = futures::stream::iter(submissions)
            .map(move |submission| async move { self.refer(self.prepare(submission)?).await });
        prepared
            .buffered(UPLOADS)
            .map(move |job| async move { self.submit_job(&job?).await })
            .buffered(WINDOW)
    }

    /// As [`Client::submit_many`], but only the ids are told.
    pub fn enqueue_many<I>(&self, jobs: I) -> impl Stream<Item = Result<JobId, Error>>
    where
        I: IntoIterator<Item = Job>,
    {
        futures::stream::iter(jobs)
            .map(move |job| self.refer(job))
            .buffered(UPLOADS)
            .map(move |job| async move { self.enqueue_job(&job?).await })
            .buffered(WINDOW)
    }

    /// Hears of a job from now on, whoever submitted it. What was published about it before is not
    /// heard: ask the API for it.
    ///
    /// # Errors
    /// When the broker is lost for long, or too many jobs are waited for.
    pub async fn hear_of(&self, id: JobId, wall: Duration) -> Result<Pending, Error> {
        self.pending(id, wall, Whose::Anybodys).await
    }

    async fn pending(&self, id: JobId, wall: Duration, whose: Whose) -> Result<Pending, Error> {
        let hear = self.mailbox.hear_of(id, whose);
        match tokio::time::timeout(SUBMIT_PATIENCE, hear).await {
            Ok(slot) => Ok(Pending::new(id, slot?, wall.saturating_add(self.patience))),
            Err(_) => Err(Error::Unheard { id, waited: SUBMIT_PATIENCE, reason: self.link.waits_for() }),
        }
    }

    /// Waits for the evaluation of a job whose result is yet to come.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn wait(&self, id: JobId) -> Result<evalfleet_proto::evaluation::Evaluation, Error> {
        self.hear_of(id, evalfleet_proto::job::WALL_MAX).await?.wait().await
    }

    /// The blob store, where large inputs and outputs are.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn blobs(&self) -> Result<&Blobs, Error> {
        Ok(self.blobs.get().await?)
    }

    /// The broker connection, for those who read its queues.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Gives up the inbox and says goodbye.
    pub async fn close(self) {
        self.mailbox.close().await;
        self.link.close().await;
    }
}

/// Refuses a lane that no queue takes jobs of.
pub(crate) fn admit(lane: &Lane, lanes: &[Lane]) -> Result<(), Error> {
    if lanes.contains(lane) {
        return Ok(());
    }
    let known: Vec<&str> = lanes.iter().map(Lane::as_str).collect();
    Err(Error::Lane { lane: lane.clone(), known: known.join(", ") })
}

/// The evaluations of `pending` as they come, in the order of their completion.
pub fn as_they_come(
    pending: impl IntoIterator<Item = Pending>,
) -> impl Stream<Item = Result<evalfleet_proto::evaluation::Evaluation, Error>> {
    pending.into_iter().map(Pending::wait).collect::<futures::stream::FuturesUnordered<_>>()
}
