//! How the Datomic gateway is started: its script, its database, its schema.

use super::Error;
use evalfleet_datomic::settings as edn;
use evalfleet_service::settings::Settings;
use std::path::{Path, PathBuf};

/// A program and its arguments.
#[derive(Debug, Clone)]
pub struct Command {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Places of the gateway's start script: named, installed beside us, or in the checkout we were built in.
fn scripts() -> Vec<PathBuf> {
    let named = std::env::var_os("EVALFLEET_GATEWAY").map(PathBuf::from);
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.ancestors().skip(1).take(5).map(|dir| dir.join("datomic/run.sh"));
    named.into_iter().chain(beside).collect()
}

/// The gateway's start script, if it is here.
pub fn script() -> Option<PathBuf> {
    scripts().into_iter().find(|path| path.is_file())
}

/// Composes the gateway's command line.
///
/// # Errors
/// When it is not built here, or the user's EDN file is wrong.
pub fn command(
    settings: &Settings,
    state_dir: &Path,
    port: u16,
    token_file: &Path,
) -> Result<Command, Error> {
    let program = script().ok_or_else(|| Error::NoGateway {
        looked: scripts().iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "),
    })?;
    let own = users_file(settings)?;
    let text = |path: &Path| path.display().to_string();
    let mut pairs = vec![
        ("--uri", own.datomic_uri.clone().unwrap_or_else(|| settings.datomic.uri.clone())),
        ("--storage-dir", text(&state_dir.join("datomic"))),
        ("--backup-dir", text(&settings.backup_dir())),
        ("--host", "127.0.0.1".to_owned()),
        ("--port", port.to_string()),
        ("--token-file", text(token_file)),
    ];
    if let Some(schema) = schema(settings, &own, &program)? {
        pairs.push(("--schema-file", text(&schema)));
    }
    let args = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    Ok(Command { program, args })
}

/// What is to be done with the history day by day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeping {
    /// When backups are to be made.
    pub backups: Option<edn::Schedule>,
    /// How many days are kept.
    pub days: Option<u32>,
}

impl Keeping {
    /// Whether there is nothing to do.
    pub fn is_nothing(&self) -> bool {
        self.backups.is_none() && self.days.is_none()
    }
}

/// What is to be done with the history day by day: what the user's EDN file says, where the store is one that is
/// backed up and cut here.
///
/// # Errors
/// When that file is wrong.
pub fn keeping(settings: &Settings) -> Result<Keeping, Error> {
    let own = users_file(settings)?;
    let uri = own.datomic_uri.as_deref().unwrap_or(&settings.datomic.uri);
    let local = uri.starts_with("datomic:local:");
    let asked = Keeping { backups: own.backup_schedule, days: own.retention_days };
    if !local && !uri.starts_with("datomic:mem:") && !asked.is_nothing() {
        tracing::warn!(
            "a database behind a transactor is backed up by `bin/datomic backup-db` and cut by excision: :backup-schedule and :retention-days mean nothing here"
        );
    }
    Ok(if local { asked } else { Keeping::default() })
}

/// The user's own EDN file; it wins over `datomic.uri`.
fn users_file(settings: &Settings) -> Result<edn::Settings, Error> {
    let Some(path) = settings.datomic_config() else { return Ok(edn::Settings::default()) };
    let failed = |reason: String| Error::Datomic { reason: format!("{}: {reason}", path.display()) };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let own = edn::Settings::parse(&text).map_err(|error| failed(error.to_string()))?;
    let memory = own.datomic_uri.as_deref().is_some_and(|uri| uri.starts_with("datomic:mem:"));
    if memory && (own.backup_schedule.is_some() || own.retention_days.is_some()) {
        tracing::warn!(
            "a database in memory is neither backed up nor kept: :backup-schedule and :retention-days mean nothing for it"
        );
    }
    Ok(own)
}

/// The schema that the user's file names: beside that file, or the gateway's own of that name.
fn schema(settings: &Settings, own: &edn::Settings, script: &Path) -> Result<Option<PathBuf>, Error> {
    let (Some(named), Some(config)) = (&own.schema_file, settings.datomic_config()) else { return Ok(None) };
    let beside = |path: &Path| path.parent().map(|dir| dir.join(named));
    let places: Vec<PathBuf> = [beside(config), beside(script)].into_iter().flatten().collect();
    let found = places.iter().find(|path| path.is_file()).cloned();
    let looked = || places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    found.map(Some).ok_or_else(|| Error::Datomic {
        reason: format!("there is no :schema-file {} (looked for {})", named.display(), looked()),
    })
}
