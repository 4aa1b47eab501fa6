//! A worker whose VMs are stand-ins, for when thousands of jobs a minute are wanted: all of the delivery is real.

use evalfleet_broker::{Link, Options};
use evalfleet_proto::Timestamp;
use evalfleet_proto::guest::Exited;
use evalfleet_proto::ids::WorkerId;
use evalfleet_proto::job::Job;
use evalfleet_service::settings::Settings;
use evalfleet_service::shutdown;
use evalfleet_worker::control::Control;
use evalfleet_worker::job::{self, Run};
use evalfleet_worker::service::Service;
use evalfleet_worker::supply::Status;
use evalfleet_worker::verdict::{Seen, judge};
use evalfleet_worker::vm::{Ending, Event};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a stand-in takes for a job, in milliseconds.
const TAKES: std::ops::Range<u64> = 2..20;

/// What comes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comes {
    /// Its program ends with this status.
    Exits(i32),
    /// A fault of ours.
    Fault(String),
}

/// Says what comes of jobs.
pub trait Answer: Debug + Send {
    /// What comes of this one.
    fn of(&mut self, job: &Job) -> Comes;
}

/// Serves jobs until told to end.
///
/// # Errors
/// When the broker says what no waiting mends.
pub async fn work(settings: Settings, answer: impl Answer) -> anyhow::Result<()> {
    let (settings, drain, give_up) = (Arc::new(settings), shutdown::on_signal()?, CancellationToken::new());
    let worker: WorkerId = settings.worker.name.parse()?;
    let link = Arc::new(Link::new(Options::new(&settings.broker, worker.as_str()), give_up.clone()));
    let control = Control::listen(link.clone(), worker.clone(), give_up.clone());
    let stand_in = StandIn { worker: worker.clone(), answer, supply: watch::channel(Status::default()) };
    let mut service = Service::new(link, stand_in, worker, settings).heeding(control);
    service.serve(&drain, &give_up).await?;
    Ok(())
}

#[derive(Debug)]
struct StandIn<A> {
    worker: WorkerId,
    answer: A,
    supply: (watch::Sender<Status>, watch::Receiver<Status>),
}

impl<A: Answer> Run for StandIn<A> {
    async fn run(
        &mut self,
        job: &Job,
        taken: Timestamp,
        _: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> job::Fate {
        tell(Event::Started);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(TAKES))).await;
        match self.answer.of(job) {
            Comes::Fault(why) => job::Fate::Fault(why),
            Comes::Exits(code) => {
                let ending = Ending::Exited(Exited { code: Some(code), ..Exited::default() });
                let verdict = judge(&ending, &job.limits, Seen::default());
                job::Fate::Done(Box::new(self.blank(job, taken, verdict)))
            }
        }
    }

    fn supply(&self) -> watch::Receiver<Status> {
        self.supply.1.clone()
    }

    async fn put_away(&mut self) {}

    fn place(&self) -> (&WorkerId, &str) {
        (&self.worker, "stand-in")
    }
}
