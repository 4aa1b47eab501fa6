//! `logs`: what a job wrote, and, while it runs, what it writes.

use super::args::LogsArgs;
use super::failure::Failure;
use super::jobs::wait_for;
use super::live::{Live, write};
use super::{Context, print_json};
use crate::api::Api;
use crate::client::Client;
use evalfleet_proto::control::Event;
use evalfleet_proto::evaluation::{Evaluation, Output};
use evalfleet_proto::status::Exit;
use evalfleet_service::blobs::Blobs;
use serde_json::json;

pub(super) async fn logs(context: &Context, args: LogsArgs) -> Result<Exit, Failure> {
    let api = Api::new(&context.settings.api)?;
    match (api.recorded(args.id).await, args.follow) {
        (Ok(Some(evaluation)), _) => recorded(context, &evaluation).await,
        (Ok(None), true) => Box::pin(follow(context, &api, &args)).await,
        // The history may be away while the job runs.
        (Err(error), true) => {
            tracing::debug!(%error, "the record cannot be asked");
            Box::pin(follow(context, &api, &args)).await
        }
        (Ok(None), false) => Err(Failure::usage(format!(
            "{} is not recorded (yet): `evalfleet logs -f {}` shows what it writes while it runs",
            args.id, args.id
        ))),
        (Err(error), false) => Err(error.into()),
    }
}

/// All that a job wrote, as far as it was kept.
async fn recorded(context: &Context, evaluation: &Evaluation) -> Result<Exit, Failure> {
    if context.json {
        print_json(
            &json!({"id": evaluation.id, "stdout": evaluation.stdout, "stderr": evaluation.stderr}),
            true,
        )?;
        return Ok(Exit::Passed);
    }
    for (to_stderr, output) in [(false, &evaluation.stdout), (true, &evaluation.stderr)] {
        match whole(context, output).await {
            Ok(bytes) => write(to_stderr, &bytes),
            Err(why) => {
                write(to_stderr, output.text.as_bytes());
                eprintln!("note: {} of {} bytes are shown: {why}", output.text.len(), output.bytes);
            }
        }
    }
    Ok(Exit::Passed)
}

async fn whole(context: &Context, output: &Output) -> Result<Vec<u8>, String> {
    let Some(key) = output.sha256.filter(|_| output.truncated) else {
        return Ok(output.text.clone().into_bytes());
    };
    let blobs = Blobs::open(&context.settings).await.map_err(|error| error.to_string())?;
    let bytes = blobs.get(key).await.map_err(|error| error.to_string())?;
    if (bytes.len() as u64) < output.bytes {
        eprintln!("note: {} of {} bytes were kept", bytes.len(), output.bytes);
    }
    Ok(bytes)
}

async fn follow(context: &Context, api: &Api, args: &LogsArgs) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let exit = Box::pin(until_done(context, api, &client, args)).await;
    client.close().await;
    exit
}

async fn until_done(context: &Context, api: &Api, client: &Client, args: &LogsArgs) -> Result<Exit, Failure> {
    let patience = args.patience.unwrap_or(evalfleet_proto::job::WALL_MAX);
    let mut events = client.events(args.id);
    let mut live = Live::default();
    let mut done = std::pin::pin!(wait_for(client, Some(api), args.id, patience));
    let evaluation = loop {
        tokio::select! {
            // What has happened is shown before its end.
            biased;
            event = events.next() => match (event?, context.json) {
                (event, false) => live.event(&event),
                (Event::Output { stderr, data, .. }, true) => {
                    let text = String::from_utf8_lossy(&data);
                    let stream = if stderr { "stderr" } else { "stdout" };
                    print_json(&json!({"stream": stream, "text": text}), false)?;
                }
                (_, true) => {}
            },
            evaluation = &mut done => break evaluation?,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Exit::Cancelled, "not followed any more: the job goes on"));
            }
        }
    };
    if context.json {
        print_json(&evaluation, false)?;
    } else {
        live.end(&evaluation);
    }
    Ok(Exit::of(evaluation.status, evaluation.cause))
}
