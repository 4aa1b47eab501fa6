//! Settings: an embedded, commented default, then what `evalfleet up` found out about this machine,
//! then the user's file, then the environment. Unknown keys are errors, and all that is wrong is said
//! before any socket opens.
//!
//! [`Settings::from_layers`] is pure; [`Settings::load`] gathers its layers from the machine.

pub mod alerts;
pub mod blobs;
pub mod healing;
pub mod network;

use crate::permit::Permit;
pub use alerts::Alerts;
use evalfleet_proto::ids::{ImageRef, Lane};
use evalfleet_proto::units::{self, ByteSize};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
pub use healing::Healing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The reference of every setting.
pub const DEFAULT: &str = include_str!("default.toml");
/// What the environment's names begin with.
const PREFIX: &str = "EVALFLEET_";
/// The file in the state directory in which `evalfleet up` says where its parts are.
pub const ENDPOINTS_FILE: &str = "endpoints.toml";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was named is not there.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A part's token cannot be read.
    #[error(
        "cannot read the token {path}: {source}. `evalfleet up` writes one; else name yours in datomic.token_file"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A layer does not fit.
    #[error("configuration: {0}. `evalfleet doctor --settings` prints every setting with its default")]
    Invalid(#[from] config::ConfigError),
    /// Values that do not go together.
    #[error("configuration: {0}")]
    Relation(String),
}

/// All settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// One machine's state.
    pub state: State,
    /// RabbitMQ.
    pub broker: Broker,
    /// Those who submit.
    pub client: Client,
    /// Those who run.
    pub worker: Worker,
    /// Their VMs.
    pub qemu: Qemu,
    /// What the VMs boot.
    pub images: Images,
    /// Large contents.
    pub blobs: blobs::Blobs,
    /// History.
    pub datomic: Datomic,
    /// Those who write it.
    pub recorder: Recorder,
    /// Those who read it out.
    pub api: Api,
    /// What is made of it.
    pub insight: Insight,
}

/// `[state]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    dir: PathBuf,
}

/// `[broker]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Nodes, tried in turn.
    pub urls: Vec<String>,
    /// The certificates that are trusted, in PEM; empty: those that this host trusts.
    pub ca_file: PathBuf,
    /// Our own certificate, in PEM, for a broker that asks for one; empty: none.
    pub cert_file: PathBuf,
    /// The key of that certificate, in PEM (PKCS #8).
    pub key_file: PathBuf,
    /// AMQP heartbeat.
    #[serde(with = "units::duration")]
    pub heartbeat: Duration,
    /// Limit on making a connection.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// Limit on a publish and its confirm.
    #[serde(with = "units::duration")]
    pub confirm_timeout: Duration,
    /// Lanes, the first served first.
    pub lanes: Vec<Lane>,
    retry_tiers: Vec<String>,
    /// Tries of one job in all.
    pub attempts_max: u32,
}

/// `[client]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// The image of jobs that name none.
    pub image: ImageRef,
    /// Waiting beyond a job's own limit.
    #[serde(with = "units::duration")]
    pub patience: Duration,
}

/// `[worker]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// How many `evalfleet up` starts.
    pub count: u32,
    /// This one's name, empty for one made up.
    pub name: String,
    /// The lanes that it serves, the first served first; none: all of `broker.lanes`.
    lanes: Vec<Lane>,
    /// Time to finish after SIGTERM.
    #[serde(with = "units::duration")]
    pub grace: Duration,
    /// Effects listed in a result.
    pub effects_max: usize,
    /// Output kept in the result itself.
    pub preview: ByteSize,
    /// The longest text that is kept where a job changed it.
    pub contents: ByteSize,
    /// Names of variables whose value is a secret, each a glob.
    secret_env: Vec<String>,
    /// What jobs may be allowed to reach, each a [`Permit`].
    network_allow: Vec<String>,
    /// Connections of a job at one moment.
    pub network_connections: usize,
    /// Bytes that all its connections together may carry, both ways.
    pub network_bytes: ByteSize,
    /// The same in one second.
    pub network_rate: ByteSize,
}

