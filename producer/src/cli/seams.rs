//! Where parts that are built elsewhere plug into the command. Each function takes parsed arguments.

use super::Context;
use super::args::{HistoryCommand, ImageCommand};
use super::failure::Failure;
use evalfleet_proto::status::Exit;

/// SEAM: `evalfleet history import FILE…`
///
/// # Errors
/// Until it is wired, always.
#[expect(clippy::unused_async, reason = "its implementation talks to the gateway")]
pub async fn history(_context: &Context, command: HistoryCommand) -> Result<Exit, Failure> {
    match command {
        HistoryCommand::Import { files } => Err(Failure::new(
            Exit::Defect,
            format!("history import of {} files is not wired yet", files.len()),
        )),
    }
}

/// SEAM: `evalfleet image build|list|show`
///
/// # Errors
/// Until it is wired, always.
#[expect(clippy::unused_async, reason = "its implementation downloads and boots")]
pub async fn image(_context: &Context, command: ImageCommand) -> Result<Exit, Failure> {
    let what = match command {
        ImageCommand::Build { name } => format!("build of {name}"),
        ImageCommand::List => "list".to_owned(),
        ImageCommand::Show { name } => format!("show of {name}"),
    };
    Err(Failure::new(Exit::Defect, format!("image {what} is not wired yet")))
}
