//! Contents in a bucket of a real S3 server: they are kept, found, told apart, backed up; and what is wrong with a
//! bucket is said.

use evalfleet_proto::ids::Sha256;
use evalfleet_service::blobs::{Blobs, Error};
use evalfleet_service::settings::{Layers, Settings};
use evalfleet_tests::machine::{Answer, Machine, repository, wait_until};
use evalfleet_tests::part::{Part, Start};
use reqwest::{Method, StatusCode};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use tokio::runtime::Runtime;

pub(crate) const ALONE: &[(&str, fn())] = &[
    ("s3::contents_are_kept_in_a_bucket_and_told_apart", contents_are_kept_in_a_bucket_and_told_apart),
    ("s3::what_is_wrong_with_a_bucket_is_said", what_is_wrong_with_a_bucket_is_said),
    ("s3::a_fleet_keeps_its_contents_in_a_bucket", a_fleet_keeps_its_contents_in_a_bucket),
];

const BUCKET: &str = "evalfleet-contents";
/// Where in it a fleet's contents begin.
const PREFIX: &str = "fleets/one";

/// An S3 server with one bucket, ended when dropped.
struct Server {
    runtime: Runtime,
    http: reqwest::Client,
    endpoint: String,
    dir: tempfile::TempDir,
    _process: Part,
}

impl Server {
    fn start() -> Self {
        let script = repository().join("tests/s3/server.sh");
        let installed = Command::new(&script).status().expect("bash");
        assert!(installed.success(), "{} cannot install moto", script.display());
        let dir = tempfile::tempdir().expect("a folder");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let start = Start { program: script, args: vec![port.to_string()], environment: Vec::new() };
        let process = Part::start("s3", start, dir.path().join("log")).expect("it starts");
        let server = Self {
            runtime: Runtime::new().expect("a runtime"),
            http: evalfleet_service::http::builder().build().expect("a client"),
            endpoint: format!("http://127.0.0.1:{port}"),
            dir,
            _process: process,
        };
        wait_until("the S3 server answers", || server.ask(Method::GET, "", "").is_some());
        assert_eq!(server.ask(Method::PUT, BUCKET, ""), Some(StatusCode::OK), "a bucket");
        server
    }

    /// Asks it as somebody whose signature it does not look at.
    fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Option<StatusCode> {
        let signature = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let request = self.http.request(method, format!("{}/{path}", self.endpoint)).body(body);
        let request = request.header("authorization", signature);
        self.runtime.block_on(request.send()).ok().map(|response| response.status())
    }

    /// Puts something else in the place of a content.
    fn damage(&self, key: Sha256, content: &str) {
        let path = object(key);
        assert_eq!(self.ask(Method::HEAD, &path, ""), Some(StatusCode::OK), "{key} is not there");
        assert_eq!(self.ask(Method::PUT, &path, content.to_owned()), Some(StatusCode::OK));
    }

    /// A file with credentials, which it does not look at unless it is told to.
    fn credentials(&self) -> String {
        let file = self.dir.path().join("credentials");
        std::fs::write(&file, "[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
            .expect("written");
        file.display().to_string()
    }

    fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("EVALFLEET_BLOBS__URL", format!("s3://{BUCKET}/{PREFIX}")),
            ("EVALFLEET_BLOBS__ENDPOINT", self.endpoint.clone()),
            ("EVALFLEET_BLOBS__ALLOW_HTTP", "true".to_owned()),
            ("EVALFLEET_BLOBS__CREDENTIALS_FILE", self.credentials()),
        ]
    }

    /// Opens the store, with some settings otherwise.
    fn open(&self, otherwise: &[(&str, &str)]) -> Result<Blobs, Error> {
        let own = self.variables().map(|(name, value)| (name.to_owned(), value));
        let others = otherwise.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = own.into_iter().chain(others).collect();
        let settings = Settings::from_layers(&Layers { environment, ..Layers::default() }).expect("sound");
        self.runtime.block_on(Blobs::open(&settings))
    }
}

