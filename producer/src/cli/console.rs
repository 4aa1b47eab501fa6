//! What commands share: standard output, where results go, and standard input.
//!
//! Within the REPL they share them with it, too. Then every document is a line, text is a document where
//! documents are wanted, nothing is written that a terminal would obey, and nobody else may read standard input.

use super::failure::Failure;
use super::report::plain_lines;
use evalfleet_proto::status::Exit;
use serde::Serialize;
use std::borrow::Cow;
use std::io::Write as _;
use std::sync::OnceLock;

/// Set when the REPL begins: whether documents are wanted.
static WITHIN_REPL: OnceLock<bool> = OnceLock::new();

/// From now on the commands are lines of the REPL; `json` says whether documents are wanted.
pub(crate) fn within_repl(json: bool) {
    let _ = WITHIN_REPL.set(json);
}

/// Prints a document: one line when several follow each other, indented when it stands alone.
pub(crate) fn print_json(document: &impl Serialize, alone: bool) -> Result<(), Failure> {
    let alone = alone && WITHIN_REPL.get() != Some(&true);
    let text = if alone { serde_json::to_string_pretty(document) } else { serde_json::to_string(document) };
    put(&text.map_err(|error| Failure::new(Exit::Defect, error))?)
}

/// Writes a line to standard output. Whoever closed it wants no more of it.
pub(crate) fn emit(text: &str) -> Result<(), Failure> {
    match WITHIN_REPL.get() {
        Some(true) => print_json(&serde_json::json!({ "text": text }), false),
        Some(false) => put(&plain_lines(text)),
        None => put(text),
    }
}

/// What a subject wrote, as it may be written here.
pub(super) fn written(bytes: &[u8]) -> Cow<'_, [u8]> {
    match WITHIN_REPL.get() {
        Some(_) => Cow::Owned(plain_lines(&String::from_utf8_lossy(bytes)).into_bytes()),
        None => Cow::Borrowed(bytes),
    }
}

/// Writes a line to standard output as it stands.
pub(crate) fn put(line: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Exit::Defect, format!("standard output: {error}"))),
    }
}

/// Whether a command may read standard input.
///
/// # Errors
/// When the REPL reads it.
pub(super) fn may_read() -> Result<(), Failure> {
    match WITHIN_REPL.get() {
        Some(_) => Err(Failure::usage("standard input is the REPL's own: name a file instead of -")),
        None => Ok(()),
    }
}
