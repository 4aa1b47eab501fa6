//! Putting the questions of a suite to a model, several at once, and what comes of it.

use super::file::{FixtureFile, Question, Suite};
use super::journal::Journal;
use super::verdict::{Verdict, judge};
use crate::client::Client;
use crate::functions::{EvalResult, gemini};
use crate::gemini::Model;
use crate::gemini::chat::{Bounds, Chat, Hands, Outcome};
use crate::registry::{self, Registry};
use evalfleet_analytics::rate::{Confidence, Interval, Tally};
use evalfleet_proto::effect::{Effect, ObjectType};
use evalfleet_proto::ids::{ImageRef, Sha256};
use evalfleet_proto::job::{Content, FileIn, FunctionCall};
use evalfleet_proto::status::Cause;
use evalfleet_proto::submission::Submission;
use evalfleet_recorder::history::{self, BatchFile};
use evalfleet_service::settings::Settings;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// How a suite is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Questions under way at once, 1 to 64.
    pub parallel: usize,
    /// How often a question is put again that failed for no doing of the model.
    pub retries: u32,
    /// How far one question may go.
    pub bounds: Bounds,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: 4, retries: 2, bounds: Bounds::default() }
    }
}

/// Why a suite cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its tools cannot be read, or it expects one that there is not.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// What was done cannot be written down.
    #[error("the run's journal: {0}")]
    Journal(#[from] std::io::Error),
}

/// What a suite came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The batch, as the history calls it.
    pub batch: String,
    /// Who was asked.
    pub model: String,
    /// Questions that were answered as they should be, of all: whatever kept them from that.
    pub reported: Rated,
    /// The same of those that were put to the test.
    pub attributed: Rated,
    /// How many failed by whose doing.
    pub causes: BTreeMap<&'static str, u64>,
    /// For each function: questions that called it and were answered as they should be, of those that called it.
    pub functions: BTreeMap<String, Rated>,
    /// Each question, in the suite's order, as the result file has it.
    #[serde(skip)]
    pub file: BatchFile,
}

/// A rate, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rated {
    /// The counts.
    #[serde(flatten)]
    pub tally: Tally,
    /// The rate; none without tries.
    pub rate: Option<f64>,
    /// Wilson's interval at 95 %.
    pub interval: Interval,
}

impl From<Tally> for Rated {
    fn from(tally: Tally) -> Self {
        Self { tally, rate: tally.rate(), interval: tally.wilson(Confidence::default()) }
    }
}

/// The tools of the image that a suite's calls run in.
///
/// # Errors
/// When the image has no tools here, or a question expects one that it has not.
pub fn tools(suite: &Suite, settings: &Settings) -> Result<Registry, Error> {
    let image = suite.image.as_ref().unwrap_or(&settings.client.image);
    let registry = Registry::load(&settings.images_dir(), image)?;
    for name in suite.questions.iter().flat_map(|question| &question.expected_tools) {
        // A name that no tool can have is no tool's.
        if let Ok(name) = name.parse() {
            registry.tool(&name)?;
        }
    }
    Ok(registry)
}

/// Puts every question that is not done yet, and notes each as it is done; `told` hears of each. Those that failed for
/// no doing of the model are put again, after the others.
///
/// # Errors
/// When what was done cannot be written down.
pub async fn run(
    client: &Client,
    model: &Model,
    suite: &Suite,
    registry: &Registry,
    journal: &Journal,
    options: Options,
    told: &(dyn Fn(&history::Question) + Sync),
) -> Result<Report, Error> {
    let tools = gemini::declarations(registry.tools());
    let mut done: BTreeMap<String, history::Question> = journal.done().clone();
    for round in 0..=options.retries {
        let again = |question: &history::Question| question.cause() == Some(Cause::Infrastructure);
        let left: Vec<&Question> =
            suite.questions.iter().filter(|question| done.get(&question.id).is_none_or(again)).collect();
        if left.is_empty() {
            break;
        }
        if round > 0 {
            tracing::info!(questions = left.len(), round, "put again: it was no doing of the model");
        }
        let put = |question| put(client, model, suite, &tools, journal, options.bounds, question);
        let mut under_way =
            stream::iter(left.into_iter().map(put)).buffer_unordered(options.parallel.clamp(1, 64));
        while let Some(question) = under_way.next().await {
            journal.note(&question)?;
            told(&question);
            done.insert(question.question_id.clone(), question);
        }
    }
    Ok(report(suite, journal, done))
}

