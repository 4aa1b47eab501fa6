//! What it costs to have a REPL's tools and changes evaluated, over a fleet of one's own: real VMs, two workers.

mod project;

use crate::host::Host;
use crate::parts::Stage;
use crate::report::{Figure, Report, Row};
use crate::series::Series;
use anyhow::{Context as _, ensure};
use evalfleet::change::{Candidate, Change, Changes, Outcome, Request, SafetyResult, Verdict};
use evalfleet::client::as_they_come;
use evalfleet::functions::SecureEvaluator;
use evalfleet::machine::Kind;
use evalfleet::toolbox::{Options, Tool, ToolRegistry};
use evalfleet_proto::evaluation::Timings;
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use futures::{StreamExt as _, TryStreamExt as _};
use project::Project;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Cases of the tool, and bare jobs that it is held against.
const CASES: usize = 20;
/// Workers, each with a VM of its own.
const WORKERS: u32 = 2;
/// How long it is waited for spares at most.
const REST_MAX: Duration = Duration::from_secs(60);
/// Units of the build: a second each.
const UNITS: usize = 12;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Rounds of tool and bare jobs, and changes that do nothing.
    pub rounds: usize,
    /// How often one change is evaluated to see whether its verdict stays; 0 leaves that out.
    pub repeats: usize,
    /// Patches of one base, and as many of bases that nobody knows; 0 leaves that out.
    pub patches: usize,
}

/// Measures on a fleet of one's own.
///
/// # Errors
/// When a part does not start, something fails, or it is interrupted.
pub async fn measure(plan: Plan, interrupted: &CancellationToken) -> anyhow::Result<Report> {
    let host = Host::look();
    let stage = Stage::new("")?.workers(WORKERS);
    let parts = [Kind::Broker, Kind::Gateway, Kind::Recorder, Kind::Api, Kind::Worker];
    let measured =
        stage.with(&parts, interrupted, async |settings| Box::pin(all(&settings, plan)).await).await?;
    let Measured { turns: Turns { bare, same, tool }, idle, patches, repeated } = measured;
    let median = |series: &Series| series.summary().median;
    let figure = |what: &str, value: f64, unit| Figure { what: what.to_owned(), value, unit };
    let seconds = |time: Duration| time.as_secs_f64();
    let mut figures = vec![
        figure(
            "a tool with 20 cases / 20 bare jobs of its program, medians",
            median(&tool) / median(&same),
            "times",
        ),
        figure("a tool with 20 cases / 20 bare jobs, medians", median(&tool) / median(&bare), "times"),
        figure(
            "the overhead of a change beyond its own commands, median",
            median(&idle.beyond) / 1000.0,
            "s",
        ),
    ];
    if let Some((cold, warm)) = patches {
        figures.extend([
            figure(&format!("{} patches, each to a base of its own", plan.patches), seconds(cold), "s"),
            figure(
                &format!("{} patches of one base, together, from its prefix", plan.patches),
                seconds(warm),
                "s",
            ),
            figure("the first / the second", seconds(cold) / seconds(warm), "times"),
        ]);
    }
    if let Some(Repeated { safe, unsafe_ }) = repeated {
        figures.push(figure("verdicts on an unchanged safe change", safe as f64, "different"));
        figures.push(figure("verdicts on an unchanged unsafe change", unsafe_ as f64, "different"));
    }
    Ok(Report {
        benchmark: "entrust: tools and changes, evaluated",
        host,
        conditions: [
            ("workers", WORKERS.to_string()),
            ("build of the base", format!("{UNITS} units of a second, one of them changed by each patch")),
            ("repeats of one change", plan.repeats.to_string()),
            ("patches", plan.patches.to_string()),
        ]
        .into(),
        times: [("20 bare jobs", &bare), ("20 bare jobs of the tool's program", &same)]
            .into_iter()
            .chain([("a tool with 20 cases", &tool)])
            .chain(idle.rows())
            .map(|(what, series)| Row { what, milliseconds: series.summary() })
            .collect(),
        figures,
    })
}

struct Measured {
    turns: Turns,
    idle: Idle,
    patches: Option<(Duration, Duration)>,
    repeated: Option<Repeated>,
}

/// Changes whose commands do nothing: what each took, and where it went, by its judged look's own times.
#[derive(Default)]
struct Idle {
    whole: Series,
    beyond: Series,
    queued: Series,
    claim: Series,
    run: Series,
    effects: Series,
    report: Series,
    around: Series,
    pressed: Series,
}

