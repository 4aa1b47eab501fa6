//! What the queue costs: no-op jobs through client, broker and a worker that has no VM.
//!
//! Everything a job's way has is there: durable queues, confirms both ways, the job settled only after
//! its result is confirmed. What is not there is the work.

use crate::host::Host;
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::{Context as _, bail};
use evalfleet::client::Client;
use evalfleet::machine::{Kind, Machine, Order, State, Stop, Upped, run_here};
use evalfleet_broker::{Confirmed, Options, Session};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::{Evaluation, Metrics, Output, Provenance, Timings};
use evalfleet_proto::job::Job;
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::{SCHEMA_VERSION, Timestamp, topology, wire};
use evalfleet_service::settings::{ENDPOINTS_FILE, Layers, Settings};
use futures::{StreamExt as _, TryStreamExt as _};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Jobs before those that count.
const UNCOUNTED: usize = 30;
/// How long the broker may take to start.
const START: Duration = Duration::from_secs(180);

/// Measures `jobs` one at a time, and as many again with `window` under way at once.
///
/// # Errors
/// When there is no RabbitMQ, a job is not answered, or it is interrupted.
pub async fn measure(jobs: usize, window: usize, interrupted: &CancellationToken) -> anyhow::Result<Report> {
    let host = Host::look();
    let dir = tempfile::tempdir()?;
    let stop = Stop::default();
    let (settings, order) =
        (settings_of(dir.path(), None)?, Order { workers: 0, only: vec![Kind::Broker], config: None });
    let supervised = run_here(&settings, &order, stop.clone(), |news| tracing::info!("{news}"));
    let mut supervised = std::pin::pin!(supervised);
    let measured = tokio::select! {
        ended = &mut supervised => return Err(early(ended)),
        () = interrupted.cancelled() => Err(anyhow::anyhow!("interrupted")),
        measured = Box::pin(on_broker(dir.path(), host, jobs, window)) => measured,
    };
    stop.drain.cancel();
    supervised.await?;
    measured
}

/// Why the broker is gone before it was told to go.
fn early(ended: Result<Upped, evalfleet::machine::Error>) -> anyhow::Error {
    ended.map_or_else(anyhow::Error::from, |_| anyhow::anyhow!("the broker's supervisor ended early"))
}

fn settings_of(dir: &Path, endpoints: Option<String>) -> anyhow::Result<Settings> {
    let environment = vec![("EVALFLEET_STATE__DIR".to_owned(), dir.display().to_string())];
    Ok(Settings::from_layers(&Layers { endpoints, file: None, environment })?)
}

async fn on_broker(dir: &Path, host: Host, jobs: usize, window: usize) -> anyhow::Result<Report> {
    tokio::time::timeout(START, ready(dir)).await.context("the broker does not start")??;
    let settings = settings_of(dir, Some(std::fs::read_to_string(dir.join(ENDPOINTS_FILE))?))?;
    let done = CancellationToken::new();
    let worker = tokio::spawn(serve(settings.clone(), done.clone()));
    let client = Client::connect(&settings).await?;
    let timed = async {
        one_at_a_time(&client, UNCOUNTED).await?;
        let steps = one_at_a_time(&client, jobs).await?;
        Ok::<_, anyhow::Error>((steps, many_at_once(&client, jobs, window).await?))
    };
    let mut worker = std::pin::pin!(worker);
    let (steps, rate) = tokio::select! {
        timed = timed => timed?,
        ended = &mut worker => match ended? {
            Ok(()) => bail!("the stand-in for a worker ended early"),
            Err(error) => return Err(error.context("the stand-in for a worker")),
        },
    };
    done.cancel();
    worker.await??;
    client.close().await;
    let answered = steps.answered.summary();
    Ok(Report {
        benchmark: "queue: from submitting a no-op job to its result, without a VM",
        host,
        conditions: [
            ("broker", "RabbitMQ of its own, one node, on loopback".to_owned()),
            ("worker", "one, in this process".to_owned()),
        ]
        .into(),
        times: vec![
            Row { what: "submit to: the inbox hears of it", milliseconds: steps.heard_of.summary() },
            Row { what: "submit to: the broker confirmed it", milliseconds: steps.confirmed.summary() },
            Row { what: "submit to: its result", milliseconds: answered.clone() },
        ],
        figures: vec![
            Figure { what: "one at a time, p50".to_owned(), value: answered.median, unit: "ms" },
            Figure { what: format!("{window} under way at once"), value: rate, unit: "jobs/s" },
        ],
    })
}

