//! Logs: one line an event on standard error, readable on a terminal, JSON for machines.
//!
//! ERROR means that a person must act; WARN, that something went wrong and was dealt with.

use std::io::IsTerminal as _;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging for this process. `EVALFLEET_LOG` filters (default `info`), and
/// `EVALFLEET_LOG_FORMAT=json` asks for JSON.
pub fn init() {
    let filter =
        EnvFilter::try_from_env("EVALFLEET_LOG").unwrap_or_else(|_| EnvFilter::new("warn,evalfleet=info"));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var("EVALFLEET_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init();
    }
}
