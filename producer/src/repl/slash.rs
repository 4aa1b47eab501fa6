//! The commands that begin with a slash: their names, their forms, what they do.

/// One of them.
#[derive(Debug)]
pub(super) struct Slash {
    pub(super) name: &'static str,
    /// What follows the name.
    pub(super) takes: &'static str,
    pub(super) does: &'static str,
}

const fn slash(name: &'static str, takes: &'static str, does: &'static str) -> Slash {
    Slash { name, takes, does }
}

/// All of them, in the order of `/help`. Other commands can be given with a slash, too.
pub(super) const ALL: &[Slash] = &[
    slash("help", "[COMMAND]", "show this, or a command's own help"),
    slash("tools", "", "the tools of the image, with their parameters"),
    slash("jobs", "", "the jobs submitted here"),
    slash("wait", "[#N…]", "wait for what is outstanding; Ctrl-C calls it off"),
    slash("cancel", "#N… | all", "call jobs off, or all that is outstanding"),
    slash("result", "#N", "a result: verdict, effects, value, output"),
    slash("effects", "#N", "all that a job changed on its disk"),
    slash("diff", "#N #M", "where two results differ: status, value, output, effects, what they used"),
    slash("history", "TOOL", "earlier evaluations of a tool"),
    slash("as-of", "MOMENT | now", "read the history as it was known then: a time, or a transaction"),
    slash("query", "DATALOG", "ask the history"),
    slash("replay", "#N [--times N]", "run an evaluation again, and hear where it diverges"),
    slash("dead", "[list | show ID | replay ID… | …]", "dead letters: look at them, submit them again"),
    slash("eval", "TOOL", "evaluate a tool by its cases and its history"),
    slash("change", "[eval] --patch FILE …", "evaluate a change to a repository"),
    slash("stats", "", "what the jobs submitted here came to"),
    slash("quit", "", "leave; Ctrl-D does the same"),
];

/// What `/help` shows, `commands` being those without a slash.
pub(super) fn help(commands: &[String]) -> String {
    let calls = [
        ("TOOL(\"a\", name=1)".to_owned(), "call a tool; the result arrives when it is ready"),
        ("TOOL {\"name\": 1}".to_owned(), "the same"),
        ("run [LIMITS] ARGV…".to_owned(), "run a command likewise"),
    ];
    let own = ALL.iter().map(|slash| (format!("/{} {}", slash.name, slash.takes), slash.does));
    let lines: Vec<_> =
        calls.into_iter().chain(own).map(|(form, does)| format!("{form:<38} {does}")).collect();
    format!(
        "{}\n#N is a job submitted here; its id, or any other's, will do as well.\n\
         A line goes on while a bracket or a quote is open, or after a backslash. Tab completes.\n\
         Ctrl-C gives up the line; at an empty prompt it calls the newest job off.\n\
         Other commands, as on the command line: {}",
        lines.join("\n"),
        commands.join(" ")
    )
}
