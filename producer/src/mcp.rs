//! A server of the Model Context Protocol over standard input and output: any agent that speaks it can call the
//! tools of an image, run a command, and ask for the history. Every call runs in a VM that is clean for it.

use crate::api::{Api, Query};
use crate::functions::{EvalResult, SecureEvaluator};
use crate::registry::{self, Registry};
use crate::toolbox::Quarantine;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::ImageRef;
use evalfleet_proto::job::FunctionCall;
use evalfleet_proto::status::Status;
use evalfleet_proto::submission::Submission;
use evalfleet_proto::units::parse_duration;
use evalfleet_service::settings::Settings;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Runs a command.
const RUN: &str = "evalfleet_run";
/// Asks the history in Datalog.
const QUERY: &str = "evalfleet_query";
/// Gives one evaluation.
const GET: &str = "evalfleet_get";

/// Effects that an answer lists; the evaluation has them all.
const EFFECTS_MAX: usize = 50;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tools cannot be read.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The agent ended the conversation before it began, or says what is no MCP.
    #[error("the agent at standard input: {0}")]
    Protocol(String),
}

/// What it serves from.
struct Server {
    evaluator: SecureEvaluator,
    registry: Registry,
    quarantine: Quarantine,
    settings: Settings,
}

/// Serves the tools of `image` until the agent closes standard input.
///
/// # Errors
/// When the image has no tools here, or the agent speaks no MCP.
pub async fn serve(evaluator: SecureEvaluator, image: &ImageRef) -> Result<(), Error> {
    let settings = evaluator.settings().clone();
    let registry = Registry::load(&settings.images_dir(), image)?;
    let quarantine = Quarantine::in_dir(&settings.state_dir());
    let server = Server { evaluator, registry, quarantine, settings };
    let running = Box::pin(server.serve(rmcp::transport::stdio())).await;
    let running = running.map_err(|error| Error::Protocol(error.to_string()))?;
    running.waiting().await.map_err(|error| Error::Protocol(error.to_string()))?;
    Ok(())
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        "evalfleet".clone_into(&mut info.server_info.name);
        evalfleet_service::VERSION.clone_into(&mut info.server_info.version);
        info.instructions = Some(
            "Every call runs in a virtual machine that is clean for it and thrown away afterwards: files do not stay \
             from one call to the next. Answers tell the effects on its disk and whose doing a failure was."
                .to_owned(),
        );
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let own = own_tools().map(|(name, description, schema)| Tool::new(name, description, object(schema)));
        let mut tools: Vec<Tool> = own.into_iter().collect();
        tools.extend(self.registry.tools().map(|tool| {
            let (name, description) = (tool.name.to_string(), tool.description.clone());
            Tool::new(name, description, object(tool.parameters.clone()))
        }));
        Ok(ListToolsResult { tools, ..ListToolsResult::default() })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let args = Value::Object(request.arguments.unwrap_or_default());
        let call = Box::pin(self.answer(&request.name, args));
        let result = tokio::select! {
            result = call => result?,
            // Its job goes on and is recorded; nobody waits for it here.
            () = context.ct.cancelled() => return Err(ErrorData::internal_error("cancelled", None)),
        };
        Ok(result.into())
    }
}

impl Server {
    async fn answer(&self, name: &str, args: Value) -> Result<CallToolResult, ErrorData> {
        match name {
            RUN => self.run(read(args)?).await,
            QUERY => self.query(read(args)?).await,
            GET => self.get(read(args)?).await,
            _ => self.call(name, args).await,
        }
    }

    async fn call(&self, name: &str, args: Value) -> Result<CallToolResult, ErrorData> {
        let name = name.parse().map_err(|error| invalid(&error))?;
        let call = FunctionCall { name, args };
        // What the protocol calls wrong parameters is told as that, and not as an answer of the tool.
        self.registry.check(&call).map_err(|error| invalid(&error))?;
        match self.quarantine.of(call.name.as_str()) {
            Ok(None) => {}
            Ok(Some(entry)) => {
                return Ok(CallToolResult::structured_error(json!({"error": entry.to_string()})));
            }
            Err(error) => return Err(ErrorData::internal_error(error.to_string(), None)),
        }
        let result = self.evaluator.test_function_call(&call).await;
        Ok(told(&result))
    }

    async fn run(&self, order: RunOrder) -> Result<CallToolResult, ErrorData> {
        let mut submission = Submission::command(order.argv);
        submission.stdin = order.stdin;
        if let Some(image) = order.image {
            submission.image = Some(image.parse().map_err(|error| invalid(&error))?);
        }
        if let Some(wall) = order.wall {
            submission.limits.wall = parse_duration(&wall).map_err(|error| invalid(&error))?;
            submission.limits.cpu = submission.limits.cpu.max(submission.limits.wall);
        }
        let evaluated = async { self.evaluator.client().submit(submission).await?.wait().await };
        match evaluated.await {
            Ok(evaluation) => Ok(ran(&evaluation)),
            Err(error) => Ok(CallToolResult::structured_error(json!({"error": error.to_string()}))),
        }
    }