/// Where a content is in the server.
fn object(key: Sha256) -> String {
    let key = key.to_string();
    format!("{BUCKET}/{PREFIX}/{}/{}/{key}", &key[..2], &key[2..4])
}

fn contents_are_kept_in_a_bucket_and_told_apart() {
    let server = Server::start();
    let blobs = server.open(&[]).expect("it is there");
    let large = "0123456789abcdef".repeat(1 << 19).into_bytes();
    server.runtime.block_on(async {
        let empty = blobs.put(Vec::new()).await.expect("kept");
        let key = blobs.put(large.clone()).await.expect("kept");
        assert_eq!(blobs.put(large.clone()).await.expect("kept again"), key);
        assert_eq!(blobs.get(key).await.expect("there"), large);
        assert_eq!(blobs.get(empty).await.expect("there"), b"");
        let entry = blobs.entry(key).await.expect("an answer").expect("there");
        assert_eq!((entry.key, entry.bytes), (key, large.len() as u64));
        let mut listed: Vec<Sha256> =
            blobs.entries().await.expect("a list").iter().map(|entry| entry.key).collect();
        let mut all = vec![empty, key];
        listed.sort_unstable();
        all.sort_unstable();
        assert_eq!(listed, all);
        let other = Sha256::of(b"other");
        assert!(matches!(blobs.get(other).await, Err(Error::Missing(missing)) if missing == other));
        assert_eq!(blobs.entry(other).await.expect("an answer"), None);
        blobs.remove(empty).await.expect("removed");
        blobs.remove(empty).await.expect("it was removed");
        assert_eq!(blobs.entry(empty).await.expect("an answer"), None);
    });
    let key = Sha256::of(&large);
    server.damage(key, "half of it");
    server.runtime.block_on(async {
        let error = blobs.get(key).await.expect_err("it is another");
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        blobs.put(large.clone()).await.expect("kept anew: it was not whole");
        assert_eq!(blobs.get(key).await.expect("there"), large);
    });
    // What begins otherwise is nobody's content, and another fleet's is not ours.
    assert_eq!(
        server.ask(Method::PUT, &format!("{BUCKET}/{PREFIX}/notes"), "no content"),
        Some(StatusCode::OK)
    );
    let two = format!("s3://{BUCKET}/fleets/two");
    let other = server.open(&[("EVALFLEET_BLOBS__URL", two.as_str())]).expect("it is there");
    server.runtime.block_on(async {
        assert_eq!(blobs.entries().await.expect("a list").len(), 1);
        assert_eq!(other.entries().await.expect("a list"), []);
        assert!(matches!(other.get(key).await, Err(Error::Missing(_))));
    });
}

fn what_is_wrong_with_a_bucket_is_said() {
    let server = Server::start();
    let refused = |otherwise: &[(&str, &str)]| server.open(otherwise).expect_err("refused");
    let error = refused(&[("EVALFLEET_BLOBS__URL", "s3://no-such-bucket/x")]);
    assert!(matches!(error, Error::NoBucket { .. }), "{error}");
    assert!(
        error.to_string().contains("no-such-bucket") && error.to_string().contains("blobs.url"),
        "{error}"
    );

    let error = refused(&[("EVALFLEET_BLOBS__CREDENTIALS_FILE", "/nonexistent/credentials")]);
    assert!(matches!(error, Error::NoCredentials { .. }), "{error}");
    assert!(error.to_string().contains("/nonexistent/credentials"), "{error}");

    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let nobody = format!("http://{nobody}");
    let error = refused(&[("EVALFLEET_BLOBS__ENDPOINT", nobody.as_str()), ("EVALFLEET_BLOBS__RETRIES", "1")]);
    assert!(matches!(error, Error::Store { .. }), "{error}");
    assert!(error.to_string().contains(&nobody) && error.to_string().contains("refused"), "{error}");

    // A server that accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let error = refused(&[
        ("EVALFLEET_BLOBS__ENDPOINT", endpoint.as_str()),
        ("EVALFLEET_BLOBS__TIMEOUT", "500ms"),
        ("EVALFLEET_BLOBS__RETRIES", "1"),
    ]);
    assert!(error.to_string().contains("no answer within 500 ms"), "{error}");

    // From now on it looks at credentials, and knows nobody.
    let blobs = server.open(&[]).expect("it lets everybody in");
    assert_eq!(server.ask(Method::POST, "moto-api/reset-auth", "0"), Some(StatusCode::OK));
    let error = refused(&[]);
    assert!(matches!(&error, Error::Denied { reason, .. } if reason == "InvalidAccessKeyId"), "{error}");
    let error =
        server.runtime.block_on(blobs.put(b"x".to_vec())).expect_err("it is to be signed by somebody");
    assert!(matches!(error, Error::Denied { .. }), "{error}");
}

