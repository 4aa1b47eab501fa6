//! Submits three jobs without waiting, and prints each evaluation as it comes.
//!
//! ```sh
//! evalfleet up --detach
//! cargo run -p evalfleet --example submit
//! ```

use evalfleet::client::{Client, as_they_come};
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use futures::{StreamExt as _, TryStreamExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // The settings know where `evalfleet up` put the broker.
    let settings = Settings::load(None)?;
    let client = Client::connect(&settings).await?;

    let submissions = [
        r#"{"kind": "function_call", "tool": "word_count", "args": {"text": "a b c"}}"#,
        r#"{"kind": "command", "argv": ["sh", "-c", "echo hi > /workspace/a"], "expected_effects": ["/workspace/**"]}"#,
        r#"{"kind": "command", "argv": ["sleep", "60"], "limits": {"wall": "1s"}}"#,
    ];
    let submissions: Vec<_> = submissions.into_iter().map(Submission::from_json).collect::<Result<_, _>>()?;
    let pending: Vec<_> = client.submit_many(submissions).try_collect().await?;
    for job in &pending {
        println!("{} submitted", job.id());
    }

    let mut evaluations = as_they_come(pending);
    while let Some(evaluation) = evaluations.next().await {
        println!("{}", evalfleet::cli::report::report(&evaluation?));
    }
    drop(evaluations);
    client.close().await;
    Ok(())
}
