//! What the queue costs: no-op jobs through client, broker and a worker that has no VM.
//!
//! Everything a job's way has is there: durable queues, confirms both ways, the job settled only after
//! its result is confirmed. What is not there is the work.

use crate::host::Host;
use crate::parts::on_broker;
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::bail;
use evalfleet::client::Client;
use evalfleet_broker::{Confirmed, Options, Session};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::job::Job;
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::{Timestamp, topology, wire};
use evalfleet_service::settings::Settings;
use futures::{StreamExt as _, TryStreamExt as _};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Jobs before those that count.
const UNCOUNTED: usize = 30;

/// Measures `jobs` one at a time, and as many again with `window` under way at once.
///
/// # Errors
/// When there is no RabbitMQ, a job is not answered, or it is interrupted.
pub async fn measure(jobs: usize, window: usize, interrupted: &CancellationToken) -> anyhow::Result<Report> {
    let host = Host::look();
    on_broker(interrupted, async |settings| Box::pin(timed(settings, host, jobs, window)).await).await
}

async fn timed(settings: Settings, host: Host, jobs: usize, window: usize) -> anyhow::Result<Report> {
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
            Row { what: "submit to: the broker confirmed it", milliseconds: steps.confirmed.summary() },
            Row { what: "submit to: its result", milliseconds: answered.clone() },
        ],
        figures: vec![
            Figure { what: "one at a time, p50".to_owned(), value: answered.median, unit: "ms" },
            Figure { what: format!("{window} under way at once"), value: rate, unit: "jobs/s" },
        ],
    })
}

/// Times from the beginning of a submission to the end of each of its steps.
#[derive(Default)]
struct Steps {
    confirmed: Series,
    answered: Series,
}

async fn one_at_a_time(client: &Client, jobs: usize) -> anyhow::Result<Steps> {
    let mut steps = Steps::default();
    for _ in 0..jobs {
        let begun = Instant::now();
        let pending = client.submit(Submission::command(["true"])).await?;
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
        let (id, body) = (job.id, wire::encode(&passed(&job)));
        let envelope = Envelope::new(MessageType::Result, id, Timestamp::now()).for_inbox(delivery.inbox());
        let proof = session.publish(topology::RESULTS, &topology::job_key(id), &envelope, &body).await?;
        delivery.settle(&proof).await?;
    }
    session.close().await;
    Ok(())
}

fn passed(job: &Job) -> Evaluation {
    Evaluation {
        exit_code: Some(0),
        ..Evaluation::of_job(job, Timestamp::now(), (Status::Passed, None), Vec::new())
    }
}
