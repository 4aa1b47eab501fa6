//! A template: a VM that has booted, warmed up and stopped, to be cloned for every job.
//!
//! Made once for each (image, scenario, machine, QEMU version, strategy), under a lock, shared by every
//! worker of the host. It is trusted only after a clone of it has run a canary, and it appears under its
//! name only then, by a rename. Its files' digests are recorded, and compared by whoever opens it: what
//! is not what it was is thrown away and made anew. The books are kept by [`evalfleet_images::templates`].

use super::agent::Agent;
use super::clone::Clean;
use super::effects::Before;
use super::foreign::{self, Found, Way};
use super::jail::{self, Needs};
use super::net::Link;
use super::process::Process;
use super::qapi::qmp::Qmp;
use super::qemu::{AGENT_SOCKET, ANONYMOUS_RAM, Machine, NET_SOCKET, Parts, QMP_SOCKET, Role, check_path};
use super::strategy::Strategy;
use super::{Error, chore, sparse, upper};
use evalfleet_images::foreign::Channel;
use evalfleet_images::manifest::Part;
use evalfleet_images::recipe::Scenario;
use evalfleet_images::store::Image;
use evalfleet_images::templates::{Content, Record, Templates};
use evalfleet_proto::Timestamp;
use evalfleet_proto::guest::{FromGuest, Hello, Run, ToGuest};
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::units::ByteSize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const RAM: &str = "ram";
const SCRATCH: &str = "scratch.ext4";
/// Of a foreign image: what the template wrote over its disk, and the empty disk that a clone copies.
const FROZEN: &str = "frozen.qcow2";
const EMPTY: &str = "empty.qcow2";
/// How much of its digest names its folder.
const KEY_DIGITS: usize = 16;
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
    /// The pages of memory that loading its state touches; its probe finds them.
    touched: Option<BTreeSet<u64>>,
    /// Its files as they were found good, by name: what changes behind our back shows in them.
    watched: Vec<(&'static str, File, Stamp)>,
    /// Says that it is in use, as long as it is open.
    _held: Option<File>,
    /// Of a foreign image.
    way: Option<Way>,
}

/// What changes with a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> std::io::Result<Self> {
        let data = file.metadata()?;
        // An unlinked file keeps its content; only its ctime moved when its name went.
        let changed = if data.nlink() == 0 { (0, 0) } else { (data.ctime(), data.ctime_nsec()) };
        Ok(Self { bytes: data.len(), modified: (data.mtime(), data.mtime_nsec()), changed })
    }

    fn differs(self, now: Self) -> bool {
        let unlinked = now.changed == (0, 0);
        (self.bytes, self.modified) != (now.bytes, now.modified) || !unlinked && self.changed != now.changed
    }
}

/// Limits on making one.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the start of QEMU until the agent answers.
    pub boot: Duration,
    /// For a clone.
    pub reset: Duration,
}

