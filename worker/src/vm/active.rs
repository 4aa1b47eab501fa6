//! A VM at work on its one job, and what is left of it afterwards.

use super::agent::{Agent, Voice};
use super::breath::Breath;
use super::chore;
use super::clone::ResetProof;
use super::metrics::{self, Usage};
use super::net::{Link, Policy, Tally};
use super::process::Process;
use super::qapi::qmp::{DiskCounters, Qmp};
use super::template::Template;
use super::{Error, sparse};
use evalfleet_proto::guest::{CHUNK_BYTES, Exited, FromGuest, Run, ToGuest};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How often the host looks at what the VM uses.
const SAMPLE: Duration = Duration::from_millis(100);
/// How often a run's progress is told.
pub const PROGRESS: Duration = Duration::from_secs(1);
/// How long the agent may take to start a run, and to report one that was killed.
const ANSWER: Duration = Duration::from_secs(20);
/// How long flushing the guest's disk may take.
const SYNC: Duration = Duration::from_secs(30);
/// A QEMU that stands still by a signal.
const HELD: &str = "is held by somebody on the host";

/// What the host itself watches over during a run.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// Time on the clock.
    pub wall: Duration,
    /// Time on the host's processors.
    pub cpu: Duration,
    /// Bytes of output.
    pub output: u64,
    /// Growth of the disk.
    pub disk: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// By itself, as the guest tells it.
    Exited(Exited),
    /// Before it began.
    NotStarted {
        /// Why.
        error: String,
        /// The system's error number.
        errno: i32,
    },
    /// The host ended it: it used more than it may.
    Exceeded {
        /// Which limit, and what the host saw.
        limit: Limit,
        /// What the guest told of it afterwards, if it still could.
        exited: Option<Exited>,
    },
    /// The VM or its agent went down in the middle of it.
    Down {
        /// How that showed.
        how: String,
        /// The end of the guest's console.
        console: String,
    },
    /// It was called off.
    Cancelled,
}

/// A limit that the host watches over, with what it saw when that was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Time on the clock.
    Wall(Duration),
    /// Time on the processors.
    Cpu(Duration),
    /// Bytes of output.
    Output(u64),
    /// Growth of the disk, in bytes.
    Disk(u64),
    /// The host's memory, in bytes: QEMU's cgroup had no more.
    Memory(u64),
    /// What its connections carried, in bytes.
    Network(u64),
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event {
    /// The process exists.
    Started,
    /// It wrote something.
    Output {
        /// To standard error rather than standard output.
        stderr: bool,
        /// What.
        data: Vec<u8>,
    },
    /// What it has used so far; at most once in [`PROGRESS`].
    Progress(Progress),
}

/// What a run has used so far, as the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Since the subject was started.
    pub elapsed: Duration,
    /// Time on the processors.
    pub cpu: Duration,
    /// The guest's memory beyond its template.
    pub memory_bytes: u64,
    /// Read from its disks.
    pub disk_read_bytes: u64,
    /// Written to its disks.
    pub disk_written_bytes: u64,
}

/// What the host's books say of a VM at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Books {
    usage: Usage,
    disks: DiskCounters,
    allocated: u64,
}

impl Books {
    /// Reads them. Of a VM that is paused they stay true until it runs again, so a clone's are read
    /// before anybody waits for it.
    pub(super) async fn read(
        process: &Process,
        qmp: &Qmp,
        ram: &Path,
        scratch: &Path,
    ) -> Result<Self, Error> {
        let (times, allocated) = sample(process, scratch)?;
        let usage = Usage { memory_bytes: metrics::memory(process, ram)?, ..times };
        Ok(Self { usage, disks: qmp.disks().await?, allocated })
    }
}

/// A VM that may run one job.
#[derive(Debug)]
pub struct Active {
    process: Process,
    qmp: Qmp,
    agent: Agent,
    net: Link,
    scratch: PathBuf,
    template: Arc<Template>,
    proof: ResetProof,
    at_claim: Books,
    memory_peak: u64,
    wall: Duration,
}

/// A VM that ran its job and stands still: its disk can be read, and nothing else be done with it.
#[derive(Debug)]
pub struct Spent {
    process: Process,
    scratch: PathBuf,
    template: Arc<Template>,
    /// Whether the guest flushed its disk before it was stopped.
    pub synced: bool,
    /// What it used from its claim on.
    pub used: Usage,
    /// The guest's memory that was no longer its template's when it was claimed.
    pub memory_at_claim: u64,
    /// The guest's memory that it wrote since its claim.
    pub memory_peak: u64,
    /// Read from its disks.
    pub disk_read: u64,
    /// Written to its disks.
    pub disk_written: u64,
    /// Growth of its scratch disk.
    pub disk_growth: u64,
    /// What the guest tried to reach.
    pub network: Tally,
    /// From the start of the subject to its end.
    pub wall: Duration,
    /// What stopping it took.
    pub halt: Halt,
}

