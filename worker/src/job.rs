//! One job's life in a worker: a clean VM, its files, its run, what it left, the report.
//!
//! [`Runner::run`] ends in a [`Fate`]: an evaluation, which is final, or a fault of ours, which is
//! nobody's result and is tried again.

use crate::contents::{self, Disks, Side};
use crate::opinion;
use crate::order;
use crate::output::Stream;
use crate::reach;
use crate::supply::{Refusal, Status, Supplied, Supply};
use crate::verdict::{Seen, Verdict, judge};
use crate::vm;
use crate::vm::breath::{Breath, chunks};
use crate::vm::effects::{self, Expected};
use crate::vm::net::{Policy, Tally};
use crate::vm::{Active, Ending, Event, Machine, Spent, Template, foreign};
use evalfleet_proto::Timestamp;
use evalfleet_proto::effect::Effect;
use evalfleet_proto::evaluation::{
    Artifact, Call, Evaluation, GuestMetrics, Metrics, Output, Provenance, Reset, Timings,
};
use evalfleet_proto::guest::Exited;
use evalfleet_proto::ids::WorkerId;
use evalfleet_proto::job::{Content, Job};
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The largest file that a job may have kept.
const ARTIFACT_BYTES_MAX: u64 = 64 << 20;

/// How many names of processes that a job left running are told.
const NAMES_LEFT_MAX: usize = 16;

/// What became of a job.
#[derive(Debug)]
pub enum Fate {
    /// It was evaluated.
    Done(Box<Evaluation>),
    /// Something of ours broke: it was not evaluated.
    Fault(String),
    /// This worker can make no VM: it was not even tried, and belongs back into its queue.
    Unable(String),
}

/// What a worker has its jobs run by: [`Runner`], in VMs; a stand-in where there are none.
pub trait Run: Send {
    /// Runs `job`, which was taken at `taken`, and tells `tell` what happens meanwhile.
    fn run(
        &mut self,
        job: &Job,
        taken: Timestamp,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> impl Future<Output = Fate> + Send;

    /// How its supply of VMs is, whenever that changes.
    fn supply(&self) -> watch::Receiver<Status>;

    /// Tells those who look at it that it takes no jobs, for this reason; or that it does.
    fn tell_drained(&mut self, _why: Option<&str>) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends the spare VM: the worker is going.
    fn put_away(&mut self) -> impl Future<Output = ()> + Send;

    /// Who and where it is: worker and host.
    fn place(&self) -> (&WorkerId, &str);

    /// A report with everything that is known without a VM.
    fn blank(&self, job: &Job, taken: Timestamp, verdict: Verdict) -> Evaluation {
        let (worker, host) = self.place();
        blank(job, taken, verdict, worker, host)
    }
}

/// Runs jobs, one after the other.
#[derive(Debug)]
pub struct Runner {
    supply: Supply,
    blobs: Blobs,
    worker: WorkerId,
    host: String,
    settings: Arc<Settings>,
}

/// What a run in a VM came to.
struct Done {
    name: String,
    verdict: Verdict,
    stdout: Output,
    stderr: Output,
    value: Option<serde_json::Value>,
    exited: Exited,
    warnings: Vec<String>,
    effects: Vec<Effect>,
    effects_omitted: u64,
    artifacts: Vec<Artifact>,
    metrics: Metrics,
    network: Tally,
    timings: Timings,
    template: Arc<Template>,
    reset: Reset,
}

impl Run for Runner {
    async fn run(
        &mut self,
        job: &Job,
        taken: Timestamp,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Fate {
        if let Some(deadline) = job.deadline.filter(|deadline| *deadline < taken) {
            return self.refused(
                job,
                taken,
                Verdict::expired(format!("its deadline was {deadline}, and a worker took it at {taken}")),
            );
        }
        let policy = match reach::policy(&job.network, &self.settings.worker) {
            Ok(policy) => policy,
            Err(error) => return self.refused(job, taken, Verdict::harness(error.to_string())),
        };
        let begun = Instant::now();
        let supplied = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(None),
            supplied = self.supply.clean(&job.image, job.scenario.as_deref()) => supplied.map_err(Some),
        };
        let supplied = match supplied {
            Ok(supplied) => supplied,
            Err(Some(Refusal::Request(why))) => return self.refused(job, taken, Verdict::harness(why)),
            Err(Some(Refusal::Fault(why))) => return Fate::Fault(why),
            Err(Some(Refusal::Unable(why))) => return Fate::Unable(why),
            Err(None) => {
                self.supply.prepare_next();
                return self.refused(job, taken, Verdict::cancelled("called off before it had a VM"));
            }
        };
        match Box::pin(self.run_in(job, policy, supplied, begun, cancel, tell)).await {
            Ok(Ok(done)) => Fate::Done(Box::new(self.evaluation(job, taken, done))),
            Ok(Err(verdict)) => self.refused(job, taken, verdict),
            Err(error) => Fate::Fault(error.to_string()),
        }
    }

