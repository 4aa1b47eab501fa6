//! What is done in a VM on our behalf and not for a job: commands that set up and warm, and flushing.

use super::Error;
use super::agent::Agent;
use evalfleet_proto::guest::{FromGuest, Run, ToGuest};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How much of what a failed command said goes into the error.
const LAST_WORDS_BYTES: usize = 1000;

/// Runs one of our own programs, whose output nobody reads.
pub(super) async fn run(agent: &mut Agent, run: Run, limit: Duration) -> Result<(), Error> {
    run_unless(agent, run, limit, &CancellationToken::new()).await.map(drop)
}

/// The same, but once `wanted` is cancelled it is not begun, or ended with all that it started. Tells
/// whether it ran to its end.
pub(super) async fn run_unless(
    agent: &mut Agent,
    run: Run,
    limit: Duration,
    wanted: &CancellationToken,
) -> Result<bool, Error> {
    if wanted.is_cancelled() {
        return Ok(false);
    }
    let name = run.argv.join(" ");
    agent.voice.say_all(&[ToGuest::Run(run), ToGuest::StdinEnd]).await?;
    let ended = async {
        let (mut said, mut killed) = (Vec::new(), false);
        loop {
            let heard = tokio::select! {
                heard = agent.ear.hear() => heard?,
                () = wanted.cancelled(), if !killed => {
                    killed = true;
                    agent.voice.say(&ToGuest::Kill).await?;
                    continue;
                }
            };
            if let FromGuest::Exited(exited) = &heard
                && (killed || exited.code == Some(0))
            {
                return Ok(!killed);
            }
            if let FromGuest::Output { data, .. } = &heard {
                said.extend_from_slice(data);
                said.drain(..said.len().saturating_sub(LAST_WORDS_BYTES));
            } else if !matches!(heard, FromGuest::Started) {
                let said = String::from_utf8_lossy(&said);
                return Err(Error::NotClean(format!("`{name}` ended with {heard:?}: {}", said.trim())));
            }
        }
    };
    timeout(limit, ended)
        .await
        .unwrap_or(Err(Error::TimedOut { what: "a warming command", seconds: limit.as_secs() }))
}

/// Has the guest flush its disk.
pub(super) async fn sync(agent: &mut Agent, limit: Duration) -> Result<(), Error> {
    agent.voice.say(&ToGuest::Sync).await?;
    let synced = async {
        loop {
            if matches!(agent.ear.hear().await?, FromGuest::Synced) {
                return Ok(());
            }
        }
    };
    timeout(limit, synced)
        .await
        .unwrap_or(Err(Error::TimedOut { what: "flushing the guest's disk", seconds: limit.as_secs() }))
}
