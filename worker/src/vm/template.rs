//! A template: a VM that has booted, warmed up and stopped, to be cloned for every job.
//!
//! Made once for each (image, scenario, machine, QEMU version), under a lock, shared by every worker
//! of the host. It is trusted only after a clone of it has run a canary, and it appears under its name
//! only then, by a rename: a template that is there is a good one.

use super::agent::Agent;
use super::clone::Clean;
use super::effects::Before;
use super::process::Process;
use super::qemu::{AGENT_SOCKET, Machine, Parts, QMP_SOCKET, Role, check_path};
use super::qmp::Qmp;
use super::{Error, accelerator, active, sparse, upper};
use evalfleet_images::manifest::Part;
use evalfleet_images::recipe::Scenario;
use evalfleet_images::store::Image;
use evalfleet_proto::guest::{FromGuest, Hello, Run, ToGuest};
use evalfleet_proto::ids::Sha256;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

const RAM: &str = "ram";
const STATE: &str = "state";
const SCRATCH: &str = "scratch.ext4";
const RECORD: &str = "template.json";
/// The oldest QEMU whose clones are sound.
pub const QEMU_MAJOR_MIN: u32 = 9;
/// How long a guest rests after its last word, so that nothing of it is under way when it is frozen.
pub(super) const REST: Duration = Duration::from_millis(500);
/// How long the disk may take to be flushed after all that a scenario ran.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the clone may take that probes a new template.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);

/// A good template.
#[derive(Debug)]
pub struct Template {
    dir: PathBuf,
    digest: Sha256,
    machine: Machine,
    qemu_version: String,
    image: Image,
    scenario: Scenario,
    before: Before,
}

/// Limits on making one.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the start of QEMU until the agent answers.
    pub boot: Duration,
    /// For a clone.
    pub reset: Duration,
}

/// What is written beside a template.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    digest: Sha256,
    image: String,
    scenario: String,
    machine: Machine,
    qemu: String,
    boot_ms: u64,
}

impl Template {
    /// Gives the template of `image` and `scenario` on `machine`, making it if it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or its probe fails.
    pub async fn ensure(
        dir: &Path,
        image: Image,
        scenario: &Scenario,
        machine: Machine,
        timeouts: Timeouts,
    ) -> Result<Arc<Self>, Error> {
        let qemu_version = accelerator::qemu_version(&machine.binary).await?;
        let digest = digest(&image, scenario, &machine, &qemu_version);
        std::fs::create_dir_all(dir).map_err(Error::host(format!("making {}", dir.display())))?;
        let name = &digest.to_string()[..16];
        let home = dir.join(name);
        if !check_path(&home) || !check_path(&image.folder) {
            return Err(Error::Qemu(format!("cannot take a path with a comma: {}", home.display())));
        }
        let _lock = lock(dir.join(format!("{name}.lock"))).await?;
        let mut template = Self {
            dir: home.clone(),
            digest,
            machine,
            qemu_version,
            image,
            scenario: scenario.clone(),
            before: Before::default(),
        };
        if !home.join(RECORD).exists() {
            template.dir = dir.join(format!(".build-{name}"));
            template = template.make(&scenario.name, &home, timeouts).await?;
        }
        template.before = template.read_before().await?;
        Ok(Arc::new(template))
    }

