//! The broker's side of a worker: take a job, have it run, report, and only then let go of it.
//!
//! ```text
//! job ─┬─ decodes? ── no ──────────────▶ dead letter ─┐
//!      ├─ called off ──────────────────▶ result ──────┤
//!      ├─ evaluated ───────────────────▶ result ──────┤ confirmed ──▶ settled
//!      ├─ fault of ours, tries left ───▶ retry copy ──┤
//!      └─ fault of ours, none left ────▶ dead letter ─┘ (and a result that says so)
//! ```
//!
//! Killed anywhere before the confirm, the job is delivered again; killed between the confirm and the
//! ack, it runs again and its second result is suppressed by the recorder.
//!
//! Every `select!` is `biased`, the way out first: what happens hangs on nothing but what it is told and
//! when, so that the simulation in `tests/` can play a run again.

use crate::control::tombstones::CalledOff;
use crate::control::{Control, Why};
use crate::job::{Fate, Run, Runner};
use crate::keep::{Keeper, Kept};
use crate::verdict::Verdict;
use crate::vm;
use evalfleet_broker::{Confirmed, Delivery, Error, Link};
use evalfleet_proto::Timestamp;
use evalfleet_proto::control::Event;
use evalfleet_proto::dead::{DeadLetter, Reason};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::{Evaluation, Evidence, Source};
use evalfleet_proto::ids::{JobId, Lane, Sha256, WorkerId};
use evalfleet_proto::job::{Attempt, Job};
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::{SCHEMA_VERSION, topology, wire};
use evalfleet_service::blobs;
use evalfleet_service::settings::Settings;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How many answers are remembered, to settle a job that comes back because its ack was lost.
const ANSWERED_MAX: usize = 64;
/// How many events may wait to be told; more are dropped, as events may be.
const EVENTS_MAX: usize = 256;

/// A message that was answered, and the proof of it.
///
/// The message, not the job: a job's first try was answered by the copy that asks for its second, and to
/// settle that copy with the first one's proof would lose the job.
#[derive(Debug)]
struct Answered {
    message: Sha256,
    proof: Confirmed,
}

/// An event on its way to those who watch.
#[derive(Debug)]
struct Told {
    job: JobId,
    inbox: Option<String>,
    event: Event,
}

/// A worker at its broker.
#[derive(Debug)]
pub struct Service<R = Runner> {
    link: Arc<Link>,
    runner: R,
    worker: WorkerId,
    settings: Arc<Settings>,
    control: Control,
    keeper: Option<Keeper>,
    answered: VecDeque<Answered>,
    events: mpsc::Sender<Told>,
}

impl<R: Run> Service<R> {
    /// A worker that takes jobs over `link`, hears nothing of those that are called off, and keeps none.
    pub fn new(link: Arc<Link>, runner: R, worker: WorkerId, settings: Arc<Settings>) -> Self {
        let (events, told) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(tell(link.clone(), told));
        let (control, answered) = (Control::deaf(), VecDeque::new());
        Self { link, runner, worker, settings, control, keeper: None, answered, events }
    }

    /// The same, which heeds what `control` hears.
    #[must_use]
    pub fn heeding(self, control: Control) -> Self {
        Self { control, ..self }
    }

    /// The same, which has `keeper` keep what its jobs ask.
    #[must_use]
    pub fn keeping(self, keeper: Keeper) -> Self {
        Self { keeper: Some(keeper), ..self }
    }

