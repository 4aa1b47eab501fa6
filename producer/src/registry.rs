//! The tools of an image, and whether a call fits them: asked before anything is enqueued.
//!
//! An image carries its tools' specifications in `tools.json`, beside its disk:
//!
//! ```text
//! <images>/<name>/current/tools.json      the image that the bare name means
//! <images>/<name>/<digest>/tools.json     a pinned one
//! ```

use evalfleet_proto::ids::{ImageRef, ToolName};
use evalfleet_proto::job::{FunctionCall, Job, Task};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The file in an image's folder.
pub const FILE: &str = "tools.json";

/// Why a call is not to be enqueued, or nothing can be said about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image is not on this machine.
    #[error("the image {image} has no tools here ({path} is missing). Build the image: evalfleet image build {name}", name = .image.name)]
    NoImage {
        /// Which image.
        image: ImageRef,
        /// Where its tools would be.
        path: PathBuf,
    },
    /// The file is there and is not what it should be.
    #[error("cannot read the tools in {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The image has no such tool.
    #[error("the image {image} has no tool {tool}; it has {known}")]
    UnknownTool {
        /// Which image.
        image: ImageRef,
        /// What was asked for.
        tool: ToolName,
        /// What there is.
        known: String,
    },
    /// The arguments do not fit.
    #[error("the arguments of {tool} do not fit: {}", .misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Arguments {
        /// The tool.
        tool: ToolName,
        /// Every reason, the first [`MISFITS_MAX`].
        misfits: Vec<Misfit>,
    },
}

/// How many reasons an error lists.
pub const MISFITS_MAX: usize = 10;

/// One place at which arguments do not fit their schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// Where in the arguments, as a JSON pointer; empty for the whole.
    pub path: String,
    /// What the schema wants.
    pub wanted: String,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        write!(f, "at {path}: {}", self.wanted)
    }
}

/// One tool, as the image describes it. Keys that this build does not know are kept out of the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: ToolName,
    /// For models and people.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub parameters: Value,
    /// The command that runs it in the VM.
    #[serde(default)]
    pub entry: Vec<String>,
    /// The image that has it.
    #[serde(default)]
    pub image: Option<String>,
    /// Globs of the paths that its calls are meant to change.
    #[serde(default)]
    pub expected_effects: Vec<String>,
}

impl Tool {
    /// The tool as a Gemini function declaration.
    pub fn declaration(&self) -> Value {
        json!({"name": self.name, "description": self.description, "parameters": self.parameters})
    }
}

/// The tools of one image.
#[derive(Debug)]
pub struct Registry {
    image: ImageRef,
    tools: BTreeMap<ToolName, (Tool, jsonschema::Validator)>,
}

