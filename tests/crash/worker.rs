//! A worker whose VMs are stand-ins, for when thousands of jobs a minute are wanted: all of the delivery is real.

use crate::plan::{FATE, Fate};
use evalfleet_broker::{Link, Options};
use evalfleet_proto::Timestamp;
use evalfleet_proto::guest::Exited;
use evalfleet_proto::ids::WorkerId;
use evalfleet_proto::job::Job;
use evalfleet_proto::status::Exit;
use evalfleet_service::settings::Settings;
use evalfleet_service::shutdown;
use evalfleet_worker::control::Control;
use evalfleet_worker::job::{self, Run};
use evalfleet_worker::service::Service;
use evalfleet_worker::supply::Status;
use evalfleet_worker::verdict::{Seen, judge};
use evalfleet_worker::vm::{Ending, Event};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a stand-in takes for a job, in milliseconds.
const TAKES: std::ops::Range<u64> = 2..20;

/// Serves jobs until told to end.
pub(crate) async fn work(settings: Settings) -> anyhow::Result<Exit> {
    let (settings, drain, give_up) = (Arc::new(settings), shutdown::on_signal()?, CancellationToken::new());
    let worker: WorkerId = settings.worker.name.parse()?;
    let link = Arc::new(Link::new(Options::new(&settings.broker, worker.as_str()), give_up.clone()));
    let control = Control::listen(link.clone(), give_up.clone());
    let stand_in = StandIn { worker: worker.clone(), supply: watch::channel(Status::default()) };
    let mut service = Service::new(link, stand_in, worker, settings).heeding(control);
    service.serve(&drain, &give_up).await?;
    Ok(Exit::Passed)
}

#[derive(Debug)]
struct StandIn {
    worker: WorkerId,
    supply: (watch::Sender<Status>, watch::Receiver<Status>),
}

impl Run for StandIn {
    async fn run(
        &mut self,
        job: &Job,
        taken: Timestamp,
        _: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> job::Fate {
        tell(Event::Started);
        tokio::time::sleep(Duration::from_millis(fastrand::u64(TAKES))).await;
        let fate = job.labels.get(FATE).map(String::as_str);
        let ours = fate == Some(Fate::Hopeless.word())
            || (fate == Some(Fate::Retried.word()) && job.attempts.is_empty());
        if ours {
            return job::Fate::Fault("as planned".to_owned());
        }
        let code = Some(i32::from(fate == Some(Fate::Fails.word())));
        let ending = Ending::Exited(Exited { code, ..Exited::default() });
        job::Fate::Done(Box::new(self.blank(job, taken, judge(&ending, &job.limits, Seen::default()))))
    }

    fn supply(&self) -> watch::Receiver<Status> {
        self.supply.1.clone()
    }

    async fn put_away(&mut self) {}

    fn place(&self) -> (&WorkerId, &str) {
        (&self.worker, "stand-in")
    }
}