/// `[qemu]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The program.
    pub binary: PathBuf,
    /// Which accelerator.
    pub accelerator: Accelerator,
    /// The machine type.
    pub machine: String,
    /// A VM's memory.
    pub memory: ByteSize,
    /// A VM's processors.
    pub cpus: u32,
    /// The processor's model, empty for the accelerator's best.
    pub cpu: String,
    /// How a clean VM is made.
    pub strategy: Strategy,
    /// The most that all templates together may take on the disk.
    pub templates_max: ByteSize,
    /// The most memory for translated code, under emulation.
    pub translations_max: ByteSize,
    /// The most its disk may hold.
    pub disk_size: ByteSize,
    /// The network of images that are reached over ssh.
    pub network: String,
    snapshot_dir: PathBuf,
    /// Whether a worker makes do with less of a jail than could be.
    pub jail: Jail,
    /// The account of VMs where the worker is root; empty for one of its own for each.
    pub user: String,
    /// Limit on the boot of a template.
    #[serde(with = "units::duration")]
    pub boot_timeout: Duration,
    /// Limit on making a clone.
    #[serde(with = "units::duration")]
    pub reset_timeout: Duration,
    /// Image names and their files.
    pub images: BTreeMap<String, PathBuf>,
    /// The folder of the user's own file, in which `images` may lie.
    #[serde(skip)]
    pub beside: Option<PathBuf>,
}

/// `qemu.accelerator`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// KVM when a VM boots in it, else emulation.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation.
    Tcg,
}

/// `qemu.strategy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The fastest that this QEMU does soundly.
    Auto,
    /// A new QEMU that maps a template's memory privately.
    TemplateClone,
    /// A new QEMU that loads a template's memory from a file of fixed places.
    MappedRam,
    /// A new QEMU that loads an internal snapshot.
    SnapshotLoad,
    /// A new QEMU that boots.
    ColdBoot,
}

/// `qemu.jail`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jail {
    /// The best that the worker has the rights for; what is missing is said.
    Auto,
    /// All of it, or no VM.
    Required,
}

/// `[images]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    dir: PathBuf,
}

/// `[datomic]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Datomic {
    /// Which database.
    pub uri: String,
    config: PathBuf,
    /// The folder that backups are made in.
    backup_dir: PathBuf,
    /// Backups that are kept: the newest.
    pub backups_max: usize,
    /// The gateway.
    pub url: String,
    /// The file with the gateway's token.
    pub token_file: PathBuf,
    /// Limit on one request.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

/// `[recorder]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorder {
    /// Results in a batch.
    pub batch_count: usize,
    /// Bytes in a batch.
    pub batch_bytes: ByteSize,
    /// Age of a batch.
    #[serde(with = "units::duration")]
    pub batch_age: Duration,
}

/// `[api]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where it listens.
    pub listen: String,
    /// Where it is reached.
    pub url: String,
    /// The file with its token, whose role is to operate.
    pub token_file: PathBuf,
    /// The file with a token that can only look.
    pub read_token_file: PathBuf,
    /// The file with a token that can look and submit.
    pub submit_token_file: PathBuf,
    /// Requests a second, for each role; twice as many at once.
    pub rate: u32,
    /// Evaluations kept in memory for lists, rates and series.
    pub evaluations_max: usize,
}

/// `[insight]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Insight {
    /// What became worse, confirmed and told.
    pub alerts: Alerts,
    /// What is not well, and is healed.
    pub healing: Healing,
}

/// What the settings are made from, the last winning.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// What `evalfleet up` wrote about this machine, as TOML.
    pub endpoints: Option<String>,
    /// The user's file, as TOML.
    pub file: Option<String>,
    /// The environment.
    pub environment: Vec<(String, String)>,
}

impl Settings {
    /// The lanes that this worker serves, the first served first.
    pub fn lanes_served(&self) -> &[Lane] {
        if self.worker.lanes.is_empty() { &self.broker.lanes } else { &self.worker.lanes }
    }