/// What stopping a VM took, step by step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Halt {
    /// Until the guest said that its disk is flushed.
    pub flush: Duration,
    /// Until QEMU said that it stands still.
    pub hold: Duration,
    /// Until the host had read its books about it.
    pub books: Duration,
}

impl Active {
    #[expect(clippy::too_many_arguments, reason = "all the parts of a VM, handed on as they are")]
    pub(super) fn new(
        process: Process,
        qmp: Qmp,
        agent: Agent,
        net: Link,
        scratch: PathBuf,
        template: Arc<Template>,
        proof: ResetProof,
        at_claim: Books,
    ) -> Self {
        net.begin(Policy::default());
        let wall = Duration::ZERO;
        Self { process, qmp, agent, net, scratch, template, proof, at_claim, memory_peak: 0, wall }
    }

    /// The number of its QEMU, as this host counts processes.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The folders of its cgroup, where it has one.
    pub fn cgroups(&self) -> &[PathBuf] {
        self.process.cgroups()
    }

    /// How it is known to be clean.
    pub fn proof(&self) -> &ResetProof {
        &self.proof
    }

    /// The template it is a clone of.
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Lets the guest reach what `policy` allows; before this, it may reach nothing.
    pub fn permit(&mut self, policy: Policy) {
        self.net.begin(policy);
    }

    /// Its folder.
    pub(super) fn run_dir(&self) -> &Path {
        self.process.run_dir()
    }

    /// Lays chunks of files into the guest.
    ///
    /// # Errors
    /// When the guest cannot write one of them: `Ok(Err(why))`, the first reason. When the VM is broken: `Err`.
    pub async fn lay(&mut self, breath: &Breath) -> Result<Result<(), String>, Error> {
        self.agent.voice.say_all(breath.words()).await?;
        let mut laid = Ok(());
        // Every answer is heard, or it would be taken for that to the next question.
        for _ in breath.words() {
            match timeout(ANSWER, self.agent.ear.hear()).await {
                Ok(Ok(FromGuest::Laid { error: None })) => {}
                Ok(Ok(FromGuest::Laid { error: Some(error) })) => laid = laid.and(Err(error)),
                Ok(Ok(other)) => return Err(Error::Agent(format!("answers a file with {other:?}"))),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(Error::TimedOut { what: "laying a file", seconds: ANSWER.as_secs() }),
            }
        }
        Ok(laid)
    }

    /// Runs the job's one program to its end, or to a limit's.
    ///
    /// # Errors
    /// Only for what is ours: the agent did not take the order. From the moment the program exists,
    /// whatever happens to the VM is an [`Ending`].
    pub async fn run(
        &mut self,
        run: Run,
        stdin: &[u8],
        meter: Meter,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Ending, Error> {
        // Short input goes along with the order: the agent needs no second waking for it.
        let (ahead, rest) =
            if stdin.len() <= CHUNK_BYTES { (Some(stdin), None) } else { (None, Some(stdin)) };
        let mut order = vec![ToGuest::Run(run)];
        order.extend(ahead.filter(|bytes| !bytes.is_empty()).map(|bytes| ToGuest::Stdin(bytes.to_vec())));
        order.extend(ahead.map(|_| ToGuest::StdinEnd));
        self.agent.voice.say_all(&order).await?;
        match timeout(ANSWER, self.agent.ear.hear()).await {
            Ok(Ok(FromGuest::Started)) => tell(Event::Started),
            Ok(Ok(FromGuest::NotStarted { error, errno })) => return Ok(Ending::NotStarted { error, errno }),
            Ok(Ok(other)) => return Err(Error::Agent(format!("answers an order with {other:?}"))),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Error::TimedOut { what: "starting a run", seconds: ANSWER.as_secs() }),
        }
        let begun = Instant::now();
        let ending = Box::pin(self.watch(rest, meter, begun, cancel, tell)).await;
        self.wall = begun.elapsed();
        if let Ending::Exceeded { limit, .. } = ending {
            return Ok(Ending::Exceeded { limit, exited: self.end_run(tell).await });
        }
        if matches!(ending, Ending::Down { .. }) {
            if let Some(had) = self.process.was_starved() {
                return Ok(Ending::Exceeded { limit: Limit::Memory(had), exited: None });
            }
            self.blame_the_host().await?;
        }
        Ok(ending)
    }

