//! What happens now: what was just recorded, and what the workers tell of jobs under way. Whoever listens
//! too slowly misses some and is told so; nobody is waited for.

use crate::projection::follow::Projection;
use crate::view::Brief;
use evalfleet_broker::{Error, Inbox, Link};
use evalfleet_proto::control::Event;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::{topology, wire};
use evalfleet_service::retry::Delays;
use futures::Stream;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// How many notices a slow listener may be behind.
const BACKLOG: usize = 256;
/// How many may listen at once.
const LISTENERS_MAX: usize = 64;
/// How many evaluations one notice names.
const RECORDED_MAX: usize = 20;
/// The longest wait between two tries to reach the broker.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Notice {
    /// Evaluations were recorded.
    Recorded {
        /// The newest transaction.
        basis_t: u64,
        /// The newest of them.
        evaluations: Vec<Brief>,
        /// How many there were.
        count: u64,
    },
    /// A job goes on.
    Job(JobNews),
    /// Something is done with dead letters, for whoever named the order.
    Handled(Handled),
    /// Some notices were lost on the way: ask anew.
    Missed {
        /// How many.
        missed: u64,
    },
}

/// How far an order about dead letters is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Handled {
    /// The order, as whoever gave it named it.
    pub order: String,
    /// Letters of which it is known what came of them.
    pub done: u64,
    /// Of these, those with which nothing was done.
    pub refused: u64,
    /// Letters that it is about.
    pub of: u64,
}

/// How a job goes on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct JobNews {
    /// The job.
    pub job: String,
    /// `started`, `progress`, `output` or `retried`.
    pub event: &'static str,
    /// Who runs it.
    pub worker: Option<String>,
    /// Which try.
    pub attempt: Option<u32>,
    /// Since its subject was started.
    pub elapsed_ms: Option<f64>,
    /// Time on the host's processors.
    pub cpu_ms: Option<f64>,
    /// The VM's memory beyond its template.
    pub memory_bytes: Option<u64>,
    /// `stdout` or `stderr`.
    pub stream: Option<&'static str>,
    /// What it wrote; bytes that are not UTF-8 show as U+FFFD.
    pub text: Option<String>,
    /// Why a try failed.
    pub error: Option<String>,
}

impl JobNews {
    fn new(job: JobId, event: &'static str) -> Self {
        Self {
            job: job.to_string(),
            event,
            worker: None,
            attempt: None,
            elapsed_ms: None,
            cpu_ms: None,
            memory_bytes: None,
            stream: None,
            text: None,
            error: None,
        }
    }

    fn of(event: Event) -> Option<Self> {
        Some(match event {
            Event::Started { job, worker, attempt } => {
                Self { worker: Some(worker), attempt: Some(attempt), ..Self::new(job, "started") }
            }
            Event::Progress { job, elapsed, cpu, memory_bytes, .. } => Self {
                elapsed_ms: Some(elapsed.as_secs_f64() * 1000.0),
                cpu_ms: Some(cpu.as_secs_f64() * 1000.0),
                memory_bytes: Some(memory_bytes),
                ..Self::new(job, "progress")
            },
            Event::Output { job, stderr, data } => Self {
                stream: Some(if stderr { "stderr" } else { "stdout" }),
                text: Some(String::from_utf8_lossy(&data).into_owned()),
                ..Self::new(job, "output")
            },
            Event::Retried { job, attempt, error, worker } => {
                Self { worker, attempt: Some(attempt), error: Some(error), ..Self::new(job, "retried") }
            }
            Event::Unknown => return None,
        })
    }
}

impl Notice {
    /// The name of its event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Recorded { .. } => "recorded",
            Self::Job(_) => "job",
            Self::Handled(_) => "handled",
            Self::Missed { .. } => "missed",
        }
    }

    /// Whether somebody who listens for `job`, or for everything, wants it.
    fn concerns(&self, job: Option<&str>) -> bool {
        match (self, job) {
            (Self::Missed { .. }, _) | (Self::Recorded { .. } | Self::Handled(_), None) => true,
            (Self::Handled(_), Some(_)) => false,
            (Self::Recorded { evaluations, .. }, Some(job)) => evaluations.iter().any(|one| one.id == job),
            (Self::Job(news), Some(job)) => news.job == job,
            (Self::Job(news), None) => news.event != "output",
        }
    }
}

/// Where notices go out.
#[derive(Debug)]
pub struct Live {
    sender: Sender<Arc<Notice>>,
    seats: Arc<Semaphore>,
}

impl Default for Live {
    fn default() -> Self {
        Self { sender: Sender::new(BACKLOG), seats: Arc::new(Semaphore::new(LISTENERS_MAX)) }
    }
}