fn with_url(machine: &Machine, url: &str, arguments: &[&str]) -> Answer {
    let mut command = machine.program("evalfleet");
    command.env("EVALFLEET_BLOBS__URL", url).args(arguments).output().expect("evalfleet is built").into()
}

fn a_fleet_keeps_its_contents_in_a_bucket() {
    let server = Server::start();
    let machine =
        server.variables().iter().fold(Machine::new(), |machine, (name, value)| machine.with(name, value));
    machine.up(1);
    let (input, folder) = (machine.state().join("input"), machine.state().join("blobs"));
    let text = "so it goes\n".repeat(100_000);
    std::fs::write(&input, &text).expect("written");
    let input = input.display().to_string();
    let script = "cat > /workspace/copy; seq 100000";
    let arguments =
        ["run", "--json", "--stdin", &input, "--out", "/workspace/copy", "--", "sh", "-c", script];
    let result = machine.evalfleet(&arguments).expect(0).json();
    let key =
        |value: &serde_json::Value| value.as_str().and_then(|key| key.parse::<Sha256>().ok()).expect("a key");
    assert_eq!(key(&result["artifacts"][0]["sha256"]), Sha256::of(text.as_bytes()), "{result}");
    let id = result["id"].as_str().expect("an id");
    let output = key(&result["stdout"]["sha256"]);
    for kept in [Sha256::of(text.as_bytes()), output] {
        assert_eq!(
            server.ask(Method::HEAD, &object(kept), ""),
            Some(StatusCode::OK),
            "{kept} is not in the bucket"
        );
    }
    machine.recorded(id);
    let whole: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(machine.evalfleet(&["logs", id]).expect(0).out, whole);
    assert!(!Path::new(&folder).exists(), "there is a folder as well");

    // Backups have the contents, and a bucket that lost some has them back.
    let taken = machine.evalfleet(&["backup", "now", "--json"]).expect(0).json();
    assert!(taken["checked"]["documents"].as_u64().is_some_and(|count| count > 0), "{taken}");
    let retained = machine.evalfleet(&["history", "retain", "--days", "30", "--json"]).expect(0).json();
    assert_eq!(retained["blobs"], 0, "all of it is new: {retained}");
    machine.evalfleet(&["down"]).expect(0);
    assert_eq!(server.ask(Method::DELETE, &object(output), ""), Some(StatusCode::NO_CONTENT));
    machine.evalfleet(&["backup", "restore", taken["name"].as_str().expect("a name")]).expect(0);
    assert_eq!(server.ask(Method::HEAD, &object(output), ""), Some(StatusCode::OK));
    machine.evalfleet(&["up", "--detach", "--workers", "1"]).expect(0);
    machine.recorded(id);
    assert_eq!(machine.evalfleet(&["logs", id]).expect(0).out, whole);

    server.damage(output, "something else");
    machine.evalfleet(&["logs", id]).says(&["damaged"]);
    let nowhere = "s3://no-such-bucket";
    with_url(&machine, nowhere, &["run", "--stdin", &input, "--", "cat"])
        .expect(69)
        .says(&[nowhere, "no such bucket"]);
    // What needs no bucket does without.
    with_url(&machine, nowhere, &["run", "--", "true"]).expect(0);
}
