//! The shell of a part: settings, logs, and an exit code that says what went wrong.

use crate::logging;
use crate::settings::Settings;
use evalfleet_proto::status::Exit;
use std::path::Path;
use std::process::ExitCode;

/// Loads the settings and runs `body` with them. Settings that are wrong exit with 64, whatever goes wrong
/// later with 69: a part that cannot go on is started again by its supervisor.
pub async fn run(
    config: Option<&Path>,
    body: impl AsyncFnOnce(Settings) -> anyhow::Result<Exit>,
) -> ExitCode {
    logging::init();
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Usage.code().into();
        }
    };
    match body(settings).await {
        Ok(exit) => exit.code().into(),
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::Unreachable.code().into()
        }
    }
}
