//! One sitting at the REPL: what is outstanding, and what each line does.

use super::input::Screen;
use super::line::{Line, read};
use crate::cli::args::{Cli, Command, ReplayArgs};
use crate::cli::failure::Failure;
use crate::cli::report::report;
use crate::cli::{Context, admit, dispatch_within, submission_of_call, told_of_replay};
use crate::client::Client;
use crate::replay::Replay;
use clap::CommandFactory as _;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::JobId;
use evalfleet_proto::status::Exit;
use evalfleet_proto::submission::Submission;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Characters of an output that a result shows; `get` shows it all.
const OUTPUT_MAX: usize = 2000;

/// What follows a line.
pub(super) enum Then {
    GoOn,
    Quit,
}

pub(super) struct Session<'a> {
    context: &'a Context,
    client: Client,
    screen: Screen,
    waiting: JoinSet<(JobId, Exit)>,
    outstanding: BTreeMap<JobId, String>,
    worst: Exit,
}

impl<'a> Session<'a> {
    pub(super) async fn open(context: &'a Context, screen: Screen) -> Result<Self, Failure> {
        let client = context.client().await?;
        let (waiting, outstanding) = (JoinSet::new(), BTreeMap::new());
        Ok(Self { context, client, screen, waiting, outstanding, worst: Exit::Passed })
    }

    pub(super) fn say(&self, text: &str) {
        self.screen.print(text);
    }

    pub(super) async fn handle(&mut self, line: &str) -> Then {
        self.reap();
        match read(line) {
            Line::Empty => {}
            Line::Quit => return Then::Quit,
            Line::Help => self.say(&help()),
            Line::Wrong(why) => {
                self.note(Exit::Usage);
                self.say(&why);
            }
            Line::Wait => self.wait().await,
            Line::Jobs => self.show_outstanding(),
            Line::CancelAll => self.cancel_outstanding().await,
            Line::Command(command) => self.command(*command).await,
        }
        Then::GoOn
    }

    async fn command(&mut self, command: Command) {
        if let Command::Replay(args) = command {
            let done = Box::pin(self.replay(args)).await;
            return self.note_failure(done);
        }
        // Files and standard input are laid in by the command itself, which then waits.
        let submission = if let Command::Run(run) = &command
            && run.job.file.is_empty()
            && run.job.out.is_empty()
            && run.stdin.is_none()
        {
            Some(Ok(run.submission()))
        } else if let Command::Call(call) = &command
            && call.job.file.is_empty()
            && call.job.out.is_empty()
        {
            Some(admit(self.context, call).and_then(|()| submission_of_call(call)))
        } else {
            None
        };
        let done = match submission {
            Some(Ok(submission)) => self.submit(submission).await,
            Some(Err(failure)) => Err(failure),
            None => Box::pin(dispatch_within(self.context, command)).await.map(|_| ()),
        };
        self.note_failure(done);
    }

    fn note_failure(&mut self, done: Result<(), Failure>) {
        if let Err(failure) = done {
            self.note(failure.exit);
            self.say(&format!("evalfleet: {failure}"));
        }
    }

    /// Runs a recorded evaluation again; how it compares is told when it is known.
    async fn replay(&mut self, args: ReplayArgs) -> Result<(), Failure> {
        let replay = Arc::new(Replay::of(&self.context.settings, &args.id).await?);
        let of = replay.original().id;
        for _ in 0..args.times {
            let mut pending = self.client.submit_job(&replay.job()).await?;
            if let Some(patience) = args.patience {
                pending = pending.patience(patience);
            }
            let (id, screen, json, replay) =
                (pending.id(), self.screen.clone(), self.context.json, replay.clone());
            self.outstanding.insert(id, format!("replay of {of}"));
            self.say(&format!("{id} submitted: replay of {of}"));
            self.waiting.spawn(async move {
                match pending.wait().await {
                    Ok(evaluation) => {
                        let replayed = replay.compare(&evaluation).await;
                        let document = || serde_json::to_string(&replayed).unwrap_or_default();
                        screen.print(&if json { document() } else { told_of_replay(of, &replayed) });
                        (id, replayed.exit())
                    }
                    Err(error) => {
                        screen.print(&format!("evalfleet: {error}"));
                        (id, error.exit())
                    }
                }
            });
        }
        Ok(())
    }

