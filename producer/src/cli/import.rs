//! `history import`: past result files into the history; `history export` is beside it.

use super::args::HistoryCommand;
use super::export::export;
use super::failure::Failure;
use super::retain::retain;
use super::{Context, emit, print_json};
use evalfleet_datomic::{Client, Config};
use evalfleet_proto::status::Exit;
use evalfleet_recorder::import::{Error, Report, import};
use evalfleet_recorder::store::Store;
use evalfleet_service::blobs::Blobs;
use std::time::Duration;

/// How long the store may take to open.
const OPENING: Duration = Duration::from_secs(120);

pub(crate) async fn history(context: &Context, command: HistoryCommand) -> Result<Exit, Failure> {
    let files = match command {
        HistoryCommand::Import { files } => files,
        HistoryCommand::Export(args) => return export(context, args).await,
        HistoryCommand::Retain(args) => return retain(context, args).await,
    };
    let (client, blobs) = connect(context).await?;
    let reports = import(&Store::new(client, blobs), &files).await.map_err(failed)?;
    for report in &reports {
        if context.json {
            print_json(report, false)?;
        } else {
            emit(&line(report))?;
        }
    }
    if !context.json {
        note(&reports);
    }
    Ok(Exit::Passed)
}

/// The gateway, when its store is open, and the place of the documents.
pub(super) async fn connect(context: &Context) -> Result<(Client, Blobs), Failure> {
    let settings = &context.settings;
    let token = settings.datomic.token().map_err(|error| Failure::new(Exit::Unreachable, error))?;
    let unreachable = |error: evalfleet_datomic::Error| Failure::new(Exit::Unreachable, error);
    let client = Client::new(Config::new(&settings.datomic.url, token)).map_err(unreachable)?;
    client.wait_ready(OPENING, |_| ()).await.map_err(unreachable)?;
    let blobs = Blobs::open(settings).await.map_err(|error| Failure::new(Exit::Unreachable, error))?;
    Ok((client, blobs))
}

fn line(report: &Report) -> String {
    let adjusted = report.success_rate_adjusted.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.2}"));
    let known = if report.datoms == 0 { "  (was there)" } else { "" };
    format!(
        "{:<24} {:<28} {:>3} questions  reported {:.2}  without service faults {adjusted}{known}",
        report.id, report.model, report.questions, report.success_rate
    )
}

/// Says what a person would else find out by a query that answers wrongly.
fn note(reports: &[Report]) {
    if reports.iter().any(|report| !report.at_its_own_time) {
        eprintln!(
            "Something newer was recorded before: these are known from now on, not from their own time. For as-of queries \
                   over the past, import into a fresh database first."
        );
    }
}

fn failed(error: Error) -> Failure {
    let exit = match &error {
        Error::Read { .. } | Error::File(_) => Exit::Usage,
        Error::Store(_) => Exit::Unreachable,
    };
    Failure::new(exit, error)
}
