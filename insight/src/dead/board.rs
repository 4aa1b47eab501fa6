//! All dead letters, as the log of transactions tells of them. Pure.
//!
//! A letter has a version for each transaction that said something of it, so that the board answers for
//! any earlier moment as fast as for now. It is rebuilt from the log's beginning at any time.

use super::texts::{Having, Text, Texts};
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Datom, Point, Transaction};
use evalfleet_proto::Timestamp;
use evalfleet_proto::dead::{Card, Filter, State};
use evalfleet_proto::status::Cause;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

/// The namespace of a letter's attributes.
const OURS: &str = "dead-letter/";

/// A letter as it was known from a transaction on.
#[derive(Debug, Clone)]
struct Version {
    t: u64,
    at: Timestamp,
    draft: Arc<Draft>,
}

/// What is known of a letter. Not before it has a time is it one.
#[derive(Debug, Clone)]
struct Draft {
    card: Card,
    told: bool,
    document: Option<String>,
    handled: Option<State>,
}

impl Draft {
    fn new() -> Self {
        let card = Card {
            id: String::new(),
            job: None,
            state: State::Waiting,
            reason: "unknown".to_owned(),
            cause: None,
            error: String::new(),
            lane: None,
            kind: None,
            tool: None,
            worker: None,
            batch: None,
            model: None,
            image: None,
            attempts: 0,
            submitted: None,
            died: Timestamp::UNIX_EPOCH,
            replay_of: None,
            replays: Vec::new(),
            handled: None,
            handled_by: None,
            drop_reason: None,
            replayable: false,
        };
        Self { card, told: false, document: None, handled: None }
    }

    /// Takes a fact in. A value that replaces another comes with the other's retraction, which says nothing
    /// more: only of a set it takes something away.
    fn learn(&mut self, attribute: &str, value: &Value, added: bool) {
        let card = &mut self.card;
        let text = || value.as_str().map(str::to_owned);
        let word = || value.as_keyword().map(|word| word.replace('-', "_"));
        if attribute == "replays" {
            if let Some(id) = value.as_str().and_then(|id| id.parse().ok()) {
                card.replays.retain(|known| *known != id);
                card.replays.extend(added.then_some(id));
            }
            return;
        }
        if !added {
            return;
        }
        match attribute {
            "id" => card.id = text().unwrap_or_default(),
            "job" => card.job = value.as_str().and_then(|id| id.parse().ok()),
            "reason" => card.reason = word().unwrap_or_default(),
            "cause" => card.cause = word().and_then(|word| cause(&word)),
            "last-error" => card.error = text().unwrap_or_default(),
            "lane" => card.lane = value.as_keyword().map(str::to_owned),
            "kind" => card.kind = word(),
            "tool" => card.tool = text(),
            "worker" => card.worker = text(),
            "batch" => card.batch = text(),
            "model" => card.model = text(),
            "image" => card.image = text(),
            "attempts" => card.attempts = value.as_int().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            "submitted" => card.submitted = value.as_inst(),
            "timestamp" => {
                self.told = true;
                card.died = value.as_inst().unwrap_or_default();
            }
            "replay-of" => card.replay_of = value.as_str().and_then(|id| id.parse().ok()),
            "replayable" => card.replayable = value.as_bool().unwrap_or(false),
            "handled" => {
                self.handled = match value.as_keyword() {
                    Some("replayed") => Some(State::Replayed),
                    Some("dropped") => Some(State::Dropped),
                    Some(_) | None => None,
                }
            }
            "handled-at" => card.handled = value.as_inst(),
            "handled-by" => card.handled_by = text(),
            "drop-reason" => card.drop_reason = text(),
            "document" => self.document = text(),
            // Its evaluation, its body: whoever shows one letter looks there.
            _ => {}
        }
    }

    fn settle(&mut self) {
        // The same job may have been submitted again, and died again.
        let again = self.card.handled.is_some_and(|handled| handled < self.card.died);
        self.card.state = self.handled.filter(|_| !again).unwrap_or(State::Waiting);
    }
}

fn cause(word: &str) -> Option<Cause> {
    [Cause::Subject, Cause::Infrastructure, Cause::Budget, Cause::Harness]
        .into_iter()
        .find(|cause| cause.as_str() == word)
}

/// A letter as it is now: what searches ask most is beside it.
#[derive(Debug)]
struct Entry {
    state: State,
    tool: Option<Text>,
    error: Text,
    draft: Arc<Draft>,
}

