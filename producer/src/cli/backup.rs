//! `backup`: taking, showing, checking, restoring.

use super::args::BackupCommand;
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::backup::{self, Error, Manifest, Shelf};
use crate::machine::gateway;
use evalfleet_datomic::{Client, Config};
use evalfleet_proto::status::Exit;
use evalfleet_service::{ready, shutdown};
use indicatif::HumanBytes;

pub(super) async fn backup(context: &Context, command: BackupCommand) -> Result<Exit, Failure> {
    let settings = &context.settings;
    match command {
        BackupCommand::Now => {
            show(context, &backup::take(settings, &store(context)?).await.map_err(failure)?)
        }
        BackupCommand::List => list(context),
        BackupCommand::Verify { name } => {
            show(context, &backup::check(settings, &name).await.map_err(failure)?)
        }
        BackupCommand::Restore { name } => restore(context, &name).await,
        BackupCommand::Keep => keep(context).await,
    }
}

/// The gateway that the settings name.
fn store(context: &Context) -> Result<Client, Failure> {
    let datomic = &context.settings.datomic;
    let token = datomic.token().map_err(|error| Failure::new(Exit::Unreachable, error))?;
    Client::new(Config::new(&datomic.url, token)).map_err(|error| Failure::new(Exit::Unreachable, error))
}

fn show(context: &Context, manifest: &Manifest) -> Result<Exit, Failure> {
    match context.json {
        true => print_json(manifest, true)?,
        false => emit(&line(manifest))?,
    }
    Ok(Exit::Passed)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let shelf = Shelf::of(&context.settings);
    let all = shelf.list().map_err(failure)?;
    for manifest in &all {
        match context.json {
            true => print_json(manifest, false)?,
            false => emit(&line(manifest))?,
        }
    }
    if all.is_empty() && !context.json {
        eprintln!("no backups in {}", shelf.dir().display());
    }
    Ok(Exit::Passed)
}

fn line(manifest: &Manifest) -> String {
    let checked = manifest.checked.as_ref().map_or_else(
        || "not checked".to_owned(),
        |checked| {
            let day = checked.at.strftime("%Y-%m-%dT%H:%M:%SZ");
            format!("checked {day}: {} facts, {} documents", checked.datoms, checked.documents)
        },
    );
    format!(
        "{}  {:>10}  basis-t {}  {checked}",
        manifest.name,
        HumanBytes(manifest.bytes).to_string(),
        manifest.basis_t
    )
}

async fn restore(context: &Context, name: &str) -> Result<Exit, Failure> {
    let (manifest, aside) = backup::restore(&context.settings, name).await.map_err(failure)?;
    show(context, &manifest)?;
    match aside {
        Some(aside) => eprintln!("restored; what was there is in {}", aside.display()),
        None => eprintln!("restored; nothing was there"),
    }
    Ok(Exit::Passed)
}

async fn keep(context: &Context) -> Result<Exit, Failure> {
    let settings = &context.settings;
    let keeping = gateway::keeping(settings)?;
    if keeping.is_nothing() {
        let why =
            "the EDN file of datomic.config has no :backup-schedule and no :retention-days, or there is none";
        return Err(Failure::usage(why));
    }
    let stop = shutdown::on_signal().map_err(|error| Failure::new(Exit::Defect, error))?;
    ready::announce(settings).map_err(|error| Failure::new(Exit::Defect, error))?;
    backup::keep(settings, &store(context)?, &keeping, &stop).await;
    Ok(Exit::Passed)
}

fn failure(error: Error) -> Failure {
    let exit = match &error {
        Error::Store(evalfleet_datomic::Error::Refused { .. }) | Error::Missing { .. } | Error::Up { .. } => {
            Exit::Usage
        }
        Error::Store(_) | Error::Machine(_) | Error::Blobs(_) => Exit::Unreachable,
        Error::File { .. } | Error::Differs { .. } => Exit::Infrastructure,
    };
    Failure::new(exit, error)
}
