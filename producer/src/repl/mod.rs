//! The interactive form of the command: jobs go out at once, results arrive when they are ready.
//!
//! ```text
//!  lines (a thread: terminal or pipe) ──▶ handle one line ──▶ submit ──▶ a task per job
//!          ▲                                  │                             │
//!          └────────── next prompt ◀──────────┘            screen ◀─────────┘ result
//! ```
//!
//! A line is answered before the next prompt, except for what a job yields: that is printed above the
//! prompt when it comes. At the end of a pipe, and at `wait`, the outstanding results are waited for.

mod input;
mod line;
mod session;

use crate::cli::Context;
use crate::cli::failure::Failure;
use evalfleet_proto::status::Exit;
use input::{Input, Said};
use session::{Session, Then};

/// Runs the REPL until `quit` or the end of its input.
///
/// # Errors
/// When the broker does not answer at the start, or the terminal cannot be used.
pub async fn repl(context: &Context) -> Result<Exit, Failure> {
    let mut input =
        Input::open(&context.settings.state_dir()).map_err(|why| Failure::new(Exit::Defect, why))?;
    let mut session = Session::open(context, input.screen()).await?;
    if input.interactive() {
        session.say(&format!(
            "evalfleet {}. `help` shows what can be said; results arrive when they are ready.",
            evalfleet_service::VERSION
        ));
    }
    while let Some(Said { line, answered }) = input.next().await {
        let then = session.handle(&line).await;
        // The reader waits for this before it shows the next prompt.
        let _ = answered.send(());
        if matches!(then, Then::Quit) {
            break;
        }
    }
    Ok(session.close(!input.interactive()).await)
}