    fn supply(&self) -> watch::Receiver<Status> {
        self.supply.status()
    }

    async fn tell_drained(&mut self, why: Option<&str>) {
        self.supply.tell_drained(why).await;
    }

    async fn put_away(&mut self) {
        self.supply.discard().await;
    }

    fn place(&self) -> (&WorkerId, &str) {
        (&self.worker, &self.host)
    }
}

impl Runner {
    /// A runner for the worker `worker`.
    pub fn new(settings: Arc<Settings>, worker: WorkerId, supply: Supply, blobs: Blobs) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { supply, blobs, worker, host, settings }
    }

    /// Runs the job in the VM it was supplied with; `Ok(Err(…))` is the request's own fault.
    async fn run_in(
        &mut self,
        job: &Job,
        policy: Policy,
        supplied: Supplied,
        begun: Instant,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> anyhow::Result<Result<Done, Verdict>> {
        let Supplied { clean, waited } = supplied;
        let template = clean.template().clone();
        let tools = template.image().tools()?;
        if template.foreign_disks().is_some() && !policy.allow.is_empty() {
            let why = format!(
                "a VM of the imported image {} has no network that could be allowed: leave it out, or use an image of evalfleet's own",
                job.image
            );
            return self.hand_back(clean, why).await;
        }
        let order = order::order(job, &tools, template.machine().memory);
        let expected = order
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|order| Expected::new(&order.expected_effects).map_err(|error| error.to_string()));
        let (order, expected) = match (order, expected) {
            (Ok(order), Ok(expected)) => (order, expected),
            (Err(error), _) => return self.hand_back(clean, error.to_string()).await,
            (_, Err(error)) => return self.hand_back(clean, error).await,
        };
        let mut active = clean.claim(self.settings.qemu.reset_timeout).await?;
        active.permit(policy);
        let claim = begun.elapsed();
        self.supply.prepare_next();

        let running = Instant::now();
        if let Err(why) = self.lay_files(&mut active, job).await? {
            active.stop().await?.destroy().await?;
            return Ok(Err(Verdict::harness(why)));
        }
        let stdin = self.content(order.stdin.as_ref()).await?;
        if cancel.is_cancelled() {
            active.cut_off().await?.destroy().await?;
            return Ok(Err(Verdict::cancelled("called off before it was started")));
        }
        let (mut stdout, mut stderr) = (Stream::default(), Stream::default());
        let meter = order::meter(job, self.settings.qemu.disk_size);
        let mut listen = |event: Event| {
            if let Event::Output { stderr: to_stderr, data } = &event {
                let room = meter.output.saturating_sub((stdout.bytes().len() + stderr.bytes().len()) as u64);
                let stream = if *to_stderr { &mut stderr } else { &mut stdout };
                let kept = stream.bytes().len() as u64;
                stream.take(data, kept + room);
            }
            tell(event);
        };
        let ending = active.run(order.run.clone(), &stdin, meter, cancel, &mut listen).await?;
        let run = running.elapsed();

        let reading = Instant::now();
        let proof = active.proof().clone();
        let called_off = ending == Ending::Cancelled;
        let spent = if called_off { active.cut_off().await? } else { active.stop().await? };
        if let Some(why) = template.changed() {
            // Its memory was not what it was while the job ran: whatever came of that proves nothing.
            return Err(vm::Error::NotClean(why).into());
        }
        let read = if called_off {
            // Nobody asks any more what it did to a disk that it was in the middle of writing.
            let note = "its disk was not read: it was called off while it ran".to_owned();
            (Vec::new(), 0, Vec::new(), vec![note])
        } else {
            self.read_disk(job, &spent, expected).await
        };
        let effects_took = reading.elapsed();

        let reporting = Instant::now();
        let seen = Seen { disk_growth: spent.disk_growth, network_cut_off_at: spent.network.cut_off_at };
        let verdict = judge(&ending, &job.limits, seen);
        let (effects, effects_omitted, artifacts, mut warnings) = read;
        let told = matches!(ending, Ending::Exited(_) | Ending::Exceeded { exited: Some(_), .. });
        let exited = match ending {
            Ending::Exited(exited) | Ending::Exceeded { exited: Some(exited), .. } => exited,
            Ending::Exceeded { exited: None, .. }
            | Ending::NotStarted { .. }
            | Ending::Down { .. }
            | Ending::Cancelled => Exited::default(),
        };
        let value = if order.answers_json { serde_json::from_slice(stdout.bytes()).ok() } else { None };
        let (metrics, network) = (metrics(&spent, &exited), spent.network.clone());
        if told {
            let Machine { cpus, accelerator, .. } = template.machine();
            warnings.extend(opinion::disagreements(&metrics, spent.memory_at_claim, *cpus, *accelerator));
        }
        let preview = self.settings.worker.preview.bytes();
        let strategy = template.machine().strategy;
        let stdout = stdout.report(preview, &self.blobs).await?;
        let stderr = stderr.report(preview, &self.blobs).await?;
        spent.destroy().await?;
        Ok(Ok(Done {
            name: order.name,
            verdict,
            stdout,
            stderr,
            value,
            exited,
            warnings,
            effects,
            effects_omitted,
            artifacts,
            metrics,
            network,
            timings: Timings {
                queued: Duration::ZERO,
                claim,
                run,
                effects: effects_took,
                report: reporting.elapsed(),
            },
            template,
            reset: Reset {
                strategy: strategy.as_str().to_owned(),
                took: proof.took,
                hidden: proof.took.saturating_sub(waited),
                nonce: proof.nonce,
                pages_checked: proof.pages_checked,
                rushed: proof.rushed,
            },
        }))
    }

