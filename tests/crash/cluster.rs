//! Three RabbitMQ nodes of one cluster, on loopback: the host's own RabbitMQ, or that of another root.

use anyhow::Context as _;
use evalfleet::machine::node::Node;
use evalfleet::machine::ports::Ports;
use evalfleet_broker::{Options, Session, Tls};
use evalfleet_proto::topology::{Topology, jobs_queue};
use evalfleet_service::settings;
use evalfleet_tests::part::Part;
use evalfleet_tests::rabbit::{self, Rabbit, SETTLE};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// A cluster, put away when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Member>,
    rabbit: Rabbit,
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
        let epmd = rabbit::port_mapper(mapper.unwrap_or_default())?;
        let epmd = Part::start("epmd", epmd, state.join("epmd.log"))?;
        let mut cluster = Self { nodes: Vec::new(), rabbit: Rabbit::new(root, state), _epmd: epmd };
        for (number, node) in nodes.into_iter().enumerate() {
            let start = cluster.rabbit.server(&node)?;
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

    fn ctl(&self, node: usize, args: &[&str]) -> anyhow::Result<String> {
        self.rabbit.ctl(&self.nodes[node].node, args)
    }
}

impl Member {
    /// Whether it takes a login.
    pub(crate) async fn is_ready(&self) -> bool {
        match Session::connect(&self.options()).await {
            Ok(session) => {
                session.close().await;
                true
            }
            Err(_) => false,
        }
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let options = self.options();
        rabbit::until_ready(&mut self.part, &options).await
    }

    fn options(&self) -> Options {
        Options {
            urls: vec![self.node.url()],
            tls: Tls::default(),
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            confirm_timeout: Duration::from_secs(5),
            name: "crash".to_owned(),
        }
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
