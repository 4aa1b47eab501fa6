//! What a statement says.

use super::grammar::{self, Call};
use crate::cli::args::{BatchCommand, CiCommand, Cli, Command, DeadCommand, HistoryCommand, ImageCommand};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use evalfleet_proto::ids::ToolName;

/// What a statement says. Jobs are named by their ids.
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
    /// Show the session's jobs.
    Jobs,
    /// Show what they came to.
    Stats,
    /// Call off what is outstanding.
    CancelAll,
    /// Call a tool.
    Call(Call),
    /// Show a result.
    Result(String),
    /// Show all effects of a job.
    Effects(String),
    /// Compare two results.
    Diff(String, String),
    /// Show what is recorded of a tool.
    History(ToolName),
    /// Read the history as of a moment from now on; as it is, without one.
    AsOf(Option<String>),
    /// A command, as on the command line without its first word.
    Command(Box<Command>),
    /// A command's help.
    Show(String),
    /// It is not understood.
    Wrong(String),
}

/// Reads a statement. `id_of` knows the session's jobs by their handles. The arguments of `call` and `query` are taken
/// as they stand, quotes and all.
pub(super) fn read(text: &str, id_of: &dyn Fn(&str) -> Option<String>) -> Line {
    let text = text.trim();
    if text.is_empty() || text == "/" || text.starts_with('#') {
        return Line::Empty;
    }
    let (slashed, bare) = text.strip_prefix('/').map_or((false, text), |bare| (true, bare));
    let (word, rest) = bare.split_once(char::is_whitespace).unwrap_or((bare, ""));
    // A tool may be named as a command is: then brackets that follow at once tell them apart.
    let is_command = || commands().iter().any(|name| name == grammar::name_of(text));
    if !slashed && grammar::is_call(text) && (is_bracketed(text) || !is_command()) {
        return match grammar::parse(text) {
            Ok(call) => Line::Call(call),
            Err(error) => Line::Wrong(error.to_string()),
        };
    }
    statement_of(word, rest.trim(), bare, id_of).unwrap_or_else(Line::Wrong)
}

fn is_bracketed(text: &str) -> bool {
    text.trim_start_matches(grammar::name_of(text)).starts_with('(')
}

fn statement_of(
    word: &str,
    rest: &str,
    text: &str,
    id_of: &dyn Fn(&str) -> Option<String>,
) -> Result<Line, String> {
    let jobs = |count: usize| {
        let found = with_ids(words(rest)?, id_of)?;
        if found.len() == count { Ok(found) } else { Err(wants(word)) }
    };
    Ok(match (word, rest) {
        ("help" | "?", "") => Line::Help,
        ("help" | "?", of) => help_of(of),
        ("quit" | "exit", _) => Line::Quit,
        ("wait", "") => Line::Wait,
        ("jobs", _) => Line::Jobs,
        ("stats", _) => Line::Stats,
        ("cancel", "all") => Line::CancelAll,
        ("result", _) => Line::Result(jobs(1)?.remove(0)),
        ("effects", _) => Line::Effects(jobs(1)?.remove(0)),
        ("diff", _) => match jobs(2)?.as_slice() {
            [a, b] => Line::Diff(a.clone(), b.clone()),
            _ => return Err(wants(word)),
        },
        ("as-of", "") => return Err(wants(word)),
        ("as-of", moment) => Line::AsOf((moment != "now").then(|| moment.trim_matches('"').to_owned())),
        ("history", of) if !is_history_command(of) => Line::History(of.parse().map_err(|_| wants(word))?),
        ("tools", "") => command(&["tool", "list"]),
        ("dead", "") => command(&["dead", "list"]),
        ("eval", of) => command(&[vec!["tool".to_owned(), "eval".to_owned()], words(of)?].concat()),
        ("change", of) if !of.starts_with("eval") && of != "--help" => {
            command(&[vec!["change".to_owned(), "eval".to_owned()], words(of)?].concat())
        }
        ("query", query) if query.starts_with(['[', '(', '{']) => command(&["query", query]),
        ("call", call) if !call.starts_with('-') => match call.split_once(char::is_whitespace) {
            Some((tool, args)) => command(&["call", tool, args.trim()]),
            None => command(&["call", call]),
        },
        ("run", _) => command(&words(text)?),
        _ => command(&with_ids(words(text)?, id_of)?),
    })
}

fn is_history_command(rest: &str) -> bool {
    matches!(rest.split_whitespace().next(), Some("import" | "export" | "retain" | "--help"))
}

fn wants(word: &str) -> String {
    let takes = super::slash::ALL.iter().find(|slash| slash.name == word).map_or("", |slash| slash.takes);
    format!("/{word} wants {takes}")
}

