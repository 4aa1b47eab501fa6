//! Where letters are taken out of their queue, and what is to be done with them is done.

use super::{Action, Changes, Error, Ledger, Which, replay_of};
use crate::api::Api;
use crate::person;
use evalfleet_broker::transport::Dial;
use evalfleet_broker::{Amqp, Confirmed, Delivery, Options, Session};
use evalfleet_proto::dead::{Card, Did, Filter, Handled, Letter, State};
use evalfleet_proto::envelope::{Envelope, MessageType};
use evalfleet_proto::ids::{JobId, Lane};
use evalfleet_proto::job::Job;
use evalfleet_proto::{SCHEMA_VERSION, Timestamp, topology, wire};
use evalfleet_service::blobs::Deferred;
use evalfleet_service::settings::Settings;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Letters that are at hand at one moment: a broker takes as long for one confirm as for many. So many jobs may be in
/// their queue twice, under one id, where a replay is killed.
pub const AT_ONCE: usize = 64;

/// What is to be done, and how.
#[derive(Debug, Clone)]
pub struct Order {
    /// With which letters.
    pub which: Which,
    /// What.
    pub action: Action,
    /// Only say what would be done.
    pub dry: bool,
    /// At most so many a second; as fast as it goes when missing.
    pub rate: Option<f64>,
    /// With at most so many.
    pub max: Option<usize>,
}

/// What came of one letter.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The letter.
    pub card: Card,
    /// The job that repeats it.
    pub job: Option<JobId>,
    /// Why nothing was done.
    pub refused: Option<String>,
}

/// What became of a letter of the queue.
enum Fate {
    /// It is to stay there. Given back at once, it would be the next to come.
    Stays(Box<Delivery<Confirmed>>),
    /// It is gone, on the strength of this.
    Settled(Confirmed),
}

/// What became of the letters so far.
struct Course<T> {
    /// The names of those that are at hand.
    busy: HashSet<String>,
    /// What was settled, by name, with the proof.
    done: HashMap<String, Confirmed>,
    /// What goes back in the end.
    held: Vec<Delivery<Confirmed>>,
    tell: T,
}

impl<T: FnMut(&Outcome)> Course<T> {
    fn note(&mut self, (outcome, fate): (Outcome, Fate)) {
        self.busy.remove(&outcome.card.id);
        match fate {
            Fate::Stays(delivery) => self.held.push(*delivery),
            Fate::Settled(proof) => drop(self.done.insert(outcome.card.id.clone(), proof)),
        }
        (self.tell)(&outcome);
    }

    /// Waits for `what`; what is under way goes on meanwhile.
    async fn meanwhile<W>(
        &mut self,
        under_way: &mut FuturesUnordered<impl Future<Output = Result<(Outcome, Fate), Error>>>,
        what: impl Future<Output = W>,
    ) -> Result<W, Error> {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                biased;
                done = &mut what => return Ok(done),
                Some(ended) = under_way.next(), if !under_way.is_empty() => self.note(ended?),
            }
        }
    }
}

/// The queue of dead letters, over a connection of its own: whatever is not settled goes back when
/// that ends.
#[derive(Debug)]
pub struct Office {
    session: Session,
    /// `None` where the history cannot be asked: then only the queue is known.
    ledger: Option<Box<dyn Ledger>>,
    blobs: Deferred,
    lanes: Vec<Lane>,
    attempts_max: u32,
    by: String,
}

