//! Three RabbitMQ nodes of one cluster, on loopback: the host's own RabbitMQ, or that of another root.

use anyhow::{Context as _, bail, ensure};
use evalfleet::machine::node::{self, Node};
use evalfleet::machine::ports::Ports;
use evalfleet_broker::{Options, Session, Tls};
use evalfleet_proto::topology::{Topology, jobs_queue};
use evalfleet_service::settings;
use evalfleet_tests::part::{Part, Start};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(240);
/// A node that is killed before it has written down who is in its quorums comes back without them.
const SETTLE: Duration = Duration::from_secs(10);

/// Runs a program of another root, with the state directory and the kernel's file systems in it: $1 the root,
/// $2 the state directory, then the program. In a mount namespace of its own, which goes when it does.
const IN_ROOT: &str = r#"root=$1 state=$2; shift 2
mkdir -p "$root$state"
for dir in /dev /proc /sys; do mount --rbind "$dir" "$root$dir"; done
mount --bind "$state" "$root$state"
exec chroot "$root" "$@""#;

/// A cluster, put away when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Member>,
    root: Option<PathBuf>,
    state: PathBuf,
    _epmd: Part,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Member {
    node: Node,
    pub(crate) part: Part,
}

impl Cluster {
    /// Brings three nodes up below `state`, each joined to the first.
    pub(crate) async fn up(state: &Path, root: Option<&Path>) -> anyhow::Result<Self> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut mapper = None;
        for number in 1..=3 {
            let dir = state.join(format!("node-{number}"));
            std::fs::create_dir_all(dir.join("broker"))?;
            if let Some(first) = nodes.first() {
                std::fs::copy(first.dir().join("password"), dir.join("broker/password"))?;
            }
            let ports = Ports::claim(&dir)?;
            let epmd = *mapper.get_or_insert(ports.epmd);
            let node = Node::set_up(&dir, Ports { epmd, ..ports })?;
            join(&node, nodes.first().unwrap_or(&node))?;
            nodes.push(node);
        }
        let epmd = Start {
            program: node::epmd().context("Erlang's port mapper is not installed")?,
            args: ["-address", "127.0.0.1", "-port", &mapper.unwrap_or_default().to_string()]
                .map(str::to_owned)
                .to_vec(),
            environment: Vec::new(),
        };
        let epmd = Part::start("epmd", epmd, state.join("epmd.log"))?;
        let mut cluster =
            Self { nodes: Vec::new(), root: root.map(Path::to_owned), state: state.to_owned(), _epmd: epmd };
        for (number, node) in nodes.into_iter().enumerate() {
            let program = node::server().filter(|_| root.is_none());
            let program =
                program.or_else(|| root.map(|_| PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server")));
            let start = cluster.start(&node, program.context("RabbitMQ is not installed")?, Vec::new());
            let name = format!("node {}", number + 1);
            let part = Part::start(&name, start, state.join(format!("node-{}.log", number + 1)))?;
            let mut member = Member { node, part };
            member.until_ready().await?;
            cluster.nodes.push(member);
        }
        Ok(cluster)
    }

    /// Where clients reach them.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(|member| member.node.url()).collect()
    }

    /// Declares everything, and waits until the nodes have written it down.
    pub(crate) async fn declare(&self, broker: &settings::Broker) -> anyhow::Result<()> {
        let session = Session::connect(&Options::new(broker, "crash")).await?;
        session.declare(&Topology::new(&broker.lanes, &broker.retry_tiers())).await?;
        session.close().await;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }

    /// What RabbitMQ calls itself.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        let said = self.ctl(0, &["--silent", "version"])?;
        said.lines().last().map(str::to_owned).context("rabbitmqctl names no version")
    }

    /// Which node leads the jobs' queue; all must be up.
    pub(crate) fn leader(&self) -> anyhow::Result<usize> {
        let queue = jobs_queue(&evalfleet_proto::ids::Lane::default_lane());
        let said = self.ctl(0, &["--silent", "list_queues", "name", "leader"])?;
        let line = said.lines().find(|line| line.split('\t').next() == Some(queue.as_str()));
        let leader = line.and_then(|line| line.split('\t').nth(1)).context("no leader is named")?;
        let found = self.nodes.iter().position(|member| member.node.name() == leader);
        found.with_context(|| format!("{leader} is none of the cluster"))
    }

    fn start(&self, node: &Node, program: PathBuf, args: Vec<String>) -> Start {
        let environment = node.environment();
        let Some(root) = &self.root else { return Start { program, args, environment } };
        let mut unshare = vec!["--mount".to_owned()];
        if !rustix::process::geteuid().is_root() {
            unshare.push("--map-root-user".to_owned());
        }
        unshare.extend(["--", "sh", "-euc", IN_ROOT, "in-root"].map(str::to_owned));
        unshare.extend([root, &self.state, &program].map(|path| path.display().to_string()));
        Start { program: "unshare".into(), args: [unshare, args].concat(), environment }
    }

    fn ctl(&self, node: usize, args: &[&str]) -> anyhow::Result<String> {
        let node = &self.nodes[node].node;
        let given = ["-n", node.name(), "-t", "30"].iter().chain(args).map(|&arg| arg.to_owned()).collect();
        let start = self.start(node, "/usr/lib/rabbitmq/bin/rabbitmqctl".into(), given);
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60"]).arg(start.program).args(start.args);
        let output = command.envs(start.environment).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Member {
    /// Whether it takes a login.
    pub(crate) async fn is_ready(&self) -> bool {
        let options = Options {
            urls: vec![self.node.url()],
            tls: Tls::default(),
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            confirm_timeout: Duration::from_secs(5),
            name: "crash".to_owned(),
        };
        match Session::connect(&options).await {
            Ok(session) => {
                session.close().await;
                true
            }
            Err(_) => false,
        }
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !self.is_ready().await {
            if self.part.up_for().is_none() || begun.elapsed() > READY_WITHIN {
                bail!("{} does not come up: see its log", self.part.name);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok(())
    }
}

/// Makes a node join the first one, at its first start; both have one cookie.
fn join(node: &Node, first: &Node) -> anyhow::Result<()> {
    let mut conf = std::fs::OpenOptions::new().append(true).open(node.dir().join("rabbitmq.conf"))?;
    writeln!(conf, "cluster_formation.peer_discovery_backend = classic_config")?;
    writeln!(conf, "cluster_formation.classic_config.nodes.1 = {}", first.name())?;
    let cookie = std::fs::read_to_string(first.dir().join("password"))?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(node.dir().join(".erlang.cookie"))?;
    Ok(file.write_all(cookie.trim().as_bytes())?)
}