    /// Puts a VM away that no job ran in: it was asked for what cannot be.
    async fn hand_back(
        &mut self,
        clean: crate::vm::Clean,
        why: String,
    ) -> anyhow::Result<Result<Done, Verdict>> {
        clean.destroy().await?;
        self.supply.prepare_next();
        Ok(Err(Verdict::harness(why)))
    }

    async fn lay_files(&self, active: &mut Active, job: &Job) -> anyhow::Result<Result<(), String>> {
        let mut breath = Breath::default();
        for file in &job.files {
            let content = self.content(Some(&file.content)).await?;
            for chunk in chunks(&file.path, file.mode, &content) {
                let Some(before) = breath.add(chunk) else { continue };
                if let Err(why) = active.lay(&before).await? {
                    return Ok(Err(why));
                }
            }
        }
        Ok(active.lay(&breath).await?)
    }

    async fn content(&self, content: Option<&Content>) -> anyhow::Result<Vec<u8>> {
        Ok(match content {
            None => Vec::new(),
            Some(Content::Inline(bytes)) => bytes.clone(),
            Some(Content::Blob { sha256, .. }) => self.blobs.get(*sha256).await?,
        })
    }

    /// Reads what changed on the VM's disk, and the files that the job wants kept. What cannot be read is
    /// warned of, and is no fault of ours: the disk was in the subject's hands.
    async fn read_disk(
        &self,
        job: &Job,
        spent: &Spent,
        expected: Expected,
    ) -> (Vec<Effect>, u64, Vec<Artifact>, Vec<String>) {
        let mut notes = Vec::new();
        if !spent.synced {
            notes.push(
                "the guest did not flush its disk: the list of effects may lack the last ones".to_owned(),
            );
        }
        let (disk, template, effects_max) =
            (spent.scratch().to_owned(), spent.template().clone(), self.settings.worker.effects_max);
        let compared = tokio::task::spawn_blocking(move || {
            if let Some((image, frozen)) = template.foreign_disks() {
                let found = foreign::effects::compare((&image, &frozen), &disk, &expected, effects_max)?;
                return Ok((found.effects, found.omitted, found.damaged));
            }
            let layer = effects::read_upper(&disk)?;
            let (list, omitted) = effects::compare(template.before(), &layer, &expected, effects_max);
            Ok::<_, crate::vm::ext4::Error>((list, omitted, layer.damaged))
        });
        let (list, omitted) = match compared.await {
            Ok(Ok((list, omitted, damaged))) => {
                notes.extend(damaged.into_iter().map(|what| format!("unreadable on its disk: {what}")));
                (list, omitted)
            }
            Ok(Err(error)) => {
                notes.push(format!("its disk cannot be read: {error}"));
                (Vec::new(), 1)
            }
            Err(error) => {
                notes.push(format!("reading its disk ended early: {error}"));
                (Vec::new(), 1)
            }
        };
        let list = match self.with_contents(job, spent, list).await {
            Ok(list) => list,
            Err((list, why)) => {
                notes.push(format!("what changed in its files is not kept: {why}"));
                list
            }
        };
        let mut artifacts = Vec::new();
        for path in &job.out {
            artifacts.push(self.artifact(spent, path).await);
        }
        (list, omitted, artifacts, notes)
    }

