//! Statements, from a terminal with editing and history, or from a pipe.

use super::editor::{Aid, Offered, open};
use super::screen::Screen;
use super::statement::{Statement, Statements};
use rustyline::Editor;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use std::borrow::Cow;
use std::io::{self, BufRead, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// The prompt as long as the history is read as it is.
pub(super) const PROMPT: &str = "evalfleet> ";
/// Bytes of one line of a script, its end included.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Why a longer line is refused.
const LINE_TOO_LONG: &str = "the line is longer than 1 MiB: what is large goes in by --file or --stdin";
/// Bytes of a statement that the history keeps.
const REMEMBERED_BYTES_MAX: usize = 16 << 10;

/// What was said, and how to say that it is answered: with the next prompt.
pub(super) struct Said {
    pub(super) what: What,
    pub(super) answered: oneshot::Sender<String>,
}

pub(super) enum What {
    /// A statement, or several that were pasted, the first of which begins at that line of the input.
    Text(String, usize),
    /// Ctrl-C; whether there was a line to give up.
    Interrupt { had_text: bool },
    /// A line that cannot be read.
    Unreadable(String, usize),
}

/// What is said, read by a thread of its own.
pub(super) struct Input {
    said: mpsc::Receiver<Said>,
    screen: Screen,
}

impl Input {
    /// Opens the terminal, where both ends are one and text is wanted; otherwise reads standard input.
    pub(super) fn open(state_dir: &Path, json: bool, offered: Offered) -> Result<Self, String> {
        let (tell, said) = mpsc::channel(1);
        if json || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            std::thread::spawn(move || read_pipe(&Tell(tell)));
            return Ok(Self { said, screen: if json { Screen::Lines } else { Screen::Text } });
        }
        let unusable = |error: ReadlineError| format!("the terminal: {error}");
        let (mut editor, met_text) = open(offered).map_err(unusable)?;
        let screen = Screen::terminal(editor.create_external_printer().map_err(unusable)?);
        let history = state_dir.join("repl-history");
        // There is none at the first time.
        let _ = editor.load_history(&history);
        let mut terminal = Terminal { editor, met_text, history };
        std::thread::spawn(move || terminal.read(&Tell(tell)));
        Ok(Self { said, screen })
    }

    pub(super) fn screen(&self) -> Screen {
        self.screen.clone()
    }

    pub(super) fn interactive(&self) -> bool {
        matches!(self.screen, Screen::Terminal(_))
    }

    pub(super) async fn next(&mut self) -> Option<Said> {
        self.said.recv().await
    }
}

struct Tell(mpsc::Sender<Said>);

impl Tell {
    /// Hands on what was said and waits until it is answered; none when nobody listens any more.
    fn say(&self, what: What) -> Option<String> {
        let (answered, answer) = oneshot::channel();
        self.0.blocking_send(Said { what, answered }).ok()?;
        answer.blocking_recv().ok()
    }
}

fn read_pipe(tell: &Tell) {
    let mut statements = Statements::default();
    let mut input = io::stdin().lock();
    loop {
        let what = match read_line(&mut input) {
            Ok(None) => break,
            Ok(Some(Line::Whole(line))) => match take(&mut statements, &line) {
                Some(statement) => statement.into(),
                None => continue,
            },
            Ok(Some(Line::TooLong)) => What::Unreadable(LINE_TOO_LONG.to_owned(), statements.give_up()),
            Err(error) => {
                tell.say(What::Unreadable(format!("standard input: {error}"), statements.give_up()));
                return;
            }
        };
        if tell.say(what).is_none() {
            return;
        }
    }
    if let Some(statement) = statements.end() {
        tell.say(statement.into());
    }
}

/// A line of a script.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Vec<u8>),
    /// It was read to its end, and nothing of it is kept.
    TooLong,
}

/// Reads a line; none at the end.
fn read_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut part = |line: &mut Vec<u8>| {
        line.clear();
        input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', line)
    };
    let mut line = Vec::new();
    if part(&mut line)? == 0 {
        return Ok(None);
    }
    if line.len() < LINE_BYTES_MAX || line.ends_with(b"\n") {
        return Ok(Some(Line::Whole(line)));
    }
    while part(&mut line)? > 0 && !line.ends_with(b"\n") {}
    Ok(Some(Line::TooLong))
}

fn take(statements: &mut Statements, line: &[u8]) -> Option<Statement> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    match String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)) {
        Cow::Borrowed(line) => statements.push(line),
        Cow::Owned(line) => statements.push_spoilt(&line, "it is not UTF-8"),
    }
}

impl From<Statement> for What {
    fn from(Statement { text, line }: Statement) -> Self {
        match text {
            Ok(text) => Self::Text(text, line),
            Err(why) => Self::Unreadable(why.to_owned(), line),
        }
    }
}

struct Terminal {
    editor: Editor<Aid, FileHistory>,
    met_text: Arc<AtomicBool>,
    history: PathBuf,
}

impl Terminal {
    fn read(&mut self, tell: &Tell) {
        let mut prompt = PROMPT.to_owned();
        loop {
            let what = match self.editor.readline(&prompt) {
                Ok(text) => {
                    self.remember(&text);
                    What::Text(text, 1)
                }
                Err(ReadlineError::Interrupted) => {
                    What::Interrupt { had_text: self.met_text.load(Ordering::Relaxed) }
                }
                // Ctrl-D, or the terminal is gone.
                Err(_) => return,
            };
            match tell.say(what) {
                Some(next) => prompt = next,
                None => return,
            }
        }
    }

    fn remember(&mut self, text: &str) {
        if text.trim().is_empty() || text.len() > REMEMBERED_BYTES_MAX {
            return;
        }
        let _ = self.editor.add_history_entry(text);
        let made = self.history.parent().map_or(Ok(()), std::fs::create_dir_all);
        // Appended, so that two sittings at once keep what both said; the editor makes it its user's alone (0600).
        let kept = made.map_err(ReadlineError::from).and_then(|()| self.editor.append_history(&self.history));
        if let Err(error) = kept {
            tracing::debug!(%error, "the history is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_passed_over_whole() {
        let longest = "x".repeat(LINE_BYTES_MAX - 1) + "\n";
        let script = [longest.as_str(), &"y".repeat(3 * LINE_BYTES_MAX), "\njobs\n\nlast"].concat();
        let mut input = script.as_bytes();
        let mut next = || read_line(&mut input).expect("it can be read");
        let whole = |line: &str| Some(Line::Whole(line.as_bytes().to_vec()));
        assert!(next() == whole(&longest));
        assert_eq!(next(), Some(Line::TooLong));
        for line in ["jobs\n", "\n", "last"] {
            assert_eq!(next(), whole(line));
        }
        assert_eq!(next(), None);
    }

    #[test]
    fn a_line_is_text_without_its_end() {
        let mut statements = Statements::default();
        let mut text = |line: &[u8]| take(&mut statements, line).map(|statement| statement.text);
        assert_eq!(text(b"jobs\r\n"), Some(Ok("jobs".to_owned())));
        assert_eq!(text(b"f('\xff')\n"), Some(Err("it is not UTF-8")));
        assert_eq!(text("f('é')".as_bytes()), Some(Ok("f('é')".to_owned())));
    }
}
