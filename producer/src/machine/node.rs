//! A RabbitMQ node of one's own: on loopback, with its own port mapper, cookie, name and password,
//! beside whatever else runs on the host.

use super::files::{make_private_dir, secret, write_atomically};
use super::ports::Ports;
use super::probe::FirstBoot;
use evalfleet_proto::ids::Sha256;
use std::path::{Path, PathBuf};

/// Where packages put the server. The wrapper in /usr/sbin insists on its own user: never that.
const SERVERS: [&str; 5] = [
    "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "/opt/rabbitmq/sbin/rabbitmq-server",
    "/usr/local/sbin/rabbitmq-server",
    "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
    "/opt/homebrew/sbin/rabbitmq-server",
];
const USER: &str = "evalfleet";

/// The server's program, if RabbitMQ is installed.
pub fn server() -> Option<PathBuf> {
    SERVERS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The Erlang port mapper, if Erlang is installed.
pub fn epmd() -> Option<PathBuf> {
    let usual = PathBuf::from("/usr/lib/erlang/bin/epmd");
    crate::doctor::on_path("epmd").or_else(|| Some(usual).filter(|path| path.exists()))
}

/// A node that is set up and not started.
#[derive(Debug)]
pub struct Node {
    dir: PathBuf,
    name: String,
    ports: Ports,
    password: String,
}

impl Node {
    /// Writes the node's configuration under `state_dir`, which gives it its name.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn set_up(state_dir: &Path, ports: Ports) -> std::io::Result<Self> {
        let dir = state_dir.join("broker");
        make_private_dir(&dir)?;
        let password = secret(&dir.join("password"))?;
        // The name is in the paths of its data: it must not change, and no other node may have it.
        let digest = Sha256::of(state_dir.as_os_str().as_encoded_bytes()).to_string();
        let node = Self { name: format!("evalfleet-{}@localhost", &digest[..8]), dir, ports, password };
        write_atomically(&node.dir.join("rabbitmq.conf"), node.conf().as_bytes(), 0o600)?;
        write_atomically(&node.dir.join("enabled_plugins"), b"[].\n", 0o600)?;
        write_atomically(&node.dir.join("environment"), b"", 0o600)?;
        Ok(node)
    }

    /// Its configuration, data and password.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What other nodes call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", self.password, self.ports.broker)
    }

    fn conf(&self) -> String {
        let timeout = evalfleet_proto::topology::CONSUMER_TIMEOUT.as_millis();
        let (port, password) = (self.ports.broker, &self.password);
        [
            "# Written by `evalfleet up`; changes are lost.".to_owned(),
            format!("listeners.tcp.1 = 127.0.0.1:{port}"),
            format!("default_user = {USER}\ndefault_pass = {password}"),
            // 3.10 knows no timeout of a single queue: a worker may hold a job this long.
            format!("consumer_timeout = {timeout}"),
            // One machine holds all parts: the broker must leave room for VMs.
            "vm_memory_high_watermark.relative = 0.2\ndisk_free_limit.absolute = 500MB".to_owned(),
            "raft.wal_max_size_bytes = 64000000".to_owned(),
            "log.file = false\nlog.console = true\nlog.console.level = info\n".to_owned(),
        ]
        .join("\n")
    }

    /// The environment that makes the server this node.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let text = str::to_owned;
        // `localhost` resolves everywhere; Erlang's spinning schedulers would starve the VMs.
        let erlang = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none";
        [
            ("HOME", self.dir.display().to_string()),
            ("LC_ALL", text("C.UTF-8")),
            ("ERL_EPMD_PORT", self.ports.epmd.to_string()),
            ("ERL_EPMD_ADDRESS", text("127.0.0.1")),
            ("RABBITMQ_NODENAME", self.name.clone()),
            ("RABBITMQ_NODE_IP_ADDRESS", text("127.0.0.1")),
            ("RABBITMQ_NODE_PORT", self.ports.broker.to_string()),
            ("RABBITMQ_DIST_PORT", self.ports.dist.to_string()),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_LOGS", text("-")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_CONF_ENV_FILE", path("environment")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", path("generated")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
            ("RABBITMQ_PID_FILE", path("pid")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", text(erlang)),
            // Makes the script become the server, so that its pid is the one that is supervised.
            ("RUNNING_UNDER_SYSTEMD", text("1")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Where it says that it has been ready.
    pub(super) fn first_boot(&self) -> FirstBoot {
        FirstBoot { data: self.dir.join("data"), settled: self.dir.join("settled") }
    }

    /// Where the port mapper listens.
    pub(super) fn epmd_port(&self) -> u16 {
        self.ports.epmd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_machines_have_two_nodes_and_one_keeps_its_own() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ports = Ports { broker: 1, epmd: 2, dist: 3, gateway: 4, api: 5 };
        let node = |dir: &tempfile::TempDir| Node::set_up(dir.path(), ports).unwrap();
        let (first, again, other) = (node(&a), node(&a), node(&b));
        assert_eq!((&first.name, first.url()), (&again.name, again.url()));
        assert!(first.name != other.name && first.password != other.password);
        assert!(first.conf().contains("consumer_timeout = 7200000"));
    }
}
