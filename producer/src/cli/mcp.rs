//! `mcp`: an agent at standard input, the fleet behind.

use super::Context;
use super::failure::Failure;
use crate::functions::SecureEvaluator;
use evalfleet_proto::ids::ImageRef;
use evalfleet_proto::status::Exit;

pub(super) async fn mcp(context: &Context, image: Option<ImageRef>) -> Result<Exit, Failure> {
    let image = image.unwrap_or_else(|| context.settings.client.image.clone());
    // Jobs that name no image mean the one whose tools are served.
    let mut settings = context.settings.clone();
    settings.client.image = image.clone();
    let evaluator = SecureEvaluator::connect(&settings).await?;
    Box::pin(crate::mcp::serve(evaluator, &image)).await?;
    Ok(Exit::Passed)
}