/// A filter, made ready for going through many letters.
#[derive(Debug)]
struct Sieve {
    state: State,
    tool: Option<Text>,
    error: Option<Having>,
    /// What only the letter itself can tell.
    rest: Option<Filter>,
}

impl Sieve {
    /// `None` where no letter can fit.
    fn of(filter: &Filter, texts: &Texts) -> Option<Self> {
        let tool = match &filter.tool {
            Some(tool) => Some(texts.find(tool)?),
            None => None,
        };
        let error = filter.error.as_ref().map(|part| texts.with(part));
        if error.as_ref().is_some_and(Having::none) {
            return None;
        }
        let seen = Filter {
            tool: None,
            error: None,
            since: None,
            until: None,
            state: Some(State::Any),
            ..filter.clone()
        };
        let rest = (seen != Filter { state: Some(State::Any), ..Filter::default() }).then_some(seen);
        Some(Self { state: filter.state(), tool, error, rest })
    }

    fn has(&self, entry: &Entry) -> bool {
        (self.state == State::Any || self.state == entry.state)
            && self.tool.is_none_or(|tool| entry.tool == Some(tool))
            && self.error.as_ref().is_none_or(|error| error.has(entry.error))
            && self.rest.as_ref().is_none_or(|rest| rest.has(&entry.draft.card))
    }
}

/// A page of letters, newest first.
#[derive(Debug, Clone)]
pub struct Page {
    /// The letters.
    pub letters: Vec<Card>,
    /// How many fit in all.
    pub total: usize,
}

/// All dead letters.
#[derive(Debug)]
pub struct Board {
    max: usize,
    letters: HashMap<i64, Vec<Version>>,
    names: HashMap<String, i64>,
    /// In the order in which they became known.
    order: VecDeque<i64>,
    /// As they are now, in the order of their deaths.
    now: BTreeMap<(Timestamp, i64), Entry>,
    texts: Texts,
    /// How many of these are in each state.
    states: BTreeMap<&'static str, usize>,
    next_t: u64,
    basis_t: u64,
    omitted: u64,
}

