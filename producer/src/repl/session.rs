//! One sitting at the REPL: its jobs, its moment, and what each statement does.

use super::complete::Words;
use super::editor::Offered;
use super::grammar::Call;
use super::input::PROMPT;
use super::jobs::Jobs;
use super::line::{self, Line, read};
use super::screen::Screen;
use super::{show, slash};
use crate::api::{Api, Query};
use crate::cli::args::{Cli, Command, ReplayArgs};
use crate::cli::failure::Failure;
use crate::cli::report::plain;
use crate::cli::{Asked, Context, admit, dispatch_within, told_of_replay, told_of_two};
use crate::client::Client;
use crate::registry::Registry;
use crate::replay::{Replay, divergence};
use clap::Parser as _;
use evalfleet_datomic::Point;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::{JobId, ToolName};
use evalfleet_proto::job::Job;
use evalfleet_proto::status::Exit;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};
use tokio::task::JoinSet;

/// Jobs that may be outstanding at once: then the next one waits for one of them.
const OUTSTANDING_MAX: usize = 1000;
/// Evaluations that `/history` shows, the newest.
const HISTORY_SHOWN: usize = 30;
/// Characters of a command that say what a job is.
const WHAT_MAX: usize = 80;

/// What follows a statement.
pub(super) enum Then {
    GoOn,
    /// Wait for what is outstanding.
    Wait,
    Quit,
}

pub(super) struct Session<'a> {
    context: &'a Context,
    client: Arc<Client>,
    screen: Screen,
    tools: Option<Registry>,
    offered: Offered,
    jobs: Jobs,
    waiting: JoinSet<()>,
    moment: Option<String>,
    /// The line of the input at which the statement begins.
    line: usize,
}

impl<'a> Session<'a> {
    pub(super) async fn open(
        context: &'a Context,
        screen: Screen,
        offered: Offered,
    ) -> Result<Self, Failure> {
        let client = Arc::new(context.client().await?);
        let tools = match Registry::load(&context.settings.images_dir(), &context.settings.client.image) {
            Ok(tools) => Some(tools),
            Err(error) => {
                eprintln!("evalfleet: {error}");
                None
            }
        };
        let known = tools.as_ref().map(Registry::tools);
        *offered.lock().unwrap_or_else(PoisonError::into_inner) =
            Words::of(known.into_iter().flatten(), line::commands());
        let (jobs, waiting) = (Jobs::default(), JoinSet::new());
        Ok(Self { context, client, screen, tools, offered, jobs, waiting, moment: None, line: 0 })
    }

    pub(super) fn say(&self, text: &str) {
        self.screen.say(text);
    }

    /// Says what went wrong with the statement that began at `line`.
    pub(super) fn wrong(&self, line: usize, why: &str, exit: Exit) {
        self.jobs.note(exit);
        self.screen.wrong(line, why, exit);
    }

    /// The prompt, which names the moment as of which the history is read.
    pub(super) fn prompt(&self) -> String {
        match &self.moment {
            Some(moment) => format!("evalfleet@{moment}> "),
            None => PROMPT.to_owned(),
        }
    }

    /// Does what a statement says. May be dropped: what it waits for itself is then given up, and jobs go on.
    pub(super) async fn handle(&mut self, statement: &str, line: usize) -> Then {
        self.line = line;
        // What is done is not waited for.
        while self.waiting.try_join_next().is_some() {}
        let jobs = self.jobs.clone();
        let said = read(statement, &|handle| jobs.id_of(handle));
        if matches!(said, Line::Quit) {
            return Then::Quit;
        }
        if matches!(said, Line::Wait) {
            return Then::Wait;
        }
        if let Err(failure) = self.carry_out(said).await {
            self.wrong(line, &failure.to_string(), failure.exit);
        }
        Then::GoOn
    }

    async fn carry_out(&mut self, said: Line) -> Result<(), Failure> {
        match said {
            // Two of them are what the caller does.
            Line::Empty | Line::Quit | Line::Wait => {}
            Line::Help => self.say(&slash::help(&line::commands())),
            Line::Show(text) => self.say(&text),
            Line::Wrong(why) => return Err(Failure::usage(why)),
            Line::Jobs => self.show_all(self.jobs.list(), "no jobs yet"),
            Line::Stats => self.show(self.jobs.stats()),
            Line::CancelAll => self.call_off_all().await,
            Line::Call(call) => self.call(call).await?,
            Line::Result(id) => self.show_result(&id).await?,
            Line::Effects(id) => self.show(show::effects(&self.evaluation(&id).await?.1)),
            Line::Diff(a, b) => self.diff(&a, &b).await?,
            Line::History(tool) => self.history(&tool).await?,
            Line::AsOf(moment) => self.as_of(moment)?,
            Line::Command(command) => self.command(*command).await?,
        }
        Ok(())
    }

    fn show(&self, (document, text): (Value, String)) {
        self.screen.show(&document, &text);
    }