impl Registry {
    /// Reads the tools of `image` under `images_dir`.
    ///
    /// # Errors
    /// When the image is not here, or its file is damaged.
    pub fn load(images_dir: &Path, image: &ImageRef) -> Result<Self, Error> {
        let path = Self::path(images_dir, image);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoImage { image: image.clone(), path });
            }
            Err(error) => return Err(Error::Unreadable { path, reason: error.to_string() }),
        };
        Self::from_json(image.clone(), &text).map_err(|reason| Error::Unreadable { path, reason })
    }

    /// Where the tools of `image` are.
    pub fn path(images_dir: &Path, image: &ImageRef) -> PathBuf {
        let version = image.digest.map_or_else(|| "current".to_owned(), |digest| digest.to_string());
        images_dir.join(image.name.as_str()).join(version).join(FILE)
    }

    /// Reads the tools of `image` from the text of its file: a list of them.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn from_json(image: ImageRef, text: &str) -> Result<Self, String> {
        let list: Vec<Tool> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut tools = BTreeMap::new();
        for tool in list {
            let validator = jsonschema::validator_for(&tool.parameters)
                .map_err(|error| format!("the parameters of {} are no JSON Schema: {error}", tool.name))?;
            tools.insert(tool.name.clone(), (tool, validator));
        }
        Ok(Self { image, tools })
    }

    /// The tools, by name.
    pub fn tools(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values().map(|(tool, _)| tool)
    }

    /// One tool.
    ///
    /// # Errors
    /// Names the tools that there are.
    pub fn tool(&self, name: &ToolName) -> Result<&Tool, Error> {
        self.entry(name).map(|(tool, _)| tool)
    }

    fn entry(&self, name: &ToolName) -> Result<&(Tool, jsonschema::Validator), Error> {
        self.tools.get(name).ok_or_else(|| Error::UnknownTool {
            image: self.image.clone(),
            tool: name.clone(),
            known: self.tools.keys().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        })
    }

    /// Checks a call against its tool's parameters.
    ///
    /// # Errors
    /// Names the tool, each path that does not fit, and what the schema wants there.
    pub fn check(&self, call: &FunctionCall) -> Result<&Tool, Error> {
        let (tool, validator) = self.entry(&call.name)?;
        let misfits: Vec<_> = validator
            .iter_errors(&call.args)
            .take(MISFITS_MAX)
            .map(|error| Misfit { path: error.instance_path().to_string(), wanted: error.to_string() })
            .collect();
        if misfits.is_empty() { Ok(tool) } else { Err(Error::Arguments { tool: call.name.clone(), misfits }) }
    }

    /// Checks the call that `job` is, if it is one, and gives it the effects its tool is meant to have
    /// when it names none itself.
    ///
    /// # Errors
    /// As [`Registry::check`].
    pub fn admit(&self, job: &mut Job) -> Result<(), Error> {
        let Task::FunctionCall(call) = &job.task else { return Ok(()) };
        let tool = self.check(call)?;
        if job.expected_effects.is_empty() {
            job.expected_effects.clone_from(&tool.expected_effects);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        let text = r#"[{"name": "word_count", "description": "Counts.", "entry": ["wc"], "image": "base", "cases": [],
            "expected_effects": ["/workspace/**"],
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}, "deep": {"type": "object", "properties": {"n": {"type": "integer"}}}},
                           "required": ["text"], "additionalProperties": false}}]"#;
        Registry::from_json("base".parse().unwrap(), text).unwrap()
    }

    fn complaint(args: Value) -> String {
        let call = FunctionCall { name: "word_count".parse().unwrap(), args };
        registry().check(&call).unwrap_err().to_string()
    }

    #[test]
    fn what_fits_passes_and_brings_its_effects() {
        let call = FunctionCall { name: "word_count".parse().unwrap(), args: json!({"text": "a"}) };
        assert_eq!(registry().check(&call).unwrap().expected_effects, ["/workspace/**"]);
    }

    #[test]
    fn a_misfit_names_the_tool_the_path_and_what_is_wanted() {
        let text = complaint(json!({"text": 3}));
        assert!(text.contains("word_count") && text.contains("/text") && text.contains("string"), "{text}");
        let text = complaint(json!({"text": "a", "deep": {"n": "x"}}));
        assert!(text.contains("/deep/n") && text.contains("integer"), "{text}");
        let text = complaint(json!({}));
        assert!(text.contains("required") && text.contains("text"), "{text}");
        let text = complaint(json!({"text": "a", "txet": 1}));
        assert!(text.contains("txet"), "{text}");
    }

    #[test]
    fn an_unknown_tool_is_told_what_there_is() {
        let call = FunctionCall { name: "wordcount".parse().unwrap(), args: json!({}) };
        let text = registry().check(&call).unwrap_err().to_string();
        assert!(text.contains("no tool wordcount") && text.contains("it has word_count"), "{text}");
    }

    #[test]
    fn a_missing_image_says_how_to_build_it() {
        let text =
            Registry::load(Path::new("/nonexistent"), &"base".parse().unwrap()).unwrap_err().to_string();
        assert!(text.contains("evalfleet image build base"), "{text}");
    }
}
