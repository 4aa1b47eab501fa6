//! The line editor's questions: what Tab offers, whether Enter ends the statement, what Ctrl-C met.

use super::complete::Words;
use super::statement;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    Helper, KeyEvent, RepeatCount,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Statements that the history keeps.
const HISTORY_MAX: usize = 1000;

/// What can be completed, told anew by the session.
pub(super) type Offered = Arc<Mutex<Words>>;

pub(super) struct Aid(Offered);

impl Completer for Aid {
    type Candidate = Pair;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, offers) = words.complete(line, cursor);
        let pairs =
            offers.into_iter().map(|offer| Pair { display: offer.trim_end().to_owned(), replacement: offer });
        Ok((start, pairs.collect()))
    }
}

impl Validator for Aid {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if statement::goes_on(typed.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

impl Hinter for Aid {
    type Hint = String;
}
impl Highlighter for Aid {}
impl Helper for Aid {}

/// Ctrl-C gives up the line; what was in it tells whether the line was meant.
struct Interrupted(Arc<AtomicBool>);

impl ConditionalEventHandler for Interrupted {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(!context.line().trim().is_empty(), Ordering::Relaxed);
        Some(Cmd::Interrupt)
    }
}

/// An editor, and whether the last Ctrl-C met a line that was not empty.
pub(super) fn open(offered: Offered) -> rustyline::Result<(Editor<Aid, FileHistory>, Arc<AtomicBool>)> {
    let config =
        Config::builder().max_history_size(HISTORY_MAX)?.completion_type(CompletionType::List).build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Aid(offered)));
    let met_text = Arc::new(AtomicBool::new(false));
    let handler = EventHandler::Conditional(Box::new(Interrupted(met_text.clone())));
    editor.bind_sequence(KeyEvent::ctrl('C'), handler);
    Ok((editor, met_text))
}