    async fn submit(&mut self, submission: Submission) -> Result<(), Failure> {
        let what = submission.tool.as_ref().map_or_else(|| submission.argv.join(" "), ToString::to_string);
        let pending = self.client.submit(submission).await?;
        let (id, screen, json) = (pending.id(), self.screen.clone(), self.context.json);
        self.outstanding.insert(id, what.clone());
        self.say(&format!("{id} submitted: {what}"));
        self.waiting.spawn(async move {
            match pending.wait().await {
                Ok(evaluation) => {
                    screen.print(&result(&evaluation, json));
                    (id, Exit::of(evaluation.status, evaluation.cause))
                }
                Err(error) => {
                    screen.print(&format!("evalfleet: {error}"));
                    (id, error.exit())
                }
            }
        });
        Ok(())
    }

    /// Takes note of what is done.
    fn reap(&mut self) {
        while let Some(done) = self.waiting.try_join_next() {
            self.done(done.ok());
        }
    }

    async fn wait(&mut self) {
        while let Some(done) = self.waiting.join_next().await {
            self.done(done.ok());
        }
    }

    fn done(&mut self, done: Option<(JobId, Exit)>) {
        if let Some((id, exit)) = done {
            self.outstanding.remove(&id);
            self.note(exit);
        }
    }

    fn note(&mut self, exit: Exit) {
        if exit.code() > self.worst.code() {
            self.worst = exit;
        }
    }

    fn show_outstanding(&mut self) {
        let lines: Vec<_> = self.outstanding.iter().map(|(id, what)| format!("{id}  {what}")).collect();
        self.say(&if lines.is_empty() { "nothing is outstanding".to_owned() } else { lines.join("\n") });
    }

    /// Calls off what is outstanding; each says so when its worker has heard of it.
    async fn cancel_outstanding(&mut self) {
        for id in self.outstanding.keys() {
            match self.client.cancel(*id, None).await {
                Ok(()) => self.screen.print(&format!("{id} is called off")),
                Err(error) => self.screen.print(&format!("evalfleet: {error}")),
            }
        }
    }

    /// Ends the sitting. A script's end waits for its results and tells the worst of them; a person who
    /// leaves does not wait, and left in peace.
    pub(super) async fn close(mut self, script: bool) -> Exit {
        self.reap();
        if script {
            self.wait().await;
        } else if !self.outstanding.is_empty() {
            let count = self.outstanding.len();
            self.say(&format!("{count} results are outstanding; they are recorded: `evalfleet get ID`"));
        }
        self.waiting.shutdown().await;
        self.client.close().await;
        if script { self.worst } else { Exit::Passed }
    }
}

fn result(evaluation: &Evaluation, json: bool) -> String {
    if json {
        return serde_json::to_string(evaluation).unwrap_or_default();
    }
    let mut text = report(evaluation);
    for (name, output) in [("stdout", &evaluation.stdout), ("stderr", &evaluation.stderr)] {
        let shown: String = output.text.trim_end().chars().take(OUTPUT_MAX).collect();
        if !shown.is_empty() {
            let more = if shown.len() < output.text.trim_end().len() { " (its beginning)" } else { "" };
            text += &format!("\n  {name}{more}:");
            shown.lines().for_each(|line| text += &format!("\n    {line}"));
        }
    }
    text
}

fn help() -> String {
    let own = [
        ("call TOOL JSON", "call a tool; the result arrives when it is ready"),
        ("run [limits] ARGV…", "run a command likewise"),
        ("jobs", "show what is outstanding"),
        ("cancel ID… | all", "call jobs off, or all that is outstanding"),
        ("wait [ID…]", "wait for what is outstanding, or for other jobs"),
        ("tools", "the tools of the image"),
        ("replay ID [--times N]", "run an evaluation again, and hear where it diverges"),
        ("dead [list | show ID | replay …]", "dead letters"),
        ("query EDN [--as-of TIME]", "ask the history"),
        ("help, quit", "Ctrl-C gives up a line, Ctrl-D leaves"),
    ];
    let mut text = own.map(|(form, does)| format!("{form:<34} {does}")).join("\n");
    text += "\na slash before the first word is as well; and the other commands, without the word evalfleet:";
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        if !matches!(name, "up" | "repl" | "completions" | "man" | "run" | "call" | "replay") {
            text += &format!(" {name}");
        }
    }
    text
}
