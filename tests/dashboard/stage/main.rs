//! A stage for the dashboard's tests: a real gateway, a history with its own times, the API before it.
//!
//! Prints one line of JSON when all stands: `{"url": …, "token": …, "read_token": …, "jobs": {…}}`. Then it reads
//! commands, a line each: `record ID` records one more evaluation, now, and answers when that was begun and committed. It
//! ends with its input. `STAGE_EVALUATIONS` says how many there are (600), `STAGE_HEAP` what the gateway may have (1g).

mod history;
mod suite;

use evalfleet_datomic::{Client, Config};
use evalfleet_proto::Timestamp;
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use evalfleet_tests::machine::repository;
use serde_json::json;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the gateway may take to open.
const OPEN_MAX: Duration = Duration::from_secs(180);

/// A process that ends with the stage.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("it has an address").port()
}

fn log(dir: &Path, name: &str) -> std::fs::File {
    std::fs::File::create(dir.join(name)).expect("the stage's folder can be written")
}

fn gateway(dir: &Path, port: u16) -> Part {
    let gateway = repository().join("datomic");
    assert!(
        gateway.join("target/classpath").exists(),
        "the gateway's jars are not here: run datomic/build.sh first"
    );
    let child = Command::new(gateway.join("run.sh"))
        .env("EVALFLEET_GATEWAY_HEAP", std::env::var("STAGE_HEAP").unwrap_or_else(|_| "1g".to_owned()))
        .args(["--uri", "datomic:mem://dashboard", "--port", &port.to_string()])
        .arg("--token-file")
        .arg(dir.join("token"))
        .stdin(Stdio::null())
        .stderr(log(dir, "gateway.log"))
        .spawn();
    Part(child.expect("run.sh starts"))
}

fn api(dir: &Path, gateway: u16, port: u16) -> Part {
    let own = std::env::current_exe().expect("a program has a file");
    let child = Command::new(own.with_file_name("evalfleet-api"))
        .env("EVALFLEET_STATE__DIR", dir)
        .env("EVALFLEET_DATOMIC__URL", format!("http://127.0.0.1:{gateway}"))
        .env("EVALFLEET_DATOMIC__TOKEN_FILE", dir.join("token"))
        .env("EVALFLEET_API__LISTEN", format!("127.0.0.1:{port}"))
        .env("EVALFLEET_API__TOKEN_FILE", dir.join("token"))
        .env("EVALFLEET_API__READ_TOKEN_FILE", dir.join("read-token"))
        // Nobody answers there: what that looks like is tested, too.
        .env("EVALFLEET_BROKER__URLS", "amqp://127.0.0.1:1")
        // A fuzzer asks without pause.
        .env("EVALFLEET_API__RATE", std::env::var("STAGE_RATE").unwrap_or_else(|_| "2000".to_owned()))
        .stdin(Stdio::null())
        .stderr(log(dir, "api.log"))
        .spawn();
    Part(child.expect("evalfleet-api is built"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("dashboard-").tempdir()?;
    let (token, read_token) = ("a-token-for-the-stage-only", "a-token-that-can-only-look");
    std::fs::write(dir.path().join("token"), token)?;
    std::fs::write(dir.path().join("read-token"), read_token)?;
    let (gateway_port, api_port) = (free_port(), free_port());
    let _gateway = gateway(dir.path(), gateway_port);
    let client = Client::new(Config::new(format!("http://127.0.0.1:{gateway_port}"), token))?;
    client.wait_ready(OPEN_MAX, |_| {}).await?;
    let blobs_dir: PathBuf = dir.path().join("blobs");
    let blobs = Blobs::in_dir(&blobs_dir)?;
    let store = Store::new(client, blobs.clone());

    let batches: Vec<PathBuf> = std::fs::read_dir(repository().join("tests/data/batches"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    let count = std::env::var("STAGE_EVALUATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let jobs = history::lay_down(&store, &blobs, &batches, count).await?;

    let _api = api(dir.path(), gateway_port, api_port);
    let url = format!("http://127.0.0.1:{api_port}");
    while std::net::TcpStream::connect(("127.0.0.1", api_port)).is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{}",
        json!({ "url": url, "token": token, "read_token": read_token, "jobs": jobs, "version": evalfleet_service::VERSION, "release": !cfg!(debug_assertions) })
    );

    let mut lines = std::io::stdin().lines();
    while let Some(line) = tokio::task::block_in_place(|| lines.next()) {
        if let Some(id) = line?.strip_prefix("record ") {
            let begun = Timestamp::now().as_millisecond();
            history::record_now(&store, id.trim()).await?;
            let committed = Timestamp::now().as_millisecond();
            println!("{}", json!({ "recorded": id.trim(), "begun": begun, "committed": committed }));
        }
    }
    Ok(())
}