    /// Takes jobs until `drain`, then finishes the one it has. `give_up` ends even that: the job goes back.
    ///
    /// # Errors
    /// When the broker says what no waiting mends.
    pub async fn serve(
        &mut self,
        drain: &CancellationToken,
        give_up: &CancellationToken,
    ) -> Result<(), Error> {
        let queues: Vec<String> = self.settings.lanes_served().iter().map(topology::jobs_queue).collect();
        let (mut supply, mut drained) = (self.runner.supply(), self.control.drained());
        while !drain.is_cancelled() {
            // A worker that can make no VM leaves the jobs in their queues.
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                able = supply.wait_for(|status| status.able) => if able.is_err() { break },
            }
            let session = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                session = self.link.session() => session?,
            };
            // What is called off has to be known before it is taken.
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                current = self.control.current() => current?,
            }
            let told = drained.borrow_and_update().clone();
            if let Some(why) = told {
                self.rest(&why, &mut drained, drain).await;
                continue;
            }
            let next = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                _ = supply.wait_for(|status| !status.able) => continue,
                Ok(_) = drained.wait_for(Option::is_some) => continue,
                next = session.next_of(&queues) => next,
            };
            let done = match next {
                Ok(delivery) => tokio::select! {
                    biased;
                    () = give_up.cancelled() => break,
                    done = Box::pin(self.handle(delivery)) => done,
                },
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => {}
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "starting over with a new connection");
                    self.link.forget(&session).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.runner.put_away().await;
        Ok(())
    }

    /// Takes no jobs until it is told to resume, or `drain`.
    async fn rest(
        &mut self,
        why: &str,
        drained: &mut watch::Receiver<Option<Why>>,
        drain: &CancellationToken,
    ) {
        tracing::warn!(why, "drained: takes no jobs until it is told to resume");
        self.runner.tell_drained(Some(why)).await;
        tokio::select! {
            biased;
            () = drain.cancelled() => {}
            Ok(_) = drained.wait_for(Option::is_none) => tracing::info!("told to resume: takes jobs again"),
        }
        self.runner.tell_drained(None).await;
    }

    async fn handle(&mut self, delivery: Delivery<Confirmed>) -> Result<(), Error> {
        let taken = Timestamp::now();
        let message = Sha256::of(&delivery.body);
        if delivery.redelivered
            && let Some(at) = self.answered.iter().position(|answered| answered.message == message)
        {
            tracing::info!(?delivery, "delivered again although answered: its ack was lost");
            return delivery.settle(&self.answered[at].proof).await;
        }
        let proof = match wire::decode_job(&delivery.body) {
            Ok(job) => match self.evaluate(job, taken, &delivery).await? {
                Some(proof) => proof,
                // Dropping it gives it back.
                None => return Ok(()),
            },
            Err(error) => self.bury_poison(&delivery, &error.to_string(), taken).await?,
        };
        let settled = delivery.settle(&proof).await;
        self.answered.truncate(ANSWERED_MAX - 1);
        self.answered.push_front(Answered { message, proof });
        settled
    }

    async fn evaluate(
        &mut self,
        mut job: Job,
        taken: Timestamp,
        delivery: &Delivery<Confirmed>,
    ) -> Result<Option<Confirmed>, Error> {
        let (id, attempt, inbox) = (job.id, job.attempt(), delivery.inbox());
        let hold = self.control.hold(&job);
        if let Some(why) = hold.called_off() {
            return self
                .publish_cancelled(&job, taken, &why, "called off before it was run", inbox)
                .await
                .map(Some);
        }
        tracing::info!(job = %id, kind = job.task.kind(), attempt, "took a job");
        let events = self.events.clone();
        let (worker, waiting) = (self.worker.to_string(), inbox.map(str::to_owned));
        let mut tell = move |event: vm::Event| {
            let event = match event {
                vm::Event::Started => Event::Started { job: id, worker: worker.clone(), attempt },
                vm::Event::Output { stderr, data } => Event::Output { job: id, stderr, data },
                vm::Event::Progress(progress) => Event::Progress {
                    job: id,
                    elapsed: progress.elapsed,
                    cpu: progress.cpu,
                    memory_bytes: progress.memory_bytes,
                    disk_read_bytes: progress.disk_read_bytes,
                    disk_written_bytes: progress.disk_written_bytes,
                },
            };
            // Nobody waits for events: when there is no room, this one is not told.
            let _ = events.try_send(Told { job: id, inbox: waiting.clone(), event });
        };
        // While the job runs, for nobody is to wait for it.
        let run = Box::pin(self.runner.run(&job, taken, hold.token(), &mut tell));
        let (kept, mut fate) = futures::future::join(keep(self.keeper.as_ref(), &job), run).await;
        if let Fate::Done(evaluation) = &mut fate {
            match kept {
                Ok(kept) => kept.note(&mut evaluation.provenance),
                Err(error) => fate = Fate::Fault(format!("what the job asks cannot be kept: {error}")),
            }
        }
        let called_off = hold.called_off();
        drop(hold);
        if let Some(why) = called_off {
            return match fate {
                Fate::Done(evaluation) if evaluation.status != Status::Cancelled => {
                    // It was done before the word came.
                    self.publish_result(&evaluation, inbox).await.map(Some)
                }
                Fate::Done(mut evaluation) => {
                    evaluation.evidence.insert(0, Evidence::new(Source::Client, why.as_str()));
                    tracing::info!(job = %id, why = why.as_str(), "called off");
                    self.publish_result(&evaluation, inbox).await.map(Some)
                }
                // Whatever broke: nobody wants it tried again.
                Fate::Fault(what) | Fate::Unable(what) => {
                    self.publish_cancelled(&job, taken, &why, &what, inbox).await.map(Some)
                }
            };
        }
        match fate {
            Fate::Done(evaluation) => {
                tracing::info!(job = %id, status = evaluation.status.as_str(), cause = evaluation.cause.map(Cause::as_str), "evaluated");
                self.publish_result(&evaluation, inbox).await.map(Some)
            }
            Fate::Unable(why) => {
                tracing::warn!(job = %id, attempt, why, "no VM can be made here: the job goes back to its queue");
                Ok(None)
            }
            Fate::Fault(error) => {
                tracing::warn!(job = %id, attempt, error, "a fault of ours ended the try");
                job.attempts.push(Attempt {
                    number: attempt,
                    worker: self.worker.to_string(),
                    cause: Cause::Infrastructure,
                    error: error.clone(),
                    ended: Timestamp::now(),
                });
                if attempt < self.settings.broker.attempts_max {
                    let worker = Some(self.worker.to_string());
                    let event = Event::Retried { job: id, attempt, error, worker };
                    let _ = self.events.try_send(Told { job: id, inbox: inbox.map(str::to_owned), event });
                    self.publish_retry(&job, inbox).await.map(Some)
                } else {
                    self.bury_spent(&job, taken, error, delivery).await.map(Some)
                }
            }
        }
    }

    /// Publishes a result, for the recorder and for whoever waits at `inbox`.
    async fn publish_result(&self, evaluation: &Evaluation, inbox: Option<&str>) -> Result<Confirmed, Error> {
        debug_assert_eq!(evaluation.broken_rule(), None, "{evaluation:?}");
        let envelope = Envelope::new(MessageType::Result, evaluation.id, Timestamp::now()).for_inbox(inbox);
        let key = topology::job_key(evaluation.id);
        self.link.publish(topology::RESULTS, &key, &envelope, &wire::encode(evaluation)).await
    }

    /// Reports that a job was called off and not evaluated; `how` says how far it was.
    async fn publish_cancelled(
        &self,
        job: &Job,
        taken: Timestamp,
        why: &CalledOff,
        how: &str,
        inbox: Option<&str>,
    ) -> Result<Confirmed, Error> {
        tracing::info!(job = %job.id, why = why.as_str(), how, "called off");
        let mut verdict = Verdict::cancelled(how);
        verdict.evidence.insert(0, Evidence::new(Source::Client, why.as_str()));
        self.publish_result(&self.not_run(job, taken, verdict).await, inbox).await
    }

    /// A report of a job that did not run. It is made also where the job cannot be kept: its verdict stands.
    async fn not_run(&self, job: &Job, taken: Timestamp, verdict: Verdict) -> Evaluation {
        let mut evaluation = self.runner.blank(job, taken, verdict);
        match keep(self.keeper.as_ref(), job).await {
            Ok(kept) => kept.note(&mut evaluation.provenance),
            Err(error) => tracing::warn!(job = %job.id, %error, "what the job asks cannot be kept"),
        }
        evaluation
    }

    /// Sends a copy that asks for the next try, to wait its turn.
    async fn publish_retry(&self, job: &Job, inbox: Option<&str>) -> Result<Confirmed, Error> {
        let tiers = self.settings.broker.retry_tiers();
        let tier =
            tiers.get(job.attempts.len() - 1).or(tiers.last()).copied().unwrap_or(Duration::from_secs(10));
        let envelope =
            Envelope::of_job(job, self.settings.broker.attempts_max, Timestamp::now()).for_inbox(inbox);
        let key = topology::retry_key(&job.lane, tier);
        self.link.publish(topology::RETRY, &key, &envelope, &wire::encode(job)).await
    }

    /// Gives a job up whose every try ended in a fault of ours.
    async fn bury_spent(
        &self,
        job: &Job,
        taken: Timestamp,
        error: String,
        delivery: &Delivery<Confirmed>,
    ) -> Result<Confirmed, Error> {
        let reason = format!("all {} tries ended in a fault of ours", job.attempts.len());
        let verdict = dead(Cause::Infrastructure, &reason, &error);
        let mut evaluation = self.not_run(job, taken, verdict).await;
        evaluation.attempts.clone_from(&job.attempts);
        evaluation.provenance.attempt = job.attempts.len() as u32;
        self.bury(DeadLetter {
            schema: SCHEMA_VERSION,
            id: job.id,
            reason: Reason::AttemptsSpent,
            error,
            lane: job.lane.clone(),
            attempts: job.attempts.clone(),
            worker: self.worker.to_string(),
            died: Timestamp::now(),
            body: delivery.body.clone(),
        })
        .await?;
        self.publish_result(&evaluation, delivery.inbox()).await
    }

    /// Gives a message up that is no job.
    async fn bury_poison(
        &self,
        delivery: &Delivery<Confirmed>,
        error: &str,
        taken: Timestamp,
    ) -> Result<Confirmed, Error> {
        let envelope = delivery.envelope.as_ref();
        // A message that names no job gets a name, so that it can be found and looked at.
        let id = envelope.map_or_else(JobId::fresh, |envelope| envelope.id);
        let lane = envelope.and_then(|envelope| envelope.headers.lane.clone());
        let lane = lane.or_else(|| delivery.key.parse().ok()).unwrap_or_else(Lane::default_lane);
        tracing::warn!(job = %id, error, "buried a message that is no job");
        let buried = self
            .bury(DeadLetter {
                schema: SCHEMA_VERSION,
                id,
                reason: Reason::Poison,
                error: error.to_owned(),
                lane,
                attempts: Vec::new(),
                worker: self.worker.to_string(),
                died: Timestamp::now(),
                body: delivery.body.clone(),
            })
            .await?;
        let Some(envelope) = envelope else { return Ok(buried) };
        self.publish_result(&self.poison_result(envelope, error, taken), delivery.inbox()).await
    }

    fn poison_result(&self, envelope: &Envelope, error: &str, taken: Timestamp) -> Evaluation {
        let submission = evalfleet_proto::submission::Submission::command(["?"]);
        let now = envelope.headers.enqueued.unwrap_or(envelope.timestamp);
        let image = self.settings.client.image.clone();
        let verdict = dead(Cause::Harness, "its message is no job", error);
        let mut evaluation = match submission.into_job(&evalfleet_proto::submission::Defaults { image, now })
        {
            Ok(stand_in) => self.runner.blank(&stand_in, taken, verdict),
            Err(never) => unreachable!("the smallest command is a job: {never}"),
        };
        evaluation.id = envelope.id;
        evaluation.kind = "unknown".to_owned();
        evaluation.batch = envelope.batch.as_ref().and_then(|batch| batch.parse().ok());
        evaluation.provenance.content_key = None;
        evaluation
    }

    async fn bury(&self, letter: DeadLetter) -> Result<Confirmed, Error> {
        let envelope = Envelope::of_dead(&letter);
        self.link
            .publish(topology::DEAD, &topology::dead_key(&letter.lane), &envelope, &wire::encode(&letter))
            .await
    }
}

/// Keeps what `job` asks, where there is somebody to keep it.
async fn keep(keeper: Option<&Keeper>, job: &Job) -> Result<Kept, blobs::Error> {
    match keeper {
        Some(keeper) => keeper.keep(job).await,
        None => Ok(Kept::default()),
    }
}

fn dead(cause: Cause, reason: &str, error: &str) -> Verdict {
    Verdict {
        status: Status::Dead,
        cause: Some(cause),
        evidence: vec![Evidence::new(Source::Host, reason), Evidence::new(Source::Host, error)],
        exit_code: None,
        signal: None,
    }
}

/// Tells events as long as the connection stands; while it does not, they are lost.
async fn tell(link: Arc<Link>, mut told: mpsc::Receiver<Told>) {
    while let Some(Told { job: id, inbox, event }) = told.recv().await {
        let envelope = Envelope::new(MessageType::Event, id, Timestamp::now()).for_inbox(inbox.as_deref());
        let told = async {
            let session = link.try_session().await?;
            session.publish(topology::EVENTS, &topology::job_key(id), &envelope, &wire::encode(&event)).await
        };
        if let Err(error) = told.await {
            tracing::debug!(job = %id, %error, "an event was lost");
        }
    }
}

#[cfg(test)]
mod tests;
