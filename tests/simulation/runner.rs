//! What stands for VMs: a job takes its time and ends as its label or chance will.

use crate::chance::Chance;
use evalfleet_proto::Timestamp;
use evalfleet_proto::guest::Exited;
use evalfleet_proto::ids::WorkerId;
use evalfleet_proto::job::Job;
use evalfleet_worker::job::{Fate, Run};
use evalfleet_worker::supply::Status;
use evalfleet_worker::verdict::{Seen, Verdict, judge};
use evalfleet_worker::vm::{Ending, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The label of jobs whose every try ends in a fault of ours.
pub(crate) const HOPELESS: &str = "hopeless";

/// A worker's hands.
#[derive(Debug)]
pub(crate) struct Hands {
    worker: WorkerId,
    chance: Chance,
    status: watch::Receiver<Status>,
    tell: watch::Sender<Status>,
}

impl Hands {
    pub(crate) fn new(worker: WorkerId, chance: Chance) -> Self {
        let (tell, status) = watch::channel(Status::default());
        Self { worker, chance, status, tell }
    }
}

impl Run for Hands {
    async fn run(
        &mut self,
        job: &Job,
        taken: Timestamp,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Fate {
        if self.chance.strikes(|rates| rates.unable) {
            // It will be able again in a while.
            let (tell, time) = (self.tell.clone(), self.chance.time(1_000..30_000));
            tell.send_modify(|status| status.able = false);
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                tell.send_modify(|status| status.able = true);
            });
            return Fate::Unable("by chance".to_owned());
        }
        tell(Event::Started);
        let work = tokio::time::sleep(self.chance.time(10..10_000));
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                let verdict = judge(&Ending::Cancelled, &job.limits, Seen::default());
                return Fate::Done(Box::new(self.blank(job, taken, verdict)));
            }
            () = work => {}
        }
        if job.labels.contains_key(HOPELESS) || self.chance.strikes(|rates| rates.fault) {
            return Fate::Fault("by chance".to_owned());
        }
        let code = i32::from(self.chance.number(0..4) == 0);
        let verdict: Verdict = judge(
            &Ending::Exited(Exited { code: Some(code), ..Exited::default() }),
            &job.limits,
            Seen::default(),
        );
        Fate::Done(Box::new(self.blank(job, taken, verdict)))
    }

    fn supply(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    async fn put_away(&mut self) {}

    fn place(&self) -> (&WorkerId, &str) {
        (&self.worker, "memory")
    }
}
