//! What the parts of one machine are: their programs, what each needs, and how one knows it is ready.
//!
//! | part | needs | ready when |
//! |---|---|---|
//! | `epmd` | | its port answers |
//! | `broker` | `epmd` | it takes the login, and the topology is declared |
//! | `gateway` | | its store is open |
//! | `recorder` | `broker`, `gateway` | it wrote `ready/recorder` |
//! | `keeper`, where backups or retention are asked for | `gateway` | it wrote `ready/keeper` |
//! | `api` | `gateway` | `/health` |
//! | `worker-N` | `broker` | it wrote `ready/worker-N` |
//!
//! A child learns where everything is from the settings: `EVALFLEET_STATE__DIR` leads it to
//! `endpoints.toml`. `EVALFLEET_PART` is its name here; it says that it is ready by writing
//! `{"pid": …}` to `ready/<part>` in the state directory.

use super::files::{make_private_dir, secret, write_atomically};
use super::node::{self, Node};
use super::part::Kind;
use super::ports::Ports;
use super::probe::Probe;
use crate::machine::{Error, gateway};
use evalfleet_datomic::{Client, Config};
use evalfleet_service::settings::{ENDPOINTS_FILE, Settings};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One part, as it is to be run.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The parts that must have been ready before it starts.
    pub needs: Vec<String>,
    /// Its program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// What its environment has beyond ours.
    pub environment: Vec<(String, String)>,
    /// What it has not: variables that begin so.
    pub without: &'static [&'static str],
    /// Where it listens.
    pub port: Option<u16>,
    /// How one knows that it is ready.
    pub probe: Probe,
    /// How long that may take.
    pub ready_within: Duration,
    /// How long it may take to end.
    pub grace: Duration,
    /// What else is to be known of it.
    pub detail: Value,
}

/// What is to be run on this machine.
#[derive(Debug, Clone)]
pub struct Order {
    /// How many workers.
    pub workers: u32,
    /// Only parts of these kinds; empty for all.
    pub only: Vec<Kind>,
    /// The user's configuration file, to hand on.
    pub config: Option<PathBuf>,
}

/// Everything that is to be run, in the order of its start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The parts.
    pub parts: Vec<Part>,
    /// Where the API will be.
    pub api: Option<String>,
}

/// The shape of `endpoints.toml`: a layer of the settings.
fn endpoints(broker: &str, ports: Ports, tokens: &Path) -> String {
    let token = |name: &str| toml::Value::from(tokens.join(name).display().to_string());
    let url = |port: u16| toml::Value::from(format!("http://127.0.0.1:{port}"));
    format!(
        "# Written by `evalfleet up`: where the parts of this machine are.\n\
         [broker]\nurls = [{}]\n\n[datomic]\nurl = {}\ntoken_file = {}\n\n[api]\nurl = {}\ntoken_file = {}\n",
        toml::Value::from(broker),
        url(ports.gateway),
        token("gateway"),
        url(ports.api),
        token("api"),
    )
}

impl Plan {
    /// Sets up the state directory and says what is to be run in it.
    ///
    /// # Errors
    /// Names the program that is missing, or the file that cannot be written.
    pub fn make(settings: &Settings, order: &Order) -> Result<Self, Error> {
        let state_dir = settings.state_dir();
        let failed = |source| Error::State { dir: state_dir.clone(), source };
        make_private_dir(&state_dir).map_err(failed)?;
        let state_dir = state_dir.canonicalize().map_err(failed)?;
        for dir in ["logs", "ready", "tokens", "workers"] {
            make_private_dir(&state_dir.join(dir)).map_err(failed)?;
        }
        let ports = Ports::claim(&state_dir).map_err(failed)?;
        let node = Node::set_up(&state_dir, ports).map_err(failed)?;
        let tokens = state_dir.join("tokens");
        for token in ["gateway", "api"] {
            secret(&tokens.join(token)).map_err(failed)?;
        }
        let endpoints = endpoints(&node.url(), ports, &tokens);
        write_atomically(&state_dir.join(ENDPOINTS_FILE), endpoints.as_bytes(), 0o600).map_err(failed)?;

        let maker = Maker { settings, order, state_dir: &state_dir, ports, node: &node };
        let parts = maker.parts()?;
        let api = parts.iter().any(|part| part.kind == Kind::Api);
        let api = api.then(|| format!("http://127.0.0.1:{}", ports.api));
        Ok(Self { state_dir, parts, api })
    }
}

