//! `amend`: a verdict that turned out to be wrong.

use super::args::AmendArgs;
use super::failure::Failure;
use super::report::report;
use super::{Context, emit, print_json};
use crate::api::Api;
use evalfleet_proto::evaluation::{Evaluation, Verdict};
use evalfleet_proto::status::{Exit, Status};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long it may take until the history shows it.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(100);

pub(super) async fn amend(context: &Context, args: AmendArgs) -> Result<Exit, Failure> {
    let api = Api::new(&context.settings.api)?;
    let recorded = api.recorded(args.id).await?;
    let before = recorded.ok_or_else(|| Failure::usage(format!("no evaluation {} is recorded", args.id)))?;
    let to = verdict(&before, &args);
    let client = context.client().await?;
    let said = client.amend(args.id, to, &args.reason).await;
    client.close().await;
    said?;
    let shown = async {
        loop {
            let now =
                api.recorded(args.id).await?.filter(|now| now.amendments.len() > before.amendments.len());
            if let Some(now) = now {
                return Ok::<_, Failure>(now);
            }
            sleep(GLANCE).await;
        }
    };
    let late = || {
        Failure::new(
            Exit::Unreachable,
            format!(
                "it is said, and not recorded within {} s: `evalfleet status` shows the recorder",
                SHOWN_WITHIN.as_secs()
            ),
        )
    };
    let now = timeout(SHOWN_WITHIN, shown).await.map_err(|_| late())??;
    match context.json {
        true => print_json(&now, true)?,
        false => emit(&report(&now))?,
    }
    Ok(Exit::Passed)
}

/// What is not said stays; to have passed is nobody's doing.
fn verdict(before: &Evaluation, args: &AmendArgs) -> Verdict {
    let status = args.status.unwrap_or(before.status);
    let cause = if status == Status::Passed { None } else { before.cause };
    Verdict { status, cause: args.cause.or(cause) }
}
