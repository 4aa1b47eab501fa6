//! `change`: changes to a repository, evaluated before they are made.

use super::args::change::{ChangeCommand, EvalArgs};
use super::failure::Failure;
use super::report::{plain, short};
use super::run::read_input;
use super::{Context, emit, print_json};
use crate::change::{
    CANDIDATES_MAX, Candidate, Change, Changes, Check, Committed, Evaluated, Request, SafetyResult, Verdict,
};
use evalfleet_proto::status::Exit;
use std::fmt::Write as _;
use std::path::Path;

/// Violations that a report lists; the document has them all.
const SHOWN_MAX: usize = 50;

pub(super) async fn change(context: &Context, command: ChangeCommand) -> Result<Exit, Failure> {
    let ChangeCommand::Eval(args) = command;
    let request = request(&args)?;
    if args.commit && request.candidates.len() > 1 {
        return Err(Failure::usage("--commit makes one change, and several were given"));
    }
    let client = context.client().await?;
    let changes = Changes::new(&client, &context.settings);
    let tell = |what: &str| {
        if !context.json {
            eprintln!("{what}");
        }
    };
    let outcome = tokio::select! {
        outcome = changes.evaluate(&request, &tell) => outcome?,
        // What was submitted goes on, and is recorded.
        _ = tokio::signal::ctrl_c() => return Err(Failure::new(Exit::Cancelled, "not waited for: its jobs go on")),
    };
    let committed = match (args.commit, outcome.exit()) {
        (true, Exit::Passed) => Some(outcome.commit(&message(&args, &request)).await),
        _ => None,
    };
    let many = outcome.evaluated.len() > 1;
    let done = committed.as_ref().and_then(|it| it.as_ref().ok());
    for evaluated in &outcome.evaluated {
        show(context, evaluated, done, many)?;
    }
    client.close().await;
    match committed {
        Some(Err(error)) => Err(error.into()),
        _ => Ok(outcome.exit()),
    }
}

fn request(args: &EvalArgs) -> Result<Request, Failure> {
    let mut candidates = Vec::new();
    for path in &args.patch {
        let name = if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
        candidates.push(Candidate { name: name.into_owned(), change: Change::Patch(read_input(path)?) });
    }
    let revisions =
        args.rev.iter().map(|rev| Candidate { name: rev.clone(), change: Change::Revision(rev.clone()) });
    candidates.extend(revisions);
    if candidates.len() > CANDIDATES_MAX {
        return Err(Failure::usage(format!(
            "{} changes, and one request may bring {CANDIDATES_MAX}",
            candidates.len()
        )));
    }
    Ok(Request {
        repository: args.repo.clone(),
        base: args.base.clone(),
        suite: args.suite.clone(),
        image: args.image.clone(),
        candidates,
    })
}

/// What a commit says where its patch brings no message of its own.
fn message(args: &EvalArgs, request: &Request) -> String {
    let mail = request.candidates.iter().any(
        |it| matches!(&it.change, Change::Patch(patch) if patch.starts_with(b"From ") || patch.starts_with(b"From:")),
    );
    if !args.message.is_empty() || mail {
        return args.message.clone();
    }
    let name = request.candidates.first().map_or("", |it| it.name.as_str());
    format!("Apply {}", name.rsplit('/').next().unwrap_or(name))
}

fn show(
    context: &Context,
    evaluated: &Evaluated,
    committed: Option<&Committed>,
    many: bool,
) -> Result<(), Failure> {
    let result = &evaluated.result;
    if !context.json {
        emit(&report(result))?;
        if let Some(Committed { commit, branch }) = committed {
            emit(&format!("  committed: {commit} on {branch}"))?;
        }
        return Ok(());
    }
    let mut document = serde_json::to_value(result).map_err(|error| Failure::new(Exit::Defect, error))?;
    if let Some(committed) = committed {
        document["committed"] = serde_json::to_value(committed).unwrap_or_default();
    }
    print_json(&document, !many)
}

/// A verdict as people read it, without a trailing newline.
fn report(result: &SafetyResult) -> String {
    let evaluation = &result.evaluation;
    let base = result.base.commit.get(..12).unwrap_or(&result.base.commit);
    let mut text = format!("{} {}: {} on {base}", evaluation.id, result.verdict.as_str(), result.change.name);
    let size = &result.change.size;
    let _ = write!(text, "\n  change: {} files, +{} -{} lines", size.files, size.added, size.removed);
    let origin = if result.suite.declared { "safety.toml" } else { "found out" };
    let _ = write!(text, "\n  suite: {} ({origin})", result.suite.name);
    if result.verdict == Verdict::Undecided {
        for evidence in &evaluation.evidence {
            let _ = write!(text, "\n  because: {}", evidence.message);
        }
    }
    for violation in result.violations.iter().take(SHOWN_MAX) {
        let _ = write!(text, "\n  {}", plain(&violation.to_string()));
        for line in violation.evidence.lines().take(6) {
            let _ = write!(text, "\n      {}", plain(line));
        }
    }
    if result.violations.len() > SHOWN_MAX {
        let _ = write!(text, "\n  … and {} more", result.violations.len() - SHOWN_MAX);
    }
    for check in &result.checks {
        let _ = write!(text, "\n  {}", line(check));
    }
    let reused = result.looks.iter().filter(|look| look.reused).count();
    let spent = evaluation.finished.duration_since(evaluation.started);
    let spent = short(spent.try_into().unwrap_or_default());
    let _ =
        write!(text, "\n  {} runs in clean VMs, {reused} of them made before; {spent}", result.looks.len());
    text
}

fn line(check: &Check) -> String {
    let mark = if check.passed { "ok" } else { "no" };
    format!("{mark:<3} {:<15} base {}, change {}", check.name, check.base, check.change)
}