fn help_of(of: &str) -> Line {
    let name = of.trim_start_matches('/');
    match super::slash::ALL.iter().find(|slash| slash.name == name) {
        Some(slash) => Line::Show(format!("/{} {}: {}", slash.name, slash.takes, slash.does)),
        None => words(of).map_or_else(Line::Wrong, |mut words| {
            words.push("--help".to_owned());
            command(&words)
        }),
    }
}

/// Puts ids where handles are.
fn with_ids(words: Vec<String>, id_of: &dyn Fn(&str) -> Option<String>) -> Result<Vec<String>, String> {
    let id = |word: String| match word.strip_prefix('#') {
        Some(number) if number.chars().all(|digit| digit.is_ascii_digit()) => id_of(&word)
            .ok_or_else(|| format!("there is no job {word} here: /jobs shows those that there are")),
        _ => Ok(word),
    };
    words.into_iter().map(id).collect()
}

/// The commands that there are without a slash.
pub(super) fn commands() -> Vec<String> {
    let all = Cli::command();
    let names = all.get_subcommands().map(|command| command.get_name().to_owned());
    names.filter(|name| !not_for_here(name)).collect()
}

fn not_for_here(name: &str) -> bool {
    matches!(name, "up" | "repl" | "mcp" | "serve" | "completions" | "man")
}

fn command<T: AsRef<str>>(words: &[T]) -> Line {
    let name = words.first().map_or("", AsRef::as_ref);
    if not_for_here(name) {
        return Line::Wrong(format!("{name} is not for here: use `evalfleet {name}`"));
    }
    let words = std::iter::once("evalfleet").chain(words.iter().map(AsRef::as_ref));
    match Cli::try_parse_from(words) {
        // These two take the terminal, or standard output, for themselves.
        Ok(cli) if matches!(cli.command, Command::Image(ImageCommand::Ssh { .. })) => {
            Line::Wrong("image ssh is not for here: use `evalfleet image ssh`".to_owned())
        }
        Ok(cli) if matches!(&cli.command, Command::History(HistoryCommand::Export(args)) if args.out.is_none()) => {
            Line::Wrong("history export writes a file here: name it with --out".to_owned())
        }
        Ok(cli) => Line::Command(Box::new(cli.command)),
        Err(error) => {
            let text = error.to_string().trim_end().to_owned();
            if !error.use_stderr() {
                Line::Show(text)
            } else if error.kind() == ErrorKind::InvalidSubcommand {
                Line::Wrong(format!(
                    "{text}\nA tool is called as NAME(…) or NAME {{…}}; /help shows what there is."
                ))
            } else {
                Line::Wrong(text)
            }
        }
    }
}

