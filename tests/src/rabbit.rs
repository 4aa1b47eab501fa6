//! RabbitMQ as the tests run it: nodes of their own on loopback, of the host's RabbitMQ or of that in another root.

use crate::machine::{patience, programs};
use crate::part::{Part, Start};
use anyhow::{Context as _, bail, ensure};
use evalfleet::machine::node::{self, Node};
use evalfleet::machine::ports::Ports;
use evalfleet_broker::{Options, Session};
use evalfleet_proto::topology::Topology;
use evalfleet_service::settings::{Layers, Settings};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a node may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(240);
/// A node that is killed before it has written down who is in its quorums comes back without them.
pub const SETTLE: Duration = Duration::from_secs(10);

/// Runs a program of another root, with the state directory and the kernel's file systems in it: $1 the root,
/// $2 the state directory, then the program. In a mount namespace of its own, which goes when it does.
const IN_ROOT: &str = r#"root=$1 state=$2; shift 2
mkdir -p "$root$state"
for dir in /dev /proc /sys; do mount --rbind "$dir" "$root$dir"; done
mount --bind "$state" "$root$state"
exec chroot "$root" "$@""#;

/// Where a RabbitMQ comes from, and where its nodes keep their state.
#[derive(Debug, Clone)]
pub struct Rabbit {
    root: Option<PathBuf>,
    state: PathBuf,
}

impl Rabbit {
    /// The RabbitMQ of `root`, or the host's. All that its nodes write is below `state`.
    pub fn new(root: Option<&Path>, state: &Path) -> Self {
        Self { root: root.map(Path::to_owned), state: state.to_owned() }
    }

    /// How to start a node.
    ///
    /// # Errors
    /// When RabbitMQ is not installed.
    pub fn server(&self, node: &Node) -> anyhow::Result<Start> {
        let program = match &self.root {
            Some(_) => PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server"),
            None => node::server().context("RabbitMQ is not installed")?,
        };
        Ok(self.start(node, &program, Vec::new()))
    }

