//! A tool's cases, each in clean VMs, and what to do with the tool.

use super::Error;
use super::code::Tool;
use super::history::{self, Historical};
use crate::api::Api;
use crate::functions::SecureEvaluator;
use crate::verdicts;
use evalfleet_analytics::rate::Tally;
use evalfleet_analytics::recommend::{Action, Evidence as Known, Policy, Recommendation, recommend};
use evalfleet_images::tool::Case;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::{Call, Evaluation, Evidence, Provenance, Source};
use evalfleet_proto::ids::JobId;
use evalfleet_proto::job::{Content, FileIn, INLINE_BYTES_MAX, Job, Limits, Task};
use evalfleet_proto::status::{Cause, Status};
use evalfleet_proto::submission::Submission;
use evalfleet_proto::units::parse_duration;
use futures::stream::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The kind of such evaluations.
pub(super) const KIND: &str = "tool";
/// Where tools lie in a VM.
const TOOLS: &str = "/opt/evalfleet/tools";
/// Runs of one case that one evaluation may make.
pub(super) const RUNS_MAX: u32 = 100;
/// Runs that a failing case gets on top, to tell flakiness from failure.
const RERUNS: u32 = 2;
/// Jobs of one evaluation that wait at one moment.
const WINDOW: usize = 64;

/// How a tool is evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often each case is run, at most 100.
    pub runs: u32,
    /// What counts as good and bad.
    pub policy: Policy,
}

impl Default for Options {
    fn default() -> Self {
        Self { runs: 3, policy: Policy::default() }
    }
}

/// What became of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseResult {
    /// The case.
    pub name: String,
    /// How many of its runs passed.
    pub runs: Tally,
    /// Whether it passed and failed in the same circumstances.
    pub flaky: bool,
    /// Runs that our machines could not make; they count for nothing.
    pub not_run: u64,
    /// Why a run failed, the last one.
    pub failure: Option<String>,
}

impl CaseResult {
    /// Whether most of its runs passed.
    pub fn mostly_passed(&self) -> bool {
        2 * self.runs.passed > self.runs.tries
    }
}

/// What a tool's cases came to, now.
#[derive(Debug, Clone, Serialize)]
pub struct Current {
    /// The version: the hash of its code.
    pub code: String,
    /// Each case.
    pub cases: Vec<CaseResult>,
    /// All runs together.
    pub tally: Tally,
    /// What a run took on the clock, in the middle.
    #[serde(rename = "median_ms", with = "evalfleet_proto::units::millis")]
    pub median: Duration,
    /// Effects that neither case nor tool declared, over all runs.
    pub unexpected_effects: u64,
}

/// A tool's evaluation: what it does now, what it did before, and what to do with it.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluationResult {
    /// The evaluation, as it is recorded.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// The tool.
    pub tool: String,
    /// What it does now.
    pub current: Current,
    /// What it and its other versions did before.
    pub historical: Historical,
    /// What to do with it, and why.
    pub recommendation: Recommendation,
}

/// What one run of a case came to.
struct Run {
    evaluation: Evaluation,
    /// Why it failed; none where it passed.
    failure: Option<String>,
}

impl Run {
    fn tested(&self) -> bool {
        matches!(self.evaluation.cause, None | Some(Cause::Subject | Cause::Budget))
    }
}

pub(super) async fn evaluate(
    evaluator: &SecureEvaluator,
    tool: &Tool,
    options: &Options,
) -> Result<EvaluationResult, Error> {
    let started = Timestamp::now();
    if tool.spec.cases.is_empty() {
        return Err(Error::NoCases(tool.spec.name.clone()));
    }
    let api = Api::new(&evaluator.settings().api)?;
    let runs = options.runs.clamp(1, RUNS_MAX);
    let cases: Vec<&Case> = tool.spec.cases.iter().collect();
    // Side by side: what is read of the past are verdicts, and the runs of cases are none.
    let (historical, mut all) = tokio::try_join!(
        async { Ok(history::read(&api, &tool.spec.name, &tool.code).await?) },
        rounds(evaluator, tool, &cases, runs)
    )?;
    let failing: Vec<&Case> = tool
        .spec
        .cases
        .iter()
        .filter(|case| {
            all.iter().any(|(name, run)| *name == case.name && run.tested() && run.failure.is_some())
        })
        .collect();
    all.extend(rounds(evaluator, tool, &failing, RERUNS).await?);
    let current = current(tool, &all);
    let now = Tally {
        passed: current.tally.passed + historical.same_code.passed,
        tries: current.tally.tries + historical.same_code.tries,
    };
    let pairs = historical.pairs(&tool.code, &current.cases);
    let known = Known { now, past: historical.other_versions, pairs };
    let recommendation = recommend(&known, &options.policy);
    let evaluation = verdict(tool, &current, &recommendation, &all, started);
    verdicts::publish(evaluator.client(), &evaluation).await?;
    Ok(EvaluationResult { evaluation, tool: tool.spec.name.clone(), current, historical, recommendation })
}

