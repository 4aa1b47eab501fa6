//! `tool`: what an image can be called for, and whether a tool is to be trusted.

use super::args::ToolCommand;
use super::failure::Failure;
use super::report::short;
use super::{Context, emit, print_json};
use crate::functions::{SecureEvaluator, openai};
use crate::registry::{Registry, Tool};
use crate::toolbox::{self, EvaluationResult, Options, Quarantine, ToolRegistry};
use evalfleet_analytics::rate::Tally;
use evalfleet_analytics::recommend::{Action, Recommendation};
use evalfleet_images::tool::ToolSpec;
use evalfleet_proto::ids::{ImageRef, ToolName};
use evalfleet_proto::status::Exit;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

pub(crate) async fn tool(context: &Context, command: ToolCommand) -> Result<Exit, Failure> {
    match command {
        ToolCommand::List { image, gemini, openai } => list(context, image, gemini, openai),
        ToolCommand::Show { name, image, gemini } => {
            let registry = load(context, image)?;
            let tool = registry.tool(&name)?;
            if gemini {
                print_json(&tool.declaration(), true)?
            } else {
                print_json(tool, true)?
            }
            Ok(Exit::Passed)
        }
        ToolCommand::Eval { tool, runs, image } => evaluate(context, &tool, runs, image).await,
        ToolCommand::Quarantined => quarantined(context),
        ToolCommand::Release { name } => release(context, &name),
    }
}

fn list(context: &Context, image: Option<ImageRef>, gemini: bool, as_openai: bool) -> Result<Exit, Failure> {
    let registry = load(context, image)?;
    if gemini {
        let declarations: Vec<Value> = registry.tools().map(Tool::declaration).collect();
        print_json(&declarations, true)?;
    } else if as_openai {
        print_json(&openai::tools(registry.tools()), true)?;
    } else if context.json {
        for tool in registry.tools() {
            print_json(tool, false)?;
        }
    } else {
        for tool in registry.tools() {
            let first = tool.description.lines().next().unwrap_or_default();
            emit(&format!("{:<16} {:<40} {first}", tool.name.as_str(), signature(tool)))?;
        }
    }
    Ok(Exit::Passed)
}

fn load(context: &Context, image: Option<ImageRef>) -> Result<Registry, Failure> {
    let image = image.unwrap_or_else(|| context.settings.client.image.clone());
    Ok(Registry::load(&context.settings.images_dir(), &image)?)
}

/// The parameters in short: required ones as they are, the others in brackets.
fn signature(tool: &Tool) -> String {
    let required = tool.parameters.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|list| list.iter().any(|entry| entry == name));
    let properties = tool.parameters.get("properties").and_then(Value::as_object);
    let names = properties.into_iter().flat_map(|properties| properties.keys());
    let shown = names.map(|name| if is_required(name) { name.clone() } else { format!("[{name}]") });
    shown.collect::<Vec<_>>().join(" ")
}

/// The tool in a folder, or the image's by its name.
fn find(context: &Context, tool: &str, image: Option<ImageRef>) -> Result<toolbox::Tool, Failure> {
    let folder = Path::new(tool);
    if folder.join("tool.toml").is_file() {
        let mut tool = toolbox::Tool::load(folder).map_err(toolbox::Error::from)?;
        if let Some(image) = image {
            tool.spec.image = image.to_string();
        }
        return Ok(tool);
    }
    if tool.contains('/') {
        return Err(Failure::harness(format!("{tool} is no tool's folder: it has no tool.toml")));
    }
    let image = image.unwrap_or_else(|| context.settings.client.image.clone());
    let path = Registry::path(&context.settings.images_dir(), &image);
    // Says what is wrong, with the names that there are.
    let name: ToolName = tool.parse().map_err(|error| Failure::harness(format!("{tool}: {error}")))?;
    load(context, Some(image.clone()))?.tool(&name)?;
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| Failure::harness(format!("{}: {error}", path.display())))?;
    let specs: Vec<ToolSpec> = serde_json::from_str(&text)
        .map_err(|error| Failure::harness(format!("{}: {error}", path.display())))?;
    let spec = specs.into_iter().find(|spec| spec.name == tool);
    let mut spec = spec.ok_or_else(|| Failure::harness(format!("the image {image} has no tool {tool}")))?;
    spec.image = image.to_string();
    let digest = std::fs::canonicalize(&path).unwrap_or(path);
    Ok(toolbox::Tool::of_image(
        spec,
        &digest.parent().map_or_else(String::new, |at| at.display().to_string()),
    ))
}

async fn evaluate(
    context: &Context,
    tool: &str,
    runs: u32,
    image: Option<ImageRef>,
) -> Result<Exit, Failure> {
    let tool = find(context, tool, image)?;
    let evaluator = SecureEvaluator::connect(&context.settings).await?;
    let registry = ToolRegistry::new(&evaluator);
    let options = Options { runs, ..Options::default() };
    let result = registry.evaluate_tool(&tool, &options).await?;
    if context.json {
        print_json(&result, true)?
    } else {
        emit(&report(&result))?
    }
    evaluator.close().await;
    Ok(match result.recommendation.action {
        Action::Promote | Action::Keep => Exit::Passed,
        Action::Quarantine => Exit::Subject,
        // Nothing that failed, and too little to be sure.
        Action::NeedsMoreEvidence if result.current.tally.tries == 0 => Exit::Infrastructure,
        Action::NeedsMoreEvidence if result.current.tally.failed() == 0 => Exit::Passed,
        Action::NeedsMoreEvidence => Exit::Subject,
    })
}

fn report(result: &EvaluationResult) -> String {
    let Recommendation { action, because, .. } = &result.recommendation;
    let word = serde_json::to_value(action).unwrap_or_default();
    let word = word.as_str().unwrap_or_default().replace('_', " ");
    let mut text = format!("{} {}: {word}\n  because {because}", result.evaluation.id, result.tool);
    let of = |tally: Tally| format!("{} of {}", tally.passed, tally.tries);
    let current = &result.current;
    let code = current.code.get(..12).unwrap_or(&current.code);
    let _ = write!(
        text,
        "\n  now: {} runs passed, code {code}, {} in the middle",
        of(current.tally),
        short(current.median)
    );
    for case in &current.cases {
        let flaky = if case.flaky { ", flaky" } else { "" };
        let why = case.failure.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let _ = write!(text, "\n    {:<7} {}{flaky}{why}", of(case.runs).replace(" of ", "/"), case.name);
    }
    if current.unexpected_effects > 0 {
        let _ = write!(text, "\n  unexpected effects: {}", current.unexpected_effects);
    }
    let past = &result.historical;
    let _ = write!(
        text,
        "\n  before: {} with the same code, {} with other versions, {} calls",
        of(past.same_code),
        of(past.other_versions),
        of(past.calls)
    );
    text
}

fn quarantined(context: &Context) -> Result<Exit, Failure> {
    let all = Quarantine::in_dir(&context.settings.state_dir()).all().map_err(toolbox::Error::List)?;
    for entry in all.values() {
        if context.json { print_json(entry, false)? } else { emit(&entry.to_string())? }
    }
    Ok(Exit::Passed)
}

fn release(context: &Context, name: &ToolName) -> Result<Exit, Failure> {
    let list = Quarantine::in_dir(&context.settings.state_dir());
    if !list.release(name.as_str()).map_err(toolbox::Error::List)? {
        return Err(Failure::usage(format!("{name} is not in quarantine")));
    }
    eprintln!("{name} is let out");
    Ok(Exit::Passed)
}
