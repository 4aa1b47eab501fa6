//! Tools as a REPL keeps them: registered from folders or out of an image, called in clean VMs, and evaluated
//! before they are trusted.
//!
//! ```text
//!  folder: tool.toml, parameters.json, code ─▶ Tool (content-addressed) ─┬─ cases, each in a clean VM, side by side
//!                                                                        │        current
//!  history of the name, across versions ─────────────────────────────────┼──▶ historical
//!                                                                        ▼
//!                             promote, keep, quarantine, needs more evidence ── quarantine.json
//! ```
//!
//! The same tool is the same bytes: its folder has one digest. What was learnt of other versions of the name is
//! its past, and what was learnt of the same bytes before counts with what is learnt now.

mod code;
mod evaluate;
mod history;
mod quarantine;

pub use code::{Error as CodeError, Tool};
pub use evaluate::{CaseResult, Current, EvaluationResult, Options};
pub use history::Historical;
pub use quarantine::{Entry, Quarantine};

use crate::functions::{EvalResult, SecureEvaluator};
use crate::{api, client, registry};
use evalfleet_proto::ids::ToolName;
use evalfleet_proto::job::FunctionCall;
use evalfleet_proto::status::Exit;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Why a tool was not called or evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its folder is not that of a tool.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// It is not there, or its arguments do not fit.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// Its arguments do not fit.
    #[error(transparent)]
    Arguments(#[from] evalfleet_images::tool::ArgumentError),
    /// There is no such tool.
    #[error("no tool {name}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: ToolName,
        /// What there is.
        known: String,
    },
    /// The fleet cannot be reached.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The history cannot be asked.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// The blob store.
    #[error(transparent)]
    Blobs(#[from] evalfleet_service::blobs::Error),
    /// It was found bad.
    #[error("{0}")]
    Quarantined(Entry),
    /// It has nothing to be tried with.
    #[error("{0} states no cases: add [[cases]] to its tool.toml")]
    NoCases(String),
    /// The list of tools in quarantine.
    #[error("the list of quarantined tools: {0}")]
    List(std::io::Error),
}

impl Error {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Code(_)
            | Self::Registry(_)
            | Self::Arguments(_)
            | Self::Unknown { .. }
            | Self::Quarantined(_)
            | Self::NoCases(_) => Exit::Harness,
            Self::Client(error) => error.exit(),
            Self::Api(error) => error.exit(),
            Self::Blobs(_) => Exit::Unreachable,
            Self::List(_) => Exit::Usage,
        }
    }
}

/// Tools by their names, and where they are tried.
#[derive(Debug)]
pub struct ToolRegistry<'e> {
    evaluator: &'e SecureEvaluator,
    quarantine: Quarantine,
    tools: BTreeMap<String, Tool>,
}

impl<'e> ToolRegistry<'e> {
    /// A registry without tools.
    pub fn new(evaluator: &'e SecureEvaluator) -> Self {
        let quarantine = Quarantine::in_dir(&evaluator.settings().state_dir());
        Self { evaluator, quarantine, tools: BTreeMap::new() }
    }

    /// Registers every tool in the subfolders of `folder`.
    ///
    /// # Errors
    /// Names the folder that is no tool's, and what is wrong with it. Then none is registered.
    pub fn register_dir(&mut self, folder: &Path) -> Result<(), Error> {
        let tools = Tool::load_all(folder)?;
        tools.into_iter().for_each(|tool| self.register_tool(tool));
        Ok(())
    }

    /// Registers a tool in place of whatever had its name.
    pub fn register_tool(&mut self, tool: Tool) {
        self.tools.insert(tool.spec.name.clone(), tool);
    }

    /// The tools, by name.
    pub fn list_tools(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }

    /// The tools as function declarations: `[{name, description, parameters}]`.
    pub fn get_tool_definitions(&self) -> Vec<Value> {
        self.tools.values().map(|tool| tool.spec.declaration()).collect()
    }

    /// One tool.
    ///
    /// # Errors
    /// Names the tools that there are.
    pub fn tool(&self, name: &ToolName) -> Result<&Tool, Error> {
        self.tools.get(name.as_str()).ok_or_else(|| Error::Unknown {
            name: name.clone(),
            known: self.tools.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Calls a registered tool in a clean VM, with the code that it was registered with.
    ///
    /// # Errors
    /// When there is no such tool, its arguments do not fit, it is in quarantine, or the fleet does not answer. What
    /// the tool itself makes of it is in the result.
    pub async fn execute_tool(&self, name: &ToolName, params: Value) -> Result<EvalResult, Error> {
        let tool = self.tool(name)?;
        if let Some(entry) = self.quarantine.of(name.as_str()).map_err(Error::List)? {
            return Err(Error::Quarantined(entry));
        }
        tool.spec.check_arguments(&params)?;
        let job = evaluate::job_of(self.evaluator, tool, &params, BTreeMap::new()).await?;
        let evaluation = self.evaluator.client().submit_job(&job).await?.wait().await?;
        let evaluation = evaluate::about(tool, evaluation);
        Ok(EvalResult::of(&FunctionCall { name: name.clone(), args: params }, evaluation))
    }

    /// Tries a tool by its cases, records that, reads its history, and recommends what to do with it. One that is
    /// to be quarantined is, and one that proves itself is let out.
    ///
    /// # Errors
    /// When it has no cases, or the fleet or the history cannot be reached.
    pub async fn evaluate_tool_safely(&self, tool: &Tool) -> Result<EvaluationResult, Error> {
        self.evaluate_tool(tool, &Options::default()).await
    }

    /// The same, with a say in how.
    ///
    /// # Errors
    /// As [`ToolRegistry::evaluate_tool_safely`].
    pub async fn evaluate_tool(&self, tool: &Tool, options: &Options) -> Result<EvaluationResult, Error> {
        let result = evaluate::evaluate(self.evaluator, tool, options).await?;
        self.quarantine.follow(&result).map_err(Error::List)?;
        Ok(result)
    }
}

/// What a tool is called with, as a document.
pub fn definition(tool: &Tool) -> Value {
    json!({"name": tool.spec.name, "code": tool.code.to_string(), "cases": tool.spec.cases.len()})
}
