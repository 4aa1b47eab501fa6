//! `submit` and `wait`: many jobs, without waiting; and their evaluations, when they are there.

use super::args::{SubmitArgs, WaitArgs};
use super::failure::Failure;
use super::report::report;
use super::run::read_input;
use super::{Context, batch, emit, print_json};
use crate::api::Api;
use crate::client::Client;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::job::Job;
use evalfleet_proto::status::Exit;
use evalfleet_proto::submission::Submission;
use evalfleet_service::retry::Delays;
use futures::StreamExt as _;
use std::time::Duration;

pub(super) async fn submit(context: &Context, args: SubmitArgs) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let text = String::from_utf8(read_input(args.file())?)
        .map_err(|_| Failure::harness(format!("{} is not UTF-8", args.file().display())))?;
    // All are checked before the first is enqueued.
    let jobs = prepare_all(&client, &text, &args).map_err(Failure::harness)?;
    let count = jobs.len();
    let mut ids = Box::pin(client.enqueue_many(jobs));
    while let Some(id) = ids.next().await {
        let id = id?;
        if context.json { print_json(&serde_json::json!({"id": id}), false)? } else { emit(&id.to_string())? }
    }
    drop(ids);
    eprintln!("{count} submitted");
    client.close().await;
    Ok(Exit::Passed)
}

fn prepare_all(client: &Client, text: &str, args: &SubmitArgs) -> Result<Vec<Job>, String> {
    let (mut jobs, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let job =
            Submission::from_json(line).map_err(|error| error.to_string()).and_then(|mut submission| {
                submission.batch = submission.batch.or_else(|| args.batch.clone());
                client.prepare(submission).map_err(|error| error.to_string())
            });
        match job {
            Ok(job) => jobs.push(job),
            Err(error) => wrong.push(format!("{}:{}: {error}", args.file().display(), number + 1)),
        }
    }
    if wrong.is_empty() { Ok(jobs) } else { Err(format!("{}\nnothing was submitted", wrong.join("\n"))) }
}

pub(super) async fn wait(context: &Context, args: WaitArgs) -> Result<Exit, Failure> {
    let patience = args.patience.unwrap_or(context.settings.client.patience);
    if let (Some(batch), Some(count)) = (&args.batch, args.count) {
        return batch::wait(context, batch, count as usize, patience).await;
    }
    let client = context.client().await?;
    let api = Api::new(&context.settings.api).ok();
    let waits = args.ids.iter().map(|id| wait_for(&client, api.as_ref(), *id, patience));
    let mut done = waits.collect::<futures::stream::FuturesUnordered<_>>();
    let mut worst = Exit::Passed;
    let mut failure = None;
    while let Some(evaluation) = done.next().await {
        match evaluation {
            Ok(evaluation) => {
                let exit = Exit::of(evaluation.status, evaluation.cause);
                worst = if exit.code() > worst.code() { exit } else { worst };
                if context.json {
                    print_json(&evaluation, false)?;
                } else {
                    emit(&report(&evaluation))?;
                }
            }
            Err(error) => {
                eprintln!("evalfleet: {error}");
                failure = failure.or(Some(error.exit));
            }
        }
    }
    drop(done);
    client.close().await;
    Ok(failure.unwrap_or(worst))
}

/// Waits for a job that anyone may have submitted at any time: hears of it first, then asks whether it
/// is recorded. Between its result and its record it is neither, so that is asked again, rarely.
pub(super) async fn wait_for(
    client: &Client,
    api: Option<&Api>,
    id: JobId,
    patience: Duration,
) -> Result<Evaluation, Failure> {
    let pending = client.hear_of(id, Duration::ZERO).await?.patience(patience);
    let recorded = async {
        let mut delays = Delays::up_to(Duration::from_secs(10));
        loop {
            match api {
                Some(api) => match api.recorded(id).await {
                    Ok(Some(evaluation)) => return evaluation,
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "the record cannot be asked"),
                },
                None => std::future::pending().await,
            }
            tokio::time::sleep(delays.next_delay()).await;
        }
    };
    tokio::select! {
        heard = pending.wait() => Ok(heard?),
        evaluation = recorded => Ok(evaluation),
    }
}