impl Office {
    /// Connects to the broker that `settings` name.
    ///
    /// # Errors
    /// When none of its nodes answers.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let ledger = Api::new(&settings.api).ok().map(|api| Box::new(api) as Box<dyn Ledger>);
        Self::over(&Amqp, settings, ledger).await
    }

    /// The same, over a connection that `dial` makes, and with what `ledger` knows.
    ///
    /// # Errors
    /// As [`Office::open`].
    pub async fn over(
        dial: &dyn Dial,
        settings: &Settings,
        ledger: Option<Box<dyn Ledger>>,
    ) -> Result<Self, Error> {
        let options = Options::new(&settings.broker, "evalfleet dead letters");
        let session = Session::connect_over(dial, &options).await?;
        Ok(Self {
            session,
            ledger,
            blobs: Deferred::new(settings),
            lanes: settings.broker.lanes.clone(),
            attempts_max: settings.broker.attempts_max,
            by: person::who(),
        })
    }

    /// Looks at the first `limit` letters of the queue, oldest first.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn list(&self, limit: usize) -> Result<Vec<Letter>, Error> {
        let taken = self.session.take::<Confirmed>(topology::DEAD_QUEUE, limit).await?;
        let read =
            |delivery: &Delivery<_>| Letter::read(delivery.envelope.as_ref(), &delivery.key, &delivery.body);
        Ok(taken.iter().map(read).collect())
    }

    /// How many letters wait, as the broker counts.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn depth(&self) -> Result<usize, Error> {
        Ok(self.session.depth(topology::DEAD_QUEUE).await?.0 as usize)
    }

    /// Replays the letters that are meant as they are; with `dry`, says what would be done.
    ///
    /// # Errors
    /// As [`Office::carry_out`].
    pub async fn replay(&self, which: Which, dry: bool) -> Result<Vec<Outcome>, Error> {
        let action = Action::Replay { changes: Changes::default(), again: false };
        let mut outcomes = Vec::new();
        let order = Order { which, action, dry, rate: None, max: None };
        self.carry_out(&order, |outcome| outcomes.push(outcome.clone())).await?;
        Ok(outcomes)
    }

    /// Does what `order` says, and tells `tell` what came of each letter. Letters that are not meant, and
    /// those with which nothing could be done, stay.
    ///
    /// # Errors
    /// When there is no such lane: nothing is done. When the connection breaks: what was done is done, and the
    /// same order goes on. When a letter was named that is nowhere: the others are done.
    pub async fn carry_out(&self, order: &Order, tell: impl FnMut(&Outcome)) -> Result<(), Error> {
        if let Action::Replay { changes: Changes { lane: Some(lane), .. }, .. } = &order.action {
            crate::client::admit(lane, &self.lanes)?;
        }
        let mut order = order.clone();
        if let Which::Fitting(filter) = &order.which
            && filter.state() != State::Waiting
        {
            // Those lie in no queue any more: the history knows which they are.
            let cards = self.of_history(filter).await?;
            order.which = Which::Of(cards.into_iter().map(|card| card.id).collect());
        }
        if matches!(&order.which, Which::Of(ids) if ids.is_empty()) {
            return Ok(());
        }
        let mut pace = order.rate.map(|rate| {
            let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6)));
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            pace
        });
        let mut left: HashSet<String> = match &order.which {
            Which::Of(ids) => ids.iter().cloned().collect(),
            Which::Fitting(_) => HashSet::new(),
        };
        let by_name = !left.is_empty();
        let known = self.known_of(&order.which).await?;
        let browser = self.session.browse::<Confirmed>(topology::DEAD_QUEUE).await?;
        // What comes into the queue meanwhile, given back letters among it, is not looked at.
        let depth = self.depth().await?;
        let mut course = Course { busy: HashSet::new(), done: HashMap::new(), held: Vec::new(), tell };
        let (mut under_way, mut count) = (FuturesUnordered::new(), 0);
        let max = order.max.unwrap_or(usize::MAX);
        for _ in 0..depth {
            if count >= max || (by_name && left.is_empty()) {
                break;
            }
            let next = course.meanwhile(&mut under_way, browser.next()).await?;
            let Some(mut delivery) = next? else { break };
            let body = std::mem::take(&mut delivery.body);
            let letter = Letter::read(delivery.envelope.as_ref(), &delivery.key, &body);
            let card = letter.card(Timestamp::now());
            if !order.which.has(&card) {
                course.held.push(delivery);
                continue;
            }
            if let Some(pace) = &mut pace {
                course.meanwhile(&mut under_way, pace.tick()).await?;
            }
            left.remove(&card.id);
            count += 1;
            // The broker may have buried one twice: of one name only one is at hand at a time.
            while under_way.len() >= AT_ONCE || course.busy.contains(&card.id) {
                let Some(ended) = under_way.next().await else { break };
                course.note(ended?);
            }
            if let Some(proof) = course.done.get(&card.id) {
                // What was done with the one was done with the other.
                delivery.settle(proof).await?;
                (course.tell)(&Outcome { card, job: None, refused: None });
                continue;
            }
            course.busy.insert(card.id.clone());
            let known = known.get(&card.id);
            under_way.push(self.one(&order, letter, card, known, delivery));
        }
        while let Some(ended) = under_way.next().await {
            course.note(ended?);
        }
        let named = if let Which::Of(ids) = &order.which { ids.clone() } else { Vec::new() };
        for id in named.into_iter().filter(|id| left.remove(id)).take(max.saturating_sub(count)) {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            (course.tell)(&self.one_of_history(&order, id, &known).await?);
        }
        // Now they go back.
        drop(course);
        Ok(())
    }

    /// Does what is to be done with a letter of the queue.
    async fn one(
        &self,
        order: &Order,
        letter: Letter,
        card: Card,
        known: Option<&Card>,
        delivery: Delivery<Confirmed>,
    ) -> Result<(Outcome, Fate), Error> {
        let (outcome, proof) = match &order.action {
            Action::Replay { changes, again } => {
                let job = match plan(&letter, known, (changes, &self.lanes), *again) {
                    Ok(job) => job,
                    Err(why) => {
                        let outcome = Outcome { card, job: None, refused: Some(why) };
                        return Ok((outcome, Fate::Stays(Box::new(delivery))));
                    }
                };
                let id = job.id;
                let outcome = Outcome { card, job: Some(id), refused: None };
                if order.dry {
                    return Ok((outcome, Fate::Stays(Box::new(delivery))));
                }
                // It was told that this very job is published, and then the letter was not settled.
                let published = known.is_some_and(|known| known.replays.contains(&id));
                if !published {
                    self.publish(&job).await?;
                }
                let proof = self.tell(&outcome.card, Did::Replayed { job: id }).await?;
                (outcome, proof)
            }
            Action::Drop { reason } => {
                let outcome = Outcome { card, job: None, refused: None };
                if order.dry {
                    return Ok((outcome, Fate::Stays(Box::new(delivery))));
                }
                let proof = self.tell(&outcome.card, Did::Dropped { reason: reason.clone() }).await?;
                (outcome, proof)
            }
        };
        delivery.settle(&proof).await?;
        Ok((outcome, Fate::Settled(proof)))
    }

    /// Does what is to be done with a letter that is in no queue: it was handled before, or somebody else
    /// looks at it right now.
    async fn one_of_history(
        &self,
        order: &Order,
        id: String,
        known: &HashMap<String, Card>,
    ) -> Result<Outcome, Error> {
        let (Some(ledger), Some(card)) = (&self.ledger, known.get(&id).cloned()) else {
            return Err(Error::Missing { id });
        };
        let done = |card: &Card| {
            let when = card.handled.map_or(String::new(), |at| format!(" at {at}"));
            let by = card.handled_by.as_ref().map_or(String::new(), |by| format!(" by {by}"));
            let replays: Vec<_> = card.replays.iter().map(ToString::to_string).collect();
            let what = if replays.is_empty() { String::new() } else { format!(" as {}", replays.join(", ")) };
            format!("it was {}{what}{when}{by}", card.state.as_str())
        };
        match &order.action {
            Action::Replay { again: false, .. } if card.state != State::Waiting => {
                let refused = Some(format!("{}: --force replays it again", done(&card)));
                Ok(Outcome { card, job: None, refused })
            }
            Action::Replay { changes, again } => {
                let Some(key) = ledger.body(&id).await? else { return Err(Error::Missing { id }) };
                let body = self.blobs.get().await?.get(key).await?;
                let letter = Letter::read(None, &topology::dead_key(&Lane::default_lane()), &body);
                let job = match plan(&letter, Some(&card), (changes, &self.lanes), *again) {
                    Ok(job) => job,
                    Err(why) => return Ok(Outcome { card, job: None, refused: Some(why) }),
                };
                if !order.dry {
                    self.publish(&job).await?;
                    self.tell(&card, Did::Replayed { job: job.id }).await?;
                }
                Ok(Outcome { card, job: Some(job.id), refused: None })
            }
            Action::Drop { .. } if card.state != State::Waiting => {
                let refused = Some(done(&card));
                Ok(Outcome { card, job: None, refused })
            }
            Action::Drop { reason } => {
                if !order.dry {
                    self.tell(&card, Did::Dropped { reason: reason.clone() }).await?;
                }
                Ok(Outcome { card, job: None, refused: None })
            }
        }
    }

    /// What the history knows of the letters that are meant; nothing, where it cannot be asked.
    async fn known_of(&self, which: &Which) -> Result<HashMap<String, Card>, Error> {
        let filters = match which {
            Which::Fitting(filter) => vec![Filter { state: Some(State::Any), ..(**filter).clone() }],
            Which::Of(ids) => ids
                .iter()
                .map(|id| Filter { id: Some(id.clone()), state: Some(State::Any), ..Filter::default() })
                .collect(),
        };
        let mut known = HashMap::new();
        for filter in &filters {
            match self.of_history(filter).await {
                Ok(cards) => known.extend(cards.into_iter().map(|card| (card.id.clone(), card))),
                Err(error) => {
                    tracing::warn!(%error, "without the history, it is not known what was replayed before");
                    break;
                }
            }
        }
        Ok(known)
    }

    /// All letters of the history that `filter` means.
    async fn of_history(&self, filter: &Filter) -> Result<Vec<Card>, Error> {
        const PAGE: usize = 1000;
        let Some(ledger) = &self.ledger else { return Ok(Vec::new()) };
        let mut cards = Vec::new();
        loop {
            let page = ledger.letters(filter, cards.len(), PAGE).await?;
            let last = page.len() < PAGE;
            cards.extend(page);
            if last {
                return Ok(cards);
            }
        }
    }

    async fn publish(&self, job: &Job) -> Result<Confirmed, Error> {
        let envelope = Envelope::of_job(job, self.attempts_max, job.submitted);
        let body = wire::encode(job);
        Ok(self.session.publish(topology::JOBS, job.lane.as_str(), &envelope, &body).await?)
    }

    /// Tells the recorder what was done with a letter.
    async fn tell(&self, card: &Card, did: Did) -> Result<Confirmed, Error> {
        let at = Timestamp::now();
        let (letter, by) = (card.id.clone(), self.by.clone());
        let handled = Handled { schema: SCHEMA_VERSION, letter, did, by, at };
        let id = card.job.unwrap_or_else(JobId::fresh);
        let envelope = Envelope::new(MessageType::Handled, id, at);
        let body = wire::encode(&handled);
        Ok(self.session.publish(topology::DEAD, topology::HANDLED_KEY, &envelope, &body).await?)
    }

    /// Ends the connection; what was looked at is back in the queue.
    pub async fn close(self) {
        self.session.close().await;
    }
}

