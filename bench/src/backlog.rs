//! A backlog: as many jobs as a queue may hold are submitted and nobody takes one. Submitting must not slow down
//! with it, and the client's memory must not grow.

use crate::host::{self, Host};
use crate::parts::{on_broker, resident};
use crate::report::{Figure, Report};
use anyhow::{Context as _, ensure};
use evalfleet::client::Client;
use evalfleet::machine::Kind;
use evalfleet_proto::ids::Lane;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::topology;
use evalfleet_service::settings::Settings;
use futures::StreamExt as _;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Looks on the way.
const SECTIONS: usize = 10;

/// What was seen when a section was submitted.
struct Seen {
    jobs: usize,
    rate: f64,
    client_bytes: u64,
    broker_bytes: u64,
}

/// Submits `jobs` jobs.
///
/// # Errors
/// When there is no RabbitMQ, a job is not confirmed, or it is interrupted.
pub async fn measure(jobs: usize, interrupted: &CancellationToken) -> anyhow::Result<Report> {
    let host = Host::look();
    let (seen, waiting) =
        on_broker(interrupted, async |settings| Box::pin(pile_up(&settings, jobs)).await).await?;
    ensure!(waiting as usize == jobs, "{waiting} of {jobs} jobs are in the queue");
    let (first, last) = seen.first().zip(seen.last()).context("nothing was submitted")?;
    let slowest = seen.iter().map(|seen| seen.rate).fold(f64::INFINITY, f64::min);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let figure = |what: String, value: f64, unit| Figure { what, value, unit };
    let mut figures = vec![
        figure("the slowest tenth against the first".to_owned(), slowest / first.rate, "times"),
        figure(
            "client's memory, the last tenth against the first".to_owned(),
            mib(last.client_bytes) / mib(first.client_bytes),
            "times",
        ),
    ];
    for seen in &seen {
        let after = format!("after {} jobs", seen.jobs);
        figures.push(figure(format!("{after}: submitted and confirmed"), seen.rate, "jobs/s"));
        figures.push(figure(format!("{after}: memory of the client"), mib(seen.client_bytes), "MiB"));
        figures.push(figure(format!("{after}: memory of the broker"), mib(seen.broker_bytes), "MiB"));
    }
    Ok(Report {
        benchmark: "backlog: jobs that nobody takes",
        host,
        conditions: [("broker", "RabbitMQ of its own, one node, on loopback; a quorum queue".to_owned())]
            .into(),
        times: Vec::new(),
        figures,
    })
}

async fn pile_up(settings: &Settings, jobs: usize) -> anyhow::Result<(Vec<Seen>, u32)> {
    let client = Client::connect(settings).await?;
    let mut seen = Vec::new();
    let mut left = jobs;
    while left > 0 {
        let section = left.min(jobs.div_ceil(SECTIONS));
        let begun = Instant::now();
        // Made when they are asked for: a client that has a million jobs need not have them in memory.
        let made = (0..section).map_while(|_| client.prepare(Submission::command(["true"])).ok());
        let mut confirmed = std::pin::pin!(client.enqueue_many(made));
        let mut count = 0;
        while let Some(id) = confirmed.next().await {
            id?;
            count += 1;
        }
        ensure!(count == section, "{count} of {section} jobs were confirmed");
        left -= section;
        // Erlang's port mapper is of the same kind, and small.
        let broker_bytes = resident(settings, Kind::Broker)?;
        let rate = section as f64 / begun.elapsed().as_secs_f64();
        let client_bytes = host::resident(None)?;
        tracing::debug!(jobs = jobs - left, rate, client_bytes, broker_bytes, "a section");
        seen.push(Seen { jobs: jobs - left, rate, client_bytes, broker_bytes });
    }
    let queue = topology::jobs_queue(&Lane::default_lane());
    let session = client.link().session().await?;
    let (waiting, _) = session.depth(&queue).await?;
    client.close().await;
    Ok((seen, waiting))
}
