//! The broker by TLS, on both sides: certificates are looked at, and asked for.

use evalfleet::machine::node::{self, Node};
use evalfleet::machine::ports::Ports;
use evalfleet_broker::{Error, Options, Session};
use evalfleet_proto::topology::Topology;
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::programs;
use evalfleet_tests::part::{Part, Start};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) const ALONE: &[(&str, fn())] =
    &[("tls::certificates_are_looked_at_and_asked_for", certificates_are_looked_at_and_asked_for)];

/// An authority, and its certificate's file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let file = dir.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).expect("a certificate").pem()).expect("written");
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A certificate for `name`, and its key.
    fn certify(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let files = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(&files.0, certificate.pem()).expect("written");
        std::fs::write(&files.1, key.serialize_pem()).expect("written");
        files
    }
}

/// A node that speaks TLS only with those who have a certificate.
fn start(dir: &Path, authority: &Authority) -> (Part, Part, String) {
    let ports = Ports::claim(dir).expect("free ports");
    let node = Node::set_up(dir, ports).expect("set up");
    let (certificate, key) = authority.certify(dir, "server");
    let mut conf =
        std::fs::OpenOptions::new().append(true).open(node.dir().join("rabbitmq.conf")).expect("there");
    for (name, value) in [
        ("listeners.ssl.1", format!("127.0.0.1:{}", ports.api)),
        ("ssl_options.cacertfile", authority.file.display().to_string()),
        ("ssl_options.certfile", certificate.display().to_string()),
        ("ssl_options.keyfile", key.display().to_string()),
        ("ssl_options.verify", "verify_peer".to_owned()),
        ("ssl_options.fail_if_no_peer_cert", "true".to_owned()),
    ] {
        writeln!(conf, "{name} = {value}").expect("written");
    }
    let part = |name: &str, program: Option<PathBuf>, args: Vec<String>, environment| {
        let start = Start { program: program.expect("RabbitMQ and Erlang are installed"), args, environment };
        Part::start(name, start, dir.join(format!("{name}.log"))).expect("started")
    };
    let args = ["-address", "127.0.0.1", "-port", &ports.epmd.to_string()].map(str::to_owned).to_vec();
    let epmd = part("epmd", node::epmd(), args, Vec::new());
    let broker = part("broker", node::server(), Vec::new(), node.environment());
    let plain = format!(":{}/", ports.broker);
    let url = node.url().replace("amqp://", "amqps://").replace(&plain, &format!(":{}/", ports.api));
    (epmd, broker, url)
}

fn options(url: &str, files: &[(&str, &Path)]) -> Options {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let files: String = files.iter().map(|(name, path)| format!("{name} = {}\n", quoted(path))).collect();
    let text = format!("[broker]\nurls = [{url:?}]\nconnect_timeout = \"5s\"\n{files}");
    let layers = Layers { endpoints: Some(text), ..Layers::default() };
    Options::new(&Settings::from_layers(&layers).expect("they fit").broker, "tls")
}

fn certificates_are_looked_at_and_asked_for() {
    let dir = tempfile::Builder::new()
        .prefix("tls-")
        .tempdir_in(programs().parent().expect("target"))
        .expect("a folder");
    let dir = dir.path();
    let (ours, theirs) = (Authority::new(dir, "ours"), Authority::new(dir, "theirs"));
    let (certificate, key) = ours.certify(dir, "client");
    let (_epmd, mut broker, url) = start(dir, &ours);
    let identity = [("cert_file", certificate.as_path()), ("key_file", key.as_path())];
    let with = |ca: &Path| options(&url, &[&[("ca_file", ca)], &identity[..]].concat());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let begun = Instant::now();
        let session = loop {
            match Session::connect(&with(&ours.file)).await {
                Ok(session) => break session,
                Err(error) => assert!(
                    broker.up_for().is_some() && begun.elapsed() < Duration::from_secs(180),
                    "it does not come up: {error}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        let settings = Settings::from_layers(&Layers::default()).expect("the defaults");
        let topology = Topology::new(&settings.broker.lanes, &settings.broker.retry_tiers());
        session.declare(&topology).await.expect("it is a connection as any other");
        session.close().await;

        let refused = |connected: Result<Session, Error>, what: &str| match connected {
            Err(Error::Unreachable { reason, .. }) => reason,
            other => panic!("{what}: {other:?}"),
        };
        refused(Session::connect(&with(&theirs.file)).await, "a stranger's certificate is trusted");
        refused(Session::connect(&options(&url, &identity)).await, "a private authority is trusted unasked");
        let nameless = options(&url, &[("ca_file", &ours.file)]);
        refused(Session::connect(&nameless).await, "nobody asked for our certificate");
        let missing = Session::connect(&with(&dir.join("nothing"))).await.expect_err("there is no such file");
        assert!(missing.to_string().contains("broker.ca_file"), "{missing}");
    });
}
