//! The Gemini REPL's tools, run in clean VMs: its `Tool` trait over an image's registry.
//!
//! ```sh
//! cargo run --example gemini_repl -- read_file '{"path": "README.md"}'
//! ```
//!
//! `against.sh DIR` puts the same adapter into a checkout of the real REPL, builds it, and has its own registry call it.

#![expect(unreachable_pub, reason = "the adapter stands here as it does in the REPL")]

mod tools;

use anyhow::Context as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let tools = tools::evalfleet::tools().await?;
    let Some(name) = arguments.next() else {
        for tool in &tools {
            println!("{:<28} {}\n    {}", tool.name(), tool.description(), tool.parameters_schema());
        }
        return Ok(());
    };
    let params = serde_json::from_str(&arguments.next().unwrap_or_else(|| "{}".to_owned()))?;
    let tool = tools.iter().find(|tool| tool.name() == name).with_context(|| format!("no tool {name}"))?;
    tool.validate_params(&params)?;
    println!("{}", tool.execute(params).await?);
    Ok(())
}
