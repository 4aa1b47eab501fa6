//! `run` and `call`: one job, from its arguments to its exit code.

use super::args::{CallArgs, JobArgs, RunArgs};
use super::failure::Failure;
use super::live::Live;
use super::{Context, console, print_json};
use crate::api::Api;
use crate::client::{self, Client, Pending};
use crate::toolbox::{self, Quarantine};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::job::{Content, FileIn, FunctionCall, Job, Task};
use evalfleet_proto::status::Exit;
use evalfleet_proto::submission::Submission;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub(super) async fn run(context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    one(context, Asked::Run(args)).await
}

pub(super) async fn call(context: &Context, args: CallArgs) -> Result<Exit, Failure> {
    one(context, Asked::Call(args)).await
}

/// What one job is made of.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A command.
    Run(RunArgs),
    /// A call.
    Call(CallArgs),
}

impl Asked {
    /// What every job has.
    pub(crate) fn args(&self) -> &JobArgs {
        match self {
            Self::Run(run) => &run.job,
            Self::Call(call) => &call.job,
        }
    }

    /// The job, with its files and its standard input.
    ///
    /// # Errors
    /// When it does not fit, or a file cannot be read; nothing is enqueued.
    pub(crate) fn job(&self, client: &Client) -> Result<Job, Failure> {
        let (submission, stdin) = match self {
            Self::Run(run) => (run.submission(), run.stdin.as_deref()),
            Self::Call(call) => (submission_of_call(call)?, None),
        };
        let mut job = client.prepare(submission)?;
        attach(&mut job, self.args(), stdin)?;
        Ok(job)
    }

    /// What it came to when it was submitted under the same key before, if that is recorded.
    pub(crate) async fn done_before(&self, context: &Context, job: &Job) -> Option<Evaluation> {
        self.args().key.as_ref()?;
        match Api::new(&context.settings.api).ok()?.recorded(job.id).await {
            Ok(evaluation) => evaluation,
            Err(error) => {
                // Then it runs again, and the first result stands.
                tracing::debug!(%error, "the record cannot be asked");
                None
            }
        }
    }

    /// Fetches the files that the job kept, and says of each what came of it. The verdict stands, whatever that is.
    pub(crate) async fn fetch(&self, client: &Client, evaluation: &Evaluation) -> Vec<String> {
        let mut said = Vec::new();
        for (guest, local) in &self.args().out {
            said.extend(fetch(client, evaluation, guest, local.clone()).await);
        }
        said
    }
}

/// Refuses a tool that was found bad, unless it is forced.
///
/// # Errors
/// Says since when it is in quarantine, and how it gets out.
pub(crate) fn admit(context: &Context, args: &CallArgs) -> Result<(), Failure> {
    let list = Quarantine::in_dir(&context.settings.state_dir());
    match list.of(args.tool.as_str()).map_err(toolbox::Error::List)? {
        Some(entry) if !args.force => Err(toolbox::Error::Quarantined(entry).into()),
        _ => Ok(()),
    }
}

/// The call that the arguments describe.
///
/// # Errors
/// When the tool's arguments are no JSON.
fn submission_of_call(args: &CallArgs) -> Result<Submission, Failure> {
    let text = if args.args == "-" {
        String::from_utf8(read_input(Path::new("-"))?).map_err(Failure::harness)?
    } else {
        args.args.clone()
    };
    let arguments = serde_json::from_str(&text).map_err(|error| {
        Failure::harness(format!("the arguments of {} are no JSON ({error}): {text}", args.tool))
    })?;
    let mut submission = Submission::function_call(FunctionCall { name: args.tool.clone(), args: arguments });
    args.job.apply(&mut submission);
    Ok(submission)
}

async fn one(context: &Context, asked: Asked) -> Result<Exit, Failure> {
    if let Asked::Call(call) = &asked {
        admit(context, call)?;
    }
    let client = context.client().await?;
    let job = asked.job(&client)?;
    let evaluation = match asked.done_before(context, &job).await {
        Some(evaluation) => {
            if context.json {
                print_json(&evaluation, true)?;
            } else {
                eprintln!("{} was done before, under the same key", evaluation.id);
                Live::default().end(&evaluation);
            }
            evaluation
        }
        None => {
            let pending = client.submit_job(&job).await?;
            if !context.json {
                eprintln!("{} submitted", pending.id());
            }
            follow(pending, context.json).await?
        }
    };
    for said in asked.fetch(&client, &evaluation).await {
        eprintln!("{said}");
    }
    client.close().await;
    Ok(Exit::of(evaluation.status, evaluation.cause))
}

/// Shows a job's output as it comes, and its report at its end; or, for a program, its document.
pub(super) async fn follow(pending: Pending, json: bool) -> Result<Evaluation, Failure> {
    let mut live = Live::default();
    let evaluation = tokio::select! {
        done = pending.watch(|event| if !json { live.event(&event) }) => done?,
        // The job goes on: it is recorded whether anyone waits or not.
        _ = tokio::signal::ctrl_c() => return Err(Failure::new(Exit::Cancelled, "not waited for: the job goes on, and `evalfleet cancel` calls it off")),
    };
    if json {
        print_json(&evaluation, true)?
    } else {
        live.end(&evaluation)
    }
    Ok(evaluation)
}

/// Puts local files and standard input into the job; the client finds another place for what is large.
fn attach(job: &mut Job, args: &JobArgs, stdin: Option<&Path>) -> Result<(), Failure> {
    for (local, guest) in &args.file {
        let bytes = read_input(local)?;
        let mode = std::fs::metadata(local).map_or(0o644, |meta| meta.permissions().mode() & 0o777);
        job.files.push(FileIn { path: guest.clone(), mode, content: Content::Inline(bytes) });
    }
    if let (Some(path), Task::Command(command)) = (stdin, &mut job.task) {
        command.stdin = Some(Content::Inline(read_input(path)?));
    }
    Ok(())
}

/// Reads a file, or standard input for `-`.
pub(super) fn read_input(path: &Path) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") {
        console::may_read()?;
    }
    let read = || {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
        std::fs::read(path)
    };
    read()
        .map_err(|error: std::io::Error| Failure::harness(format!("cannot read {}: {error}", path.display())))
}

/// Fetches one file that the job kept, if it did, and says what came of it.
async fn fetch(
    client: &Client,
    evaluation: &Evaluation,
    guest: &str,
    local: Option<PathBuf>,
) -> Option<String> {
    let Some(artifact) = evaluation.artifacts.iter().find(|artifact| artifact.path == *guest) else {
        return Some(format!("{guest} was not kept"));
    };
    let key = artifact.sha256?;
    let name = || guest.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("out").to_owned();
    let local = local.unwrap_or_else(|| PathBuf::from(name()));
    let fetched = async {
        let bytes = client.blobs().await?.get(key).await?;
        Ok::<_, client::Error>(bytes)
    };
    let saved = match fetched.await {
        Ok(bytes) => std::fs::write(&local, bytes).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Some(match saved {
        Ok(()) => format!("{guest} is in {} ({} bytes)", local.display(), artifact.bytes),
        Err(error) => format!("{guest} cannot be fetched: {error}"),
    })
}
