//! Backups when the user's EDN file says: `:backup-schedule "0 2 * * *"`.

use super::{Error, take};
use chrono::Local;
use evalfleet_datomic::Client;
use evalfleet_datomic::settings::Schedule;
use evalfleet_service::settings::Settings;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long after one that failed the next is tried, unless the schedule is sooner.
const AGAIN: Duration = Duration::from_secs(15 * 60);
/// The longest sleep at a time: a clock that is set meanwhile is noticed.
const NAP: Duration = Duration::from_secs(30);

/// Takes backups on schedule until `stop`.
pub async fn keep(settings: &Settings, store: &Client, schedule: &Schedule, stop: &CancellationToken) {
    let mut failed = false;
    loop {
        let now = Local::now();
        let next = schedule.next(now);
        let again = failed.then(|| now + AGAIN);
        let Some(due) = next.into_iter().chain(again).min() else {
            tracing::error!(%schedule, "this never comes: no backup will be taken");
            return stop.cancelled().await;
        };
        tracing::info!(%due, "the next backup");
        while Local::now() < due {
            let left = (due - Local::now()).to_std().unwrap_or_default();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(left.min(NAP)) => {}
            }
        }
        let taken = tokio::select! {
            () = stop.cancelled() => return,
            taken = take(settings, store) => taken,
        };
        failed = taken.is_err();
        match taken {
            Ok(manifest) => tracing::info!(
                name = manifest.name,
                basis_t = manifest.basis_t,
                "a backup is taken and checked"
            ),
            Err(Error::Differs { name, why }) => tracing::error!(name, why, "a backup is no good"),
            Err(error) => tracing::error!(%error, "no backup was taken"),
        }
    }
}
