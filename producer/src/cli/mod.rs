//! The command: arguments in, an exit code out. Results go to standard output, everything else to
//! standard error.

pub mod args;
pub mod failure;
pub mod report;

mod alerts;
mod amend;
mod backup;
mod batch;
mod cancel;
mod change;
pub(crate) mod console;
mod dead;
mod export;
mod healing;
mod history;
mod image;
mod image_gc;
mod image_import;
mod image_ssh;
mod import;
mod insight;
mod jobs;
mod live;
mod logs;
mod machine;
mod mcp;
mod progress;
mod replay;
mod retain;
mod run;
mod self_description;
mod suite;
mod templates;
mod tool;
mod waiting;
mod worker;

use crate::client::Client;
use args::{Cli, Command};
use clap::Parser as _;
use evalfleet_proto::status::Exit;
use evalfleet_service::settings::Settings;
use failure::Failure;
use std::process::ExitCode;

/// What every command has at hand.
#[derive(Debug)]
pub struct Context {
    /// The settings, from all their layers.
    pub settings: Settings,
    /// The user's file among them.
    pub config: Option<std::path::PathBuf>,
    /// Whether documents are wanted.
    pub json: bool,
}

impl Context {
    /// Connects to the broker. As long as the command runs, people are told what it waits for.
    ///
    /// # Errors
    /// When none of its nodes answers now.
    pub async fn client(&self) -> Result<Client, Failure> {
        let client = Client::connect(&self.settings).await?;
        tokio::spawn(waiting::tell(std::sync::Arc::downgrade(client.link())));
        Ok(client)
    }
}

/// Reads the arguments, does what they say, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Passed };
            return ExitCode::from(exit.code());
        }
    };
    // Commands speak for themselves: of the logs only what went wrong belongs on their terminal.
    quiet_logs(&cli.command);
    let exit = match dispatch(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("evalfleet: {failure}");
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn quiet_logs(command: &Command) {
    if std::env::var_os("EVALFLEET_LOG").is_some() || matches!(command, Command::Up(up) if up.supervised) {
        evalfleet_service::logging::init();
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    // These need no settings: they must work where those are wrong.
    if let Command::Completions { shell } = cli.command {
        return self_description::completions(shell);
    }
    if let Command::Man { dir } = &cli.command {
        return self_description::man(dir.as_deref());
    }
    if matches!(cli.command, Command::Doctor { settings: true }) {
        emit(evalfleet_service::settings::DEFAULT.trim_end())?;
        return Ok(Exit::Passed);
    }
    let config = cli.config.map(|path| std::path::absolute(&path).unwrap_or(path));
    let settings = Settings::load(config.as_deref()).map_err(Failure::usage)?;
    let context = Context { settings, config, json: cli.json };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Defect, error))?;
    let exit = runtime.block_on(Box::pin(run_command(&context, cli.command)));
    // Threads that wait for input must not keep an ended command alive.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    exit
}

async fn run_command(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up(args) => machine::up(context, args).await,
        Command::Down => machine::down(context).await,
        Command::Status => machine::status(context).await,
        Command::Doctor { .. } => machine::doctor(context).await,
        Command::Run(args) => run::run(context, args).await,
        Command::Call(args) => run::call(context, args).await,
        Command::Submit(args) => jobs::submit(context, args).await,
        Command::Wait(args) => jobs::wait(context, args).await,
        Command::Cancel(args) => cancel::cancel(context, args).await,
        Command::Amend(args) => amend::amend(context, args).await,
        Command::Replay(args) => Box::pin(replay::replay(context, args)).await,
        Command::Logs(args) => logs::logs(context, args).await,
        Command::Batch(command) => batch::batch(context, command).await,
        Command::Backup(command) => backup::backup(context, command).await,
        Command::Get { id, as_of } => history::get(context, id, as_of.as_deref()).await,
        Command::List { limit, as_of } => history::list(context, limit, as_of.as_deref()).await,
        Command::Query(args) => history::query(context, args).await,
        Command::Insights { as_of } => insight::insights(context, as_of.as_deref()).await,
        Command::Suite(command) => Box::pin(suite::suite(context, command)).await,
        Command::Alerts(args) => alerts::alerts(context, args).await,
        Command::Healing(command) => healing::healing(context, command).await,
        Command::Ci(command) => insight::ci(context, command).await,
        Command::Serve { listen } => insight::serve(context, listen),
        Command::Dashboard => insight::dashboard(context),
        Command::Dead(command) => dead::dead(context, command).await,
        Command::Tool(command) => tool::tool(context, command).await,
        Command::Change(command) => Box::pin(change::change(context, command)).await,
        Command::History(command) => import::history(context, command).await,
        Command::Worker(command) => worker::worker(context, command).await,
        Command::Image(command) => image::image(context, command).await,
        Command::Topology(command) => machine::topology(context, command).await,
        Command::Mcp { image } => mcp::mcp(context, image).await,
        Command::Repl => crate::repl::repl(context).await,
        // Answered before there were settings.
        Command::Completions { .. } | Command::Man { .. } => Ok(Exit::Passed),
    }
}

pub(crate) use console::{emit, print_json};
pub(crate) use replay::{told as told_of_replay, told_of_two};
pub(crate) use run::{Asked, admit};

/// Does what a line of the REPL says.
pub(crate) async fn dispatch_within(context: &Context, command: Command) -> Result<Exit, Failure> {
    Box::pin(run_command(context, command)).await
}
