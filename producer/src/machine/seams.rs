//! Where parts that are built elsewhere plug in: the gateway's command line.

use super::Error;
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
fn gateway_scripts() -> Vec<PathBuf> {
    let named = std::env::var_os("EVALFLEET_GATEWAY").map(PathBuf::from);
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.ancestors().skip(1).take(5).map(|dir| dir.join("datomic/run.sh"));
    named.into_iter().chain(beside).collect()
}

/// The gateway's start script, if it is here.
pub fn gateway_script() -> Option<PathBuf> {
    gateway_scripts().into_iter().find(|path| path.is_file())
}

/// SEAM: how the gateway is started.
///
/// # Errors
/// When it is not built here.
pub fn gateway(
    settings: &Settings,
    state_dir: &Path,
    port: u16,
    token_file: &Path,
) -> Result<Command, Error> {
    let program = gateway_script().ok_or_else(|| Error::NoGateway {
        looked: gateway_scripts()
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let text = |path: &Path| path.display().to_string();
    let pairs = [
        ("--uri", settings.datomic.uri.clone()),
        ("--storage-dir", text(&state_dir.join("datomic"))),
        ("--host", "127.0.0.1".to_owned()),
        ("--port", port.to_string()),
        ("--token-file", text(token_file)),
    ];
    let args = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    Ok(Command { program, args })
}