impl Board {
    /// Nothing read yet; at most `max` letters at one moment, the newest.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            letters: HashMap::new(),
            names: HashMap::new(),
            order: VecDeque::new(),
            now: BTreeMap::new(),
            texts: Texts::default(),
            states: BTreeMap::new(),
            next_t: 0,
            basis_t: 0,
            omitted: 0,
        }
    }

    /// Where to read on.
    pub fn next_t(&self) -> u64 {
        self.next_t
    }

    /// The transaction that its answers stand on.
    pub fn basis_t(&self) -> u64 {
        self.basis_t
    }

    /// How many letters it has forgotten for lack of room.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Takes a stretch of the log in, which ends before `next_t` and was all there was at `basis_t`.
    pub fn read(&mut self, transactions: &[Transaction], next_t: u64, basis_t: u64) {
        for transaction in transactions {
            let ours = transaction.datoms.iter().filter(|datom| datom.attribute.starts_with(OURS));
            let touched: BTreeSet<i64> = ours.clone().map(|datom| datom.entity).collect();
            for entity in touched {
                self.learn(entity, transaction, ours.clone().filter(|datom| datom.entity == entity));
            }
        }
        self.next_t = next_t;
        self.basis_t = basis_t;
    }

    fn learn<'a>(&mut self, entity: i64, of: &Transaction, datoms: impl Iterator<Item = &'a Datom>) {
        let versions = self.letters.entry(entity).or_insert_with(|| {
            self.order.push_back(entity);
            Vec::new()
        });
        let before = versions.last().map(|version| version.draft.clone());
        let mut draft = before.as_deref().cloned().unwrap_or_else(Draft::new);
        for datom in datoms {
            draft.learn(&datom.attribute[OURS.len()..], &datom.value, datom.added);
        }
        draft.settle();
        self.names.insert(draft.card.id.clone(), entity);
        let draft = Arc::new(draft);
        versions.push(Version { t: of.t, at: of.tx_instant, draft: draft.clone() });
        self.leave(entity, before.as_deref());
        if draft.told {
            let card = &draft.card;
            *self.states.entry(card.state.as_str()).or_default() += 1;
            let (tool, error) =
                (card.tool.as_deref().map(|tool| self.texts.enter(tool)), self.texts.enter(&card.error));
            self.now.insert((card.died, entity), Entry { state: card.state, tool, error, draft });
        }
        while self.order.len() > self.max {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(gone) = self.letters.remove(&oldest).and_then(|mut versions| versions.pop()) {
                self.names.remove(&gone.draft.card.id);
                self.leave(oldest, Some(&gone.draft));
                self.omitted += 1;
            }
        }
    }

    /// Takes what was known of a letter out of what is known now.
    fn leave(&mut self, entity: i64, draft: Option<&Draft>) {
        let Some(draft) = draft.filter(|draft| draft.told) else { return };
        if let Some(gone) = self.now.remove(&(draft.card.died, entity)) {
            gone.tool.into_iter().chain([gone.error]).for_each(|text| self.texts.leave(text));
        }
        if let Some(count) = self.states.get_mut(draft.card.state.as_str()) {
            *count -= 1;
        }
    }

    /// The letters that `filter` means, newest first, as they were known then: `limit` of them after the
    /// first `skip`.
    pub fn list(&self, filter: &Filter, as_of: Option<Point>, skip: usize, limit: usize) -> Page {
        let Some(as_of) = as_of else { return self.list_now(filter, skip, limit) };
        let drafts = self
            .letters
            .iter()
            .filter_map(|(entity, versions)| Some((*entity, known(versions, Some(as_of))?)));
        let mut fitting: Vec<(i64, &Card)> = drafts
            .map(|(entity, draft)| (entity, &draft.card))
            .filter(|(_, card)| filter.has(card))
            .collect();
        fitting.sort_unstable_by_key(|(entity, card)| Reverse((card.died, *entity)));
        let letters = fitting.iter().skip(skip).take(limit).map(|(_, card)| (*card).clone()).collect();
        Page { letters, total: fitting.len() }
    }

    fn list_now(&self, filter: &Filter, skip: usize, limit: usize) -> Page {
        let Some(sieve) = Sieve::of(filter, &self.texts) else {
            return Page { letters: Vec::new(), total: 0 };
        };
        let from = filter.since.map_or(Unbounded, |since| Included((since, i64::MIN)));
        let until = filter.until.map_or(Unbounded, |until| Excluded((until, i64::MIN)));
        if filter.since.zip(filter.until).is_some_and(|(since, until)| since >= until) {
            return Page { letters: Vec::new(), total: 0 };
        }
        let fitting =
            || self.now.range((from, until)).rev().map(|(_, entry)| entry).filter(|entry| sieve.has(entry));
        let letters = fitting().skip(skip).take(limit).map(|entry| entry.draft.card.clone()).collect();
        // Where nothing but the state matters they are counted already.
        let total = if (Filter { state: None, ..filter.clone() }).is_empty() {
            let all = self.states.iter();
            let meant =
                |state: &str| matches!(filter.state(), State::Any) || filter.state().as_str() == state;
            all.filter(|(state, _)| meant(state)).map(|(_, count)| count).sum()
        } else {
            fitting().count()
        };
        Page { letters, total }
    }

    /// One letter as it was known then, and the key of its document.
    pub fn one(&self, id: &str, as_of: Option<Point>) -> Option<(Card, Option<String>)> {
        let draft = known(self.letters.get(self.names.get(id)?)?, as_of)?;
        Some((draft.card.clone(), draft.document.clone()))
    }
}

