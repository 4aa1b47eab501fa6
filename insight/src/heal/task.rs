//! Healing at work: what the projection learns goes in, deeds are carried out.
//!
//! One process of a state directory heals (`heal.lock`); others wait for its end. A deed that cannot be carried out now
//! (the recorder cannot be told) holds up those after it, and is tried again.
//!
//! **Stopped at any moment**, it loses nothing: open healings are in the history, and so are the tries that they rest
//! on. What was found and not yet recorded is found again, under the same name; what was recorded and not told to be
//! done is done again.

use super::hands::Hands;
use super::healer::{Decided, Deed, Healer};
use super::rules::LONG;
use super::seen::{DEATHS_MAX, Death, Seen, Try, verdict};
use super::senses::Senses;
use crate::alone::alone;
use crate::api::App;
use crate::live;
use crate::problem::Problem;
use crate::projection::follow::Progress;
use crate::projection::healings::Healing as Card;
use crate::projection::{At, DeadLetter, Outcome, Row, Symbol, World};
use crate::tell::channels::Channels;
use crate::tell::notice::{Notice, is_news};
use crate::tell::outbox::Outbox;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::healing::{Healing, State};
use evalfleet_proto::ids::{HealingId, JobId};
use evalfleet_proto::status::Cause;
use evalfleet_service::settings::{self, Settings};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// The evaluations of the past that are looked at, the newest.
const PAST_MAX: usize = 20_000;
/// How often time is said to pass, and what could not be done is tried again.
const TICK: Duration = Duration::from_secs(2);
/// The shortest time between two looks at the fleet.
const GLANCE: Duration = Duration::from_millis(250);
/// The most deeds that may wait; beyond that all is taken up anew from the history.
const DEEDS_MAX: usize = 4096;

/// Heals until `stop`.
pub async fn heal<H: Hands>(
    app: &App,
    settings: &Settings,
    (hands, channels): (&H, &Channels),
    stop: &CancellationToken,
) {
    let healing = async {
        let place = settings.state_dir();
        let _alone = alone(&place.join("heal.lock"), "nothing is healed").await;
        // The log has every change anyway.
        let names: Vec<&str> = channels.names().into_iter().filter(|name| *name != "log").collect();
        let outbox = Outbox::opened(&place.join("healings"), &names).await;
        let senses = Senses::of(settings);
        let mut known = Known::new();
        let healed = async {
            loop {
                let course =
                    Course::begin(app, &settings.insight.healing, &senses, (&outbox, &names), &mut known);
                let ended = async { course.await?.go_on(hands).await };
                if let Err::<(), _>(problem) = ended.await {
                    tracing::debug!(problem = problem.detail, "healing begins anew");
                }
                tokio::time::sleep(TICK).await;
            }
        };
        tokio::join!(healed, channels.serve(&outbox));
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = healing => {}
    }
}

