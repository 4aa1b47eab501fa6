//! The watch at work: what the projection learns goes in, deeds are carried out.
//!
//! One process of a state directory watches (`watch.lock`); others wait for its end. A deed that cannot be carried out
//! now (the recorder cannot be told) holds up those after it, and is tried again; meanwhile the watch goes on.
//!
//! **Stopped at any moment**, it loses nothing and does nothing twice that would show: what was looked at without all of
//! its deeds done is looked at again (`Mark`), which leads to the same alerts and the same jobs by their names; what was
//! not told yet is in the [`Outbox`].

use super::alarm::{Bounds, Deed};
use super::mark::Mark;
use super::rerun::Rerun;
use super::sighting::Sighting;
use super::watcher::Watcher;
use crate::alone::alone;
use crate::api::App;
use crate::problem::Problem;
use crate::projection::alerts::Card;
use crate::tell::channels::Channels;
use crate::tell::notice::Notice;
use crate::tell::outbox::Outbox;
use evalfleet_analytics::alarm::Settings as Life;
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::{Alert, State};
use evalfleet_proto::ids::AlertId;
use evalfleet_service::settings::Alerts;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The evaluations of the past that are learned from, the newest.
const PAST_MAX: usize = 20_000;
/// How often alarms hear that time passes, and what could not be done is tried again.
const TICK: Duration = Duration::from_secs(5);
/// The most deeds that may wait; beyond that all is taken up anew from the history.
const DEEDS_MAX: usize = 4096;
/// So many evaluations are looked at before others get the thread.
const STRETCH: usize = 256;

/// Watches until `stop`, and tells what it finds.
pub async fn watch<R: Rerun>(
    app: &App,
    settings: &Alerts,
    place: &Path,
    (rerun, channels): (&R, &Channels),
    stop: &CancellationToken,
) {
    let life = Life { confirm_within: settings.confirm_within, ..Life::default() };
    let bounds = Bounds { reruns_max: settings.reruns_max, life };
    let watching = async {
        let _alone = alone(&place.join("watch.lock"), "alerts are not watched for").await;
        let outbox = Outbox::opened(&place.join("alerts"), &channels.names()).await;
        let watched = async {
            let mut mark = Mark::of(place);
            loop {
                let ended = async {
                    let mut course = Course::begin(app, bounds, &outbox, channels, &mut mark).await?;
                    course.go_on(rerun).await
                };
                if let Err(problem) = ended.await {
                    tracing::debug!(problem = problem.detail, "the watch begins anew");
                    tokio::time::sleep(TICK).await;
                }
            }
        };
        tokio::join!(watched, channels.serve(&outbox));
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = watching => {}
    }
}

/// One stretch of watching: until the log turns out to be another one.
struct Course<'a> {
    app: &'a App,
    outbox: &'a Outbox,
    channels: &'a Channels,
    mark: &'a mut Mark,
    watcher: Watcher,
    deeds: VecDeque<Deed>,
    /// The newest transaction that was looked at.
    seen: u64,
}

impl<'a> Course<'a> {
    /// Takes up open alerts, learns from the past, and looks at what nobody has looked at.
    async fn begin(
        app: &'a App,
        bounds: Bounds,
        outbox: &'a Outbox,
        channels: &'a Channels,
        mark: &'a mut Mark,
    ) -> Result<Self, Problem> {
        app.ready().await?;
        let (cards, past, unseen, seen) = {
            let world = app.projection.read();
            let at = world.at(None).map_err(|early| Problem::unavailable(early.to_string()))?;
            let seen = world.basis_t();
            // A mark beyond the log is of another one.
            let marked = mark.read().filter(|marked| *marked <= seen).unwrap_or(seen);
            let unseen = world.recorded_after(marked).count();
            let rows = world.recorded_after(0).rev().take(PAST_MAX).enumerate();
            let (mut fresh, mut past) = (Vec::new(), Vec::new());
            for (nth, row) in rows {
                let into = if nth < unseen { &mut fresh } else { &mut past };
                into.extend(Sighting::of(&world, row).map(Arc::new));
            }
            fresh.reverse();
            past.reverse();
            (world.alerts(at), past, fresh, seen)
        };
        let mut watcher = Watcher::new(bounds);
        let waiting = alerts(outbox.notices());
        let ended = cards.iter().filter(|card| matches!(card.state, State::Closed | State::Dismissed));
        watcher.remember(ended.filter_map(|card| card.id.parse().ok()));
        watcher.remember(waiting.iter().filter(|alert| alert.state == State::Closed).map(|alert| alert.id));
        for alert in standing(app, &cards, &waiting).await? {
            watcher.restore(alert);
        }
        // What was not told is recorded, if it is not, and told: it is in the outbox already.
        let deeds =
            alerts(outbox.unrecorded()).into_iter().map(|alert| Deed::Record(Box::new(alert))).collect();
        let mut course = Self { app, outbox, channels, mark, watcher, deeds, seen };
        let now = Timestamp::now();
        for (nth, one) in past.iter().enumerate() {
            course.deeds.extend(course.watcher.learn(one, now));
            give_way(nth).await;
        }
        course.look_at(&unseen, now).await?;
        course.deeds.extend(course.watcher.unanswered());
        tracing::debug!(evaluations = past.len(), unseen = unseen.len(), seen, "watching");
        Ok(course)
    }

