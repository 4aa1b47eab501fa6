//! A small agent: a model of the Gemini API that works through tools and may change its own repository. Every call
//! runs in a VM that is clean for it; a change is built and tested there first, and made only when it is safe.
//!
//! ```sh
//! GEMINI_API_KEY=… cargo run --release --example agent -- --repo ~/my-tools "Make word_count count lines as well"
//! cargo run --release --example agent -- --model recorded --exchanges said.jsonl "What does the note say?"
//! ```

use anyhow::Context as _;
use evalfleet::change::{Candidate, Change, Changes, Request};
use evalfleet::functions::{EvalResult, SecureEvaluator, gemini};
use evalfleet::gemini::Model;
use evalfleet::gemini::chat::{Bounds, Chat, Hands};
use evalfleet::gemini::recorded::Recorded;
use evalfleet::gemini::service::Service;
use evalfleet::registry::Registry;
use evalfleet_proto::evaluation::Metrics;
use evalfleet_proto::job::{FunctionCall, FunctionResponse};
use evalfleet_proto::status::Exit;
use evalfleet_service::settings::Settings;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The tool by which it changes its own repository.
const PROPOSE: &str = "propose_change";
const TRIES: u32 = 5;
const SYSTEM: &str = "You work through tools. Each call runs in a virtual machine of its own: files do not stay from one \
                      call to the next. Change your own repository with propose_change only; a change that is refused \
                      comes back with what speaks against it.";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let model = match &arguments.exchanges {
        None => Model::new(&arguments.model, Service::from_environment(&arguments.model)?, TRIES),
        Some(file) => Model::new(&arguments.model, Recorded::load(file, &arguments.model)?, TRIES),
    };
    let settings = Settings::load(None)?;
    let evaluator = SecureEvaluator::connect(&settings).await?;
    let registry = Registry::load(&settings.images_dir(), &settings.client.image)?;
    let mut tools = gemini::declarations(registry.tools());
    if arguments.repository.is_some()
        && let Some(declared) = tools[0]["functionDeclarations"].as_array_mut()
    {
        declared.push(declaration());
    }
    let agent = Agent { evaluator: Arc::new(evaluator), repository: arguments.repository };
    let mut chat = Chat::new(Some(SYSTEM.to_owned()), tools);
    let outcome = chat.ask(&model, &agent, &arguments.question, Bounds::default()).await;
    println!("{}", outcome.answer?);
    Ok(())
}

struct Arguments {
    model: String,
    exchanges: Option<PathBuf>,
    repository: Option<PathBuf>,
    question: String,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        const USAGE: &str = "usage: agent [--model NAME] [--exchanges FILE] [--repo DIR] QUESTION";
        let mut read = Self {
            model: "gemini-2.0-flash".to_owned(),
            exchanges: None,
            repository: None,
            question: String::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().context(USAGE);
            match argument.as_str() {
                "--model" => read.model = value()?,
                "--exchanges" => read.exchanges = Some(value()?.into()),
                "--repo" => read.repository = Some(value()?.into()),
                _ if read.question.is_empty() && !argument.starts_with('-') => read.question = argument,
                _ => anyhow::bail!(USAGE),
            }
        }
        anyhow::ensure!(!read.question.is_empty(), USAGE);
        Ok(read)
    }
}

fn declaration() -> Value {
    json!({
        "name": PROPOSE,
        "description": "Propose a change to your own repository. It is built and tested in a clean virtual machine, and \
                        committed only if nothing speaks against it.",
        "parameters": {
            "type": "object",
            "properties": {
                "patch": {"type": "string", "description": "The change, as `git diff` writes it."},
                "message": {"type": "string", "description": "What the commit says."},
            },
            "required": ["patch", "message"],
        },
    })
}

/// What runs the model's calls.
struct Agent {
    evaluator: Arc<SecureEvaluator>,
    repository: Option<PathBuf>,
}

impl Hands for Agent {
    fn call<'a>(&'a self, call: &'a FunctionCall) -> BoxFuture<'a, EvalResult> {
        Box::pin(async move {
            let result = match &self.repository {
                Some(repository) if call.name.as_str() == PROPOSE => self.propose(repository, call).await,
                _ => self.evaluator.test_function_call(call).await,
            };
            eprintln!("{} {} → {}", call.name, short(&call.args), short(&result.result.response));
            result
        })
    }
}

impl Agent {
    async fn propose(&self, repository: &Path, call: &FunctionCall) -> EvalResult {
        let (evaluator, repository, args) =
            (self.evaluator.clone(), repository.to_owned(), call.args.clone());
        // On a thread of its own: what it borrows, the compiler does not let move between threads.
        let evaluated = tokio::task::spawn_blocking(move || {
            tokio::runtime::Handle::current().block_on(evaluated(&evaluator, &repository, &args))
        });
        let evaluated = evaluated.await.map_err(anyhow::Error::from).and_then(|done| done);
        let (response, evaluation, exit) = match evaluated {
            Ok((response, evaluation, exit)) => (response, Some(Box::new(evaluation)), exit),
            Err(error) => (json!({"error": format!("{error:#}")}), None, Exit::Harness),
        };
        let effects = evaluation.as_ref().map_or_else(Vec::new, |evaluation| evaluation.effects.clone());
        EvalResult {
            result: FunctionResponse { name: call.name.clone(), response },
            effects,
            metrics: evaluation
                .as_ref()
                .map_or_else(Metrics::default, |evaluation| evaluation.metrics.clone()),
            evaluation,
            exit,
        }
    }
}

async fn evaluated(
    evaluator: &SecureEvaluator,
    repository: &Path,
    args: &Value,
) -> anyhow::Result<(Value, evalfleet_proto::evaluation::Evaluation, Exit)> {
    let patch = args["patch"].as_str().context("patch must be a text")?;
    let message = args["message"].as_str().context("message must be a text")?;
    let changes = Changes::new(evaluator.client(), evaluator.settings());
    let candidate = Candidate { name: message.to_owned(), change: Change::Patch(patch.as_bytes().to_vec()) };
    let request = Request {
        repository: repository.to_owned(),
        base: "HEAD".to_owned(),
        suite: None,
        image: None,
        candidates: vec![candidate],
    };
    let outcome = Box::pin(changes.evaluate(&request, &|what| eprintln!("  {what}"))).await?;
    let verdict = &outcome.evaluated.first().context("one verdict")?.result;
    let mut response = json!({"verdict": verdict.verdict, "evaluation": verdict.evaluation.id, "violations": verdict.violations});
    if verdict.is_safe() {
        response["committed"] = serde_json::to_value(outcome.commit(message).await?)?;
    }
    Ok((response, verdict.evaluation.clone(), outcome.exit()))
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 120 { text } else { text.chars().take(120).chain(['…']).collect() }
}
