//! The front door for a REPL.

use super::response;
use crate::change::{Changes, CodeChange, SafetyResult, UnsafeModification};
use crate::client::{self, Client};
use evalfleet_proto::effect::Effect;
use evalfleet_proto::evaluation::{Evaluation, Metrics};
use evalfleet_proto::job::{FunctionCall, FunctionResponse};
use evalfleet_proto::status::{Exit, Status};
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use serde::Serialize;
use serde_json::json;

/// What a call came to.
#[derive(Debug, Clone, Serialize)]
pub struct EvalResult {
    /// What goes back to the model: the tool's answer, or why there is none.
    pub result: FunctionResponse,
    /// What it left different on its disk, as the host saw it.
    pub effects: Vec<Effect>,
    /// What it used, measured from the host.
    pub metrics: Metrics,
    /// Everything about it; none where it was never run.
    pub evaluation: Option<Box<Evaluation>>,
    /// The exit code that says how it ended.
    #[serde(skip)]
    pub exit: Exit,
}

impl EvalResult {
    /// Whether the call did what it should.
    pub fn passed(&self) -> bool {
        self.evaluation.as_ref().is_some_and(|evaluation| evaluation.status == Status::Passed)
    }

    /// The result of an evaluation of `call`.
    pub fn of(call: &FunctionCall, evaluation: Evaluation) -> Self {
        Self {
            result: FunctionResponse { name: call.name.clone(), response: response(&evaluation) },
            effects: evaluation.effects.clone(),
            metrics: evaluation.metrics.clone(),
            exit: Exit::of(evaluation.status, evaluation.cause),
            evaluation: Some(Box::new(evaluation)),
        }
    }

    /// The result of a call that was not run.
    pub(crate) fn not(call: &FunctionCall, error: &client::Error) -> Self {
        let cause = if error.exit() == Exit::Harness { "harness" } else { "infrastructure" };
        let response = json!({"error": error.to_string(), "cause": cause});
        Self {
            result: FunctionResponse { name: call.name.clone(), response },
            effects: Vec::new(),
            metrics: Metrics::default(),
            evaluation: None,
            exit: error.exit(),
        }
    }
}

/// Tests calls, and changes to code, each in clean VMs of the fleet.
#[derive(Debug)]
pub struct SecureEvaluator {
    client: Client,
    settings: Settings,
}

impl SecureEvaluator {
    /// An evaluator over the fleet that `settings` name.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn connect(settings: &Settings) -> Result<Self, client::Error> {
        Ok(Self { client: Client::connect(settings).await?, settings: settings.clone() })
    }

    /// Runs a call in a clean VM, and tells what came of it. One that does not fit its tool, or that the fleet does
    /// not answer, has that as its result.
    pub async fn test_function_call(&self, call: &FunctionCall) -> EvalResult {
        let evaluated =
            async { self.client.submit(Submission::function_call(call.clone())).await?.wait().await };
        match evaluated.await {
            Ok(evaluation) => EvalResult::of(call, evaluation),
            Err(error) => EvalResult::not(call, &error),
        }
    }

    /// Evaluates a change to code: `Ok` exactly when nothing speaks against it.
    ///
    /// # Errors
    /// With everything that speaks against it, or why that could not be found out.
    pub async fn test_self_modification(
        &self,
        change: &CodeChange,
    ) -> Result<SafetyResult, UnsafeModification> {
        let changes = Changes::new(&self.client, &self.settings);
        Box::pin(changes.test(change)).await
    }

    /// The connection, for more than single calls.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What it was connected with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Says goodbye to the fleet.
    pub async fn close(self) {
        self.client.close().await;
    }
}
