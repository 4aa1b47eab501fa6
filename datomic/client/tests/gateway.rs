//! The real gateway, both drivers: history imported with its own times, and the three questions of
//! the user answered from it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use evalfleet_datomic::edn::{self, Value};
use evalfleet_datomic::guard::{self, Refusal};
use evalfleet_datomic::{Batch, Bounds, Client, Config, Entity, Error, Shape, View};
use jiff::Timestamp;
use tokio::process::{Child, Command};

const TOKEN: &str = "a-token-for-this-test-only";
const START_MAX: Duration = Duration::from_secs(120);

const FIRST: &str = r#"(d/q '[:find ?eval-id ?success-rate ?timestamp
       :where
       [?e :evaluation/id ?eval-id]
       [?e :evaluation/model "gemini-2.0-flash-exp"]
       [?e :evaluation/success-rate ?success-rate]
       [?e :evaluation/timestamp ?timestamp]]
     db)"#;
const SECOND: &str = r#"(d/q '[:find ?date ?avg-success
       :keys date avg-success
       :where
       [?e :evaluation/timestamp ?timestamp]
       [?e :evaluation/success-rate ?rate]
       [(java.time.LocalDate/from ?timestamp) ?date]]
     (d/as-of db #inst "2025-07-31"))"#;
const THIRD: &str = r#"(d/q '[:find ?function-name (avg ?success-rate)
       :where
       [?e :evaluation/function-calls ?fc]
       [?fc :function-call/name ?function-name]
       [?fc :function-call/success-rate ?success-rate]
       [(< ?success-rate 0.5)]]
     db)"#;

/// A running gateway; it ends with the test.
struct Gateway {
    process: Child,
    client: Client,
    folder: tempfile::TempDir,
    uri: String,
}

fn gateway_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    assert!(
        folder.join("target/classpath").exists(),
        "the gateway's jars are not here: run datomic/build.sh first (it fetches them with Maven)"
    );
    folder
}