    async fn query(&self, order: QueryOrder) -> Result<CallToolResult, ErrorData> {
        let QueryOrder { query, args, as_of } = order;
        let answered = async {
            Api::new(&self.settings.api)?.query(&Query { query, args, as_of, rows_max: None }).await
        };
        Ok(match answered.await {
            Ok(rows) => CallToolResult::structured(json!(rows)),
            Err(error) => CallToolResult::structured_error(json!({"error": error.to_string()})),
        })
    }

    async fn get(&self, order: GetOrder) -> Result<CallToolResult, ErrorData> {
        let asked =
            async { Api::new(&self.settings.api)?.evaluation(&order.id, order.as_of.as_deref()).await };
        Ok(match asked.await {
            Ok(document) => CallToolResult::structured(document),
            Err(error) => CallToolResult::structured_error(json!({"error": error.to_string()})),
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunOrder {
    argv: Vec<String>,
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    wall: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryOrder {
    query: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    as_of: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GetOrder {
    id: String,
    #[serde(default)]
    as_of: Option<String>,
}

/// The tools that are not an image's: name, description, parameters.
fn own_tools() -> [(&'static str, &'static str, Value); 3] {
    let text = |description: &str| json!({"type": "string", "description": description});
    let schema = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let run = json!({
        "argv": {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "The program and its arguments, without a shell around them."},
        "stdin": text("What it reads on standard input."),
        "image": text("The image; the configured one when missing."),
        "wall": text("Its time on the clock, such as 30s."),
    });
    let query = json!({
        "query": text("Datalog as EDN, such as [:find (count ?e) . :where [?e :evaluation/status :passed]]."),
        "args": {"type": "array", "items": {"type": "string"}, "description": "Its further inputs, each as EDN."},
        "as_of": text("As it was known then: a time, or a transaction."),
    });
    let get = json!({"id": text("The evaluation."), "as_of": text("As it was known then.")});
    [
        (
            RUN,
            "Run a command in a clean virtual machine; its effects are told and thrown away.",
            schema(run, &["argv"]),
        ),
        (QUERY, "Ask the history of all evaluations in Datalog.", schema(query, &["query"])),
        (GET, "One evaluation, as it was recorded.", schema(get, &["id"])),
    ]
}

fn told(result: &EvalResult) -> CallToolResult {
    let mut answer = json!({"response": result.result.response});
    if let Some(evaluation) = &result.evaluation {
        describe(evaluation, &mut answer);
    }
    answered(result.passed(), answer)
}

fn ran(evaluation: &Evaluation) -> CallToolResult {
    let mut answer = json!({
        "exit_code": evaluation.exit_code, "stdout": evaluation.stdout.text, "stderr": evaluation.stderr.text,
    });
    describe(evaluation, &mut answer);
    answered(evaluation.status == Status::Passed, answer)
}

fn answered(passed: bool, answer: Value) -> CallToolResult {
    if passed { CallToolResult::structured(answer) } else { CallToolResult::structured_error(answer) }
}

/// What an agent should know of a run besides its answer.
fn describe(evaluation: &Evaluation, answer: &mut Value) {
    let effects = evaluation
        .effects
        .iter()
        .take(EFFECTS_MAX)
        .map(|effect| json!({"path": effect.path, "change": effect.change, "expected": effect.expected}));
    answer["effects"] = effects.collect();
    answer["evaluation"] = json!(evaluation.id);
    answer["status"] = json!(evaluation.status);
    if let Some(cause) = evaluation.cause {
        answer["cause"] = json!(cause);
        answer["because"] = evaluation.evidence.iter().map(|evidence| evidence.message.clone()).collect();
    }
}

fn read<T: for<'de> Deserialize<'de>>(args: Value) -> Result<T, ErrorData> {
    serde_json::from_value(args).map_err(|error| invalid(&error))
}

fn invalid(error: &impl std::fmt::Display) -> ErrorData {
    ErrorData::invalid_params(error.to_string(), None)
}

fn object(schema: Value) -> Arc<Map<String, Value>> {
    Arc::new(match schema {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_tools_have_sound_schemas() {
        for (name, _, schema) in own_tools() {
            let validator = jsonschema::validator_for(&schema).unwrap();
            assert!(!validator.is_valid(&json!({})), "{name} requires something");
            assert!(!validator.is_valid(&json!({"colour": 1})), "{name} knows its keys");
        }
        assert!(read::<RunOrder>(json!({"argv": ["true"], "wall": "5s"})).is_ok());
        let error = read::<RunOrder>(json!({"argv": ["true"], "walls": 1})).unwrap_err();
        assert!(error.message.contains("walls"), "{error:?}");
    }
}
