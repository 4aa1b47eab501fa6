//! Ten evaluations through the client library: most are ordinary, one changes files, one fails, one
//! takes too long, one does not fit its tool, one ends as a dead letter and is replayed.
//!
//! `make demo` runs it on a machine that it has brought up.

use anyhow::{Context as _, ensure};
use comfy_table::{Table, presets};
use evalfleet::api::{Api, Query};
use evalfleet::client::{Client, as_they_come};
use evalfleet::dead::{Office, Which};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use futures::StreamExt as _;
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The image whose root is taken away, to have a fault of ours to show.
const BROKEN: &str = "demo-broken";
/// How long the history may take to have everything.
const RECORDING: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(demonstrate()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> anyhow::Result<()> {
    let settings = Settings::load(None)?;
    let broken = Broken::make(&settings.images_dir())?;
    let client = Client::connect(&settings).await?;
    let begun = Instant::now();

    let mut names = HashMap::new();
    let mut pending = Vec::new();
    for (name, document) in jobs() {
        let submission = Submission::from_json(&document.to_string())?;
        match client.submit(submission).await {
            Ok(submitted) => {
                println!("  {}  submitted  {name}", submitted.id());
                names.insert(submitted.id(), name);
                pending.push(submitted);
            }
            Err(error) => println!("  {:36}  refused    {name}: {error}", "-"),
        }
    }
    ensure!(pending.len() == 9, "nine of the ten fit their tools, and {} were taken", pending.len());
    println!("  all submitted after {} ms; results as they come:", begun.elapsed().as_millis());

    let mut done = Vec::new();
    let mut results = as_they_come(pending);
    while let Some(result) = results.next().await {
        let evaluation = result?;
        tell(&evaluation, begun, &names);
        done.push(evaluation);
    }
    drop(results);

    let dead = done
        .iter()
        .find(|evaluation| evaluation.status == Status::Dead)
        .context("no dead letter, although an image is broken")?;
    println!("\n  The image {BROKEN} is mended; its dead letter is replayed:");
    broken.mend()?;
    let replayed = replay(&settings, &client, dead.id).await?;
    names.insert(replayed.id, "replay of the dead letter");
    tell(&replayed, begun, &names);
    ensure!(
        replayed.status == Status::Passed,
        "the replay of a job whose image was mended must pass: {replayed:?}"
    );
    done.push(replayed);
    client.close().await;

    println!("\n{}", table(&done, &names));
    show_rates(&Api::new(&settings.api)?, done.len()).await
}

fn jobs() -> Vec<(&'static str, serde_json::Value)> {
    let call =
        |tool: &str, args: serde_json::Value| json!({"kind": "function_call", "tool": tool, "args": args});
    let command = |argv: &[&str]| json!({"kind": "command", "argv": argv});
    let mut slow = command(&["sleep", "60"]);
    slow["limits"] = json!({"wall": "2s"});
    let mut broken = call("word_count", json!({"text": "never counted at first"}));
    broken["image"] = json!(BROKEN);
    vec![
        ("a call on a broken image", broken),
        ("count words", call("word_count", json!({"text": "the quick brown fox"}))),
        ("read a file", call("read_file", json!({"path": "README.md"}))),
        ("list files", call("list_files", json!({"path": ".", "recursive": true}))),
        (
            "write a file",
            call("write_file", json!({"path": "notes/demo.txt", "content": "written by a tool\n"})),
        ),
        ("arguments that do not fit", call("word_count", json!({"txt": 7}))),
        ("run a command", call("run_command", json!({"command": "python3 -c 'print(sum(range(10)))'"}))),
        ("a deliberate failure", command(&["sh", "-c", "echo 'I fail on purpose' >&2; exit 3"])),
        ("longer than its time", slow),
        ("a command with side effects", command(&["sh", "-c", "echo hi > /workspace/a; rm /etc/hostname"])),
    ]
}

fn tell(evaluation: &Evaluation, begun: Instant, names: &HashMap<JobId, &'static str>) {
    let cause = evaluation.cause.map_or(String::new(), |cause| format!(" ({})", cause.as_str()));
    let name = names.get(&evaluation.id).copied().unwrap_or_default();
    println!(
        "  {}  {:>6.1} s  {:<27} {}{cause}",
        evaluation.id,
        begun.elapsed().as_secs_f64(),
        name,
        evaluation.status.as_str()
    );
}

/// Replays one dead letter and waits for what becomes of it.
async fn replay(settings: &Settings, client: &Client, id: JobId) -> anyhow::Result<Evaluation> {
    let office = Office::open(settings).await?;
    let which = Which::Of(vec![id.to_string()]);
    // A dry run tells the new job's id: whoever listens for it first misses nothing of it.
    let planned = office.replay(which.clone(), true).await?;
    let successor =
        planned.first().and_then(|outcome| outcome.job).context("the dead letter cannot be replayed")?;
    let heard = client.hear_of(successor, Duration::from_secs(60)).await?;
    office.replay(which, false).await?;
    office.close().await;
    Ok(heard.wait().await?)
}

fn table(done: &[Evaluation], names: &HashMap<JobId, &'static str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "evaluation",
        "status",
        "cause",
        "effects",
        "queued",
        "claim",
        "run",
        "effects",
        "report",
    ]);
    for evaluation in done {
        let effects: Vec<String> = evaluation
            .effects
            .iter()
            .map(|effect| format!("{:?} {}", effect.change, effect.path).to_lowercase())
            .collect();
        let times = &evaluation.timings;
        let ms = |time: Duration| format!("{} ms", time.as_millis());
        let mut row = vec![
            names.get(&evaluation.id).copied().unwrap_or_default().to_owned(),
            evaluation.status.as_str().to_owned(),
            evaluation.cause.map_or("", Cause::as_str).to_owned(),
            effects.join("\n"),
        ];
        row.extend([times.queued, times.claim, times.run, times.effects, times.report].map(ms));
        table.add_row(row);
    }
    table
}