    fn show_all(&self, entries: Vec<(Value, String)>, none: &str) {
        if entries.is_empty() {
            self.say(none);
        }
        entries.into_iter().for_each(|entry| self.show(entry));
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are as on the command line")]
    async fn command(&mut self, mut command: Command) -> Result<(), Failure> {
        if let Some(moment) = &self.moment {
            line::as_of(&mut command, moment);
        }
        let exit = match command {
            Command::Run(run) => return self.submit(Asked::Run(run)).await,
            Command::Call(call) => return self.submit(Asked::Call(call)).await,
            Command::Replay(replay) => return Box::pin(self.replay(replay)).await,
            Command::Get { id, as_of: None } if self.jobs.result(&id).is_some() => {
                return self.show_result(&id).await;
            }
            other => dispatch_within(self.context, other).await?,
        };
        self.jobs.note(exit);
        Ok(())
    }

    async fn call(&mut self, call: Call) -> Result<(), Failure> {
        let tool = self.tools.as_ref().map(|tools| tools.tool(&call.tool)).transpose()?;
        let args = call.arguments(tool).map_err(Failure::harness)?.to_string();
        // With everything else as `call` has it when nothing is said.
        let words = ["evalfleet", "call", "--", call.tool.as_str(), &args];
        let Command::Call(call) = Cli::try_parse_from(words).map_err(Failure::usage)?.command else {
            return Err(Failure::new(Exit::Defect, format!("no call: {args}")));
        };
        self.submit(Asked::Call(call)).await
    }

    async fn submit(&mut self, asked: Asked) -> Result<(), Failure> {
        let what: String = match &asked {
            Asked::Call(call) => {
                admit(self.context, call)?;
                format!("{} {}", call.tool, call.args)
            }
            Asked::Run(run) => run.argv.join(" "),
        };
        self.room().await;
        let job = asked.job(&self.client)?;
        let before = asked.done_before(self.context, &job).await;
        self.enqueue(asked, &job, before, &what).await
    }

    /// Waits until there is room for one more.
    async fn room(&mut self) {
        while self.waiting.len() >= OUTSTANDING_MAX {
            self.waiting.join_next().await;
        }
    }

    /// Gives a job its handle, and says so.
    fn register(&self, id: JobId, said: &str, what: &str) -> u32 {
        let what = plain(what);
        let what = match what.char_indices().nth(WHAT_MAX) {
            Some((at, _)) => format!("{}…", what.get(..at).unwrap_or_default()),
            None => what,
        };
        let number = self.jobs.add(id, what.clone());
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).handles = self.jobs.handles();
        let document = json!({"handle": number, "id": id, "state": said, "what": what});
        self.screen.show(&document, &format!("#{number} {id} {said}: {what}"));
        number
    }

    async fn enqueue(
        &mut self,
        asked: Asked,
        job: &Job,
        before: Option<Evaluation>,
        what: &str,
    ) -> Result<(), Failure> {
        let pending = match before {
            Some(_) => None,
            None => Some(self.client.submit_job(job).await?),
        };
        let said = if pending.is_some() { "submitted" } else { "done before" };
        let number = self.register(job.id, said, what);
        let (jobs, screen, client) = (self.jobs.clone(), self.screen.clone(), self.client.clone());
        let line = self.line;
        self.waiting.spawn(async move {
            let done = match (before, pending) {
                (Some(evaluation), _) => Ok(evaluation),
                (None, Some(pending)) => pending.wait().await,
                (None, None) => return,
            };
            match done {
                Ok(evaluation) => {
                    let said = asked.fetch(&client, &evaluation).await;
                    let (document, text) = show::result(Some(number), &evaluation);
                    let exit = Exit::of(evaluation.status, evaluation.cause);
                    jobs.done(number, Arc::new(evaluation), exit);
                    screen.show(&document, &text);
                    said.iter().for_each(|said| screen.say(&plain(said)));
                }
                Err(error) => {
                    jobs.lost(number, error.exit());
                    screen.wrong(line, &format!("#{number}: {error}"), error.exit());
                }
            }
        });
        Ok(())
    }

    /// Runs a recorded evaluation again; how it compares is told when it is known.
    async fn replay(&mut self, args: ReplayArgs) -> Result<(), Failure> {
        let replay = Arc::new(Replay::of(&self.context.settings, &args.id).await?);
        let of = replay.original().id;
        for _ in 0..args.times {
            self.room().await;
            let mut pending = self.client.submit_job(&replay.job()).await?;
            if let Some(patience) = args.patience {
                pending = pending.patience(patience);
            }
            let number = self.register(pending.id(), "submitted", &format!("replay of {of}"));
            let (jobs, screen, replay) = (self.jobs.clone(), self.screen.clone(), replay.clone());
            let line = self.line;
            self.waiting.spawn(async move {
                match pending.wait().await {
                    Ok(evaluation) => {
                        let replayed = replay.compare(&evaluation).await;
                        jobs.done(number, Arc::new(evaluation), replayed.exit());
                        let mut document = serde_json::to_value(&replayed).unwrap_or_default();
                        document["handle"] = number.into();
                        document["of"] = json!(of);
                        screen.show(&document, &format!("#{number} {}", told_of_replay(of, &replayed)));
                    }
                    Err(error) => {
                        jobs.lost(number, error.exit());
                        screen.wrong(line, &format!("#{number}: {error}"), error.exit());
                    }
                }
            });
        }
        Ok(())
    }