fn spawn(uri: &str, folder: &Path) -> (Child, Client) {
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let token_file = folder.join("token");
    std::fs::write(&token_file, TOKEN).expect("a token file");
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    let process = Command::new(gateway_folder().join("run.sh"))
        .env("EVALFLEET_GATEWAY_HEAP", "768m")
        .args(["--uri", uri, "--port", &port.to_string()])
        .arg("--token-file")
        .arg(&token_file)
        .arg("--storage-dir")
        .arg(folder.join("store"))
        .stdin(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("run.sh starts");
    (process, Client::new(Config::new(format!("http://127.0.0.1:{port}"), TOKEN)).expect("a client"))
}

impl Gateway {
    async fn start(uri: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (process, client) = spawn(uri, folder.path());
        let mut gateway = Self { process, client, folder, uri: uri.to_owned() };
        gateway.ready().await;
        gateway
    }

    async fn ready(&mut self) {
        let mut waited = 0;
        if let Err(error) = self.client.wait_ready(START_MAX, |_| waited += 1).await {
            panic!(
                "{error}\n{}",
                std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
            );
        }
        assert!(waited > 0, "progress is told while it starts");
    }

    /// Ends it without warning and starts it again on the same files.
    async fn crash_and_restart(&mut self) {
        self.process.kill().await.expect("it was running");
        assert!(matches!(self.client.health().await, Err(Error::Unreachable { .. })));
        (self.process, self.client) = spawn(&self.uri, self.folder.path());
        self.ready().await;
    }

    async fn ask(&self, text: &str) -> Vec<String> {
        let question = guard::check(text, &[]).unwrap_or_else(|refusal| panic!("{refusal}"));
        let answer =
            self.client.query(&question, Bounds::default()).await.unwrap_or_else(|error| panic!("{error}"));
        let mut rows: Vec<String> = answer.rows.iter().map(ToString::to_string).collect();
        rows.sort();
        rows
    }
}

/// An evaluation of `gemini-2.0-flash-exp` with one call, as one batch at its own time.
fn batch(id: &str, time: &str, rate: f64, function: &str, function_rate: f64) -> Batch {
    let text = format!(
        "[{{:evaluation/id \"{id}\", :evaluation/model \"gemini-2.0-flash-exp\", :evaluation/success-rate {rate:?}, \
         :evaluation/timestamp #inst \"{time}\", :evaluation/function-calls [{{:function-call/id \"{id}/call/0\", \
         :function-call/name \"{function}\", :function-call/success-rate {function_rate:?}}}]}}]"
    );
    Batch {
        id: format!("import-{id}"),
        tx_data: edn::parse(&text).expect("EDN").as_vector().expect("a vector").to_vec(),
        tx_instant: Some(time.parse::<Timestamp>().expect("a time")),
    }
}

fn history() -> Vec<Batch> {
    vec![
        batch("b1", "2025-07-29T23:00:00Z", 1.0, "read_file", 1.0),
        batch("b2", "2025-07-30T04:25:15Z", 0.5, "write_file", 0.25),
        batch("b3", "2025-07-30T05:00:00Z", 0.5, "write_file", 0.0),
        batch("b4", "2025-07-30T06:00:00Z", 1.0, "read_file", 1.0),
        batch("b5", "2025-07-31T04:25:00Z", 0.0, "search_code", 0.0),
    ]
}

async fn imports_and_answers(gateway: &Gateway) {
    let client = gateway.client.clone();
    let last = history().len();
    for (index, batch) in history().iter().enumerate() {
        let written = client.transact(batch).await.expect("it is new");
        assert_eq!((written.duplicate, written.datoms), (false, 8), "{index} of {last}");
        assert!(client.transact(batch).await.expect("it is known").duplicate);
    }
    let again = Batch { id: "again".into(), tx_instant: None, ..history().remove(1) };
    assert_eq!(client.transact(&again).await.expect("another batch").datoms, 0, "nothing new is recorded");

    let late = Batch { id: "late".into(), ..history().remove(0) };
    let error = client.transact(&late).await.expect_err("older than what is there");
    assert!(matches!(error, Error::TooOld { .. }), "{error}");

    answers_the_three_questions(gateway).await;
    answers_in_other_ways(gateway).await;
}

/// What the recorder rests on when a transaction is late: it cannot replace a record, nor set a sum back.
async fn late_ones_are_refused(gateway: &Gateway) {
    let write = async |id: &str, text: &str| {
        let tx_data = edn::parse(text).expect("EDN").as_vector().expect("a vector").to_vec();
        gateway.client.transact(&Batch { id: id.to_owned(), tx_data, tx_instant: None }).await
    };
    let record = |status: &str| {
        format!("[{{:evaluation/id \"late\", :evaluation/status :{status}}} {{:record/of \"late\"}}]")
    };
    write("late-1", &record("passed")).await.expect("the first record of a job");
    let error = write("late-2", &record("failed")).await.expect_err("a second one");
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert_eq!(
        gateway.ask("[:find ?s :where [?e :evaluation/id \"late\"] [?e :evaluation/status ?s]]").await,
        ["[:passed]"]
    );

    let count = |before: &str, now: u64| {
        format!("[[:db/cas [:evaluation/id \"late\"] :evaluation/total {before} {now}]]")
    };
    write("late-3", &count("nil", 2)).await.expect("the first sum");
    write("late-4", &count("2", 3)).await.expect("the next one");
    let error = write("late-5", &count("nil", 1)).await.expect_err("one that was counted before both");
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

async fn answers_the_three_questions(gateway: &Gateway) {
    let rows = gateway.ask(FIRST).await;
    assert_eq!(rows.len(), 5);
    assert_eq!(rows.first().map(String::as_str), Some("[\"b1\" 1.0 #inst \"2025-07-29T23:00:00.000Z\"]"));

    let refusal = guard::check(SECOND, &[]).expect_err("?avg-success is never bound");
    assert!(matches!(refusal, Refusal::Unbound { .. }));
    let message = refusal.to_string();
    let meant = message.split_once("; write ").map(|(_, query)| query).expect("the query that was meant");
    // The last evaluation is of the 31st, after the moment that the query names.
    assert_eq!(
        gateway.ask(meant).await,
        [
            "{:date \"2025-07-29\", :avg-success 1.0}",
            "{:date \"2025-07-30\", :avg-success 0.6666666666666666}"
        ]
    );

    assert_eq!(gateway.ask(THIRD).await, ["[\"search_code\" 0.0]", "[\"write_file\" 0.125]"]);
}

async fn answers_in_other_ways(gateway: &Gateway) {
    let client = &gateway.client;
    let question = guard::check("[:find (count ?e) . :where [?e :evaluation/id]]", &[]).expect("a question");
    let answer = client.query(&question, Bounds::default()).await.expect("an answer");
    assert_eq!((answer.shape, answer.rows), (Shape::Scalar, vec![Value::Int(5)]));

    let rules = "[[(bad ?e) [?e :evaluation/success-rate ?r] [(< ?r 0.6)]]]";
    let text = "[:find [?id ...] :in $ % :where [?e :evaluation/id ?id] (bad ?e)]";
    let question = guard::check(text, &[rules]).expect("a question with rules");
    assert_eq!(client.query(&question, Bounds::default()).await.expect("an answer").rows.len(), 3);

    let bounds = Bounds { rows_max: 2, ..Bounds::default() };
    let question = guard::check("[:find ?id :where [?e :evaluation/id ?id]]", &[]).expect("a question");
    let answer = client.query(&question, bounds).await.expect("an answer");
    assert!(answer.truncated && answer.rows.len() == 2);

    let entity = Entity::Lookup("evaluation/id".into(), "b1".into());
    let pattern = "[:evaluation/model {:evaluation/function-calls [:function-call/name]}]";
    let pulled = client.pull(pattern, &entity, View::default()).await.expect("a pull").expect("an entity");
    assert_eq!(pulled.get("evaluation/model").and_then(Value::as_str), Some("gemini-2.0-flash-exp"));
    let none = Entity::Lookup("evaluation/id".into(), "none".into());
    assert_eq!(client.pull("[*]", &none, View::default()).await.expect("a pull"), None);

    let question =
        guard::check("[:find ?x :where [?e :not/known ?x]]", &[]).expect("the grammar knows no schema");
    let error = client.query(&question, Bounds::default()).await.expect_err("Datomic does");
    assert!(error.to_string().contains(":not/known"), "{error}");

    let mut next = 0;
    let mut rates = Vec::new();
    loop {
        let log = client.tx_range(next, 3).await.expect("the log");
        for datom in log.transactions.iter().flat_map(|transaction| &transaction.datoms) {
            if datom.attribute == "evaluation/success-rate" {
                rates.push(datom.value.as_float().expect("a rate"));
            }
        }
        next = log.next_t;
        if next > log.basis_t {
            break;
        }
    }
    assert_eq!(rates, [1.0, 0.5, 0.5, 1.0, 0.0], "the log is in order");

    let stranger = Client::new(Config::new("http://127.0.0.1:9", "x")).expect("a client");
    assert!(matches!(stranger.health().await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn datomic_local_keeps_history_and_answers() {
    let mut gateway = Gateway::start("datomic:local://gemini-eval").await;
    let health = gateway.client.health().await.expect("health");
    assert_eq!((health.driver.as_str(), health.durable), ("local", Some(true)));
    imports_and_answers(&gateway).await;
    late_ones_are_refused(&gateway).await;
    gateway.crash_and_restart().await;
    answers_the_three_questions(&gateway).await;
}

#[tokio::test]
async fn datomic_in_memory_answers_as_the_user_has_it() {
    let gateway = Gateway::start("datomic:mem://gemini-eval").await;
    let health = gateway.client.health().await.expect("health");
    assert_eq!((health.driver.as_str(), health.durable), ("peer", Some(false)));
    assert!(health.note.expect("a warning").contains("not durable"));
    imports_and_answers(&gateway).await;
    late_ones_are_refused(&gateway).await;
}
