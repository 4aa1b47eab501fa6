//! Calls a job off while it runs, and a batch while it is queued.
//!
//! ```sh
//! evalfleet up --detach
//! cargo run -p evalfleet --example cancel
//! ```

use evalfleet::client::{Client, as_they_come};
use evalfleet_proto::control::Event;
use evalfleet_proto::submission::Submission;
use evalfleet_service::settings::Settings;
use futures::{StreamExt as _, TryStreamExt as _};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::load(None)?;
    let client = Client::connect(&settings).await?;

    let mut sleeper = client.submit(Submission::command(["sleep", "25"])).await?;
    // Waiting may be given up at any time and begun again: nothing of the job is lost by it.
    loop {
        tokio::select! {
            event = sleeper.event() => match event? {
                Some(Event::Started { worker, .. }) => {
                    println!("{} runs on {worker}", sleeper.id());
                    break;
                }
                Some(_) => {}
                None => break,
            },
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => println!("{} waits", sleeper.id()),
        }
    }
    client.cancel(sleeper.id(), Some("an example")).await?;
    let ended = sleeper.wait().await?;
    println!("{} {}: {}", ended.id, ended.status.as_str(), ended.evidence[0].message);

    let name = format!("example-{}", ended.id);
    let batch = (0..3).map(|_| {
        let mut submission = Submission::command(["sleep", "25"]);
        submission.batch = name.parse().ok();
        submission
    });
    let pending: Vec<_> = client.submit_many(batch).try_collect().await?;
    client.cancel_batch(&name.parse()?, Some("all of them")).await?;
    let mut evaluations = as_they_come(pending);
    while let Some(evaluation) = evaluations.next().await {
        let evaluation = evaluation?;
        println!("{} {}: {}", evaluation.id, evaluation.status.as_str(), evaluation.evidence[0].message);
    }
    drop(evaluations);
    client.close().await;
    Ok(())
}