    /// Makes the template in its build folder, probes it, and moves it home.
    async fn make(mut self, scenario: &str, home: &Path, timeouts: Timeouts) -> Result<Self, Error> {
        let begun = Instant::now();
        tracing::info!(
            image = self.image.manifest.name,
            scenario,
            accelerator = self.machine.accelerator.as_str(),
            "making a template: booting once"
        );
        let build = self.dir.clone();
        // Whatever a killed maker left; the lock says that nobody works on it.
        let _ = std::fs::remove_dir_all(&build);
        std::fs::create_dir_all(&build).map_err(Error::host(format!("making {}", build.display())))?;
        sparse::copy(&self.image.path(Part::Scratch), &self.scratch())
            .map_err(Error::host("copying the scratch disk"))?;
        let boot = self.boot_and_freeze(timeouts).await?;
        let probed = self.probe().await;
        if let Err(error) = probed {
            let _ = std::fs::remove_dir_all(&build);
            return Err(error);
        }
        let record = Record {
            digest: self.digest,
            image: self.image.manifest.digest.to_string(),
            scenario: scenario.to_owned(),
            machine: self.machine.clone(),
            qemu: self.qemu_version.clone(),
            boot_ms: boot.as_millis() as u64,
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| Error::Qemu(error.to_string()))?;
        std::fs::write(build.join(RECORD), text).map_err(Error::host("writing the template's record"))?;
        std::fs::rename(&build, home).map_err(Error::host("publishing the template"))?;
        self.dir = home.to_owned();
        tracing::info!(boot_ms = boot.as_millis() as u64, total_ms = begun.elapsed().as_millis() as u64, template = %self.digest, "the template is good");
        Ok(self)
    }

    /// Boots, warms and freezes the guest; leaves memory, state and disk in the build folder.
    async fn boot_and_freeze(&self, timeouts: Timeouts) -> Result<Duration, Error> {
        let begun = Instant::now();
        let run_dir = self.dir.join("run");
        std::fs::create_dir_all(&run_dir).map_err(Error::host("making the template's folder"))?;
        let arguments = self.machine.arguments(Role::Template, &self.parts(&self.scratch()));
        let mut process = Process::start(&self.machine.binary, arguments, &run_dir)?;
        let (qmp, mut agent) = connect(&mut process, timeouts.reset).await?;
        qmp.cont().await?;
        agent.voice.say(&ToGuest::Hello(hello("template".to_owned()))).await?;
        let booted = timeout(timeouts.boot, booted(&qmp, &mut agent)).await;
        match booted.unwrap_or(Err(Error::TimedOut {
            what: "the boot of a template",
            seconds: timeouts.boot.as_secs(),
        })) {
            Ok(()) => {}
            Err(error) => {
                let console = qmp.console().await;
                tracing::warn!(%error, console = console.trim(), "a template did not boot");
                return Err(error);
            }
        }
        let boot = begun.elapsed();
        for (argv, limit) in self.scenario.steps() {
            active::quick_run(
                &mut agent,
                Run { argv: argv.to_vec(), cwd: "/".to_owned(), ..Run::default() },
                limit,
            )
            .await?;
        }
        active::sync(&mut agent, SYNC_TIMEOUT).await?;
        drop(agent);
        tokio::time::sleep(REST).await;
        qmp.stop().await?;
        qmp.save_state(&self.dir.join(STATE), timeouts.boot).await?;
        process.kill().await?;
        Ok(boot)
    }

    /// Clones the new template once and runs a canary in the clone.
    async fn probe(&mut self) -> Result<(), Error> {
        let run_dir = self.dir.join("probe");
        let clean = Clean::from_template(self, &run_dir, "probe", PROBE_TIMEOUT).await?;
        clean.destroy().await
    }

    async fn read_before(&self) -> Result<Before, Error> {
        let (scratch, image) = (self.scratch(), self.image.clone());
        let read = move || {
            let index = image.index().map_err(|error| Error::NotClean(error.to_string()))?;
            let upper = upper::read(&scratch)
                .map_err(|error| Error::NotClean(format!("the template's disk: {error}")))?;
            Ok(Before::new(index, upper.objects))
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| Error::Qemu(error.to_string()))?
    }

    /// What names it: a digest over everything it was made of.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// The machine it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The image it booted.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// QEMU's version.
    pub fn qemu_version(&self) -> &str {
        &self.qemu_version
    }

    /// Whether its files are still there: an operator may have cleaned up.
    pub fn exists(&self) -> bool {
        self.dir.join(RECORD).exists() && self.image.check().is_ok()
    }