    /// Watches as long as the log goes on.
    async fn go_on<R: Rerun>(&mut self, rerun: &R) -> Result<(), Problem> {
        let mut progress = self.app.projection.progress();
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.carry_out(rerun).await;
            let ticked = tokio::select! {
                changed = progress.changed() => {
                    changed.map_err(|_| Problem::unavailable("the projection has ended"))?;
                    false
                }
                _ = tick.tick() => true,
            };
            let known = progress.borrow_and_update().clone();
            if !known.ready || known.basis_t < self.seen {
                return Err(Problem::unavailable("the store holds another log"));
            }
            let now = Timestamp::now();
            if ticked {
                if self.deeds.is_empty() {
                    self.mark.set(self.seen);
                }
                self.deeds.extend(self.watcher.tick(now));
            }
            let fresh = self.fresh();
            self.look_at(&fresh, now).await?;
        }
    }

    fn fresh(&mut self) -> Vec<Arc<Sighting>> {
        let world = self.app.projection.read();
        let rows = world.recorded_after(self.seen);
        let fresh = rows.filter_map(|row| Sighting::of(&world, row)).map(Arc::new).collect();
        self.seen = world.basis_t();
        fresh
    }

    async fn look_at(&mut self, fresh: &[Arc<Sighting>], now: Timestamp) -> Result<(), Problem> {
        for (nth, one) in fresh.iter().enumerate() {
            self.deeds.extend(self.watcher.see(one, now));
            if self.deeds.len() > DEEDS_MAX {
                return Err(Problem::too_much("more is to be done than can be remembered"));
            }
            give_way(nth).await;
        }
        Ok(())
    }

    /// Does what is to be done, in order, as far as it can be done now. What cannot be run again now keeps nobody from
    /// being told.
    async fn carry_out<R: Rerun>(&mut self, rerun: &R) {
        let mut left = self.deeds.len();
        while let Some(deed) = self.deeds.front().filter(|_| left > 0) {
            match deed {
                Deed::Record(alert) => {
                    if !self.is_recorded(alert).await {
                        return;
                    }
                    // One of an earlier process may wait for this.
                    self.outbox.release(&Notice::Alert(alert.clone()));
                }
                Deed::Tell(alert) => {
                    // Before anyone hears of it, so that it is told whatever happens from here on.
                    let notice = Notice::Alert(alert.clone());
                    self.outbox.put(&notice, &self.channels.names());
                    if !self.is_recorded(alert).await {
                        return;
                    }
                    self.outbox.release(&notice);
                }
                Deed::Rerun { alert, of, id } => {
                    let (alert, of, id) = (*alert, *of, *id);
                    match rerun.rerun(alert, of, id).await {
                        Ok(()) => {}
                        Err(problem) if problem.is_passing() => {
                            tracing::warn!(%alert, evaluation = %of, why = problem.detail, "run again later");
                            self.deeds.push_back(Deed::Rerun { alert, of, id });
                        }
                        Err(problem) => {
                            tracing::info!(%alert, evaluation = %of, why = problem.detail, "not run again");
                            let more = self.watcher.refused(alert, id, Timestamp::now());
                            left += more.len();
                            self.deeds.extend(more);
                        }
                    }
                }
            }
            self.deeds.pop_front();
            left -= 1;
        }
    }

    async fn is_recorded(&self, alert: &Alert) -> bool {
        let told = self.app.desk.tell_of(alert).await;
        if let Err(problem) = &told {
            tracing::warn!(alert = %alert.id, problem = problem.detail, "the recorder is told later");
        }
        told.is_ok()
    }
}

fn alerts(notices: Vec<Notice>) -> Vec<Alert> {
    let alert = |notice| match notice {
        Notice::Alert(alert) => Some(*alert),
        Notice::Healing(_) => None,
    };
    notices.into_iter().filter_map(alert).collect()
}

async fn give_way(nth: usize) {
    if nth % STRETCH == STRETCH - 1 {
        tokio::task::yield_now().await;
    }
}

/// The open alerts as they stand: as the history has them, or as they are to be told and the history will.
async fn standing(app: &App, cards: &[Arc<Card>], waiting: &[Alert]) -> Result<Vec<Alert>, Problem> {
    let mut alerts: BTreeMap<AlertId, Alert> = BTreeMap::new();
    let is_open = |card: &&Arc<Card>| matches!(card.state, State::Confirming | State::Raised);
    for card in cards.iter().filter(is_open) {
        match document(app, card).await {
            Ok(alert) => drop(alerts.insert(alert.id, alert)),
            Err(problem) if problem.is_passing() => return Err(problem),
            Err(problem) => {
                tracing::warn!(alert = card.id, problem = problem.detail, "an open alert is not taken up");
            }
        }
    }
    for alert in waiting {
        let is_newer = |known: &Alert| known.revision < alert.revision;
        // One that has ended in the history is not among those that are open.
        if alerts.get(&alert.id).is_some_and(is_newer)
            || !cards.iter().any(|card| card.id == alert.id.to_string())
        {
            alerts.insert(alert.id, alert.clone());
        }
    }
    Ok(alerts.into_values().collect())
}

async fn document(app: &App, card: &Card) -> Result<Alert, Problem> {
    let key = card.document.as_deref().ok_or_else(|| Problem::damaged("it has no document"))?;
    let document = app.history.document(key).await?;
    serde_json::from_value(document).map_err(|error| Problem::damaged(error.to_string()))
}