/// Puts a moment into the commands that read the history and name none.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others do not read the history")]
pub(super) fn as_of(command: &mut Command, moment: &str) {
    let slot = match command {
        Command::Get { as_of, .. } | Command::List { as_of, .. } | Command::Insights { as_of } => as_of,
        Command::Query(args) => &mut args.as_of,
        Command::Batch(BatchCommand::Show { as_of, watch: false, .. }) => as_of,
        Command::Dead(DeadCommand::List(args)) if !args.queue => &mut args.as_of,
        Command::Dead(DeadCommand::Show { as_of, .. }) => as_of,
        Command::Ci(CiCommand::Compare { as_of, .. }) => as_of,
        Command::History(HistoryCommand::Export(args)) => &mut args.as_of,
        _ => return,
    };
    slot.get_or_insert_with(|| moment.to_owned());
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

    const ID: &str = "0198c1c2-0000-7000-8000-000000000000";

    fn read(text: &str) -> Line {
        super::read(text, &|handle| (handle == "#1").then(|| ID.to_owned()))
    }

    #[track_caller]
    fn command_of(text: &str) -> Command {
        let said = read(text);
        let told = format!("{text}: {said:?}");
        let Line::Command(command) = said else { panic!("{told}") };
        *command
    }

    #[test]
    fn a_call_keeps_its_json_as_it_stands() {
        let Command::Call(call) = command_of(r#"call word_count {"text":"a  b"}"#) else { panic!("no call") };
        assert_eq!((call.tool.as_str(), call.args.as_str()), ("word_count", r#"{"text":"a  b"}"#));
    }

    #[test]
    fn a_command_is_split_as_a_shell_would() {
        let Command::Run(run) = command_of(r#"run --wall 5s sh -c 'echo "a b"' x\ y "" #1"#) else {
            panic!("no run")
        };
        assert_eq!(run.argv, ["sh", "-c", "echo \"a b\"", "x y", "", "#1"]);
        assert_eq!(run.job.wall, Some(std::time::Duration::from_secs(5)));
    }

    #[test]
    fn calls_are_told_from_commands() {
        assert!(matches!(read("word_count(text=\"a\")"), Line::Call(_)));
        assert!(matches!(read("word_count {\"text\": \"a\"}"), Line::Call(_)));
        // A tool may be named so.
        assert!(matches!(read("list()"), Line::Call(_)));
        assert!(matches!(read("query {:find [?e] :where [[?e :a]]}"), Line::Command(_)));
        assert!(matches!(read("word_count("), Line::Wrong(why) if why.starts_with("column 12")));
    }

    #[test]
    fn slash_commands_say_what_the_plain_ones_do() {
        assert!(matches!(read("/result #1"), Line::Result(id) if id == ID));
        assert!(matches!(read(&format!("/effects {ID}")), Line::Effects(id) if id == ID));
        assert!(matches!(read("/diff #1 night"), Line::Diff(a, b) if a == ID && b == "night"));
        assert!(matches!(read("/diff #1"), Line::Wrong(why) if why == "/diff wants #N #M"));
        assert!(matches!(read("/result #7"), Line::Wrong(why) if why.contains("no job #7")));
        assert!(matches!(read("/history word_count"), Line::History(tool) if tool.as_str() == "word_count"));
        assert!(matches!(command_of("/history export --out x"), Command::History(_)));
        assert!(matches!(read("/as-of 2025-07-31"), Line::AsOf(Some(moment)) if moment == "2025-07-31"));
        assert!(matches!(read("/as-of now"), Line::AsOf(None)));
        assert!(matches!(command_of("/eval word_count --runs 2"), Command::Tool(_)));
        assert!(matches!(command_of("/change --patch a.patch"), Command::Change(_)));
        assert!(matches!(command_of("/change eval --patch a.patch"), Command::Change(_)));
        assert!(matches!(command_of("/cancel #1"), Command::Cancel(args) if args.ids[0].to_string() == ID));
        assert!(matches!(command_of("/query [:find ?e :where [?e :a \"b c\"]]"), Command::Query(_)));
        assert!(matches!(read("/help diff"), Line::Show(text) if text.contains("two results")));
        assert!(matches!(read("/help run"), Line::Show(text) if text.contains("--wall")));
    }

    #[test]
    fn evaluations_and_dead_letters_are_replayed_each_by_its_own_words() {
        for text in [&format!("/replay {ID} --times 3"), "/replay #1 --times 3", "replay #1 --times 3"] {
            let Command::Replay(args) = command_of(text) else { panic!("{text}: no replay") };
            assert_eq!((args.id.as_str(), args.times), (ID, 3));
        }
        let Command::Dead(DeadCommand::Replay(args)) = command_of("/dead replay #1") else { panic!("none") };
        assert_eq!(args.which.ids.len(), 1);
        assert!(matches!(command_of("/dead replay --all"), Command::Dead(_)));
        assert!(matches!(read("/replay"), Line::Wrong(error) if error.contains("ID")));
        assert!(matches!(read("/replay x --times 1000"), Line::Wrong(_)));
    }

    #[test]
    fn short_forms_and_nonsense() {
        assert!(matches!(read("/"), Line::Empty));
        assert!(matches!(read("/quit"), Line::Quit));
        assert!(matches!(read("  "), Line::Empty));
        assert!(matches!(read("# a comment"), Line::Empty));
        assert!(matches!(read("quit"), Line::Quit));
        assert!(matches!(read("wait"), Line::Wait));
        assert!(matches!(read("cancel all"), Line::CancelAll));
        assert!(matches!(read("cancel"), Line::Wrong(error) if error.contains("IDS")));
        assert!(matches!(read("tools"), Line::Command(_)));
        assert!(matches!(read("/dead"), Line::Command(_)));
        assert!(matches!(read("dance"), Line::Wrong(error) if error.contains("NAME(…)")));
        assert!(matches!(read("run 'a"), Line::Wrong(error) if error.contains("quote")));
        for refused in ["up", "/serve", "image ssh base", "history export", "/history export"] {
            assert!(matches!(read(refused), Line::Wrong(_)), "{refused}");
        }
        assert!(matches!(read("run --help"), Line::Show(_)));
    }

    #[test]
    fn the_moment_is_put_where_none_is_named() {
        for (text, expected) in [
            ("/query [:find ?e]", "2025-07-31"),
            ("query [:find ?e] ", "2025-07-31"),
            ("insights", "2025-07-31"),
            ("list --limit 5", "2025-07-31"),
            ("dead list", "2025-07-31"),
            ("insights --as-of 7", "7"),
        ] {
            let mut command = command_of(text);
            as_of(&mut command, "2025-07-31");
            assert!(format!("{command:?}").contains(&format!("as_of: Some(\"{expected}\")")), "{command:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_is_understood_or_told(text in "\\PC{0,30}|/(diff|result|as-of|history|eval|help|query|replay) [#a-z0-9' ]{0,12}") {
            let _ = read(&text);
        }
    }
}