    /// Sees whether it went down by what happened on the host, which is not the subject's doing.
    async fn blame_the_host(&mut self) -> Result<(), Error> {
        if let Some(fault) = self.qmp.host_fault() {
            return Err(Error::Qemu(fault.to_owned()));
        }
        if self.process.is_held() {
            return Err(Error::Qemu(HELD.to_owned()));
        }
        if self.process.was_killed().await {
            return Err(Error::Qemu("was killed by somebody on the host".to_owned()));
        }
        if let Some(why) = self.template.changed() {
            return Err(Error::NotClean(why));
        }
        // It runs, and we cannot look at it.
        match sample(&self.process, &self.scratch) {
            Err(error) if self.process.ended().is_none() => Err(error),
            Err(_) | Ok(_) => Ok(()),
        }
    }

    async fn watch(
        &mut self,
        stdin: Option<&[u8]>,
        meter: Meter,
        begun: Instant,
        cancel: &CancellationToken,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Ending {
        let exceeded = |limit| Ending::Exceeded { limit, exited: None };
        let Agent { voice, ear } = &mut self.agent;
        let (process, qmp, scratch, ram) = (&self.process, &self.qmp, &self.scratch, self.template.ram());
        let mut feeding = std::pin::pin!(feed(voice, stdin.unwrap_or_default()));
        let (mut fed, mut output) = (stdin.is_none(), 0_u64);
        let begun = tokio::time::Instant::from_std(begun);
        let (mut samples, wall) = (tokio::time::interval_at(begun + SAMPLE, SAMPLE), begun + meter.wall);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let from = self.at_claim.usage;
        let (mut told, before) = (begun, self.at_claim.disks);
        loop {
            tokio::select! {
                heard = ear.hear() => match heard {
                    Ok(FromGuest::Output { stderr, data }) => {
                        output += data.len() as u64;
                        tell(Event::Output { stderr, data });
                        if output > meter.output {
                            return exceeded(Limit::Output(output));
                        }
                    }
                    Ok(FromGuest::Exited(exited)) => return Ending::Exited(exited),
                    Ok(FromGuest::Error { error }) => return down(qmp, format!("the agent: {error}")).await,
                    Ok(other) => return down(qmp, format!("the agent says {other:?} in the middle of a run")).await,
                    Err(error) => return down(qmp, error.to_string()).await,
                },
                result = &mut feeding, if !fed => {
                    fed = true;
                    if let Err(error) = result {
                        return down(qmp, error.to_string()).await;
                    }
                }
                reason = qmp.stopped() => return down(qmp, reason).await,
                _ = samples.tick() => match sample(process, scratch) {
                    Ok((usage, allocated)) => {
                        let cpu = usage.cpu().saturating_sub(from.cpu());
                        if cpu > meter.cpu {
                            return exceeded(Limit::Cpu(cpu));
                        }
                        let disk = allocated.saturating_sub(self.at_claim.allocated);
                        if disk > meter.disk {
                            return exceeded(Limit::Disk(disk));
                        }
                        if told.elapsed() >= PROGRESS {
                            told = tokio::time::Instant::now();
                            let elapsed = begun.elapsed();
                            // Here and at the end: it only grows, and no limit of the host's is on it.
                            let memory = metrics::memory(process, &ram).unwrap_or(from.memory_bytes);
                            let grown = memory.saturating_sub(from.memory_bytes);
                            self.memory_peak = self.memory_peak.max(grown);
                            let disks = qmp.disks().await.unwrap_or(before);
                            tell(Event::Progress(Progress {
                                elapsed,
                                cpu,
                                memory_bytes: grown,
                                disk_read_bytes: disks.read_bytes.saturating_sub(before.read_bytes),
                                disk_written_bytes: disks.written_bytes.saturating_sub(before.written_bytes),
                            }));
                        }
                    }
                    // The host cannot look: QEMU is gone or held, and its socket would not answer.
                    Err(error) => return Ending::Down { how: error.to_string(), console: String::new() },
                },
                () = sleep_until(wall) => return exceeded(Limit::Wall(begun.elapsed())),
                () = cancel.cancelled() => return Ending::Cancelled,
            }
        }
    }

    /// Ends what runs, and takes the agent's last word on it, if it has one.
    async fn end_run(&mut self, tell: &mut (dyn FnMut(Event) + Send)) -> Option<Exited> {
        self.agent.voice.say(&ToGuest::Kill).await.ok()?;
        // Whatever was written before the end is still in the pipe; more than this nobody will miss.
        let mut left = 1_usize << 20;
        let report = async {
            loop {
                let heard = self.agent.ear.hear().await.ok()?;
                if let FromGuest::Exited(exited) = heard {
                    return Some(exited);
                }
                let FromGuest::Output { stderr, data } = heard else { return None };
                if left > 0 {
                    left = left.saturating_sub(data.len());
                    tell(Event::Output { stderr, data });
                }
            }
        };
        timeout(ANSWER, report).await.ok().flatten()
    }

    /// Flushes the guest's disk, holds the guest for good and sums up what it used.
    ///
    /// # Errors
    /// When QEMU does not answer although it runs.
    pub async fn stop(self) -> Result<Spent, Error> {
        self.halt(true).await
    }

    /// Holds the guest for good in the middle of what it does; its disk is as it happens to be.
    ///
    /// # Errors
    /// As [`Active::stop`].
    pub async fn cut_off(self) -> Result<Spent, Error> {
        self.halt(false).await
    }

    async fn halt(mut self, flush: bool) -> Result<Spent, Error> {
        let up = self.qmp.has_stopped().is_none();
        let begun = Instant::now();
        let synced = flush && up && chore::sync(&mut self.agent, SYNC).await.is_ok();
        let Books { usage: from, disks: disks_from, allocated: allocated_from } = self.at_claim;
        let (mut used, mut disks) = (from, disks_from);
        let (flush, mut held) = (begun.elapsed(), begun.elapsed());
        if self.process.ended().is_none() {
            // It may end between these lines: then the last sample stands.
            if up {
                self.qmp
                    .stop()
                    .await
                    .unwrap_or_else(|error| tracing::debug!(%error, "holding a guest that is gone"));
            }
            held = begun.elapsed();
            used = metrics::usage(&self.process, &self.template.ram()).unwrap_or(used);
            disks = self.qmp.disks().await.unwrap_or(disks);
        }
        let halt =
            Halt { flush, hold: held.saturating_sub(flush), books: begun.elapsed().saturating_sub(held) };
        let grown = used.memory_bytes.saturating_sub(from.memory_bytes);
        let allocated =
            sparse::allocated(&self.scratch).map_err(Error::host("looking at the scratch disk"))?;
        Ok(Spent {
            synced,
            network: self.net.end(),
            used: Usage {
                cpu_user: used.cpu_user.saturating_sub(from.cpu_user),
                cpu_system: used.cpu_system.saturating_sub(from.cpu_system),
                guest: used.guest.saturating_sub(from.guest),
                memory_bytes: grown,
                qemu_memory_peak: used.qemu_memory_peak,
            },
            memory_at_claim: from.memory_bytes,
            memory_peak: self.memory_peak.max(grown),
            disk_read: disks.read_bytes.saturating_sub(disks_from.read_bytes),
            disk_written: disks.written_bytes.saturating_sub(disks_from.written_bytes),
            disk_growth: allocated.saturating_sub(allocated_from),
            wall: self.wall,
            halt,
            process: self.process,
            scratch: self.scratch,
            template: self.template,
        })
    }
}

impl Spent {
    /// Its disk, which only the host touches now.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The template it was a clone of.
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Kills QEMU, waits for its death, and removes what it had.
    ///
    /// # Errors
    /// When it does not die.
    pub async fn destroy(self) -> Result<(), Error> {
        self.process.kill().await
    }
}

async fn down(qmp: &Qmp, how: String) -> Ending {
    let how = qmp.has_stopped().unwrap_or(how);
    Ending::Down { how, console: qmp.console().await }
}

/// What the limits are about: processor time, and what the disk takes.
fn sample(process: &Process, scratch: &Path) -> Result<(Usage, u64), Error> {
    if process.is_held() {
        return Err(Error::Qemu(HELD.to_owned()));
    }
    Ok((
        metrics::times(process)?,
        sparse::allocated(scratch).map_err(Error::host("looking at the scratch disk"))?,
    ))
}

async fn feed(voice: &mut Voice, stdin: &[u8]) -> Result<(), Error> {
    for chunk in stdin.chunks(CHUNK_BYTES) {
        voice.say(&ToGuest::Stdin(chunk.to_vec())).await?;
    }
    voice.say(&ToGuest::StdinEnd).await
}
