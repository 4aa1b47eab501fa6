//! Where results appear: above the line that is being typed, on standard output, or there as JSON lines. Nothing that is
//! shown here is obeyed by a terminal, whoever made it up.

use crate::cli::console::put;
use crate::cli::report::plain_lines;
use evalfleet_proto::status::Exit;
use rustyline::ExternalPrinter;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

type Printer = Arc<Mutex<Box<dyn ExternalPrinter + Send>>>;

#[derive(Clone)]
pub(super) enum Screen {
    /// A person's.
    Terminal(Printer),
    /// Text for whatever reads it.
    Text,
    /// A document on each line, and nothing else.
    Lines,
}

impl Screen {
    pub(super) fn terminal(printer: impl ExternalPrinter + Send + 'static) -> Self {
        Self::Terminal(Arc::new(Mutex::new(Box::new(printer))))
    }

    /// Shows `text`, or the document where documents are wanted.
    pub(super) fn show(&self, document: &Value, text: &str) {
        match self {
            Self::Terminal(_) | Self::Text => self.put(text),
            Self::Lines => self.put(&document.to_string()),
        }
    }

    /// Shows what has no document of its own.
    pub(super) fn say(&self, text: &str) {
        self.show(&json!({ "text": text }), text);
    }

    /// Says what went wrong, in a script with the line at which its statement begins.
    pub(super) fn wrong(&self, line: usize, why: &str, exit: Exit) {
        match self {
            Self::Terminal(_) => self.put(&format!("evalfleet: {why}")),
            Self::Text => eprintln!("evalfleet: line {line}: {}", plain_lines(why)),
            Self::Lines => self.put(&json!({"error": why, "line": line, "exit": exit.code()}).to_string()),
        }
    }

    fn put(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        let shown = match self {
            Self::Terminal(printer) => {
                let mut printer = printer.lock().unwrap_or_else(PoisonError::into_inner);
                printer.print(plain_lines(text) + "\n").is_ok()
            }
            Self::Text => put(&plain_lines(text)).is_ok(),
            Self::Lines => put(text).is_ok(),
        };
        if !shown {
            tracing::debug!("nobody reads the screen");
        }
    }
}