/// Puts one question, in a conversation of its own.
async fn put(
    client: &Client,
    model: &Model,
    suite: &Suite,
    tools: &Value,
    journal: &Journal,
    bounds: Bounds,
    question: &Question,
) -> history::Question {
    let begun = Instant::now();
    let labels = BTreeMap::from([
        ("run".to_owned(), journal.begun().id()),
        ("suite".to_owned(), suite.name.clone()),
        ("case".to_owned(), question.id.clone()),
        ("model".to_owned(), model.name().to_owned()),
    ]);
    let hands = InVm { client, files: &suite.files, image: suite.image.as_ref(), labels };
    let mut chat = Chat::new(suite.system.clone(), tools.clone());
    let outcome = chat.ask(model, &hands, &question.question, bounds).await;
    noted(question, &outcome, &judge(question, &outcome), begun.elapsed().as_millis())
}

fn noted(question: &Question, outcome: &Outcome, verdict: &Verdict, millis: u128) -> history::Question {
    history::Question {
        question_id: question.id.clone(),
        question: question.question.clone(),
        expected_tools: question.expected_tools.clone(),
        actual_tools: outcome.calls.iter().map(|called| called.call.name.to_string()).collect(),
        success: verdict.passed(),
        response_time_ms: u64::try_from(millis).unwrap_or(u64::MAX),
        error: verdict.why.clone(),
        cause: verdict.cause,
    }
}

fn report(suite: &Suite, journal: &Journal, mut done: BTreeMap<String, history::Question>) -> Report {
    let results: Vec<history::Question> =
        suite.questions.iter().filter_map(|question| done.remove(&question.id)).collect();
    let tally = |questions: &mut dyn Iterator<Item = &history::Question>| {
        questions.fold(Tally::default(), |sum, question| Tally {
            passed: sum.passed + u64::from(question.success),
            tries: sum.tries + 1,
        })
    };
    let reported = tally(&mut results.iter());
    let attributed = tally(&mut results.iter().filter(|question| question.is_tested()));
    let mut causes: BTreeMap<&'static str, u64> = BTreeMap::new();
    for cause in results.iter().filter_map(history::Question::cause) {
        *causes.entry(cause.as_str()).or_default() += 1;
    }
    let functions = history::functions(&results)
        .into_iter()
        .map(|(name, tally)| (name, Rated::from(Tally { passed: tally.successes, tries: tally.calls })));
    let begun = journal.begun();
    Report {
        batch: begun.id(),
        model: begun.model.clone(),
        reported: reported.into(),
        attributed: attributed.into(),
        causes,
        functions: functions.collect(),
        file: BatchFile {
            batch_id: begun.batch.clone(),
            model: begun.model.clone(),
            total_questions: reported.tries,
            successful: reported.passed,
            failed: reported.failed(),
            success_rate: reported.rate().unwrap_or(0.0),
            results,
        },
    }
}

/// Whether an effect is a file of the fixture as it was laid in, or a folder that was made for it.
fn laid_in(file: &FixtureFile, effect: &Effect) -> bool {
    if effect.object == ObjectType::Directory {
        return file.path.strip_prefix(&effect.path).is_some_and(|rest| rest.starts_with('/'));
    }
    effect.path == file.path && effect.sha256 == Some(Sha256::of(&file.content))
}

/// Runs calls in clean VMs, each with the suite's fixture in its workspace.
struct InVm<'s> {
    client: &'s Client,
    files: &'s [FixtureFile],
    image: Option<&'s ImageRef>,
    labels: BTreeMap<String, String>,
}

impl Hands for InVm<'_> {
    fn call<'a>(&'a self, call: &'a FunctionCall) -> BoxFuture<'a, EvalResult> {
        Box::pin(async move {
            let evaluated = async {
                let mut submission = Submission::function_call(call.clone());
                submission.image = self.image.cloned();
                submission.labels = self.labels.clone();
                let mut job = self.client.prepare(submission)?;
                job.files.extend(self.files.iter().map(|file| FileIn {
                    path: file.path.clone(),
                    mode: file.mode,
                    content: Content::Inline(file.content.clone()),
                }));
                job.expected_effects.extend(self.files.iter().map(|file| globset::escape(&file.path)));
                self.client.submit_job(&job).await?.wait().await
            };
            match evaluated.await {
                Ok(mut evaluation) => {
                    // What was laid in and left as it is, is none of the call's doing.
                    evaluation.effects.retain(|effect| !self.files.iter().any(|file| laid_in(file, effect)));
                    EvalResult::of(call, evaluation)
                }
                Err(error) => EvalResult::not(call, &error),
            }
        })
    }
}