struct Maker<'a> {
    settings: &'a Settings,
    order: &'a Order,
    state_dir: &'a Path,
    ports: Ports,
    node: &'a Node,
}

impl Maker<'_> {
    fn parts(&self) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        if self.wants(Kind::Broker) {
            parts.extend(self.port_mapper());
            parts.push(self.broker(!parts.is_empty())?);
        }
        if self.wants(Kind::Gateway) {
            parts.push(self.gateway()?);
        }
        if self.wants(Kind::Recorder) {
            parts.push(self.recorder()?);
        }
        if self.wants(Kind::Keeper) && !gateway::keeping(self.settings)?.is_nothing() {
            parts.push(self.keeper()?);
        }
        if self.wants(Kind::Api) {
            parts.push(self.api()?);
        }
        if self.wants(Kind::Worker) {
            for number in 1..=self.order.workers {
                parts.push(self.worker(number)?);
            }
        }
        // What is not run here is somewhere else, or not missed.
        let names: Vec<_> = parts.iter().map(|part| part.name.clone()).collect();
        for part in &mut parts {
            part.needs.retain(|need| names.contains(need));
        }
        Ok(parts)
    }

    fn wants(&self, kind: Kind) -> bool {
        self.order.only.is_empty() || self.order.only.contains(&kind)
    }

    fn port_mapper(&self) -> Option<Part> {
        let port = self.node.epmd_port();
        let args = ["-address", "127.0.0.1", "-port"].map(str::to_owned).to_vec();
        Some(Part {
            args: [args, vec![port.to_string()]].concat(),
            without: &["ERL_"],
            port: Some(port),
            ready_within: Duration::from_secs(20),
            grace: Duration::from_secs(3),
            ..part("epmd", Kind::Broker, node::epmd()?, Probe::Port(port))
        })
    }

    fn broker(&self, mapped: bool) -> Result<Part, Error> {
        let program = node::server().ok_or(Error::NoRabbitMq)?;
        let mut settings = self.settings.broker.clone();
        settings.urls = vec![self.node.url()];
        Ok(Part {
            needs: if mapped { vec!["epmd".to_owned()] } else { Vec::new() },
            environment: self.node.environment(),
            without: &["RABBITMQ_", "ERL_"],
            port: Some(self.ports.broker),
            ready_within: Duration::from_secs(180),
            grace: Duration::from_secs(30),
            ..part("broker", Kind::Broker, program, Probe::Broker(Box::new(settings), self.node.first_boot()))
        })
    }

    fn gateway(&self) -> Result<Part, Error> {
        let token_file = self.state_dir.join("tokens/gateway");
        let command = gateway::command(self.settings, self.state_dir, self.ports.gateway, &token_file)?;
        let token = std::fs::read_to_string(&token_file).unwrap_or_default();
        let config = Config::new(format!("http://127.0.0.1:{}", self.ports.gateway), token.trim());
        let client = Client::new(config).map_err(|error| Error::Datomic { reason: error.to_string() })?;
        let health = Probe::Gateway(client);
        Ok(Part {
            args: command.args,
            port: Some(self.ports.gateway),
            ready_within: Duration::from_secs(180),
            grace: Duration::from_secs(20),
            ..part("gateway", Kind::Gateway, command.program, health)
        })
    }

    fn recorder(&self) -> Result<Part, Error> {
        Ok(Part {
            needs: vec!["broker".to_owned(), "gateway".to_owned()],
            grace: Duration::from_secs(30),
            ..self.own("recorder", Kind::Recorder, "evalfleet-recorder")?
        })
    }

    fn keeper(&self) -> Result<Part, Error> {
        let mut keeper = self.own("keeper", Kind::Keeper, "evalfleet")?;
        keeper.args.extend(["backup".to_owned(), "keep".to_owned()]);
        keeper.environment.push(("EVALFLEET_LOG".to_owned(), "info".to_owned()));
        keeper.needs = vec!["gateway".to_owned()];
        Ok(keeper)
    }

    fn api(&self) -> Result<Part, Error> {
        let port = self.ports.api;
        let mut api = self.own("api", Kind::Api, "evalfleet-api")?;
        api.environment.push(("EVALFLEET_API__LISTEN".to_owned(), format!("127.0.0.1:{port}")));
        api.needs = vec!["gateway".to_owned()];
        api.port = Some(port);
        api.probe = Probe::Http(format!("http://127.0.0.1:{port}/health"));
        Ok(api)
    }

    fn worker(&self, number: u32) -> Result<Part, Error> {
        let name = format!("worker-{number}");
        let mut worker = self.own(&name, Kind::Worker, "evalfleet-worker")?;
        worker.environment.push(("EVALFLEET_WORKER__NAME".to_owned(), name));
        worker.needs = vec!["broker".to_owned()];
        // Its first start boots a template, slowly under emulation.
        worker.ready_within = self.settings.qemu.boot_timeout * 2 + Duration::from_secs(60);
        worker.grace = self.settings.worker.grace + Duration::from_secs(10);
        Ok(worker)
    }

    /// A part whose program is one of ours, beside this one.
    fn own(&self, name: &str, kind: Kind, program: &'static str) -> Result<Part, Error> {
        let path = sibling(program)?;
        let mut environment = vec![
            ("EVALFLEET_STATE__DIR".to_owned(), self.state_dir.display().to_string()),
            ("EVALFLEET_PART".to_owned(), name.to_owned()),
        ];
        let mut args = Vec::new();
        if let Some(config) = &self.order.config {
            args = vec!["--config".to_owned(), config.display().to_string()];
            environment.push(("EVALFLEET_CONFIG".to_owned(), config.display().to_string()));
        }
        let ready = Probe::File(self.state_dir.join("ready").join(name));
        Ok(Part { args, environment, ..part(name, kind, path, ready) })
    }
}

