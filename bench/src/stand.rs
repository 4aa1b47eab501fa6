//! What measurements of VMs stand on: a template, clones of it, and a worker without a broker.

use anyhow::{bail, ensure};
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::guest::Run as Order;
use evalfleet_proto::ids::WorkerId;
use evalfleet_proto::job::Job;
use evalfleet_proto::submission::Defaults;
use evalfleet_service::blobs::Blobs;
use evalfleet_service::settings::Settings;
use evalfleet_worker::job::{Fate, Run, Runner};
use evalfleet_worker::supply::Supply;
use evalfleet_worker::vm::{self, Active, Clean, Ending, Event, Meter, Strategy, Template};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Far above what any program here needs.
const METER: Meter =
    Meter { wall: Duration::from_secs(60), cpu: Duration::from_secs(60), output: 1 << 20, disk: 1 << 30 };

/// A template and a folder for its clones; the folder goes when it is dropped.
#[derive(Debug)]
pub struct Stand {
    /// What the clones are made of.
    pub template: Arc<Template>,
    /// How long a clone may take.
    pub limit: Duration,
    dir: PathBuf,
    made: u64,
}

impl Stand {
    /// Finds the template that a worker with these settings would use, or makes it.
    ///
    /// # Errors
    /// When there is no image, or no VM stands.
    pub async fn raise(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        let name: WorkerId = format!("bench-{}-{name}", std::process::id()).parse()?;
        let mut supply = Supply::new(settings, &name)?;
        let template = Box::pin(supply.warm_up(&settings.client.image)).await?;
        supply.discard().await;
        let boots = template.machine().strategy == Strategy::ColdBoot;
        let limit = if boots { settings.qemu.boot_timeout } else { settings.qemu.reset_timeout };
        let dir = settings.state_dir().join("vms").join(name.as_str());
        Ok(Self { template, limit, dir, made: 0 })
    }

    /// A folder in that of its clones.
    pub fn folder(&mut self) -> PathBuf {
        self.made += 1;
        self.dir.join(self.made.to_string())
    }

    /// A clone, to be made when it is awaited, and warmed: nobody waits for it.
    pub fn clean(&mut self) -> impl Future<Output = Result<Clean, vm::Error>> + use<> {
        self.prepare(CancellationToken::new())
    }

    /// The same for somebody who waits.
    pub fn clean_now(&mut self) -> impl Future<Output = Result<Clean, vm::Error>> + use<> {
        let wanted = CancellationToken::new();
        wanted.cancel();
        self.prepare(wanted)
    }

    fn prepare(
        &mut self,
        wanted: CancellationToken,
    ) -> impl Future<Output = Result<Clean, vm::Error>> + use<> {
        let (template, dir, limit) = (self.template.clone(), self.folder(), self.limit);
        async move { Clean::prepare(template, &dir, "bench", limit, wanted).await }
    }

    /// What a table says of the machine.
    pub fn conditions(&self) -> [(&'static str, String); 4] {
        let machine = self.template.machine();
        let (memory, cpus) = (machine.memory.bytes() >> 20, machine.cpus);
        [
            ("QEMU", self.template.qemu_version().to_owned()),
            ("accelerator", machine.accelerator.as_str().to_owned()),
            ("image", self.template.image().manifest.name.to_string()),
            ("machine", format!("{}, {memory} MiB, {cpus} CPU", machine.machine)),
        ]
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // What stays of it is in the way of nothing: the name holds a process number.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Runs a program in `cwd`, which must end well; gives how long it took since `begun`, and what it said.
///
/// # Errors
/// When it does not end well.
pub async fn run(
    active: &mut Active,
    program: &[&str],
    cwd: &str,
    begun: Instant,
) -> anyhow::Result<(Duration, String)> {
    let order = Order { argv: argv(program), cwd: cwd.to_owned(), ..Order::default() };
    let (never, mut said) = (CancellationToken::new(), Vec::new());
    let mut listen = |event| {
        if let Event::Output { data, .. } = event {
            said.extend_from_slice(&data);
        }
    };
    let ending = active.run(order, &[], METER, &never, &mut listen).await?;
    let (took, said) = (begun.elapsed(), String::from_utf8_lossy(&said).into_owned());
    let well = matches!(&ending, Ending::Exited(exited) if exited.code == Some(0));
    ensure!(well, "`{}` ended with {ending:?}: {said}", program.join(" "));
    Ok((took, said))
}

/// A program and its arguments.
pub fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A worker without a broker, whose image and accelerator are found out already.
///
/// # Errors
/// When there is no image, or no VM stands.
pub async fn worker(settings: &Arc<Settings>, name: &str) -> anyhow::Result<Runner> {
    let name: WorkerId = name.parse()?;
    let mut supply = Supply::new(settings, &name)?;
    Box::pin(supply.warm_up(&settings.client.image)).await?;
    let blobs = Blobs::open(settings).await?;
    Ok(Runner::new(settings.clone(), name, supply, blobs))
}

/// Has a worker evaluate one job.
///
/// # Errors
/// When something of ours breaks.
pub async fn evaluate(runner: &mut Runner, job: Job) -> anyhow::Result<Evaluation> {
    let never = CancellationToken::new();
    match Box::pin(runner.run(&job, Timestamp::now(), &never, &mut |_| ())).await {
        Fate::Done(evaluation) => Ok(*evaluation),
        Fate::Fault(why) | Fate::Unable(why) => bail!("a fault of ours: {why}"),
    }
}

/// What a job gets where it does not say.
pub fn defaults(settings: &Settings) -> Defaults {
    Defaults { image: settings.client.image.clone(), now: Timestamp::now() }
}