    /// What `rabbitmqctl` says of a node.
    ///
    /// # Errors
    /// When it fails: what it said.
    pub fn ctl(&self, node: &Node, args: &[&str]) -> anyhow::Result<String> {
        let given = ["-n", node.name(), "-t", "30"].iter().chain(args).map(|&arg| arg.to_owned()).collect();
        let start = self.start(node, Path::new("/usr/lib/rabbitmq/bin/rabbitmqctl"), given);
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60"]).arg(start.program).args(start.args);
        let output = command.envs(start.environment).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn start(&self, node: &Node, program: &Path, args: Vec<String>) -> Start {
        let environment = node.environment();
        let Some(root) = &self.root else { return Start { program: program.to_owned(), args, environment } };
        let mut unshare = vec!["--mount".to_owned()];
        if !rustix::process::geteuid().is_root() {
            unshare.push("--map-root-user".to_owned());
        }
        unshare.extend(["--", "sh", "-euc", IN_ROOT, "in-root"].map(str::to_owned));
        unshare.extend([root.as_path(), &self.state, program].map(|path| path.display().to_string()));
        Start { program: "unshare".into(), args: [unshare, args].concat(), environment }
    }
}

/// How to start the port mapper that nodes find each other by.
///
/// # Errors
/// When Erlang is not installed.
pub fn port_mapper(port: u16) -> anyhow::Result<Start> {
    Ok(Start {
        program: node::epmd().context("Erlang's port mapper is not installed")?,
        args: ["-address", "127.0.0.1", "-port", &port.to_string()].map(str::to_owned).to_vec(),
        environment: Vec::new(),
    })
}

/// Waits until `node` takes a login, as long as its process lives.
///
/// # Errors
/// When that ends, or it takes too long.
pub async fn until_ready(part: &mut Part, options: &Options) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if let Ok(session) = Session::connect(options).await {
            session.close().await;
            return Ok(());
        }
        if part.up_for().is_none() || begun.elapsed() > READY_WITHIN * patience() {
            bail!("{} does not come up: see its log", part.name);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// One node with everything declared, put away when dropped.
#[derive(Debug)]
pub struct Broker {
    rabbit: Rabbit,
    node: Node,
    part: Mutex<Part>,
    _mapper: Part,
    state: tempfile::TempDir,
    declared: Instant,
}

impl Broker {
    /// Starts a node of the RabbitMQ in `root`, or of the host's. Its `advanced.config`, if there is one, wins over
    /// all that `evalfleet up` would set.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(root: Option<&Path>, advanced: Option<&str>) -> Self {
        let target = programs().parent().expect("target/<profile>").to_owned();
        let state = tempfile::Builder::new().prefix("broker-").tempdir_in(target).expect("a folder");
        let dir = state.path().canonicalize().expect("just made");
        let ports = Ports::claim(&dir).expect("free ports");
        let node = Node::set_up(&dir, ports).expect("set up");
        if let Some(advanced) = advanced {
            std::fs::write(node.dir().join("advanced.config"), advanced).expect("written");
        }
        let mapper = port_mapper(ports.epmd).expect("Erlang");
        let mapper = Part::start("epmd", mapper, dir.join("epmd.log")).expect("started");
        let rabbit = Rabbit::new(root, &dir);
        let server = rabbit.server(&node).expect("RabbitMQ");
        let part = Part::start("broker", server, dir.join("broker.log")).expect("started");
        let declared = Instant::now();
        let mut broker = Self { rabbit, node, part: Mutex::new(part), _mapper: mapper, state, declared };
        broker.wait();
        broker.run(async |session, settings| {
            let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
            session.declare(&topology).await.expect("a node of our own takes it");
        });
        broker.declared = Instant::now();
        broker
    }

    fn wait(&self) {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        let options = Options::new(&self.settings().broker, "test");
        if let Err(error) = runtime().block_on(until_ready(&mut part, &options)) {
            let log = std::fs::read_to_string(self.state.path().join("broker.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            panic!("{error}, the last line first: {tail:#?}");
        }
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        self.node.url()
    }

    /// Settings of a client that is not patient, and those of the topology that is declared.
    pub fn settings(&self) -> Settings {
        let text = format!(
            "[broker]\nurls = [{:?}]\nconnect_timeout = \"10s\"\nconfirm_timeout = \"5s\"\nretry_tiers = [\"1s\"]\n",
            self.url()
        );
        Settings::from_layers(&Layers { endpoints: Some(text), ..Layers::default() }).expect("they are sound")
    }

    /// The major number of its version.
    pub fn major(&self) -> u32 {
        let said = self.ctl(&["--silent", "version"]);
        let last = said.lines().last().unwrap_or_default();
        last.split('.').next().and_then(|major| major.parse().ok()).expect("rabbitmqctl names its version")
    }

    /// What `rabbitmqctl` says.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ctl(&self, args: &[&str]) -> String {
        self.rabbit.ctl(&self.node, args).unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    /// `rabbitmqctl` with `args` now, and with `back` when what this gives is dropped.
    #[track_caller]
    pub fn while_held<'a>(&'a self, args: &[&str], back: &'a [&'a str]) -> Held<'a> {
        self.ctl(args);
        Held { broker: self, back }
    }

    /// `kill -9`, and a start.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn crash(&self) {
        std::thread::sleep(SETTLE.saturating_sub(self.declared.elapsed()));
        {
            let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
            part.kill().expect("it can be killed");
            while part.up_for().is_none() {
                std::thread::sleep(Duration::from_millis(100));
                part.tend().expect("it can be started");
            }
        }
        self.wait();
    }

    /// Does something at it, over a session that is closed in the end. The runtime has a thread of its own, so that
    /// who blocks loses no connection.
    pub fn run(&self, what: impl AsyncFnOnce(&Session, &Settings)) {
        let settings = self.settings();
        runtime().block_on(async {
            let session = Session::connect(&Options::new(&settings.broker, "test")).await.expect("it is up");
            what(&session, &settings).await;
            session.close().await;
        });
    }
}

/// Something that `rabbitmqctl` did, undone when dropped.
#[derive(Debug)]
#[must_use = "it is undone when dropped"]
pub struct Held<'a> {
    broker: &'a Broker,
    back: &'a [&'a str],
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.broker.rabbit.ctl(&self.broker.node, self.back) {
            eprintln!("{:?}: {error}", self.back);
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Waits for something, generously.
///
/// # Panics
/// When it does not come.
pub fn in_time<T>(what: &str, so: impl Future<Output = T>) -> impl Future<Output = T> {
    let limit = Duration::from_secs(120) * patience();
    async move {
        match tokio::time::timeout(limit, so).await {
            Ok(done) => done,
            Err(_) => panic!("waited in vain: {what}"),
        }
    }
}