    /// Gathers the layers from this machine and builds the settings.
    ///
    /// # Errors
    /// Names the file, the key or the relation that is wrong.
    pub fn load(file: Option<&Path>) -> Result<Self, Error> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
        };
        let beside = file.and_then(|path| std::path::absolute(path).ok()?.parent().map(Path::to_owned));
        let file = file.map(read).transpose()?;
        let environment = std::env::vars().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        let mut layers = Layers { endpoints: None, file, environment };
        let endpoints = Self::from_layers(&layers)?.state_dir().join(ENDPOINTS_FILE);
        if endpoints.exists() {
            layers.endpoints = Some(read(&endpoints)?);
        }
        let mut settings = Self::from_layers(&layers)?;
        settings.qemu.beside = beside;
        Ok(settings)
    }

    /// Builds the settings from their layers, without a look at the machine.
    ///
    /// # Errors
    /// Names the key or the relation that is wrong.
    pub fn from_layers(layers: &Layers) -> Result<Self, Error> {
        let toml = |text: &str| config::File::from_str(text, config::FileFormat::Toml);
        let mut builder = config::Config::builder().add_source(toml(DEFAULT));
        for text in layers.endpoints.iter().chain(&layers.file) {
            builder = builder.add_source(toml(text));
        }
        // Only names with a section are settings; EVALFLEET_CONFIG and its like are not.
        let variables = layers.environment.iter().filter(|(name, _)| name.contains("__")).cloned();
        let environment = config::Environment::with_prefix("EVALFLEET")
            .prefix_separator("_")
            .separator("__")
            .list_separator(",")
            .with_list_parse_key("broker.urls")
            .with_list_parse_key("broker.retry_tiers")
            .with_list_parse_key("broker.lanes")
            .with_list_parse_key("worker.lanes")
            .with_list_parse_key("worker.network_allow")
            .with_list_parse_key("worker.secret_env")
            .with_list_parse_key("insight.alerts.email_to")
            .try_parsing(true)
            .source(Some(variables.collect()));
        let settings: Self = builder.add_source(environment).build()?.try_deserialize()?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), Error> {
        let mut wrong = Vec::new();
        if self.broker.urls.is_empty() {
            wrong.push("broker.urls names no node".to_owned());
        }
        let named = |path: &PathBuf| !path.as_os_str().is_empty();
        if named(&self.broker.cert_file) != named(&self.broker.key_file) {
            wrong.push("broker.cert_file and broker.key_file belong together: name both, or none".to_owned());
        }
        if named(&self.broker.ca_file) && !self.broker.urls.iter().any(|url| url.starts_with("amqps://")) {
            wrong.push("broker.ca_file is named, and none of broker.urls begins with amqps://".to_owned());
        }
        if self.broker.lanes.is_empty() {
            wrong.push("broker.lanes names no lane".to_owned());
        }
        for lane in self.worker.lanes.iter().filter(|lane| !self.broker.lanes.contains(lane)) {
            wrong.push(format!(
                "worker.lanes names {lane}, and broker.lanes does not: there is no such queue"
            ));
        }
        if self.api.rate == 0 {
            wrong.push("api.rate must be 1 or more".to_owned());
        }
        wrong.extend(self.insight.alerts.wrong());
        wrong.extend(self.insight.healing.wrong());
        if self.datomic.backups_max == 0 {
            wrong.push("datomic.backups_max must be 1 or more".to_owned());
        }
        if self.api.evaluations_max == 0 {
            wrong.push("api.evaluations_max must be 1 or more".to_owned());
        }
        if self.broker.attempts_max == 0 {
            wrong.push("broker.attempts_max must be 1 or more".to_owned());
        }
        for tier in &self.broker.retry_tiers {
            if let Err(error) = units::parse_duration(tier) {
                wrong.push(format!("broker.retry_tiers: {error}"));
            }
        }
        if self.broker.attempts_max > 1 && self.broker.retry_tiers.is_empty() {
            wrong.push("broker.retry_tiers is empty although attempts_max allows retries".to_owned());
        }
        for permit in &self.worker.network_allow {
            if let Err(error) = permit.parse::<Permit>() {
                wrong.push(format!("worker.network_allow: {error}"));
            }
        }
        if let Err(error) = globs(&self.worker.secret_env) {
            wrong.push(format!("worker.secret_env: {error}"));
        }
        if !(1..=256).contains(&self.worker.network_connections) {
            wrong.push("worker.network_connections must be between 1 and 256".to_owned());
        }
        if self.worker.network_rate < ByteSize::kib(4) {
            wrong.push("worker.network_rate must be 4K or more".to_owned());
        }
        if self.qemu.memory < ByteSize::mib(128) {
            wrong.push(format!("qemu.memory is {}, and a VM needs at least 128M", self.qemu.memory));
        }
        if !(1..=64).contains(&self.qemu.cpus) {
            wrong.push(format!("qemu.cpus is {}, and must be between 1 and 64", self.qemu.cpus));
        }
        if self.qemu.translations_max < ByteSize::mib(4) {
            wrong.push(format!(
                "qemu.translations_max is {}, and must be 4M or more",
                self.qemu.translations_max
            ));
        }
        self.blobs.check(&mut wrong);
        if let Err(error) = self.qemu.network.parse::<network::Network>() {
            wrong.push(format!("qemu.network: {error}"));
        }
        if self.recorder.batch_count == 0 || self.recorder.batch_count > 1000 {
            wrong.push("recorder.batch_count must be between 1 and 1000".to_owned());
        }
        // A job may run this long, and its worker must answer before the broker takes it back.
        let longest = evalfleet_proto::job::WALL_MAX + self.qemu.reset_timeout + self.qemu.boot_timeout;
        if longest >= evalfleet_proto::topology::CONSUMER_TIMEOUT {
            wrong.push(
                "qemu.boot_timeout + qemu.reset_timeout leave a job no time before the broker takes it back"
                    .into(),
            );
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::Relation(wrong.join("; "))) }
    }

    /// The state directory of this machine.
    pub fn state_dir(&self) -> PathBuf {
        or_else(&self.state.dir, || {
            let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
            let state = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty());
            state.map_or_else(|| home().join(".local/state"), PathBuf::from).join("evalfleet")
        })
    }

    /// Where built images are.
    pub fn images_dir(&self) -> PathBuf {
        or_else(&self.images.dir, || self.state_dir().join("images"))
    }

    /// Where templates of clean VMs are.
    pub fn templates_dir(&self) -> PathBuf {
        or_else(&self.qemu.snapshot_dir, || self.state_dir().join("templates"))
    }

    /// Where large contents are, unless they are in a bucket.
    pub fn blobs_dir(&self) -> PathBuf {
        or_else(&self.blobs.dir, || self.state_dir().join("blobs"))
    }

    /// Where backups of the history are made.
    pub fn backup_dir(&self) -> PathBuf {
        or_else(&self.datomic.backup_dir, || self.state_dir().join("backups"))
    }

    /// The user's EDN file, if there is one.
    pub fn datomic_config(&self) -> Option<&Path> {
        Some(self.datomic.config.as_path()).filter(|path| !path.as_os_str().is_empty())
    }
}

