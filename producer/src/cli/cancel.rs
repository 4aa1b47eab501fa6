//! `cancel`: jobs are called off, one by one or with their batch.

use super::args::CancelArgs;
use super::failure::Failure;
use super::jobs::wait_for;
use super::report::report;
use super::{Context, emit, print_json};
use crate::api::Api;
use crate::client::Client;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Exit;
use futures::StreamExt as _;
use serde_json::json;

pub(super) async fn cancel(context: &Context, args: CancelArgs) -> Result<Exit, Failure> {
    let client = context.client().await?;
    let exit = Box::pin(call_off(context, &client, &args)).await;
    client.close().await;
    exit
}

async fn call_off(context: &Context, client: &Client, args: &CancelArgs) -> Result<Exit, Failure> {
    let reason = args.reason.as_deref();
    if let Some(batch) = &args.batch {
        client.cancel_batch(batch, reason).await?;
        return match context.json {
            true => print_json(&json!({ "batch": batch, "said": true }), true),
            false => emit(&format!("{batch} is called off: what was submitted until now does not run")),
        }
        .map(|()| Exit::Passed);
    }
    // Where the API does not answer, nobody knows what is done: the word is said all the same.
    let api = Api::new(&context.settings.api).ok();
    let mut said = Vec::new();
    for id in &args.ids {
        match recorded(api.as_ref(), *id).await {
            Some(done) => tell(context, *id, Some(&done))?,
            None => {
                client.cancel(*id, reason).await?;
                tell(context, *id, None)?;
                said.push(*id);
            }
        }
    }
    if args.wait {
        let patience = args.patience.unwrap_or(context.settings.client.patience);
        let waits = said.into_iter().map(|id| wait_for(client, api.as_ref(), id, patience));
        let mut done = waits.collect::<futures::stream::FuturesUnordered<_>>();
        while let Some(evaluation) = done.next().await {
            let evaluation = evaluation?;
            match context.json {
                true => print_json(&evaluation, false)?,
                false => emit(&report(&evaluation))?,
            }
        }
    }
    Ok(Exit::Passed)
}

async fn recorded(api: Option<&Api>, id: JobId) -> Option<Evaluation> {
    match api?.recorded(id).await {
        Ok(evaluation) => evaluation,
        Err(error) => {
            tracing::debug!(%error, "the record cannot be asked");
            None
        }
    }
}

fn tell(context: &Context, id: JobId, done: Option<&Evaluation>) -> Result<(), Failure> {
    let status = done.map(|done| done.status.as_str());
    if context.json {
        return print_json(&json!({ "id": id, "said": done.is_none(), "status": status }), false);
    }
    emit(&match status {
        Some(status) => format!("{id} is done already: {status}"),
        None => format!("{id} is called off"),
    })
}