    /// Has the texts among `effects` kept, before and after, and says so in them. Where that cannot be done, gives them
    /// as they are, and says why.
    async fn with_contents(
        &self,
        job: &Job,
        spent: &Spent,
        effects: Vec<Effect>,
    ) -> Result<Vec<Effect>, (Vec<Effect>, String)> {
        let bytes_max = self.settings.worker.contents.bytes();
        let mut laid = BTreeMap::new();
        for file in job.files.iter().filter(|file| effects.iter().any(|effect| effect.path == file.path)) {
            let length = file.content.bytes();
            let side = if length > bytes_max {
                Side::TooLong(length)
            } else {
                let content = self.content(Some(&file.content)).await;
                content.map_or(Side::NotAtHand(length), Side::Bytes)
            };
            laid.insert(file.path.clone(), side);
        }
        let disks = Disks { laid, template: spent.template().clone(), scratch: spent.scratch().to_owned() };
        let plain = effects.clone();
        let told = tokio::task::spawn_blocking(move || {
            let mut effects = effects;
            let texts = contents::tell(&mut effects, &disks, bytes_max);
            (effects, texts)
        });
        let (effects, texts) = match told.await {
            Ok(told) => told,
            Err(error) => return Err((plain, error.to_string())),
        };
        for text in texts {
            if let Err(error) = self.blobs.put(text).await {
                return Err((plain, error.to_string()));
            }
        }
        Ok(effects)
    }