/// Runs each case `times`, all side by side over the fleet, each in a VM of its own.
async fn rounds<'t>(
    evaluator: &SecureEvaluator,
    tool: &Tool,
    cases: &[&'t Case],
    times: u32,
) -> Result<Vec<(&'t str, Run)>, Error> {
    let jobs = cases.iter().flat_map(|case| (0..times).map(move |_| *case));
    let one = async |case: &'t Case| {
        let labels = [("suite", format!("tool/{}", tool.spec.name)), ("case", case.name.clone())];
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let job = job_of(evaluator, tool, &case.args, labels).await?;
        let waits = Duration::from_secs(60).saturating_mul(times.saturating_mul(cases.len() as u32));
        let patience = job.limits.wall + evaluator.settings().client.patience + waits;
        let evaluation = evaluator.client().submit_job(&job).await?.patience(patience).wait().await?;
        let evaluation = about(tool, evaluation);
        let answer = evaluation.calls.first().and_then(|call| call.value.clone()).unwrap_or_default();
        let passed = evaluation.status == Status::Passed;
        let failure = case.expect.check(passed, &answer).err();
        Ok::<_, Error>((case.name.as_str(), Run { evaluation, failure }))
    };
    let runs = futures::stream::iter(jobs).map(one).buffer_unordered(WINDOW).try_collect();
    Box::pin(runs).await
}

/// The job of one call with the tool's own code.
pub(super) async fn job_of(
    evaluator: &SecureEvaluator,
    tool: &Tool,
    args: &Value,
    mut labels: BTreeMap<String, String>,
) -> Result<Job, Error> {
    labels.insert("tool".to_owned(), tool.spec.name.clone());
    labels.insert("code".to_owned(), tool.code.to_string());
    let mut submission = Submission::command(tool.spec.entry.clone());
    submission.limits = limits(tool);
    submission.labels = labels;
    submission.expected_effects = tool.spec.expected_effects.clone();
    if tool.laid().next().is_some() {
        submission.expected_effects.push(format!("{}/**", folder(tool)));
        submission.expected_effects.push(folder(tool));
    }
    if !tool.spec.image.is_empty() {
        submission.image = tool.spec.image.parse().ok();
    }
    let mut job = evaluator.client().prepare(submission)?;
    if let Task::Command(command) = &mut job.task {
        command.stdin = Some(Content::Inline(args.to_string().into_bytes()));
    }
    let mut room = INLINE_BYTES_MAX.saturating_sub(args.to_string().len());
    for file in tool.laid() {
        let bytes = file.content.len();
        let content = if bytes <= room {
            room -= bytes;
            Content::Inline(file.content.clone())
        } else {
            let blobs = evaluator.client().blobs().await?;
            Content::Blob { sha256: blobs.put(file.content.clone()).await?, bytes: bytes as u64 }
        };
        job.files.push(FileIn { path: format!("{}/{}", folder(tool), file.path), mode: file.mode, content });
    }
    Ok(job)
}

fn folder(tool: &Tool) -> String {
    format!("{TOOLS}/{}", tool.spec.name)
}

/// What the tool states, where it does, and the usual otherwise.
fn limits(tool: &Tool) -> Limits {
    let (usual, stated) = (Limits::default(), &tool.spec.limits);
    let time = |text: &Option<String>| text.as_deref().and_then(|text| parse_duration(text).ok());
    let size = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    let wall = time(&stated.wall).unwrap_or(usual.wall);
    Limits {
        wall,
        cpu: time(&stated.cpu).unwrap_or_else(|| usual.cpu.max(wall)),
        memory: size(&stated.memory).unwrap_or(usual.memory),
        processes: stated.processes.unwrap_or(usual.processes),
        disk: size(&stated.disk).unwrap_or(usual.disk),
        output: size(&stated.output).unwrap_or(usual.output),
    }
}

/// The evaluation of a tool's call as one of the tool: its code was laid in by us, and is none of its effects.
pub(super) fn about(tool: &Tool, mut evaluation: Evaluation) -> Evaluation {
    let folder = folder(tool);
    let ours = |path: &str| {
        let file = path.strip_prefix(&folder).and_then(|path| path.strip_prefix('/'));
        path == folder || file.is_some_and(|path| tool.laid().any(|file| file.path.starts_with(path)))
    };
    evaluation.effects.retain(|effect| !ours(&effect.path));
    if let Some(call) = evaluation.calls.first_mut() {
        call.name.clone_from(&tool.spec.name);
        call.value = call.value.take().or_else(|| serde_json::from_str(&evaluation.stdout.text).ok());
    }
    evaluation
}