/// A letter as of a moment, if it was one by then.
fn known(versions: &[Version], as_of: Option<Point>) -> Option<&Draft> {
    let within = |version: &&Version| match as_of {
        None => true,
        Some(Point::T(t)) => version.t <= t,
        Some(Point::Time(time)) => version.at <= time,
    };
    let version = versions.iter().rev().find(within)?;
    version.draft.told.then_some(&*version.draft)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn said(t: u64, entity: i64, facts: &[(&str, Value)]) -> Transaction {
        let datoms = facts.iter().map(|(attribute, value)| Datom {
            entity,
            attribute: (*attribute).to_owned(),
            value: value.clone(),
            added: true,
        });
        Transaction { t, tx_instant: at(i64::try_from(t).unwrap()), datoms: datoms.collect() }
    }

    fn died(t: u64, entity: i64, id: &str, tool: &str) -> Transaction {
        let died = at(i64::try_from(t).unwrap());
        let text = |text: &str| Value::Str(text.to_owned());
        said(
            t,
            entity,
            &[
                ("dead-letter/id", text(id)),
                ("dead-letter/tool", text(tool)),
                ("dead-letter/reason", Value::keyword("attempts-spent")),
                ("dead-letter/cause", Value::keyword("infrastructure")),
                ("dead-letter/last-error", Value::Str(format!("it went wrong {t}"))),
                ("dead-letter/timestamp", Value::Inst(died)),
                ("evaluation/status", Value::keyword("dead")),
            ],
        )
    }

    fn dropped(t: u64, entity: i64) -> Transaction {
        let when = at(i64::try_from(t).unwrap());
        let facts = [
            ("dead-letter/handled", Value::keyword("dropped")),
            ("dead-letter/handled-at", Value::Inst(when)),
        ];
        said(t, entity, &facts)
    }

    fn ids(board: &Board, terms: &[&str], as_of: Option<Point>) -> Vec<String> {
        let page = board.list(&Filter::parse(terms).unwrap(), as_of, 0, 10);
        page.letters.into_iter().map(|card| card.id).collect()
    }

    #[test]
    fn letters_are_listed_newest_first_as_of_any_moment() {
        let mut board = Board::new(10);
        board.read(&[died(1, 7, "a", "x"), died(2, 8, "b", "y"), dropped(3, 7)], 4, 3);
        assert_eq!(ids(&board, &[], None), ["b"]);
        assert_eq!(ids(&board, &["state=any"], None), ["b", "a"]);
        assert_eq!(ids(&board, &["state=dropped"], None), ["a"]);
        assert_eq!(ids(&board, &[], Some(Point::T(2))), ["b", "a"]);
        assert_eq!(ids(&board, &["tool=x"], Some(Point::Time(at(1)))), ["a"]);
        assert_eq!(ids(&board, &[], Some(Point::T(0))), Vec::<String>::new());
        let any = board.list(&Filter::parse(&["state=any"]).unwrap(), None, 0, 1);
        assert_eq!((any.total, board.list(&Filter::default(), None, 0, 9).total), (2, 1));
        let second = board.list(&Filter::parse(&["state=any"]).unwrap(), None, 1, 1);
        assert_eq!((second.total, second.letters[0].id.as_str()), (2, "a"));
        assert_eq!((board.next_t(), board.basis_t()), (4, 3));
    }

    #[test]
    fn what_is_found_now_is_what_is_found_as_of_now() {
        let mut board = Board::new(20);
        let log: Vec<_> = (1..=9)
            .map(|n| died(n, n as i64, &format!("l{n}"), if n % 3 == 0 { "x" } else { "y" }))
            .chain([dropped(10, 4), died(11, 3, "l3", "z")])
            .collect();
        board.read(&log, 12, 11);
        let searches: [&[&str]; 12] = [
            &[],
            &["state=any"],
            &["state=dropped"],
            &["tool=x"],
            &["tool=z"],
            &["tool=nobody"],
            &["error=went WRONG", "state=any"],
            &["error=never said"],
            &["tool=y", "error=wrong 4", "state=any"],
            &["since=1970-01-01T00:00:04Z", "until=1970-01-01T00:00:08Z"],
            &["since=1970-01-01T00:00:08Z", "until=1970-01-01T00:00:04Z"],
            &["reason=attempts_spent", "id=l7"],
        ];
        let mut found = 0;
        for terms in searches {
            let filter = Filter::parse(terms).unwrap();
            let (now, then) =
                (board.list(&filter, None, 1, 3), board.list(&filter, Some(Point::T(11)), 1, 3));
            assert_eq!((now.total, now.letters), (then.total, then.letters), "{terms:?}");
            found += now.total;
        }
        assert!(found > 20, "{found}");
    }

    #[test]
    fn a_letter_that_died_again_waits_again() {
        let mut board = Board::new(10);
        board.read(&[died(1, 7, "a", "x"), dropped(2, 7), died(3, 7, "a", "x")], 4, 3);
        assert_eq!(ids(&board, &[], None), ["a"]);
    }

    #[test]
    fn what_is_only_joined_to_an_evaluation_is_no_letter_yet() {
        let mut board = Board::new(10);
        board.read(&[said(1, 7, &[("dead-letter/id", Value::Str("a".to_owned()))])], 2, 1);
        assert_eq!(ids(&board, &["state=any"], None), Vec::<String>::new());
        assert!(board.one("a", None).is_none());
        board.read(&[died(2, 7, "a", "x")], 3, 2);
        assert!(board.one("a", None).is_some());
    }

    #[test]
    fn the_oldest_are_forgotten_beyond_the_bound() {
        let mut board = Board::new(2);
        let log: Vec<_> = (1..=5).map(|n| died(n, n as i64, &format!("l{n}"), "x")).collect();
        board.read(&log, 6, 5);
        assert_eq!((ids(&board, &[], None), board.omitted()), (vec!["l5".to_owned(), "l4".to_owned()], 3));
        assert!(board.one("l1", None).is_none());
        assert_eq!(board.list(&Filter::default(), None, 0, 1).total, 2);
    }
}
