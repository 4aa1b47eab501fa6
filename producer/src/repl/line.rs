//! What a line says.

use crate::cli::args::{Cli, Command};
use clap::Parser as _;

/// What a line says.
#[derive(Debug)]
pub(super) enum Line {
    /// Nothing.
    Empty,
    /// Show what can be said.
    Help,
    /// End.
    Quit,
    /// Wait for what is outstanding.
    Wait,
    /// Show what is outstanding.
    Jobs,
    /// Call off what is outstanding.
    CancelAll,
    /// A command, as on the command line without its first word.
    Command(Box<Command>),
    /// It is not understood.
    Wrong(String),
}

/// Reads a line, with or without a slash before its first word. The arguments of `call` and `query` are taken as they
/// stand, quotes and all.
pub(super) fn read(line: &str) -> Line {
    let line = line.trim();
    let line = line.strip_prefix('/').unwrap_or(line);
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match (word, rest) {
        ("", _) => Line::Empty,
        _ if word.starts_with('#') => Line::Empty,
        ("help" | "?", _) => Line::Help,
        ("quit" | "exit", _) => Line::Quit,
        ("wait", "") => Line::Wait,
        ("jobs", _) => Line::Jobs,
        ("cancel", "all") => Line::CancelAll,
        ("tools", "") => command(&["tool", "list"]),
        ("dead", "") => command(&["dead", "list"]),
        ("query", query) if query.starts_with('[') => command(&["query", query]),
        ("call", call) if !call.starts_with('-') => match call.split_once(char::is_whitespace) {
            Some((tool, args)) => command(&["call", tool, args.trim()]),
            None => command(&["call", call]),
        },
        ("up" | "repl" | "mcp" | "completions" | "man", _) => {
            Line::Wrong(format!("{word} is not for here: use `evalfleet {word}`"))
        }
        _ => match words(line) {
            Ok(words) => command(&words),
            Err(error) => Line::Wrong(error),
        },
    }
}

fn command<T: AsRef<str>>(words: &[T]) -> Line {
    let words = std::iter::once("evalfleet").chain(words.iter().map(AsRef::as_ref));
    match Cli::try_parse_from(words) {
        Ok(cli) => Line::Command(Box::new(cli.command)),
        Err(error) => Line::Wrong(error.to_string().trim_end().to_owned()),
    }
}

/// Splits a line into words as a shell would, with quotes and backslashes, and expands nothing.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or("a backslash ends the line")?;
                word.get_or_insert_default().push(next);
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    match quote {
        Some(open) => Err(format!("a quote {open} is open")),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_keeps_its_json_as_it_stands() {
        let Line::Command(command) = read(r#"call word_count {"text":"a  b"}"#) else { panic!("no command") };
        let Command::Call(call) = *command else { panic!("no call") };
        assert_eq!((call.tool.as_str(), call.args.as_str()), ("word_count", r#"{"text":"a  b"}"#));
    }

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        let Line::Command(command) = read(r#"run --wall 5s sh -c 'echo "a b"' x\ y """#) else {
            panic!("none")
        };
        let Command::Run(run) = *command else { panic!("no run") };
        assert_eq!(run.argv, ["sh", "-c", "echo \"a b\"", "x y", ""]);
        assert_eq!(run.job.wall, Some(std::time::Duration::from_secs(5)));
    }

    #[test]
    fn evaluations_and_dead_letters_are_replayed_each_by_its_own_words() {
        let Line::Command(command) = read("/replay 0198c1c2-0000-7000-8000-000000000000 --times 3") else {
            panic!("none")
        };
        assert!(matches!(*command, Command::Replay(args) if args.times == 3));
        let Line::Command(command) = read("/dead replay --all") else { panic!("none") };
        assert!(matches!(*command, Command::Dead(_)));
        assert!(matches!(read("/quit"), Line::Quit));
        assert!(matches!(read("/"), Line::Empty));
        assert!(matches!(read("/replay"), Line::Wrong(error) if error.contains("ID")));
        assert!(matches!(read("/replay x --times 1000"), Line::Wrong(_)));
    }

    #[test]
    fn short_forms_and_nonsense() {
        assert!(matches!(read("  "), Line::Empty));
        assert!(matches!(read("# a comment"), Line::Empty));
        assert!(matches!(read("quit"), Line::Quit));
        assert!(matches!(read("wait"), Line::Wait));
        assert!(matches!(read("cancel all"), Line::CancelAll));
        assert!(matches!(read("cancel"), Line::Wrong(error) if error.contains("IDS")));
        assert!(matches!(read("tools"), Line::Command(_)));
        assert!(matches!(read("dead"), Line::Command(_)));
        assert!(matches!(read("dance"), Line::Wrong(_)));
        assert!(matches!(read("run 'a"), Line::Wrong(error) if error.contains("quote")));
        assert!(matches!(read("up"), Line::Wrong(_)));
        assert!(matches!(read("query [:find ?e :where [?e :a \"b c\"]]"), Line::Command(_)));
    }
}
