//! How fast jobs are submitted, each confirmed: `submit_many`, beside the AMQP library alone, with a window of
//! publishes under way and with one at a time.
//!
//! The library alone publishes one of our messages, properties, headers and body, over and over: it neither makes
//! jobs nor listens for their results. All go to the same queue; nobody consumes, and it is emptied after each.

use crate::host::Host;
use crate::parts::on_broker;
use crate::report::{Figure, Report};
use anyhow::{Context as _, ensure};
use evalfleet::client::Client;
use evalfleet_proto::ids::Lane;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::topology;
use evalfleet_service::settings::Settings;
use futures::{StreamExt as _, TryStreamExt as _};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{Confirmation, Connection, ConnectionProperties};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// A job's message has about this many bytes.
const BYTES: usize = 1024;
/// Publishes under way in the windowed comparison, more than ours has.
const WINDOW: usize = 1000;
/// Of those that are sent one at a time there are fewer by this factor.
const FEWER: usize = 10;

/// Messages a second, of one round each.
#[derive(Default)]
struct Rates {
    ours: Vec<f64>,
    windowed: Vec<f64>,
    awaited: Vec<f64>,
}

/// Measures `rounds` rounds of `messages` messages.
///
/// # Errors
/// When there is no RabbitMQ, a message is not confirmed, or it is interrupted.
pub async fn measure(
    messages: usize,
    rounds: usize,
    interrupted: &CancellationToken,
) -> anyhow::Result<Report> {
    let host = Host::look();
    let (rates, bytes) =
        on_broker(interrupted, async |settings| Box::pin(take_turns(&settings, messages, rounds)).await)
            .await?;
    let ratio = |of: &[f64], to: &[f64]| median(of.iter().zip(to).map(|(of, to)| of / to).collect());
    let figure = |what: &str, value: f64, unit| Figure { what: what.to_owned(), value, unit };
    Ok(Report {
        benchmark: "submit: jobs submitted and confirmed",
        host,
        conditions: [
            ("broker", "RabbitMQ of its own, one node, on loopback; a quorum queue".to_owned()),
            ("messages", format!("{messages} of {bytes} bytes in a round, persistent; {rounds} rounds")),
        ]
        .into(),
        times: Vec::new(),
        figures: vec![
            figure("submit_many, median", median(rates.ours.clone()), "messages/s"),
            figure(
                &format!("lapin alone, {WINDOW} under way, median"),
                median(rates.windowed.clone()),
                "messages/s",
            ),
            figure("lapin alone, one at a time, median", median(rates.awaited.clone()), "messages/s"),
            figure(
                "submit_many, of lapin's rate with a window, median of pairs",
                100.0 * ratio(&rates.ours, &rates.windowed),
                "%",
            ),
            figure(
                "submit_many against one at a time, median of pairs",
                ratio(&rates.ours, &rates.awaited),
                "times",
            ),
        ],
    })
}

async fn take_turns(settings: &Settings, messages: usize, rounds: usize) -> anyhow::Result<(Rates, usize)> {
    let url = settings.broker.urls.first().context("the broker has a node")?;
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let client = Client::connect(settings).await?;
    let queue = topology::jobs_queue(&Lane::default_lane());
    submitted(&client, 1).await?;
    let ours = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await?;
    let ours = ours.context("what was submitted is not in its queue")?;
    let mut rates = Rates::default();
    // The first round warms all of them up, and does not count.
    for round in 0..=rounds {
        let mut taken = [0.0; 3];
        for turn in 0..3 {
            // Each goes first in turn.
            let which = (turn + round) % 3;
            taken[which] = match which {
                0 => submitted(&client, messages).await?,
                1 => published(&channel, &ours, messages, WINDOW).await?,
                _ => published(&channel, &ours, (messages / FEWER).max(1), 1).await?,
            };
            channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
        }
        if round > 0 {
            rates.ours.push(taken[0]);
            rates.windowed.push(taken[1]);
            rates.awaited.push(taken[2]);
        }
    }
    client.close().await;
    Ok((rates, ours.data.len()))
}

fn submission() -> Submission {
    // The rest of the message is the envelope of a job.
    Submission::command(["true".to_owned(), "x".repeat(BYTES / 2)])
}

async fn submitted(client: &Client, messages: usize) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let jobs = std::iter::repeat_with(submission).take(messages);
    let count = client.submit_many(jobs).try_fold(0, async |count, _| Ok(count + 1)).await?;
    ensure!(count == messages, "{count} of {messages} were submitted");
    Ok(messages as f64 / begun.elapsed().as_secs_f64())
}

async fn published(
    channel: &lapin::Channel,
    message: &BasicGetMessage,
    messages: usize,
    window: usize,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let publish = async |_| {
        let (body, properties) = (message.data.as_slice(), message.properties.clone());
        let options = BasicPublishOptions::default();
        let (exchange, key) = (topology::JOBS.into(), Lane::default_lane().as_str().into());
        let confirm = channel.basic_publish(exchange, key, options, body, properties).await?;
        ensure!(matches!(confirm.await?, Confirmation::Ack(None)), "a message was not taken");
        Ok(())
    };
    let count = futures::stream::iter(0..messages)
        .map(publish)
        .buffer_unordered(window)
        .try_fold(0, async |count, ()| Ok(count + 1))
        .await?;
    ensure!(count == messages, "{count} of {messages} were published");
    Ok(messages as f64 / begun.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
