//! Backups when the user's EDN file says, `:backup-schedule "0 2 * * *"`; and after each, what is older than its
//! `:retention-days` goes.

use super::{Error, take};
use crate::machine::gateway::Keeping;
use crate::retention;
use chrono::Local;
use evalfleet_datomic::Client;
use evalfleet_service::settings::Settings;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long after one that failed the next is tried, unless the schedule is sooner.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// The longest sleep at a time: a clock that is set meanwhile is noticed.
const NAP: Duration = Duration::from_secs(30);
/// How often the oldest goes where no backups are scheduled.
const DAILY: Duration = Duration::from_secs(24 * 60 * 60);

/// Does what is due, until `stop`.
pub async fn keep(settings: &Settings, store: &Client, keeping: &Keeping, stop: &CancellationToken) {
    let mut failed = false;
    // Without backups there is no hour that was asked for: the first time is now.
    let mut next = if keeping.backups.is_some() { None } else { Some(Local::now()) };
    loop {
        let now = Local::now();
        let scheduled = match &keeping.backups {
            Some(schedule) => schedule.next(now),
            None => next.take().or(Some(now + DAILY)),
        };
        let again = failed.then(|| now + AGAIN);
        let Some(due) = scheduled.into_iter().chain(again).min() else {
            tracing::error!("the schedule of backups never comes: none will be taken, and nothing goes");
            return stop.cancelled().await;
        };
        tracing::info!(%due, "what is next for the history");
        while Local::now() < due {
            let left = (due - Local::now()).to_std().unwrap_or_default();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(left.min(NAP)) => {}
            }
        }
        failed = tokio::select! {
            () = stop.cancelled() => return,
            done = once(settings, store, keeping) => !done,
        };
    }
}

/// Takes a backup where they are scheduled; what is not in one that is checked does not go.
async fn once(settings: &Settings, store: &Client, keeping: &Keeping) -> bool {
    (keeping.backups.is_none() || backed_up(settings, store).await)
        && match keeping.days {
            Some(days) => cut(settings, store, days).await,
            None => true,
        }
}

async fn backed_up(settings: &Settings, store: &Client) -> bool {
    match take(settings, store).await {
        Ok(manifest) => {
            tracing::info!(name = manifest.name, basis_t = manifest.basis_t, "a backup is taken and checked");
            return true;
        }
        Err(Error::Differs { name, why }) => tracing::error!(name, why, "a backup is no good"),
        Err(error) => tracing::error!(%error, "no backup was taken"),
    }
    false
}

async fn cut(settings: &Settings, store: &Client, days: u32) -> bool {
    let cut = async {
        let before = retention::days_ago(days)?;
        retention::retain(settings, store, before, false, |_| ()).await
    };
    match cut.await {
        Ok(gone) => {
            tracing::info!(
                days,
                evaluations = gone.evaluations,
                dead_letters = gone.dead_letters,
                blobs = gone.blobs,
                "what is older is gone"
            );
            true
        }
        Err(error) => {
            tracing::error!(%error, days, "what is older is still there");
            false
        }
    }
}