impl Template {
    /// Gives the template of `image` and `scenario` on `machine`, making it if there is none that is good;
    /// others go if all together then take more than `bytes_max`.
    ///
    /// # Errors
    /// When it cannot be made, or its probe fails.
    pub async fn ensure(
        dir: &Path,
        bytes_max: ByteSize,
        image: Image,
        scenario: &Scenario,
        mut machine: Machine,
        qemu_version: String,
        timeouts: Timeouts,
    ) -> Result<Arc<Self>, Error> {
        let way = Way::into(&image, &machine.network);
        if way.is_some() {
            machine = machine.for_foreign();
            if !matches!(machine.strategy, Strategy::TemplateClone | Strategy::MappedRam) {
                return Err(Error::Qemu(format!(
                    "cannot make VMs of an imported image by {}: that takes QEMU 9 or newer, and qemu.strategy \
                     template-clone or mapped-ram",
                    machine.strategy.as_str()
                )));
            }
        }
        if let Some(least) = image.manifest.machine.memory_min {
            machine.memory = machine.memory.max(ByteSize(least.bytes()));
        }
        let digest = digest(&image, scenario, &machine, &qemu_version);
        let books = Templates::new(dir);
        let key = digest.to_string()[..KEY_DIGITS].to_owned();
        let home = books.home(&key);
        if !check_path(&home) || !check_path(&image.folder) {
            return Err(Error::Qemu(format!("cannot take a path with a comma: {}", home.display())));
        }
        let _lock = lock(books.clone(), key.clone()).await?;
        let mut template = Self {
            dir: home.clone(),
            digest,
            machine,
            qemu_version,
            image,
            scenario: scenario.clone(),
            before: Before::default(),
            touched: None,
            watched: Vec::new(),
            _held: None,
            way,
        };
        let found = match books.record(&key) {
            Ok(Some(record)) => template.open(&books, &key, record).await,
            Ok(None) => Ok(false),
            Err(error) => Err(Error::host("reading the template's record")(error)),
        };
        let mut why = "its record is missing".to_owned();
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(template = %digest, %error, "a template is damaged: making it anew");
            why = error.to_string();
            false
        });
        if !found {
            if home.exists() {
                books.quarantine(&key, &why).map_err(Error::host("putting a damaged template away"))?;
            }
            let mut record = template.record(scenario);
            template.dir = books.build(&key);
            match Box::pin(template.make(&scenario.name, timeouts)).await {
                Ok((boot, files, touched)) => {
                    (record.boot_ms, record.files) = (boot.as_millis() as u64, files);
                    record.touched = touched;
                    books.publish(&key, &record).map_err(Error::host("publishing the template"))?;
                }
                Err(error) => {
                    books.failed(&key, Some(record), &error.to_string());
                    return Err(error);
                }
            }
            template.dir = home;
            template.open(&books, &key, record).await?;
            make_room(&books, bytes_max).await;
        }
        template.before = template.read_before().await?;
        Ok(Arc::new(template))
    }

    /// Compares its files with what they were when it was probed, and holds it from then on. Whether it is
    /// as it was; an error where its files cannot be read.
    async fn open(&mut self, books: &Templates, key: &str, record: Record) -> Result<bool, Error> {
        let Record { files, touched, .. } = record;
        self.touched = Some(touched);
        let names = self.files();
        let (books, key, dir) = (books.clone(), key.to_owned(), self.dir.clone());
        let look = move || {
            let held = books.hold(&key)?;
            let mut watched = Vec::new();
            for name in names {
                let path = dir.join(name);
                let file = File::open(&path)?;
                // Before it is read: what changes meanwhile is seen.
                let stamp = Stamp::of(&file)?;
                let content = Content::of(&path)?;
                if files.get(name) != Some(&content) {
                    return Err(std::io::Error::other(format!("{name} is not what it was")));
                }
                watched.push((name, file, stamp));
            }
            Ok((held, watched))
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let looked = looked.map_err(|error| Error::Qemu(error.to_string()))?;
        let (held, watched) = looked.map_err(Error::host("opening the template"))?;
        (self._held, self.watched) = (Some(held), watched);
        Ok(true)
    }

    /// Tells what has changed of it since it was found good. Costs a few system calls.
    pub fn spoiled(&self) -> Option<String> {
        if !self.exists() {
            return Some("its folder is gone".to_owned());
        }
        self.changed()
    }

    /// Tells which of its files is not what it was: then its clones may not be, for they map it. Files that
    /// are gone from their folder are what they were for those who have them open.
    pub fn changed(&self) -> Option<String> {
        self.watched.iter().find_map(|(name, file, stamp)| match Stamp::of(file) {
            Ok(now) if !stamp.differs(now) => None,
            Ok(_) => Some(format!("the template's file {name} was changed")),
            Err(error) => Some(format!("the template's file {name}: {error}")),
        })
    }

    /// Notes that it is used.
    pub fn touch(&self) {
        self.note(|books, key| books.touch(key));
    }

    /// Takes it out of service: the next one who wants it makes it anew. Its clones keep what they have.
    pub fn throw_away(&self, why: &str) {
        self.note(|books, key| books.quarantine(key, why));
    }

    fn note(&self, what: impl FnOnce(&Templates, &str) -> std::io::Result<()>) {
        let (Some(dir), key) = (self.dir.parent(), &self.digest.to_string()[..KEY_DIGITS]) else { return };
        if let Err(error) = what(&Templates::new(dir), key) {
            tracing::debug!(template = %self.digest, %error, "the books of templates were not written");
        }
    }

    /// The names of its files.
    fn files(&self) -> Vec<&'static str> {
        let strategy = self.machine.strategy;
        let ram = strategy.maps_memory().then_some(RAM);
        let frozen = self.way.is_some().then_some(FROZEN);
        [Some(self.scratch_name()), frozen, ram, strategy.state_file()].into_iter().flatten().collect()
    }

    fn record(&self, scenario: &Scenario) -> Record {
        let machine = &self.machine;
        Record {
            digest: self.digest.to_string(),
            image: self.image.manifest.digest.to_string(),
            image_name: self.image.manifest.name.clone(),
            scenario: scenario.name.clone(),
            strategy: machine.strategy.as_str().to_owned(),
            accelerator: machine.accelerator.as_str().to_owned(),
            qemu: self.qemu_version.clone(),
            machine: machine.machine.clone(),
            cpu: machine.cpu.clone(),
            memory: machine.memory.bytes(),
            cpus: machine.cpus,
            made: Timestamp::now(),
            boot_ms: 0,
            files: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Makes the template in its build folder and probes it.
    async fn make(
        &mut self,
        scenario: &str,
        timeouts: Timeouts,
    ) -> Result<(Duration, BTreeMap<String, Content>, BTreeSet<u64>), Error> {
        let begun = Instant::now();
        tracing::info!(
            image = self.image.manifest.name,
            scenario,
            accelerator = self.machine.accelerator.as_str(),
            strategy = self.machine.strategy.as_str(),
            "making a template: booting once"
        );
        let build = &self.dir;
        // Whatever a killed maker left; the lock says that nobody works on it.
        let _ = std::fs::remove_dir_all(build);
        std::fs::create_dir_all(build).map_err(Error::host(format!("making {}", build.display())))?;
        self.lay_disks().await?;
        let (boot, channel) = self.boot_and_freeze(timeouts).await?;
        self.learn(channel);
        let files = self.seal().await?;
        let touched = self.probe(timeouts).await?;
        tracing::info!(boot_ms = boot.as_millis() as u64, total_ms = begun.elapsed().as_millis() as u64, template = %self.digest, "the template is good");
        Ok((boot, files, touched))
    }

    /// Lays the disk that the template writes to, and for a foreign image the one that its clones begin with.
    async fn lay_disks(&self) -> Result<(), Error> {
        if self.way.is_some() {
            let disk = self.image.path(Part::Disk);
            foreign::make_overlay(&disk, &self.dir.join(FROZEN)).await?;
            return foreign::make_overlay(&disk, &self.scratch()).await;
        }
        sparse::copy(&self.image.path(Part::Scratch), &self.scratch())
            .map_err(Error::host("copying the scratch disk"))
    }

    /// Notes how a foreign image was reached, here and beside the image.
    fn learn(&mut self, channel: Option<Channel>) {
        let (Some(way), Some(channel)) = (self.way.take(), channel) else { return };
        self.way = Some(way.by(channel));
        if let Err(error) = evalfleet_images::foreign::found(&mut self.image, channel) {
            tracing::warn!(%error, "the image's manifest does not say how it is reached");
        }
    }

    /// Makes its files read-only and records what is in them.
    async fn seal(&self) -> Result<BTreeMap<String, Content>, Error> {
        let (dir, names) = (self.dir.clone(), self.files());
        let seal = move || {
            let mut files = BTreeMap::new();
            for name in names {
                let path = dir.join(name);
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444))?;
                files.insert(name.to_owned(), Content::of(&path)?);
            }
            Ok(files)
        };
        let sealed =
            tokio::task::spawn_blocking(seal).await.map_err(|error| Error::Qemu(error.to_string()))?;
        sealed.map_err(Error::host("reading the new template"))
    }

    /// Boots, warms and freezes the guest; leaves memory, state and disk in the build folder.
    async fn boot_and_freeze(&self, timeouts: Timeouts) -> Result<(Duration, Option<Channel>), Error> {
        let begun = Instant::now();
        let run_dir = self.dir.join("run");
        std::fs::create_dir_all(&run_dir).map_err(Error::host("making the template's folder"))?;
        let strategy = self.machine.strategy;
        let state = strategy.lay_state(&self.dir, None).await?;
        let written = if self.way.is_some() { self.dir.join(FROZEN) } else { self.scratch() };
        let parts = self.parts(Role::Template, &written, state);
        let arguments = self.machine.arguments(Role::Template, &parts);
        let needs = Needs { read: parts.below(), write: vec![self.dir.clone()], network: parts.network() };
        let mut process = Process::start(&self.machine, arguments, &run_dir, needs).await?;
        let (qmp, mut agent, found) = self.reach(&mut process, Role::Template, timeouts.reset).await?;
        let _net = Link::attach(&process.socket(NET_SOCKET), &qmp).await?;
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
            chore::run(&mut agent, Run { argv: argv.to_vec(), cwd: "/".to_owned(), ..Run::default() }, limit)
                .await
                .map_err(|error| self.too_long(argv, error))?;
        }
        chore::sync(&mut agent, SYNC_TIMEOUT).await?;
        drop(agent);
        tokio::time::sleep(REST).await;
        qmp.stop().await?;
        strategy.freeze(&qmp, self.state().as_deref(), timeouts.boot).await?;
        // Killed, it would lose what it has not yet written of a snapshot's disk.
        if let Err(error) = qmp.quit().await {
            // It may hang up before it has answered.
            tracing::debug!(%error, "the end of a template's QEMU was not acknowledged");
        }
        process.until_end().await?;
        process.kill().await?;
        let files: Vec<PathBuf> = self.files().into_iter().map(|name| self.dir.join(name)).collect();
        jail::reclaim(&files)?;
        Ok((boot, found.and_then(|found| found.get().copied())))
    }

    /// Names the command that took too long: which of a scenario's it was is for whoever wrote it to know.
    fn too_long(&self, argv: &[String], error: Error) -> Error {
        if let Error::TimedOut { seconds, .. } = error {
            let (name, command) = (&self.scenario.name, argv.join(" "));
            Error::NotClean(format!("`{command}` of the scenario {name} did not end within {seconds} s"))
        } else {
            error
        }
    }

    /// Clones the new template once and runs a canary in the clone.
    async fn probe(&self, timeouts: Timeouts) -> Result<BTreeSet<u64>, Error> {
        let run_dir = self.dir.join("probe");
        let limit = PROBE_TIMEOUT.max(timeouts.boot);
        let nobody = CancellationToken::new();
        let mut clean = Clean::from_template(self, &run_dir, "probe", limit, nobody).await?;
        let touched = clean.touched.take().unwrap_or_default();
        clean.destroy().await?;
        Ok(touched)
    }

    async fn read_before(&self) -> Result<Before, Error> {
        if self.way.is_some() {
            // Its file systems are compared as they are.
            return Ok(Before::default());
        }
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
        self.dir.join(evalfleet_images::templates::RECORD).exists() && self.image.check().is_ok()
    }

    /// What was on its disks before any job.
    pub fn before(&self) -> &Before {
        &self.before
    }

    /// The pages of memory that loading its state touches, once they are known.
    pub(super) fn touched(&self) -> Option<&BTreeSet<u64>> {
        self.touched.as_ref()
    }

    /// What it ran before it was frozen, and what its clones run before they are paused.
    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The disk that a clone has a copy of.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join(self.scratch_name())
    }

    fn scratch_name(&self) -> &'static str {
        if self.way.is_some() { EMPTY } else { SCRATCH }
    }

    pub(super) fn state(&self) -> Option<PathBuf> {
        self.machine.strategy.state_file().map(|name| self.dir.join(name))
    }

    /// Where the memory of its clones comes from, as their mappings name it.
    pub(super) fn ram(&self) -> PathBuf {
        if self.machine.strategy.maps_memory() { self.dir.join(RAM) } else { PathBuf::from(ANONYMOUS_RAM) }
    }

    /// Starts a QEMU that waits for this template's state, with `scratch` for its disk.
    pub(super) async fn start_clone(&self, scratch: &Path, run_dir: &Path) -> Result<Process, Error> {
        let state = self.machine.strategy.lay_state(run_dir, self.state().as_deref()).await?;
        let parts = self.parts(Role::Clone, scratch, state);
        let arguments = self.machine.arguments(Role::Clone, &parts);
        let copied = self.scratch_name();
        let own = self.files().into_iter().filter(|name| *name != copied).map(|name| self.dir.join(name));
        let needs = Needs {
            read: parts.below().into_iter().chain(own).collect(),
            network: parts.network(),
            ..Needs::default()
        };
        Process::start(&self.machine, arguments, run_dir, needs).await
    }

    /// Has a fresh clone take its state.
    pub(super) async fn load(&self, qmp: &Qmp, limit: Duration) -> Result<(), Error> {
        self.machine.strategy.load(qmp, self.state().as_deref(), limit).await
    }

    /// Connects to a QEMU of this template, in the way that its image has.
    pub(super) async fn reach(
        &self,
        process: &mut Process,
        role: Role,
        limit: Duration,
    ) -> Result<(Qmp, Agent, Option<Found>), Error> {
        match &self.way {
            Some(way) => {
                let (qmp, agent, found) = way.connect(process, role == Role::Template, limit).await?;
                Ok((qmp, agent, Some(found)))
            }
            None => {
                let (qmp, agent) = connect(process, limit).await?;
                Ok((qmp, agent, None))
            }
        }
    }

    /// The disks of a foreign image that lie below a clone's own, the lowest first: the image's and what
    /// the template wrote. `None` if the image is one of ours.
    pub fn foreign_disks(&self) -> Option<(PathBuf, PathBuf)> {
        self.way.as_ref()?;
        Some((self.image.path(Part::Disk), self.dir.join(FROZEN)))
    }

    pub(super) fn parts(&self, role: Role, scratch: &Path, state: Option<PathBuf>) -> Parts {
        let part = |part: Part| self.image.path(part);
        Parts {
            kernel: part(Part::Kernel),
            initrd: part(Part::Initrd),
            root: part(Part::Root),
            scratch: scratch.to_owned(),
            ram: self.ram(),
            state,
            foreign: self.foreign_disks().map(|(disk, frozen)| foreign::Parts {
                disk,
                frozen: (role == Role::Clone).then_some(frozen),
                seed: part(Part::Seed),
            }),
        }
    }
}

