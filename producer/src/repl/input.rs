//! Lines from a terminal, with history and editing, or from a pipe; and a screen on which results
//! appear above the line that is being typed.

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{DefaultEditor, Editor, ExternalPrinter};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

const PROMPT: &str = "evalfleet> ";
/// Lines of history that are kept.
const HISTORY_MAX: usize = 1000;

/// A line, and how to say that it is answered.
pub(super) struct Said {
    pub(super) line: String,
    pub(super) answered: oneshot::Sender<()>,
}

/// Where results appear.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<Option<Box<dyn ExternalPrinter + Send>>>>);

impl Screen {
    /// Prints `text` and a newline, above the prompt where there is one.
    pub(super) fn print(&self, text: &str) {
        let mut printer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("{}\n", text.trim_end_matches('\n'));
        let printed = match printer.as_mut() {
            Some(printer) => printer.print(text).is_ok(),
            None => std::io::stdout().write_all(text.as_bytes()).is_ok(),
        };
        if !printed {
            tracing::debug!("nobody reads the screen");
        }
    }
}

/// The lines, read by a thread of their own.
pub(super) struct Input {
    lines: mpsc::Receiver<Said>,
    screen: Screen,
    interactive: bool,
}

impl Input {
    pub(super) fn open(state_dir: &Path) -> Result<Self, String> {
        let (tell, lines) = mpsc::channel(1);
        let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if !interactive {
            std::thread::spawn(move || read_pipe(&tell));
            return Ok(Self { lines, screen: Screen(Arc::default()), interactive });
        }
        let mut editor = DefaultEditor::new().map_err(|error| format!("the terminal: {error}"))?;
        let printer = editor.create_external_printer().map_err(|error| format!("the terminal: {error}"))?;
        let history = state_dir.join("repl-history");
        // There is none at the first time.
        let _ = editor.load_history(&history);
        let _ = rustyline::config::Configurer::set_max_history_size(&mut editor, HISTORY_MAX);
        std::thread::spawn(move || read_terminal(editor, &history, &tell));
        Ok(Self { lines, screen: Screen(Arc::new(Mutex::new(Some(Box::new(printer))))), interactive })
    }

    pub(super) fn screen(&self) -> Screen {
        self.screen.clone()
    }

    pub(super) fn interactive(&self) -> bool {
        self.interactive
    }

    pub(super) async fn next(&mut self) -> Option<Said> {
        self.lines.recv().await
    }
}

fn read_pipe(tell: &mpsc::Sender<Said>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if !say(tell, line) {
            return;
        }
    }
}

fn read_terminal(mut editor: Editor<(), FileHistory>, history: &Path, tell: &mpsc::Sender<Said>) {
    loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                if !line.trim().is_empty() {
                    let _ = editor.add_history_entry(line.as_str());
                    if let Err(error) = save(&mut editor, history) {
                        tracing::debug!(%error, "the history is not kept");
                    }
                }
                if !say(tell, line) {
                    return;
                }
            }
            // Ctrl-C gives up the line, not the REPL.
            Err(ReadlineError::Interrupted) => {}
            Err(_) => return,
        }
    }
}

fn save(editor: &mut Editor<(), FileHistory>, history: &Path) -> rustyline::Result<()> {
    if let Some(dir) = history.parent() {
        std::fs::create_dir_all(dir)?;
    }
    editor.save_history(history)
}

/// Hands a line on and waits until it is answered; false when nobody listens any more.
fn say(tell: &mpsc::Sender<Said>, line: String) -> bool {
    let (answered, answer) = oneshot::channel();
    tell.blocking_send(Said { line, answered }).is_ok() && answer.blocking_recv().is_ok()
}
