//! The interactive form of the command: jobs go out at once, results arrive when they are ready.
//!
//! ```text
//!  a thread: terminal or pipe ──▶ input ──▶ statement ──▶ line ──▶ session ──▶ submit ──▶ a task per job
//!          ▲                                (grammar)                │                        │
//!          └───────────── next prompt ◀──────────────────────────────┘          screen ◀──────┘ result
//! ```
//!
//! A statement is answered before the next prompt, except for what a job yields: that is printed above the
//! prompt when it comes. At the end of a script, and at `/wait`, the outstanding results are waited for.
//! Ctrl-C ends what is waited for, and never the REPL; a script ends with it, once what it submitted is called off.

mod literal;

mod grammar;
mod statement;

mod slash;

mod line;

mod complete;

mod show;

mod jobs;

mod screen;

mod editor;
mod input;

mod session;

use crate::cli::failure::Failure;
use crate::cli::{Context, console};
use editor::Offered;
use evalfleet_proto::status::Exit;
use input::{Input, Said, What};
use session::{Session, Then};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the REPL until it is left or its input ends.
///
/// # Errors
/// When the broker does not answer at the start, or the terminal cannot be used.
pub async fn repl(context: &Context) -> Result<Exit, Failure> {
    console::within_repl(context.json);
    let defect = |why: String| Failure::new(Exit::Defect, why);
    let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| defect(error.to_string()))?;
    let offered = Offered::default();
    let mut input =
        Input::open(&context.settings.state_dir(), context.json, offered.clone()).map_err(defect)?;
    let mut session = Session::open(context, input.screen(), offered).await?;
    let script = !input.interactive();
    if !script {
        session.say(&format!(
            "evalfleet {}. /help shows what can be said; results arrive when they are ready.",
            evalfleet_service::VERSION
        ));
    }
    loop {
        let said = tokio::select! {
            said = input.next() => said,
            _ = interrupts.recv() => {
                if !script {
                    // It came before the editor had the terminal.
                    session.interrupted().await;
                    continue;
                }
                session.call_off_all().await;
                None
            }
        };
        let Some(Said { what, answered }) = said else { break };
        match answer(&mut session, what, &mut interrupts).await {
            Answered::Fully => {}
            Answered::GivenUp if !script => {}
            Answered::GivenUp => {
                session.call_off_all().await;
                break;
            }
            Answered::Quit => break,
        }
        // The reader waits for this before it shows the next prompt.
        let _ = answered.send(session.prompt());
    }
    if script {
        wait(&mut session, &mut interrupts).await;
    }
    Ok(session.close(script).await)
}

/// How far what was said was answered.
enum Answered {
    Fully,
    /// Until Ctrl-C.
    GivenUp,
    /// Until it said to leave.
    Quit,
}

async fn answer(session: &mut Session<'_>, what: What, interrupts: &mut Signal) -> Answered {
    let (text, first) = match what {
        What::Text(text, first) => (text, first),
        What::Unreadable(why, line) => {
            session.wrong(line, &why, Exit::Usage);
            return Answered::Fully;
        }
        // A line was given up: that is all.
        What::Interrupt { had_text: true } => return Answered::Fully,
        What::Interrupt { had_text: false } => {
            session.interrupted().await;
            return Answered::Fully;
        }
    };
    for statement in statement::statements(&text) {
        let line = first + statement.line - 1;
        let said = match statement.text {
            Ok(said) => said,
            Err(why) => {
                session.wrong(line, why, Exit::Usage);
                continue;
            }
        };
        let then = tokio::select! {
            then = session.handle(&said, line) => then,
            _ = interrupts.recv() => {
                session.gave_up();
                return Answered::GivenUp;
            }
        };
        match then {
            Then::GoOn => {}
            Then::Wait if wait(session, interrupts).await => {}
            Then::Wait => return Answered::GivenUp,
            Then::Quit => return Answered::Quit,
        }
    }
    Answered::Fully
}

/// Waits for what is outstanding, and gives whether it came. Ctrl-C calls it off; a second one does not wait for that
/// either.
async fn wait(session: &mut Session<'_>, interrupts: &mut Signal) -> bool {
    let mut called_off = false;
    loop {
        tokio::select! {
            () = session.all_done() => return !called_off,
            _ = interrupts.recv() => {}
        }
        if called_off {
            return false;
        }
        session.call_off_all().await;
        called_off = true;
    }
}
