//! The tools of an image as tools of the Gemini REPL: `execute_tool` runs each call in a virtual machine that is clean
//! for it, by the REPL's own trait and under the names that it has.
//!
//! This file goes into the REPL as it is, as `src/tools/evalfleet.rs` (`against.sh` does that).

use super::Tool;
use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use evalfleet::functions::SecureEvaluator;
use evalfleet::registry::Registry;
use evalfleet_proto::job::FunctionCall;
use evalfleet_service::settings::Settings;
use serde_json::Value;
use std::sync::Arc;

/// One tool, whose calls run elsewhere.
pub struct InCleanVm {
    evaluator: Arc<SecureEvaluator>,
    registry: Arc<Registry>,
    name: String,
    description: String,
    parameters: Value,
}

/// All tools of the configured image.
pub async fn tools() -> Result<Vec<Box<dyn Tool>>> {
    let settings = Settings::load(None)?;
    let evaluator = Arc::new(SecureEvaluator::connect(&settings).await?);
    let registry = Arc::new(Registry::load(&settings.images_dir(), &settings.client.image)?);
    let tool = |tool: &evalfleet::registry::Tool| -> Box<dyn Tool> {
        Box::new(InCleanVm {
            evaluator: evaluator.clone(),
            registry: registry.clone(),
            name: tool.name.to_string(),
            description: tool.description.clone(),
            parameters: tool.parameters.clone(),
        })
    };
    Ok(registry.tools().map(tool).collect())
}

impl InCleanVm {
    fn call(&self, params: &Value) -> Result<FunctionCall> {
        let name = self.name.parse().with_context(|| format!("{:?} is no tool's name", self.name))?;
        Ok(FunctionCall { name, args: params.clone() })
    }
}

#[async_trait]
impl Tool for InCleanVm {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn parameters_schema(&self) -> Value {
        self.parameters.clone()
    }

    async fn execute(&self, params: Value) -> Result<Value> {
        let result = self.evaluator.test_function_call(&self.call(&params)?).await;
        if !result.passed() {
            bail!("{}", result.result.response["error"].as_str().unwrap_or("the call failed"));
        }
        Ok(result.result.response)
    }

    fn validate_params(&self, params: &Value) -> Result<()> {
        self.registry.check(&self.call(params)?)?;
        Ok(())
    }
}
