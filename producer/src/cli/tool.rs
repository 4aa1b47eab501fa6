//! `tool`: what an image can be called for.

use super::args::ToolCommand;
use super::failure::Failure;
use super::{Context, emit, print_json};
use crate::registry::{Registry, Tool};
use evalfleet_proto::ids::ImageRef;
use evalfleet_proto::status::Exit;
use serde_json::Value;

pub(crate) fn tool(context: &Context, command: ToolCommand) -> Result<Exit, Failure> {
    match command {
        ToolCommand::List { image, gemini } => {
            let registry = load(context, image)?;
            if gemini {
                let declarations: Vec<Value> = registry.tools().map(Tool::declaration).collect();
                print_json(&declarations, true)?;
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
        }
        ToolCommand::Show { name, image, gemini } => {
            let registry = load(context, image)?;
            let tool = registry.tool(&name)?;
            if gemini { print_json(&tool.declaration(), true)? } else { print_json(tool, true)? }
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
