//! A worker without a broker: jobs go in, fates come out, and its QEMUs can be meddled with meanwhile.

use super::yard::Yard;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::WorkerId;
use evalfleet_proto::job::Job;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::{Defaults, Submission};
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use evalfleet_tests::machine::patience;
use evalfleet_worker::job::{Fate, Run, Runner};
use evalfleet_worker::supply::{self, Supply};
use evalfleet_worker::vm::Event;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long anything here may take; under emulation a template takes half a minute.
const PATIENCE: Duration = Duration::from_secs(240);

/// A worker at work.
pub(crate) struct Shift<'y> {
    yard: &'y Yard,
    runner: Runner,
    vms_dir: PathBuf,
    settings: Arc<Settings>,
}

#[allow(dead_code, reason = "each area uses what it needs of it")]
impl<'y> Shift<'y> {
    /// A worker with the yard's settings, its template made.
    #[track_caller]
    pub(crate) fn begin(yard: &'y Yard) -> Self {
        Self::with(yard, |_| ())
    }

    /// The same with other settings.
    #[track_caller]
    pub(crate) fn with(yard: &'y Yard, change: impl FnOnce(&mut Settings)) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut settings = yard.settings().clone();
        change(&mut settings);
        let settings = Arc::new(settings);
        let name: WorkerId =
            format!("shift-{}", NUMBER.fetch_add(1, Ordering::Relaxed)).parse().expect("a name");
        let runner = yard.wait(async {
            let mut supply = Supply::new(&settings, &name).expect("a folder");
            supply.warm_up(&settings.client.image).await.expect("a template");
            let blobs = Blobs::open(&settings).await.expect("a place for blobs");
            Runner::new(settings.clone(), name.clone(), supply, blobs)
        });
        let vms_dir = settings.state_dir().join("vms").join(name.as_str());
        Self { yard, runner, vms_dir, settings }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A job that runs a shell script.
    pub(crate) fn script(&self, script: &str) -> Job {
        self.job(Submission::command(["sh", "-c", script]))
    }

    /// A job out of what somebody submits.
    #[track_caller]
    pub(crate) fn job(&self, submission: Submission) -> Job {
        let defaults = Defaults { image: self.settings.client.image.clone(), now: Timestamp::now() };
        submission.into_job(&defaults).expect("a sound job")
    }

    /// Runs a job to its fate.
    pub(crate) fn run(&mut self, job: &Job) -> Fate {
        self.run_while(job, || ())
    }

    /// Runs a job, and once its program has started does `meddle`.
    pub(crate) fn run_while(&mut self, job: &Job, meddle: impl FnOnce() + Send + 'static) -> Fate {
        let mut meddle = Some(meddle);
        let mut tell = |event| {
            if let (Event::Started, Some(meddle)) = (event, meddle.take()) {
                std::thread::spawn(meddle);
            }
        };
        let never = CancellationToken::new();
        let run = self.runner.run(job, Timestamp::now(), &never, &mut tell);
        let fate = self.yard.wait(tokio_timeout(Box::pin(run)));
        fate.expect("a job comes to its end")
    }

    /// Runs a job that must be evaluated.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, job: &Job) -> Evaluation {
        evaluated(self.run(job))
    }

    /// Asserts that the next job passes in a VM in which no job ever was.
    #[track_caller]
    pub(crate) fn the_next_job_passes(&mut self) {
        let clean = "test ! -e /left && test ! -e /dev/shm/left && touch /left /dev/shm/left && echo clean";
        let job = self.script(clean);
        let report = self.evaluate(&job);
        assert_eq!((report.status, report.cause), (Status::Passed, None), "{report:?}");
        assert_eq!(report.stdout.text, "clean\n");
    }

    /// How its supply is.
    pub(crate) fn supply(&self) -> watch::Receiver<supply::Status> {
        self.runner.supply()
    }

    /// Waits until its supply is as `wanted` says.
    #[track_caller]
    pub(crate) fn wait_until(&self, wanted: impl FnMut(&supply::Status) -> bool) -> supply::Status {
        let mut status = self.supply();
        let waited = self.yard.wait(tokio_timeout(status.wait_for(wanted)));
        waited.unwrap_or_else(|| panic!("{:?}", *self.supply().borrow())).expect("the supply serves").clone()
    }

    /// Its QEMUs, the oldest first: the active one before the spare.
    pub(crate) fn qemus(&self) -> Vec<u32> {
        qemus_in(&self.vms_dir)
    }

    /// A function that sends a signal to the active VM's QEMU, for [`Self::run_while`].
    pub(crate) fn signal_active(&self, signal: rustix::process::Signal) -> impl FnOnce() + Send + 'static {
        let vms_dir = self.vms_dir.clone();
        move || {
            let pid = *qemus_in(&vms_dir).first().expect("a VM is at work");
            send(pid, signal);
        }
    }

    /// Puts it away.
    pub(crate) fn end(mut self) {
        self.yard.wait(self.runner.put_away());
        let begun = Instant::now();
        while !self.qemus().is_empty() && begun.elapsed() < Duration::from_secs(10) * patience() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.qemus(), [0; 0], "QEMUs are left");
    }
}

/// The evaluation of a job that must have one.
#[track_caller]
pub(crate) fn evaluated(fate: Fate) -> Evaluation {
    match fate {
        Fate::Done(evaluation) => {
            assert_eq!(evaluation.broken_rule(), None);
            *evaluation
        }
        Fate::Fault(why) | Fate::Unable(why) => panic!("a fault of ours: {why}"),
    }
}

/// Why a job was not evaluated, which must be ours.
#[track_caller]
pub(crate) fn fault(fate: Fate) -> String {
    match fate {
        Fate::Fault(why) => why,
        Fate::Unable(why) => panic!("given back: {why}"),
        Fate::Done(evaluation) => panic!("it was evaluated: {evaluation:?}"),
    }
}

/// Asserts a status and its cause.
#[track_caller]
pub(crate) fn expect(report: &Evaluation, status: Status, cause: Cause) {
    assert_eq!((report.status, report.cause), (status, Some(cause)), "{report:?}");
}

/// Sends a signal to a QEMU of ours.
pub(crate) fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
    rustix::process::kill_process(pid, signal).expect("it is there");
}

fn qemus_in(vms_dir: &std::path::Path) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut found: Vec<(u64, u32)> = processes
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let folder = std::fs::read_link(entry.path().join("cwd")).ok()?;
            let number = folder.strip_prefix(vms_dir).ok()?.to_str()?.split(' ').next()?.parse().ok()?;
            Some((number, pid))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, pid)| pid).collect()
}

async fn tokio_timeout<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, future).await.ok()
}
