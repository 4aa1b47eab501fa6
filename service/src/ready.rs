//! Saying that a part is ready: a file that its supervisor looks for.
//!
//! The supervisor names the part in `EVALFLEET_PART` and removes the file before it starts the part.
//! Without a supervisor nobody asks, and nothing is written.

use crate::settings::Settings;

/// Writes `<state>/ready/<part>`, if a supervisor gave this process a part's name.
///
/// # Errors
/// When it cannot be written.
pub fn announce(settings: &Settings) -> std::io::Result<()> {
    let Some(part) = std::env::var_os("EVALFLEET_PART") else { return Ok(()) };
    let dir = settings.state_dir().join("ready");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join(part), format!("{{\"pid\":{}}}\n", std::process::id()))
}