fn current(tool: &Tool, runs: &[(&str, Run)]) -> Current {
    let cases: Vec<CaseResult> = tool.spec.cases.iter().map(|case| sum(&case.name, runs)).collect();
    let tally = cases.iter().fold(Tally::default(), |sum, case| Tally {
        passed: sum.passed + case.runs.passed,
        tries: sum.tries + case.runs.tries,
    });
    let mut walls: Vec<Duration> = runs.iter().map(|(_, run)| run.evaluation.metrics.wall).collect();
    walls.sort();
    let unexpected =
        |run: &Run| run.evaluation.effects.iter().filter(|effect| !effect.expected).count() as u64;
    Current {
        code: tool.code.to_string(),
        cases,
        tally,
        median: walls.get(walls.len() / 2).copied().unwrap_or_default(),
        unexpected_effects: runs.iter().map(|(_, run)| unexpected(run)).sum(),
    }
}

fn sum(name: &str, runs: &[(&str, Run)]) -> CaseResult {
    let own: Vec<&Run> = runs.iter().filter(|(case, _)| *case == name).map(|(_, run)| run).collect();
    let tested: Vec<&&Run> = own.iter().filter(|run| run.tested()).collect();
    let passed = tested.iter().filter(|run| run.failure.is_none()).count() as u64;
    let tries = tested.len() as u64;
    CaseResult {
        name: name.to_owned(),
        runs: Tally { passed, tries },
        flaky: passed > 0 && passed < tries,
        not_run: own.len() as u64 - tries,
        failure: tested.iter().rev().find_map(|run| run.failure.clone()),
    }
}

/// The verdict's evaluation. Each case is a call of the tool, with its own rate.
fn verdict(
    tool: &Tool,
    current: &Current,
    recommendation: &Recommendation,
    runs: &[(&str, Run)],
    started: Timestamp,
) -> Evaluation {
    let ended = match recommendation.action {
        _ if current.tally.tries == 0 => (Status::Dead, Some(Cause::Infrastructure)),
        _ if current.tally.failed() == 0 => (Status::Passed, None),
        Action::Promote | Action::Keep | Action::Quarantine | Action::NeedsMoreEvidence => {
            (Status::Failed, Some(Cause::Subject))
        }
    };
    let failed =
        current.cases.iter().filter(|case| case.runs.passed < case.runs.tries || case.runs.tries == 0);
    let words = |case: &CaseResult| {
        let Tally { passed, tries } = case.runs;
        format!(
            "case {:?} passed {passed} of {tries}: {}",
            case.name,
            case.failure.as_deref().unwrap_or("it was not run")
        )
    };
    let evidence = failed.map(|case| Evidence::new(Source::Client, words(case))).collect();
    let mut evaluation = Evaluation::blank(JobId::fresh(), KIND, ended, evidence, started);
    evaluation.success_rate = current.tally.rate();
    evaluation.calls = current.cases.iter().map(|case| call(tool, case)).collect();
    if let Some((_, run)) = runs.first() {
        // The job of one run is not what all of them asked.
        evaluation.provenance = Provenance { job: None, ..run.evaluation.provenance.clone() };
        evaluation.metrics = run.evaluation.metrics.clone();
    }
    evaluation.labels = [("tool", tool.spec.name.clone()), ("code", tool.code.to_string())]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    evaluation
}

/// What is written of a case into the record, to be read when the tool is evaluated again.
#[derive(Serialize, Deserialize)]
struct Noted {
    case: String,
    passed: u64,
    tries: u64,
    failure: Option<String>,
}

fn call(tool: &Tool, case: &CaseResult) -> Call {
    let Tally { passed, tries } = case.runs;
    let noted = Noted { case: case.name.clone(), passed, tries, failure: case.failure.clone() };
    Call {
        name: tool.spec.name.clone(),
        success_rate: case.runs.rate(),
        exit_code: None,
        value: Some(json!(noted)),
        duration: Duration::ZERO,
    }
}

/// The cases of a recorded evaluation of a tool.
pub(super) fn cases_of(evaluation: &Evaluation) -> Vec<CaseResult> {
    let noted = evaluation.calls.iter().filter_map(|call| call.value.clone());
    let noted = noted.filter_map(|value| serde_json::from_value::<Noted>(value).ok());
    noted
        .map(|Noted { case, passed, tries, failure }| CaseResult {
            name: case,
            runs: Tally { passed: passed.min(tries), tries },
            flaky: passed > 0 && passed < tries,
            not_run: 0,
            failure,
        })
        .collect()
}
