//! `suite`: questions put to a model, and runs of them compared.

use super::args::CiCommand;
use super::args::suite::{RunSuiteArgs, SuiteCommand};
use super::failure::Failure;
use super::import::connect;
use super::{Context, emit, insight, print_json};
use crate::gemini::chat::Bounds;
use crate::gemini::recorded::{Recorded, Recorder};
use crate::gemini::service::Service;
use crate::gemini::{self, Model};
use crate::machine::files::write_atomically;
use crate::suite::journal::{Begun, Journal};
use crate::suite::run::{Rated, Report, tools};
use crate::suite::{self, Options, Suite};
use evalfleet_proto::status::Exit;
use evalfleet_recorder::history::{self, Question};
use evalfleet_recorder::import::import;
use evalfleet_recorder::store::Store;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Words of a question that a line shows.
const QUESTION_MAX: usize = 60;

pub(super) async fn suite(context: &Context, command: SuiteCommand) -> Result<Exit, Failure> {
    match command {
        SuiteCommand::Run(args) => run(context, args).await,
        SuiteCommand::Compare { base, head } => {
            let (base, head) = (side(&base)?, side(&head)?);
            insight::ci(context, CiCommand::Compare { base, head, as_of: None }).await
        }
    }
}

/// A batch by its name, or by its result file.
fn side(of: &str) -> Result<String, Failure> {
    let path = Path::new(of);
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(format!("batch:{of}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{of}: {error}")))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("batch:{}", history::parse(&name, &text).map_err(Failure::usage)?.id))
}

async fn run(context: &Context, args: RunSuiteArgs) -> Result<Exit, Failure> {
    let suite = Suite::load(&args.file).map_err(Failure::harness)?;
    let registry = tools(&suite, &context.settings)?;
    let model = model(&args)?;
    let dir = args.out.clone().unwrap_or_else(|| context.settings.state_dir().join("suites"));
    let journal = journal(&args, &suite, &dir)?;
    let client = context.client().await?;
    let (count, seen) = (suite.questions.len(), AtomicUsize::new(journal.done().len()));
    let told = |question: &Question| {
        let number = seen.fetch_add(1, Ordering::Relaxed) + 1;
        if !context.json {
            eprintln!("{number:>4}/{count}  {}", line(question));
        }
    };
    let options = Options {
        parallel: args.parallel.into(),
        retries: args.retries,
        bounds: Bounds { turns: args.turns.into(), ..Bounds::default() },
    };
    if !context.json && !journal.done().is_empty() {
        eprintln!("{}: {} of {count} questions are done", journal.begun().id(), journal.done().len());
    }
    let report = tokio::select! {
        report = suite::run(&client, &model, &suite, &registry, &journal, options, &told) => report?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Cancelled, "stopped: the same command with --resume goes on"));
        }
    };
    client.close().await;
    record(context, &journal, &report).await?;
    show(context, &journal, &report)?;
    Ok(exit(&report))
}

fn model(args: &RunSuiteArgs) -> Result<Model, Failure> {
    let usage = |error: gemini::Error| Failure::usage(error);
    let Some(file) = &args.exchanges else {
        let model =
            Model::new(&args.model, Service::from_environment(&args.model).map_err(usage)?, args.tries);
        let Some(file) = &args.record else { return Ok(model) };
        let recorder = Recorder::append(file);
        let recorder = recorder.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
        return Ok(model.recording(recorder));
    };
    Ok(Model::new(&args.model, Recorded::load(file, &args.model).map_err(usage)?, args.tries))
}

fn journal(args: &RunSuiteArgs, suite: &Suite, dir: &Path) -> Result<Journal, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", dir.display()));
    if args.resume {
        return Journal::resume(dir, suite, &args.model).map_err(failed)?.ok_or_else(|| {
            Failure::usage(format!(
                "no run of {} with {} was stopped (looked in {}): leave --resume out to begin one",
                suite.name,
                args.model,
                dir.display()
            ))
        });
    }
    // Milliseconds and process: no two runs of one second share both.
    let nonce =
        (std::process::id() << 10) ^ u32::from(evalfleet_proto::Timestamp::now().subsec_nanosecond() as u16);
    Journal::begin(dir, Begun::now(suite, &args.model, nonce)).map_err(failed)
}

/// The result file first: with it the run is done, and can be imported at any time.
async fn record(context: &Context, journal: &Journal, report: &Report) -> Result<(), Failure> {
    let path = journal.results();
    let text =
        serde_json::to_string_pretty(&report.file).map_err(|error| Failure::new(Exit::Defect, error))?;
    write_atomically(&path, text.as_bytes(), 0o644)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    let again = |error: &dyn std::fmt::Display| {
        let path = path.display();
        Failure::new(
            Exit::Unreachable,
            format!("{error}. The results are in {path}: evalfleet history import {path}"),
        )
    };
    let (store, blobs) = connect(context).await.map_err(|error| again(&error))?;
    import(&Store::new(store, blobs), std::slice::from_ref(&path)).await.map_err(|error| again(&error))?;
    Ok(())
}

fn exit(report: &Report) -> Exit {
    match (report.causes.is_empty(), report.causes.contains_key("infrastructure")) {
        (true, _) => Exit::Passed,
        (false, true) => Exit::Infrastructure,
        (false, false) => Exit::Subject,
    }
}

fn line(question: &Question) -> String {
    let plain = |text: &str| text.replace(|letter: char| letter.is_control(), " ");
    let asked: String = plain(&question.question).chars().take(QUESTION_MAX).collect();
    let how = question.cause().map_or("passed", |cause| cause.as_str());
    let why = question.error.as_deref().map_or_else(String::new, |why| format!("  {}", plain(why)));
    let seconds = question.response_time_ms as f64 / 1000.0;
    format!("{how:<14} {seconds:>6.1} s  {}: {asked}{why}", question.question_id)
}

fn show(context: &Context, journal: &Journal, report: &Report) -> Result<(), Failure> {
    if context.json {
        let mut document = serde_json::to_value(report).map_err(|error| Failure::new(Exit::Defect, error))?;
        document["results"] = journal.results().display().to_string().into();
        document["questions"] = serde_json::to_value(&report.file.results).unwrap_or_default();
        return print_json(&document, true);
    }
    emit(&format!("{}  {}", report.batch, report.model))?;
    emit(&format!("  as reported          {}", rated(&report.reported)))?;
    emit(&format!("  put to the test      {}", rated(&report.attributed)))?;
    for (cause, count) in &report.causes {
        emit(&format!("  {count} by {cause}"))?;
    }
    for (function, rate) in &report.functions {
        emit(&format!("  {function:<20} {}", rated(rate)))?;
    }
    eprintln!("The results are in {}", journal.results().display());
    Ok(())
}

fn rated(rated: &Rated) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let Some(rate) = rated.rate else { return "–".to_owned() };
    format!(
        "{:>5}  ({}/{}, 95 %: {} to {})",
        percent(rate),
        rated.tally.passed,
        rated.tally.tries,
        percent(rated.interval.low),
        percent(rated.interval.high)
    )
}