/// Connects to both of a fresh QEMU's sockets.
pub(super) async fn connect(process: &mut Process, limit: Duration) -> Result<(Qmp, Agent), Error> {
    let (qmp, agent) = (process.socket(QMP_SOCKET), process.socket(AGENT_SOCKET));
    let connected =
        async { Ok::<_, Error>((Qmp::connect(&qmp, limit).await?, Agent::connect(&agent).await?)) };
    let late = Err(Error::TimedOut { what: "the start of QEMU", seconds: limit.as_secs() });
    match process.alive_while(timeout(limit, connected)).await?.unwrap_or(late) {
        // A QEMU that ends first lets go of its sockets, and only then can be asked why.
        Err(error) => Err(process.last_words().await.unwrap_or(error)),
        connected => connected,
    }
}

/// What a VM is greeted with: its own nonce, the time, fresh randomness.
pub(super) fn hello(hostname: String) -> Hello {
    let mut entropy = vec![0; 64];
    // The host's generator is seeded long before any service starts.
    let filled = rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(64), "64 bytes are never cut short");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let nonce = hex::encode(&entropy[48..]);
    Hello {
        // No two VMs have the same name.
        hostname: format!("{hostname}-{}", &nonce[..8]),
        nonce,
        clock_ns: now.as_nanos() as u64,
        entropy: entropy[..48].to_vec(),
        mac: None,
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
        "setup": scenario.setup, "warm": scenario.warm, "machine": machine, "qemu": qemu, "form": 4,
    });
    Sha256::of(made_of.to_string().as_bytes())
}

/// Takes the lock of one template; whoever waits finds the other's template made.
async fn lock(books: Templates, key: String) -> Result<File, Error> {
    let locked = tokio::task::spawn_blocking(move || books.lock(&key)).await;
    let locked = locked.map_err(|error| Error::Qemu(error.to_string()))?;
    locked.map_err(Error::host("locking the template"))
}

/// Removes templates that were not used for longest, until the rest takes no more than `bytes_max`.
async fn make_room(books: &Templates, bytes_max: ByteSize) {
    let books = books.clone();
    let gone = tokio::task::spawn_blocking(move || books.gc(bytes_max.bytes(), &|_| true)).await;
    match gone {
        Ok(Ok(gone)) => {
            for template in gone {
                tracing::info!(
                    template = template.key,
                    bytes = template.bytes,
                    "removed a template to make room"
                );
            }
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "templates were not removed, and may take more than they should")
        }
        Err(error) => tracing::warn!(%error, "removing templates ended early"),
    }
}