    async fn artifact(&self, spent: &Spent, path: &str) -> Artifact {
        let (disk, inside, below) =
            (spent.scratch().to_owned(), path.to_owned(), spent.template().foreign_disks());
        let read = tokio::task::spawn_blocking(move || match below {
            Some((image, frozen)) => {
                foreign::effects::read_file((&image, &frozen), &disk, &inside, ARTIFACT_BYTES_MAX)
            }
            None => effects::read_file(&disk, &inside, ARTIFACT_BYTES_MAX),
        });
        let read = read.await;
        let failed =
            |why: String| Artifact { path: path.to_owned(), bytes: 0, sha256: None, error: Some(why) };
        let bytes = match read {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return failed(format!("not written by the job, or not to be read: {error}")),
            Err(error) => return failed(error.to_string()),
        };
        let length = bytes.len() as u64;
        match self.blobs.put(bytes).await {
            Ok(sha256) => {
                Artifact { path: path.to_owned(), bytes: length, sha256: Some(sha256), error: None }
            }
            Err(error) => failed(error.to_string()),
        }
    }

    /// The report of a job that was put to the test.
    fn evaluation(&self, job: &Job, taken: Timestamp, done: Done) -> Evaluation {
        let mut evaluation = self.blank(job, taken, done.verdict);
        evaluation.calls = vec![Call {
            name: done.name,
            success_rate: evaluation.success_rate,
            exit_code: evaluation.exit_code,
            value: done.value,
            duration: done.metrics.wall,
        }];
        evaluation.stdout = done.stdout;
        evaluation.stderr = done.stderr;
        evaluation.effects = done.effects;
        evaluation.effects_omitted = done.effects_omitted;
        evaluation.warnings = done.warnings;
        evaluation.network = done.network.contacts;
        evaluation.network_omitted = done.network.omitted;
        evaluation.processes_left = done.exited.left;
        evaluation.processes_left_names = names_left(done.exited.left_names);
        evaluation.artifacts = done.artifacts;
        evaluation.metrics = done.metrics;
        evaluation.timings = Timings { queued: evaluation.timings.queued, ..done.timings };
        let image = &done.template.image().manifest.digest;
        evaluation.provenance = Provenance {
            image: Some(format!("sha256:{image}")),
            template: Some(format!("sha256:{}", done.template.digest())),
            qemu: Some(done.template.qemu_version().to_owned()),
            accelerator: Some(done.template.machine().accelerator.as_str().to_owned()),
            reset: Some(done.reset),
            ..evaluation.provenance
        };
        evaluation
    }

    /// The report of a job that was not put to the test.
    fn refused(&self, job: &Job, taken: Timestamp, verdict: Verdict) -> Fate {
        Fate::Done(Box::new(self.blank(job, taken, verdict)))
    }
}

/// A report with everything that is known without a VM.
fn blank(job: &Job, taken: Timestamp, verdict: Verdict, worker: &WorkerId, host: &str) -> Evaluation {
    let Verdict { status, cause, evidence, exit_code, signal } = verdict;
    let mut evaluation = Evaluation::of_job(job, taken, (status, cause), evidence);
    (evaluation.exit_code, evaluation.signal) = (exit_code, signal);
    evaluation.provenance.worker = worker.to_string();
    evaluation.provenance.host = host.to_owned();
    evaluation
}

/// The guest's words for what was left running, which may be anything.
fn names_left(names: Vec<String>) -> Vec<String> {
    // The kernel's own names of processes have 15 bytes.
    let clean = |name: String| name.chars().filter(|letter| !letter.is_control()).take(15).collect();
    names.into_iter().take(NAMES_LEFT_MAX).map(clean).collect()
}

fn metrics(spent: &Spent, exited: &Exited) -> Metrics {
    Metrics {
        wall: spent.wall,
        cpu_user: spent.used.cpu_user,
        cpu_system: spent.used.cpu_system,
        memory_peak_bytes: spent.memory_peak,
        disk_read_bytes: spent.disk_read,
        disk_written_bytes: spent.disk_written,
        net_rx_bytes: spent.network.received_bytes,
        net_tx_bytes: spent.network.sent_bytes,
        vm_memory_peak_bytes: spent.used.qemu_memory_peak,
        guest: Some(GuestMetrics {
            cpu_user: Duration::from_micros(exited.cpu_user_us),
            cpu_system: Duration::from_micros(exited.cpu_system_us),
            memory_peak_bytes: exited.memory_peak,
        }),
    }
}