    /// A result that is held, or that is recorded.
    async fn evaluation(&self, id: &str) -> Result<(Option<u32>, Arc<Evaluation>), Failure> {
        if let Some((number, evaluation)) = self.jobs.result(id) {
            return Ok((Some(number), evaluation));
        }
        let document = Api::new(&self.context.settings.api)?.evaluation(id, self.moment.as_deref()).await?;
        let evaluation = serde_json::from_value(document)
            .map_err(|_| Failure::usage(format!("{id} is no job: `get {id}` shows what it is")))?;
        Ok((None, Arc::new(evaluation)))
    }

    async fn show_result(&self, id: &str) -> Result<(), Failure> {
        let (number, evaluation) = self.evaluation(id).await?;
        self.show(show::result(number, &evaluation));
        Ok(())
    }

    async fn diff(&self, a: &str, b: &str) -> Result<(), Failure> {
        let ((first, left), (second, right)) = (self.evaluation(a).await?, self.evaluation(b).await?);
        let found = divergence::compare(&left, &right, &[]);
        let name = |number: Option<u32>, id: &str| number.map_or_else(|| id.to_owned(), |n| format!("#{n}"));
        let text = told_of_two(&found, [&name(first, a), &name(second, b)]);
        let mut document = serde_json::to_value(&found).unwrap_or_default();
        (document["a"], document["b"]) = (json!(left.id), json!(right.id));
        self.screen.show(&document, &text);
        Ok(())
    }

    async fn history(&self, tool: &ToolName) -> Result<(), Failure> {
        let query = "[:find ?id ?at ?status ?rate :in $ ?tool :where [?c :function-call/name ?tool] \
                     [?e :evaluation/function-calls ?c] [?e :evaluation/id ?id] [?e :evaluation/timestamp ?at] \
                     [(get-else $ ?e :evaluation/status :imported) ?status] \
                     [(get-else $ ?c :function-call/success-rate -1.0) ?rate]]";
        let args = vec![Value::from(tool.as_str()).to_string()];
        let query = Query { query: query.to_owned(), args, as_of: self.moment.clone(), rows_max: None };
        let rows = Api::new(&self.context.settings.api)?.query(&query).await?;
        let (count, cut) = (rows.rows.len(), rows.truncated);
        self.show_all(show::history(rows.rows, HISTORY_SHOWN), &format!("{tool} was never called"));
        if cut {
            self.say(&format!("the API gives {count} of them: /query asks more exactly"));
        }
        Ok(())
    }

    fn as_of(&mut self, moment: Option<String>) -> Result<(), Failure> {
        if let Some(moment) = &moment {
            moment.parse::<Point>().map_err(Failure::usage)?;
        }
        let text = match &moment {
            Some(moment) => format!("the history is read as it was known at {moment}; /as-of now ends that"),
            None => "the history is read as it is".to_owned(),
        };
        self.screen.show(&json!({ "as_of": moment }), &text);
        self.moment = moment;
        Ok(())
    }

    /// Ctrl-C at an empty prompt: the newest job is called off.
    pub(super) async fn interrupted(&mut self) {
        match self.jobs.running().last() {
            Some((number, id)) => self.call_off(*number, *id).await,
            None => self.say("nothing is running; Ctrl-D or /quit leaves"),
        }
    }

    /// Ctrl-C while a statement was carried out.
    pub(super) fn gave_up(&self) {
        self.wrong(self.line, "given up; what it submitted goes on, and is recorded", Exit::Cancelled);
    }

    /// Calls off what is outstanding; each says so when its worker has heard of it.
    pub(super) async fn call_off_all(&self) {
        for (number, id) in self.jobs.running() {
            self.call_off(number, id).await;
        }
    }

    async fn call_off(&self, number: u32, id: JobId) {
        match self.client.cancel(id, None).await {
            Ok(()) => {
                self.jobs.called_off(number);
                let document = json!({"handle": number, "id": id, "state": "called off"});
                self.screen.show(&document, &format!("#{number} {id} is called off"));
            }
            Err(error) => self.wrong(self.line, &error.to_string(), error.exit()),
        }
    }

    /// Waits until nothing is outstanding. May be dropped and asked again.
    pub(super) async fn all_done(&mut self) {
        while self.waiting.join_next().await.is_some() {}
    }

    /// Ends the sitting. A script tells the worst of what it saw; a person leaves in peace.
    pub(super) async fn close(mut self, script: bool) -> Exit {
        if let (false, Some(left)) = (script, self.jobs.left()) {
            self.say(&left);
        }
        self.waiting.shutdown().await;
        // The tasks are gone, and what they had of it.
        if let Some(client) = Arc::into_inner(self.client) {
            client.close().await;
        }
        if script { self.jobs.worst() } else { Exit::Passed }
    }
}
