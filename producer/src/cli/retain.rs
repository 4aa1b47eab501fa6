//! `history retain`: the oldest goes.

use super::args::RetainArgs;
use super::failure::Failure;
use super::import::connect;
use super::progress::Progress;
use super::{Context, emit, print_json};
use crate::retention::{self, Error, Gone};
use evalfleet_datomic::Error as Refusal;
use evalfleet_proto::status::Exit;
use indicatif::HumanBytes;

pub(super) async fn retain(context: &Context, args: RetainArgs) -> Result<Exit, Failure> {
    let before = match (args.before, args.days) {
        (Some(before), _) => before,
        (None, days) => retention::days_ago(days.unwrap_or(u32::MAX)).map_err(failure)?,
    };
    let (store, _) = connect(context).await?;
    let mut bar = None;
    let gone = retention::retain(&context.settings, &store, before, args.dry_run, |now| {
        let bar = bar.get_or_insert_with(|| Progress::of(usize::try_from(now.of_transactions).unwrap_or(0)));
        bar.at(usize::try_from(now.transactions).unwrap_or(0));
    })
    .await;
    if let Some(bar) = bar {
        bar.end();
    }
    let gone = gone.map_err(failure)?;
    if context.json {
        print_json(&gone, true)?
    } else {
        emit(&line(&gone))?
    }
    Ok(Exit::Passed)
}

fn line(gone: &Gone) -> String {
    let would = if gone.dry_run { "would go" } else { "are gone" };
    let blobs = match (gone.blobs, gone.blob_bytes) {
        (Some(count), Some(bytes)) => format!(", and {count} contents of {}", HumanBytes(bytes)),
        _ => String::new(),
    };
    format!(
        "{} evaluations and {} dead letters last written to before {} {would}{blobs}: {} of {} entities",
        gone.evaluations, gone.dead_letters, gone.before, gone.entities, gone.of_entities
    )
}

fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Store(Refusal::Refused { .. }) | Error::Days { .. } => Exit::Usage,
        Error::Store(_) => Exit::Unreachable,
        Error::Blobs(_) | Error::Failed(_) => Exit::Infrastructure,
    };
    Failure::new(exit, error)
}