/// One stretch of healing: until the log turns out to be another one.
struct Course<'a> {
    app: &'a App,
    senses: &'a Senses,
    healer: Healer,
    seen: Seen,
    deeds: VecDeque<Deed>,
    /// The newest transaction that was looked at.
    at: u64,
    /// Where people are told, by these channels.
    outbox: (&'a Outbox, &'a [&'a str]),
    known: &'a mut Known,
}

/// How each open healing stood when it was last recorded, and whether something held it.
type Known = BTreeMap<HealingId, (State, bool)>;

/// What a row tells of tries: all of it, or that its document has to be asked.
enum Told {
    Tries(Vec<Try>),
    Asked(JobId),
}

impl<'a> Course<'a> {
    /// Takes up open healings, and the tries of the window.
    async fn begin(
        app: &'a App,
        settings: &settings::Healing,
        senses: &'a Senses,
        outbox: (&'a Outbox, &'a [&'a str]),
        known: &'a mut Known,
    ) -> Result<Self, Problem> {
        app.ready().await?;
        let now = Timestamp::now();
        let (cards, rows, deaths, at) = {
            let world = app.projection.read();
            let moment = world.at(None).map_err(|early| Problem::unavailable(early.to_string()))?;
            let begin = |window: Duration| now.checked_sub(window).unwrap_or(Timestamp::MIN).as_millisecond();
            let newest = world.recorded_after(0).rev().take(PAST_MAX).filter(|row| row.at >= begin(LONG));
            // Documents are asked only for what rules with a short memory look at.
            let is_near = |row: &Row| row.at >= begin(settings.window);
            let told = newest.map(|row| (told(&world, row), is_near(row)));
            let kept = |(told, near): (Option<Told>, bool)| match told {
                Some(Told::Asked(_)) if !near => None,
                told => told,
            };
            let mut rows: Vec<Told> = told.filter_map(kept).collect();
            rows.reverse();
            let deaths = deaths(&world, moment, 0, begin(settings.window));
            (world.healings(moment), rows, deaths, world.basis_t())
        };
        let healer = Healer::new(settings);
        // What was before we came is not known: as if all had been well until now.
        let seen = Seen { active: Some(now), recorded: Some(now), ..Seen::default() };
        // What was not told is recorded, if it is not, and told: it is in the outbox already.
        let unrecorded = healings(outbox.0.unrecorded());
        let deeds = unrecorded.into_iter().map(|healing| Deed::Record(Box::new(healing))).collect();
        let mut waiting: BTreeMap<HealingId, Healing> = BTreeMap::new();
        for healing in healings(outbox.0.notices()) {
            if waiting.get(&healing.id).is_none_or(|known| known.revision <= healing.revision) {
                waiting.insert(healing.id, healing);
            }
        }
        let mut course = Self { app, senses, healer, seen, deeds, at, outbox, known };
        for card in &cards {
            // What waits to be told may be newer than what is recorded.
            let told = card.id.parse().ok().and_then(|id| waiting.remove(&id));
            course.take_up(card, told, now).await?;
        }
        waiting.into_values().for_each(|healing| course.stand(healing, now));
        course.learn(rows, deaths).await?;
        course.decide(&cards, now);
        tracing::debug!(healings = cards.len(), at, "healing");
        Ok(course)
    }

    async fn take_up(&mut self, card: &Card, told: Option<Healing>, now: Timestamp) -> Result<(), Problem> {
        if !card.state.is_open() {
            let applied = card.applied.zip(card.by.as_deref());
            self.healer.remember((card.detector, &card.subject), card.ended.unwrap_or(now), applied);
            return Ok(());
        }
        match document(self.app, card).await {
            Ok(healing) => {
                let newer = told.filter(|told| told.revision > healing.revision);
                self.stand(newer.unwrap_or(healing), now);
            }
            Err(problem) if problem.is_passing() => return Err(problem),
            Err(problem) => {
                tracing::warn!(
                    healing = card.id,
                    problem = problem.detail,
                    "an open healing is not taken up"
                );
            }
        }
        Ok(())
    }

    /// Takes one up as it stands.
    fn stand(&mut self, healing: Healing, now: Timestamp) {
        if healing.is_open() {
            self.known.insert(healing.id, (healing.state, healing.held.is_some()));
            self.deeds.extend(self.healer.restore(healing, now));
        } else {
            let applied = healing.applied.zip(healing.by.as_deref());
            let key = (healing.detector, &*healing.subject);
            self.healer.remember(key, healing.ended.unwrap_or(now), applied);
        }
    }

    /// Heals as long as the log goes on.
    async fn go_on<H: Hands>(&mut self, hands: &H) -> Result<(), Problem> {
        let mut progress = self.app.projection.progress();
        let mut tick = tokio::time::interval(TICK);
        let mut notices = self.app.live.listen();
        let mut looked = None;
        loop {
            if looked.is_none_or(|looked: Instant| looked.elapsed() >= TICK) {
                self.senses.look(&mut self.seen, &self.app.fleet).await;
                looked = Some(Instant::now());
            }
            let now = Timestamp::now();
            self.seen.forget(now, LONG);
            self.deeds.extend(self.healer.look(&self.seen, now));
            if self.deeds.len() > DEEDS_MAX {
                return Err(Problem::too_much("more is to be done than can be remembered"));
            }
            self.carry_out(hands).await;
            self.wait(&mut progress, &mut notices, &mut tick).await?;
            let known = progress.borrow_and_update().clone();
            if !known.ready || known.basis_t < self.at {
                return Err(Problem::unavailable("the store holds another log"));
            }
            self.catch_up().await?;
        }
    }

    /// Waits until there is something new to look at, and hears what workers tell meanwhile. However much that is, the
    /// fleet is looked at a few times a second.
    async fn wait(
        &mut self,
        progress: &mut watch::Receiver<Progress>,
        notices: &mut Receiver<Arc<live::Notice>>,
        tick: &mut Interval,
    ) -> Result<(), Problem> {
        let (pause, mut stirred) = (Instant::now() + GLANCE, false);
        loop {
            tokio::select! {
                biased;
                () = sleep_until(pause), if stirred => return Ok(()),
                changed = progress.changed() => {
                    changed.map_err(|_| Problem::unavailable("the projection has ended"))?;
                    stirred = true;
                }
                // A fault that is to be tried again is told long before its job has a result.
                notice = notices.recv() => match notice {
                    Ok(notice) => stirred |= self.hear(&notice),
                    // What is missed is in the history later.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(Problem::unavailable("no events are told any more")),
                },
                _ = tick.tick() => stirred = true,
            }
        }
    }

    /// Learns of a fault that a worker tells of; tells whether it was one.
    fn hear(&mut self, notice: &live::Notice) -> bool {
        let live::Notice::Job(news) = notice else { return false };
        self.seen.active = Some(Timestamp::now());
        let (Some(worker), Some(number), Some(error), Ok(job)) =
            (&news.worker, news.attempt, &news.error, news.job.parse())
        else {
            return false;
        };
        let (worker, fault) = (worker.as_str().into(), Some(error.as_str().into()));
        self.seen.add(Try { number, worker, at: Timestamp::now(), fault, ..Try::blank(job) });
        true
    }

    /// Learns what was recorded since.
    async fn catch_up(&mut self) -> Result<(), Problem> {
        let (rows, deaths, cards) = {
            let world = self.app.projection.read();
            if world.basis_t() == self.at {
                return Ok(());
            }
            self.seen.recorded = Some(Timestamp::now());
            let moment = world.at(None).map_err(|early| Problem::unavailable(early.to_string()))?;
            let rows: Vec<Told> = world.recorded_after(self.at).filter_map(|row| told(&world, row)).collect();
            let deaths = deaths(&world, moment, self.at, i64::MIN);
            self.at = world.basis_t();
            (rows, deaths, world.healings(moment))
        };
        self.learn(rows, deaths).await?;
        self.decide(&cards, Timestamp::now());
        Ok(())
    }

    async fn learn(&mut self, rows: Vec<Told>, deaths: Vec<Death>) -> Result<(), Problem> {
        deaths.into_iter().for_each(|death| self.seen.add_death(death));
        if !rows.is_empty() {
            self.seen.active = Some(Timestamp::now());
        }
        for row in rows {
            let tries = match row {
                Told::Tries(tries) => tries,
                Told::Asked(id) => tries_of(self.app, id).await?,
            };
            tries.into_iter().for_each(|one| self.seen.add(one));
        }
        Ok(())
    }

    /// Takes in what people decided and nobody carried out.
    fn decide(&mut self, cards: &[Arc<Card>], now: Timestamp) {
        for card in cards {
            let (Some(word), Ok(id)) = (card.open_decision(), card.id.parse()) else { continue };
            let decided = Decided { wanted: word.wanted, by: word.by.clone(), at: word.at };
            self.deeds.extend(self.healer.decide(id, &decided, now));
        }
    }

    /// Does what is to be done, in order, as far as it can be done now.
    async fn carry_out<H: Hands>(&mut self, hands: &H) {
        let mut left = self.deeds.len();
        while let Some(deed) = self.deeds.front().filter(|_| left > 0) {
            left -= 1;
            if let Deed::Record(healing) = deed {
                let healing = healing.clone();
                if !self.record(&healing).await {
                    return;
                }
                self.deeds.pop_front();
                continue;
            }
            let Some(deed) = self.deeds.pop_front().filter(|deed| self.healer.wants(deed)) else { continue };
            let more = self.act(hands, &deed).await;
            // What is done is told before anything else is done.
            let (told, again): (Vec<_>, Vec<_>) =
                more.into_iter().partition(|deed| matches!(deed, Deed::Record(_)));
            left += told.len();
            told.into_iter().rev().for_each(|deed| self.deeds.push_front(deed));
            self.deeds.extend(again);
        }
    }

    /// Tells the recorder, and people of what is news; false when that has to wait.
    async fn record(&mut self, healing: &Healing) -> bool {
        let (outbox, names) = self.outbox;
        let notice = Notice::Healing(Box::new(healing.clone()));
        if is_news(healing, self.known.get(&healing.id).copied()) {
            // Before anyone hears of it, so that it is told whatever happens from here on.
            outbox.put(&notice, names);
        }
        if let Err(problem) = self.app.desk.tell_of_healing(healing).await {
            tracing::warn!(healing = %healing.id, problem = problem.detail, "the recorder is told later");
            return false;
        }
        log(healing);
        // One that an earlier process put there is no news any more, and is told all the same.
        outbox.release(&notice);
        if healing.is_open() {
            self.known.insert(healing.id, (healing.state, healing.held.is_some()));
        } else {
            self.known.remove(&healing.id);
        }
        true
    }

    async fn act<H: Hands>(&mut self, hands: &H, deed: &Deed) -> Vec<Deed> {
        let (Deed::Apply(id) | Deed::Undo(id)) = deed else { return Vec::new() };
        let Some(healing) = self.healer.find(*id) else { return Vec::new() };
        let done = match deed {
            Deed::Undo(_) => hands.undo(healing).await,
            Deed::Apply(_) | Deed::Record(_) => hands.apply(healing).await,
        };
        let now = Timestamp::now();
        match done {
            Ok(()) => self.healer.done(*id, now),
            Err(problem) => {
                tracing::warn!(healing = %id, problem = problem.detail, "a remedy cannot be carried out");
                self.healer.failed(*id, &problem.detail, problem.is_passing(), now)
            }
        }
    }
}

fn healings(notices: Vec<Notice>) -> Vec<Healing> {
    let healing = |notice| match notice {
        Notice::Healing(healing) => Some(*healing),
        Notice::Alert(_) => None,
    };
    notices.into_iter().filter_map(healing).collect()
}

/// What happens is in the log, too: a person may have to look.
fn log(healing: &Healing) {
    let (id, state, subject) = (healing.id, healing.state.as_str(), healing.subject.as_str());
    let remedy = healing.remedy.as_str();
    tracing::warn!(%id, subject, remedy, state, message = healing.message, "healing");
}

/// What a row tells of tries; nothing of what no worker ran.
fn told(world: &World, row: &Row) -> Option<Told> {
    let (worker, job) = (row.worker?, row.id.parse().ok()?);
    if row.attempt > 1 || row.outcome() == Some(Outcome::Not(Cause::Infrastructure)) {
        return Some(Told::Asked(job));
    }
    let status = row.status.map(|status| world.symbols().text(status));
    if matches!(status, Some("cancelled" | "expired") | None) {
        return None;
    }
    let symbols = world.symbols();
    let labelled = row.labels.iter().find_map(|label| symbols.text(*label).strip_prefix("tool="));
    Some(Told::Tries(vec![Try {
        number: row.attempt.max(1),
        worker: symbols.shared(worker),
        at: crate::view::time(row.at),
        passed: verdict(row.cause),
        tool: labelled.map(Arc::from).or_else(|| row.tool().map(|tool| symbols.shared(tool))),
        image: row.image.map(|image| symbols.shared(image)),
        ..Try::blank(job)
    }]))
}

/// The jobs that were given up after transaction `after` and since `begin`, the oldest first.
fn deaths(world: &World, at: At, after: u64, begin: i64) -> Vec<Death> {
    let symbols = world.symbols();
    let is_call = |kind: Option<Symbol>| kind.is_some_and(|kind| symbols.text(kind) == "function_call");
    let death = |letter: &DeadLetter| {
        let tool = letter.tool.filter(|_| is_call(letter.kind)).map(|tool| symbols.shared(tool));
        Some(Death { job: letter.job.parse().ok()?, tool, at: crate::view::time(letter.at) })
    };
    let newest = world.letters(at).take(DEATHS_MAX);
    let fresh = newest.filter(|letter| letter.since > after && letter.at >= begin);
    let mut deaths: Vec<Death> = fresh.filter_map(death).collect();
    deaths.reverse();
    deaths
}

/// The tries of an evaluation; none of one whose document is gone.
async fn tries_of(app: &App, id: JobId) -> Result<Vec<Try>, Problem> {
    match app.history.evaluation(&id.to_string(), None).await {
        Ok(found) => Ok(serde_json::from_value::<Evaluation>(found.what)
            .map(|evaluation| Try::of(&evaluation))
            .unwrap_or_default()),
        Err(problem) if problem.is_passing() => Err(problem),
        Err(problem) => {
            tracing::debug!(evaluation = %id, problem = problem.detail, "its tries are not known");
            Ok(Vec::new())
        }
    }
}

async fn document(app: &App, card: &Card) -> Result<Healing, Problem> {
    let key = card.document.as_deref().ok_or_else(|| Problem::damaged("it has no document"))?;
    let document = app.history.document(key).await?;
    serde_json::from_value(document).map_err(|error| Problem::damaged(error.to_string()))
}