impl Qemu {
    /// How the host reaches into VMs; what does not parse was refused with the settings.
    pub fn network(&self) -> network::Network {
        self.network.parse().unwrap_or_default()
    }

    /// Where the file of a name in `[qemu.images]` may lie, in the order in which it is looked for: beside
    /// the user's file, in the current folder, among the templates.
    pub fn image_places(&self, file: &Path) -> Vec<PathBuf> {
        if file.is_absolute() {
            return vec![file.to_owned()];
        }
        let here = std::env::current_dir().ok();
        let among = Some(self.snapshot_dir.clone()).filter(|dir| !dir.as_os_str().is_empty());
        let mut places: Vec<PathBuf> =
            self.beside.iter().cloned().chain(here).chain(among).map(|dir| dir.join(file)).collect();
        places.dedup();
        places
    }
}

impl Datomic {
    /// Reads the gateway's token.
    ///
    /// # Errors
    /// Names the file that cannot be read.
    pub fn token(&self) -> Result<String, Error> {
        let read = std::fs::read_to_string(&self.token_file);
        let text = read.map_err(|source| Error::Token { path: self.token_file.clone(), source })?;
        Ok(text.trim().to_owned())
    }
}

impl Worker {
    /// What jobs may be allowed to reach.
    pub fn network_allow(&self) -> Vec<Permit> {
        self.network_allow.iter().filter_map(|permit| permit.parse().ok()).collect()
    }

    /// The variables whose value is a secret; what is no glob was refused with the settings.
    pub fn secret_env(&self) -> GlobSet {
        globs(&self.secret_env).unwrap_or_default()
    }
}

/// Globs that match whatever the case of letters.
fn globs(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).case_insensitive(true).build()?);
    }
    set.build()
}

impl Broker {
    /// How long a job waits after its `n`th failed try, for n = 1, 2, …; the last one repeats.
    pub fn retry_tiers(&self) -> Vec<Duration> {
        self.retry_tiers.iter().filter_map(|tier| units::parse_duration(tier).ok()).collect()
    }
}

fn or_else(path: &Path, default: impl FnOnce() -> PathBuf) -> PathBuf {
    if path.as_os_str().is_empty() { default() } else { path.to_owned() }
}

#[cfg(test)]
mod tests;