fn part(name: &str, kind: Kind, program: PathBuf, probe: Probe) -> Part {
    Part {
        name: name.to_owned(),
        kind,
        needs: Vec::new(),
        program,
        args: Vec::new(),
        environment: Vec::new(),
        without: &[],
        port: None,
        probe,
        ready_within: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        detail: json!({}),
    }
}

/// Finds a program of ours beside the running one.
///
/// # Errors
/// Says where it was looked for.
pub fn sibling(program: &'static str) -> Result<PathBuf, Error> {
    let missing = |dir: PathBuf| Error::NoProgram { program, dir };
    let own = std::env::current_exe().map_err(|_| missing(PathBuf::from("?")))?;
    let dir = own.parent().unwrap_or(Path::new("/")).to_owned();
    // Tests and examples run one folder below the programs.
    let found = [Some(dir.as_path()), dir.parent()].into_iter().flatten().map(|dir| dir.join(program));
    let mut found = found.filter(|path| path.is_file());
    found.next().ok_or_else(|| missing(dir.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoints_are_a_layer_of_the_settings() {
        let ports = Ports { broker: 1, epmd: 2, dist: 3, gateway: 4, api: 5 };
        let text = endpoints("amqp://evalfleet:x@127.0.0.1:1/%2f", ports, Path::new("/s/tokens"));
        let layers = evalfleet_service::settings::Layers { endpoints: Some(text), ..Default::default() };
        let settings = Settings::from_layers(&layers).unwrap();
        assert_eq!(settings.broker.urls, ["amqp://evalfleet:x@127.0.0.1:1/%2f"]);
        assert_eq!(settings.datomic.url, "http://127.0.0.1:4");
        assert_eq!(settings.api.token_file, Path::new("/s/tokens/api"));
    }
}