impl Live {
    /// A place among those who listen, while there is one.
    pub fn seat(&self) -> Option<OwnedSemaphorePermit> {
        self.seats.clone().try_acquire_owned().ok()
    }

    /// Everything from now on.
    pub fn listen(&self) -> Receiver<Arc<Notice>> {
        self.sender.subscribe()
    }

    /// Tells everybody who listens.
    pub fn tell(&self, notice: Notice) {
        // Nobody may be listening.
        let _ = self.sender.send(Arc::new(notice));
    }

    /// Tells what is recorded, as the projection learns of it, until `stop`.
    pub async fn tell_recorded(&self, projection: &Projection, stop: &CancellationToken) {
        let mut progress = projection.progress();
        let mut told: Option<u64> = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = progress.changed() => if changed.is_err() { return },
            }
            let now = progress.borrow_and_update().clone();
            // What was there before we came is no news.
            let since = told.filter(|told| *told < now.basis_t);
            if now.ready {
                told = Some(now.basis_t);
            }
            let Some(since) = since else { continue };
            let (evaluations, count) = {
                let world = projection.read();
                let newest =
                    world.after(since).take(RECORDED_MAX).map(|row| Brief::of(&world, row)).collect();
                (newest, world.after(since).count() as u64)
            };
            self.tell(Notice::Recorded { basis_t: now.basis_t, evaluations, count });
        }
    }

    /// Tells what workers say of jobs under way, until `stop`. Without a broker there is nothing to tell.
    pub async fn tell_events(&self, link: &Link, stop: &CancellationToken) {
        let name = format!("eval.api.{}", JobId::fresh());
        let mut delays = Delays::up_to(LONGEST_WAIT);
        while !stop.is_cancelled() {
            let heard = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                heard = self.hear(link, &name, stop) => heard,
            };
            if let Err(error) = heard {
                tracing::debug!(%error, "no events of jobs now");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(delays.next_delay()) => {}
            }
        }
    }

    async fn hear(&self, link: &Link, name: &str, stop: &CancellationToken) -> Result<(), Error> {
        let session = link.try_session().await?;
        let mut inbox = Inbox::open(&session, name).await?;
        inbox.hear_all(topology::EVENTS).await?;
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                delivery = inbox.next() => match delivery {
                    Ok(delivery) => delivery,
                    Err(error) => {
                        link.forget(&session).await;
                        return Err(error);
                    }
                },
            };
            if let Some(news) = wire::decode::<Event>(&delivery.body).ok().and_then(JobNews::of) {
                self.tell(Notice::Job(news));
            }
            delivery.settle(&()).await?;
        }
        inbox.close().await;
        Ok(())
    }
}

/// The notices that concern `job`, or all but outputs, as a stream that holds its seat.
pub fn notices(
    receiver: Receiver<Arc<Notice>>,
    job: Option<String>,
    seat: OwnedSemaphorePermit,
) -> impl Stream<Item = Arc<Notice>> + Send {
    futures::stream::unfold((receiver, job, seat), async |(mut receiver, job, seat)| {
        loop {
            let notice = match receiver.recv().await {
                Ok(notice) => notice,
                Err(RecvError::Lagged(missed)) => Arc::new(Notice::Missed { missed }),
                Err(RecvError::Closed) => return None,
            };
            if notice.concerns(job.as_deref()) {
                return Some((notice, (receiver, job, seat)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;

    fn output(job: JobId) -> Notice {
        let event = Event::Output { job, stderr: false, data: b"hi\xff".to_vec() };
        Notice::Job(JobNews::of(event).unwrap())
    }

    #[tokio::test]
    async fn each_hears_what_concerns_it_and_a_slow_one_that_it_missed_some() {
        let live = Live::default();
        let (one, other) = (JobId::fresh(), JobId::fresh());
        let hear = |job: Option<JobId>| {
            Box::pin(notices(live.listen(), job.map(|job| job.to_string()), live.seat().unwrap()))
        };
        let (mut all, mut of_one) = (hear(None), hear(Some(one)));
        live.tell(output(other));
        live.tell(output(one));
        let recorded = Notice::Recorded { basis_t: 7, evaluations: Vec::new(), count: 0 };
        live.tell(recorded.clone());
        assert_eq!(*all.next().await.unwrap(), recorded);
        assert_eq!(*of_one.next().await.unwrap(), output(one));
        (0..=BACKLOG).for_each(|_| live.tell(recorded.clone()));
        assert!(matches!(*all.next().await.unwrap(), Notice::Missed { .. }));
    }

    #[test]
    fn seats_are_limited_and_come_back() {
        let live = Live::default();
        let seats: Vec<_> = (0..LISTENERS_MAX).map(|_| live.seat().unwrap()).collect();
        assert!(live.seat().is_none());
        drop(seats);
        assert!(live.seat().is_some());
    }
}