async fn ready(dir: &Path) -> anyhow::Result<()> {
    loop {
        let parts = Machine::read(dir).map(|machine| machine.parts).unwrap_or_default();
        if let Some(part) = parts.iter().find(|part| part.state == State::Failed) {
            bail!("{} does not start", part.name);
        }
        if !parts.is_empty() && parts.iter().all(|part| part.state == State::Ready) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Times from the beginning of a submission to the end of each of its steps.
#[derive(Default)]
struct Steps {
    heard_of: Series,
    confirmed: Series,
    answered: Series,
}

/// Submits as [`Client::submit`] does, step by step.
async fn one_at_a_time(client: &Client, jobs: usize) -> anyhow::Result<Steps> {
    let mut steps = Steps::default();
    for _ in 0..jobs {
        let begun = Instant::now();
        let job = client.prepare(Submission::command(["true"]))?;
        let pending = client.hear_of(job.id, job.limits.wall).await?;
        steps.heard_of.push(begun.elapsed());
        client.enqueue_job(&job).await?;
        steps.confirmed.push(begun.elapsed());
        pending.wait().await?;
        steps.answered.push(begun.elapsed());
    }
    Ok(steps)
}

/// Jobs a second.
async fn many_at_once(client: &Client, jobs: usize, window: usize) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let answers = futures::stream::iter(0..jobs)
        .map(async |_| client.submit(Submission::command(["true"])).await?.wait().await)
        .buffer_unordered(window.max(1));
    let answered: usize = answers.try_fold(0, async |count, _| Ok(count + 1)).await?;
    Ok(answered as f64 / begun.elapsed().as_secs_f64())
}

/// Takes jobs as a worker does, and passes each at once.
async fn serve(settings: Settings, done: CancellationToken) -> anyhow::Result<()> {
    let session = Session::connect(&Options::new(&settings.broker, "a worker without VMs")).await?;
    let queues: Vec<String> = settings.broker.lanes.iter().map(topology::jobs_queue).collect();
    loop {
        let delivery = tokio::select! {
            next = session.next_of::<Confirmed>(&queues) => next?,
            () = done.cancelled() => break,
        };
        let job = wire::decode_job(&delivery.body)?;
        let (id, body) = (job.id, wire::encode(&passed(job)));
        let envelope = Envelope::new(MessageType::Result, id, Timestamp::now());
        let proof = session.publish(topology::RESULTS, &topology::job_key(id), &envelope, &body).await?;
        delivery.settle(&proof).await?;
    }
    session.close().await;
    Ok(())
}

fn passed(job: Job) -> Evaluation {
    let now = Timestamp::now();
    Evaluation {
        schema: SCHEMA_VERSION,
        id: job.id,
        kind: job.task.kind().to_owned(),
        batch: job.batch,
        status: Status::Passed,
        cause: None,
        evidence: Vec::new(),
        warnings: Vec::new(),
        success_rate: Some(1.0),
        calls: Vec::new(),
        exit_code: Some(0),
        signal: None,
        stdout: Output::default(),
        stderr: Output::default(),
        effects: Vec::new(),
        effects_omitted: 0,
        network: Vec::new(),
        network_omitted: 0,
        processes_left: 0,
        processes_left_names: Vec::new(),
        artifacts: Vec::new(),
        metrics: Metrics::default(),
        timings: Timings::default(),
        provenance: Provenance::default(),
        labels: job.labels,
        replay_of: job.replay_of,
        attempts: Vec::new(),
        submitted: job.submitted,
        started: now,
        finished: now,
    }
}
