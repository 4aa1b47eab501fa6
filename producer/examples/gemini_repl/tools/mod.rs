//! The part of the REPL that its tools see: the trait, by its names and types.

pub mod evalfleet;

use anyhow::Result;
use async_trait::async_trait;
use serde_json::Value;

#[async_trait]
pub trait Tool: Send + Sync {
    fn name(&self) -> &str;
    fn description(&self) -> &str;
    fn parameters_schema(&self) -> Value;
    async fn execute(&self, params: Value) -> Result<Value>;
    fn validate_params(&self, params: &Value) -> Result<()>;
}