/// Success rates per tool, now and in the imported past, both out of Datomic.
async fn show_rates(api: &Api, evaluations: usize) -> anyhow::Result<()> {
    let asked =
        |query: &str| Query { query: query.to_owned(), args: Vec::new(), as_of: None, rows_max: None };
    let begun = Instant::now();
    let jobs = asked("[:find (count ?e) . :where [?e :evaluation/document]]");
    while api.query(&jobs).await?.rows.first().and_then(serde_json::Value::as_u64).unwrap_or(0)
        < evaluations as u64
    {
        ensure!(
            begun.elapsed() < RECORDING,
            "the recorder has not written everything after {} s",
            RECORDING.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rates = |kind: &str| {
        asked(&format!(
            "[:find ?name (avg ?rate) :with ?call :where [?e :evaluation/kind {kind}] [?e :evaluation/function-calls ?call] \
             [?call :function-call/name ?name] [?call :function-call/success-rate ?rate]]"
        ))
    };
    let (now, past) = (api.query(&rates(":function-call")).await?, api.query(&rates(":batch")).await?);
    let by_name = |rows: &[serde_json::Value]| -> HashMap<String, f64> {
        rows.iter().filter_map(|row| Some((row[0].as_str()?.to_owned(), row[1].as_f64()?))).collect()
    };
    let (now, past) = (by_name(&now.rows), by_name(&past.rows));
    let mut names: Vec<&String> = now.keys().chain(past.keys()).collect();
    names.sort();
    names.dedup();
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["tool", "success rate here", "in past batches"]);
    let text = |rate: Option<&f64>| rate.map_or("-".to_owned(), |rate| format!("{:.0} %", rate * 100.0));
    for name in names {
        table.add_row([name.clone(), text(now.get(name)), text(past.get(name))]);
    }
    println!("Success rates per tool, out of Datomic:\n{table}");
    Ok(())
}

/// A copy of the base image (hard links) whose root is moved aside; gone when dropped.
struct Broken {
    dir: PathBuf,
    root: PathBuf,
    aside: PathBuf,
}

impl Broken {
    fn make(images: &Path) -> anyhow::Result<Self> {
        let whole = std::fs::canonicalize(images.join("base/current"))
            .context("the image base is not built: evalfleet image build base")?;
        let digest = whole.file_name().context("an image lies under its digest")?;
        let dir = images.join(BROKEN);
        let copy = dir.join(digest);
        let made = Self { root: copy.join("root.erofs"), aside: copy.join("root.aside"), dir };
        // What an earlier run that was killed left.
        let _ = std::fs::remove_dir_all(&made.dir);
        std::fs::create_dir_all(&copy)?;
        for entry in std::fs::read_dir(&whole)? {
            let path = entry?.path();
            std::fs::hard_link(&path, copy.join(path.file_name().unwrap_or_default()))?;
        }
        // An image knows its name; only the link to its manifest goes.
        let manifest = copy.join("manifest.json");
        let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest)?)?;
        document["name"] = json!(BROKEN);
        std::fs::remove_file(&manifest)?;
        std::fs::write(&manifest, document.to_string())?;
        std::os::unix::fs::symlink(digest, made.dir.join("current"))?;
        std::fs::rename(&made.root, &made.aside)?;
        Ok(made)
    }

    fn mend(&self) -> std::io::Result<()> {
        std::fs::rename(&self.aside, &self.root)
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