    /// What was on its disks before any job.
    pub fn before(&self) -> &Before {
        &self.before
    }

    /// What it ran before it was frozen, and what its clones run before they are paused.
    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join(SCRATCH)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join(STATE)
    }

    pub(super) fn ram(&self) -> PathBuf {
        self.dir.join(RAM)
    }

    /// Starts a QEMU that waits for this template's state, with `scratch` for its disk.
    pub(super) fn start_clone(&self, scratch: &Path, run_dir: &Path) -> Result<Process, Error> {
        Process::start(
            &self.machine.binary,
            self.machine.arguments(Role::Clone, &self.parts(scratch)),
            run_dir,
        )
    }

    pub(super) fn parts(&self, scratch: &Path) -> Parts {
        let part = |part: Part| self.image.path(part);
        Parts {
            kernel: part(Part::Kernel),
            initrd: part(Part::Initrd),
            root: part(Part::Root),
            scratch: scratch.to_owned(),
            ram: self.ram(),
        }
    }
}

/// Connects to both of a fresh QEMU's sockets.
pub(super) async fn connect(process: &mut Process, limit: Duration) -> Result<(Qmp, Agent), Error> {
    let (qmp, agent) = (process.socket(QMP_SOCKET), process.socket(AGENT_SOCKET));
    let connected = async { Ok::<_, Error>((Qmp::connect(&qmp).await?, Agent::connect(&agent).await?)) };
    let mut connected = std::pin::pin!(timeout(limit, connected));
    let mut glance = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            done = &mut connected => {
                return done.unwrap_or(Err(Error::TimedOut { what: "the start of QEMU", seconds: limit.as_secs() }));
            }
            _ = glance.tick() => if let Some(end) = process.ended() {
                return Err(Error::Qemu(end));
            }
        }
    }
}

/// What a VM is greeted with: its own nonce, the time, fresh randomness.
pub(super) fn hello(hostname: String) -> Hello {
    let mut entropy = vec![0; 64];
    // The host's generator is seeded long before any service starts.
    let filled = rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(64), "64 bytes are never cut short");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Hello {
        nonce: hex::encode(&entropy[48..]),
        clock_ns: now.as_nanos() as u64,
        entropy: entropy[..48].to_vec(),
        hostname,
    }
}

/// Waits for the agent's first word, or for a sign that none will come.
pub(super) async fn booted(qmp: &Qmp, agent: &mut Agent) -> Result<(), Error> {
    let mut glance = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            heard = agent.ear.hear() => {
                let first = heard?;
                let greeted = matches!(first, FromGuest::Hello(_));
                return if greeted { Ok(()) } else { Err(Error::Agent(format!("begins with {first:?}"))) };
            }
            reason = qmp.stopped() => return Err(Error::Qemu(reason)),
            _ = glance.tick() => if qmp.accelerator_failed().await? {
                return Err(Error::Qemu("the accelerator failed: an internal error".to_owned()));
            }
        }
    }
}

fn digest(image: &Image, scenario: &Scenario, machine: &Machine, qemu: &str) -> Sha256 {
    let made_of = serde_json::json!({
        "image": image.manifest.digest.to_string(), "scenario": scenario.name,
        "setup": scenario.setup, "warm": scenario.warm, "machine": machine, "qemu": qemu, "form": 2,
    });
    Sha256::of(made_of.to_string().as_bytes())
}

/// Takes the lock of one template; whoever waits finds the other's template made.
async fn lock(path: PathBuf) -> Result<File, Error> {
    let take = move || {
        let file = File::create(&path).map_err(Error::host(format!("making {}", path.display())))?;
        file.lock().map_err(Error::host(format!("locking {}", path.display())))?;
        Ok(file)
    };
    tokio::task::spawn_blocking(take).await.map_err(|error| Error::Qemu(error.to_string()))?
}