impl Idle {
    fn note(&mut self, whole: Duration, result: &SafetyResult) {
        let own = result.looks.iter().filter(|look| look.tree == "change").map(|look| look.commands).max();
        let Timings { queued, claim, run, effects, report } = result.evaluation.timings;
        self.whole.push(whole);
        self.beyond.push(whole.saturating_sub(own.unwrap_or_default()));
        self.queued.push(queued);
        self.claim.push(claim);
        self.run.push(run);
        self.effects.push(effects);
        self.report.push(report);
        self.around.push(whole.saturating_sub(queued + claim + run + effects + report));
    }

    fn rows(&self) -> [(&'static str, &Series); 9] {
        [
            ("a change whose commands do nothing, its base known", &self.whole),
            ("  beyond its commands in the VM", &self.beyond),
            ("  its judged look: in the queue", &self.queued),
            ("  its judged look: until it has its VM", &self.claim),
            ("  its judged look: files, judge and commands", &self.run),
            ("  its judged look: stopping the VM, its effects", &self.effects),
            ("  its judged look: the report", &self.report),
            ("  around it: git, packing, the other look, the verdict", &self.around),
            ("another right after it", &self.pressed),
        ]
    }
}

struct Repeated {
    safe: usize,
    unsafe_: usize,
}

async fn all(settings: &Settings, plan: Plan) -> anyhow::Result<Measured> {
    let evaluator = SecureEvaluator::connect(settings).await?;
    let turns = tools(&evaluator, plan.rounds).await?;
    let patches = if plan.patches == 0 { None } else { Some(patches(&evaluator, plan.patches).await?) };
    let idle = idle(&evaluator, plan.rounds).await?;
    let repeated = if plan.repeats == 0 { None } else { Some(repeated(&evaluator, plan.repeats).await?) };
    evaluator.close().await;
    Ok(Measured { turns, idle, patches, repeated })
}

/// Bare jobs, bare jobs of the tool's own program, and the tool's cases.
#[derive(Default)]
struct Turns {
    bare: Series,
    same: Series,
    tool: Series,
}

/// So many jobs of one program, from their submission to the last result.
async fn bare(evaluator: &SecureEvaluator, program: &str, input: Option<&str>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let jobs = (0..CASES)
        .map(|_| Submission { stdin: input.map(ToOwned::to_owned), ..Submission::command([program]) });
    let pending: Vec<_> = evaluator.client().submit_many(jobs).try_collect().await?;
    let mut done = as_they_come(pending);
    while let Some(evaluation) = done.next().await {
        ensure!(evaluation?.cause.is_none(), "a job that does nothing must pass");
    }
    Ok(begun.elapsed())
}

/// Bare jobs and a tool's cases, in turns; the first round does not count.
async fn tools(evaluator: &SecureEvaluator, rounds: usize) -> anyhow::Result<Turns> {
    let dir = tempfile::tempdir()?;
    let folder = dir.path().join("bench_noop");
    std::fs::create_dir_all(&folder)?;
    let mut spec =
        "name = \"bench_noop\"\ndescription = \"Gives back what it is given.\"\nentry = [\"cat\"]\n"
            .to_owned();
    for case in 0..CASES {
        write!(
            spec,
            "\n[[cases]]\nname = \"case {case}\"\nargs = {{ n = {case} }}\nexpect = {{ value = {{ n = {case} }} }}\n"
        )?;
    }
    std::fs::write(folder.join("tool.toml"), spec)?;
    let parameters = r#"{"type": "object", "properties": {"n": {"type": "integer", "description": "A number."}}, "required": ["n"]}"#;
    std::fs::write(folder.join("parameters.json"), parameters)?;
    let tool = Tool::load(&folder)?;
    let registry = ToolRegistry::new(evaluator);
    let mut turns = Turns::default();
    for round in 0..=rounds {
        let nothing = bare(evaluator, "true", None).await?;
        let same = bare(evaluator, "cat", Some("{\"n\":0}")).await?;
        let begun = Instant::now();
        let result = registry.evaluate_tool(&tool, &Options { runs: 1, ..Options::default() }).await?;
        let tool = begun.elapsed();
        ensure!(
            result.current.tally.passed == CASES as u64,
            "the tool's cases must pass: {:?}",
            result.current
        );
        if round > 0 {
            turns.bare.push(nothing);
            turns.same.push(same);
            turns.tool.push(tool);
        }
        tracing::info!(round, "tool and bare jobs");
    }
    Ok(turns)
}

fn request(project: &Project, patches: impl IntoIterator<Item = Vec<u8>>) -> Request {
    let candidate =
        |(number, patch)| Candidate { name: format!("patch {number}"), change: Change::Patch(patch) };
    Request {
        repository: project.path(),
        base: "HEAD".to_owned(),
        suite: None,
        image: None,
        candidates: patches.into_iter().enumerate().map(candidate).collect(),
    }
}

async fn evaluate(evaluator: &SecureEvaluator, request: &Request) -> anyhow::Result<Outcome> {
    let changes = Changes::new(evaluator.client(), evaluator.settings());
    Ok(Box::pin(changes.evaluate(request, &|what| tracing::debug!("{what}"))).await?)
}

fn one(outcome: &Outcome) -> anyhow::Result<&SafetyResult> {
    Ok(&outcome.evaluated.first().context("one verdict")?.result)
}

/// Patches, each to a base that nobody knows, and as many to one whose prefix is there.
async fn patches(evaluator: &SecureEvaluator, count: usize) -> anyhow::Result<(Duration, Duration)> {
    let unit = |project: &Project, number: usize| project.patch(&format!("src/{}", number % UNITS), "two\n");
    let mut cold = Duration::ZERO;
    for number in 0..count {
        let project = Project::new(UNITS)?;
        let request = request(&project, [unit(&project, number)?]);
        let begun = Instant::now();
        let outcome = evaluate(evaluator, &request).await?;
        cold += begun.elapsed();
        ensure!(one(&outcome)?.verdict == Verdict::Safe, "{:?}", one(&outcome)?.violations);
        tracing::info!(number, ?cold, "a patch to a base of its own");
    }
    let project = Project::new(UNITS)?;
    evaluate(evaluator, &request(&project, [unit(&project, count)?])).await?;
    let patches: Vec<_> = (0..count).map(|number| unit(&project, number)).collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let outcome = evaluate(evaluator, &request(&project, patches)).await?;
    let warm = begun.elapsed();
    for evaluated in &outcome.evaluated {
        ensure!(evaluated.result.verdict == Verdict::Safe, "{:?}", evaluated.result.violations);
    }
    Ok((cold, warm))
}

/// Changes whose base is known and whose commands do nothing: what is left is ours.
async fn idle(evaluator: &SecureEvaluator, rounds: usize) -> anyhow::Result<Idle> {
    let project = Project::new(0)?;
    let mut idle = Idle::default();
    for round in 0..=rounds {
        let change = async |note| {
            let patch = project.patch("build.sh", &format!("# {note} {round}\ntrue\n"))?;
            let begun = Instant::now();
            let outcome = evaluate(evaluator, &request(&project, [patch])).await?;
            let took = begun.elapsed();
            ensure!(one(&outcome)?.verdict == Verdict::Safe, "{:?}", one(&outcome)?.violations);
            Ok((took, outcome))
        };
        rested(evaluator.settings()).await?;
        let (took, outcome) = change("rested").await?;
        // Its own VMs' successors are still being made.
        let (pressed, _) = change("pressed").await?;
        if round > 0 {
            idle.note(took, one(&outcome)?);
            idle.pressed.push(pressed);
        }
    }
    Ok(idle)
}

/// Waits until every worker has a spare, as the workers of a fleet have that is not under pressure.
async fn rested(settings: &Settings) -> anyhow::Result<()> {
    let workers = settings.state_dir().join("workers");
    let is_ready = |number: u32| {
        let said = std::fs::read(workers.join(format!("worker-{number}.json"))).unwrap_or_default();
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
        said["supply"]["spare"] == "ready"
    };
    let until = Instant::now() + REST_MAX;
    while !(1..=WORKERS).all(is_ready) {
        ensure!(Instant::now() < until, "no spare stands ready after {} s", REST_MAX.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// How many different verdicts the same change comes to, whenever it is evaluated.
async fn repeated(evaluator: &SecureEvaluator, repeats: usize) -> anyhow::Result<Repeated> {
    let mut counts = Vec::new();
    for note in ["good\n", "bad\n"] {
        let project = Project::new(1)?;
        // Whatever else it does: one that is harmless, or one that breaks the test.
        let patch =
            if note == "good\n" { project.patch("src/0", "two\n")? } else { project.patch("note", note)? };
        let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..repeats {
            let outcome = evaluate(evaluator, &request(&project, [patch.clone()])).await?;
            *verdicts.entry(lasting(one(&outcome)?)).or_default() += 1;
        }
        tracing::info!(?verdicts, "the same change again and again");
        counts.push(verdicts.len());
    }
    Ok(Repeated { safe: counts[0], unsafe_: counts[1] })
}

/// What of a verdict must not depend on when it was found: all but times, sizes and the ids of its runs.
fn lasting(result: &SafetyResult) -> String {
    let violations = result.violations.iter().map(|it| (&it.rule, &it.path, it.line, &it.message));
    let checks = result.checks.iter().map(|check| (&check.name, check.passed));
    let looks = result.looks.iter().map(|look| (&look.tree, look.look));
    format!(
        "{:?} {:?} {:?} {:?}",
        result.verdict,
        violations.collect::<Vec<_>>(),
        checks.collect::<Vec<_>>(),
        looks.collect::<Vec<_>>()
    )
}