/// The job that is to repeat a letter, or why there is none.
fn plan(
    letter: &Letter,
    known: Option<&Card>,
    (changes, lanes): (&Changes, &[Lane]),
    again: bool,
) -> Result<Job, String> {
    let dead = letter.job.as_ref().map_err(|why| format!("it cannot be replayed: {why}"))?;
    if !letter.is_replayable() {
        return Err("it cannot be replayed: it asks for what this version does not know".to_owned());
    }
    let nth = nth(known, again);
    let job = replay_of(dead, changes, nth, Timestamp::now()).map_err(|error| error.to_string())?;
    crate::client::admit(&job.lane, lanes).map_err(|error| error.to_string())?;
    Ok(job)
}

/// Which replay of a letter is to be made, from 1: going on after an interruption is the same one.
fn nth(known: Option<&Card>, again: bool) -> u32 {
    let Some(known) = known else { return 1 };
    let before = known.replays.len() as u32;
    match known.state {
        // It was told that it is replayed, and it is still in the queue: the last one was interrupted.
        State::Replayed if !again => before.max(1),
        // If there were any before, the same job was submitted again, and died again.
        State::Waiting | State::Replayed | State::Dropped | State::Any => before + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_proto::dead::{DeadLetter, Reason};

    fn card(state: State, replays: u32) -> Card {
        let id = JobId::fresh();
        let letter = DeadLetter {
            schema: 1,
            id,
            reason: Reason::AttemptsSpent,
            error: "the VM died".to_owned(),
            lane: "default".parse().unwrap(),
            attempts: Vec::new(),
            worker: "w1".to_owned(),
            died: Timestamp::UNIX_EPOCH,
            body: Vec::new(),
        };
        let replays = (1..=replays).map(|nth| super::super::replay_id(id, nth)).collect();
        Card { state, replays, ..Letter::of_ours(letter).card(Timestamp::UNIX_EPOCH) }
    }

    #[test]
    fn going_on_is_the_same_replay_and_only_force_or_another_death_makes_a_further_one() {
        assert_eq!(nth(None, false), 1);
        assert_eq!(nth(Some(&card(State::Waiting, 0)), false), 1);
        // The letter is in the queue although it was told that it is replayed: the last step is missing.
        assert_eq!(nth(Some(&card(State::Replayed, 1)), false), 1);
        assert_eq!(nth(Some(&card(State::Replayed, 2)), false), 2);
        assert_eq!(nth(Some(&card(State::Replayed, 1)), true), 2);
        assert_eq!(nth(Some(&card(State::Waiting, 1)), false), 2);
        assert_eq!(nth(Some(&card(State::Dropped, 0)), true), 1);
    }
}
