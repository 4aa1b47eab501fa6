//! Alerts, as the log tells them. Pure.

use super::cards::{Cards, Told, text, time, word};
use evalfleet_datomic::edn::Value;
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::{Kind, Said, Severity, State};
use serde::Serialize;
use utoipa::ToSchema;

/// All alerts, every version of each.
pub type Alerts = Cards<Card>;

/// An alert in a line.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Card {
    /// Its name.
    pub id: String,
    /// `failing`, `slower`, `memory`, `disk` or `reset`.
    #[schema(value_type = String)]
    pub kind: Kind,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// `confirming`, `raised`, `closed` or `dismissed`.
    #[schema(value_type = String)]
    pub state: State,
    /// What it is about, `attribute=value`.
    pub subject: String,
    /// The cases that are worse; empty where it cannot be told by cases.
    pub cases: Vec<String>,
    /// In a sentence or two, with the numbers.
    pub message: String,
    /// When it began, by the first evaluation that speaks for it.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it was first suspected.
    #[schema(value_type = String, format = DateTime)]
    pub suspected: Timestamp,
    /// When it was confirmed, and people were told.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub confirmed: Option<Timestamp>,
    /// When it was closed or dismissed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed: Option<Timestamp>,
    /// Why it was dismissed: `fine`, `out_of_time`, `machines`.
    pub dismissed: Option<String>,
    /// What changed when it began, `attribute=value`.
    pub culprit: Option<String>,
    /// Jobs that were run again to confirm it.
    pub reruns: u64,
    /// Workers' time that these took, in milliseconds.
    pub worker_ms: f64,
    /// What people say of it.
    pub judgement: Option<Word>,
    /// Where its document is kept.
    #[serde(skip)]
    pub document: Option<String>,
    /// Whether it was told itself, and not only named.
    #[serde(skip)]
    told: bool,
}

/// What a person said of an alert.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Word {
    /// `right` or `wrong`.
    #[schema(value_type = String)]
    pub said: Said,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl Card {
    /// Whether people were ever told.
    pub fn was_raised(&self) -> bool {
        matches!(self.state, State::Raised | State::Closed)
    }

    fn word(&mut self) -> &mut Word {
        self.judgement.get_or_insert_with(|| Word {
            said: Said::Unknown,
            reason: String::new(),
            by: String::new(),
            at: Timestamp::UNIX_EPOCH,
        })
    }
}

impl Told for Card {
    const OURS: &'static str = "alert/";

    fn unknown() -> Self {
        Self {
            id: String::new(),
            kind: Kind::Unknown,
            severity: Severity::Unknown,
            state: State::Unknown,
            subject: String::new(),
            cases: Vec::new(),
            message: String::new(),
            since: Timestamp::UNIX_EPOCH,
            suspected: Timestamp::UNIX_EPOCH,
            confirmed: None,
            closed: None,
            dismissed: None,
            culprit: None,
            reruns: 0,
            worker_ms: 0.0,
            judgement: None,
            document: None,
            told: false,
        }
    }

    fn learn(&mut self, attribute: &str, value: &Value) {
        let number = || value.as_int().and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        match attribute {
            "id" => self.id = text(value),
            "kind" => self.kind = Kind::parse(&word(value)).unwrap_or(Kind::Unknown),
            "severity" => self.severity = Severity::parse(&word(value)).unwrap_or(Severity::Unknown),
            "state" => {
                self.state = State::parse(&word(value)).unwrap_or(State::Unknown);
                self.told = true;
            }
            "subject" => self.subject = text(value),
            "cases" => {
                self.cases.push(text(value));
                self.cases.sort();
                self.cases.dedup();
            }
            "message" => self.message = text(value),
            "since" => self.since = time(value),
            "suspected" => self.suspected = time(value),
            "timestamp" => self.confirmed = Some(time(value)),
            "closed" => self.closed = Some(time(value)),
            "dismissal" => self.dismissed = Some(word(value)),
            "culprit" => self.culprit = Some(text(value)),
            "reruns" => self.reruns = number(),
            "worker-us" => self.worker_ms = number() as f64 / 1000.0,
            "document" => self.document = Some(text(value)),
            "judgement" => self.word().said = Said::parse(&word(value)).unwrap_or(Said::Unknown),
            "judged-by" => self.word().by = text(value),
            "judged-at" => self.word().at = time(value),
            "judge-reason" => self.word().reason = text(value),
            // Its evaluations, its revision: whoever shows one alert has them in its document.
            _ => {}
        }
    }

    fn is_told(&self) -> bool {
        self.told
    }

    fn place(&self) -> (Timestamp, &str) {
        (self.suspected, &self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::cards::CARDS_MAX;
    use evalfleet_datomic::{Datom, Transaction};

    fn said(t: u64, entity: i64, facts: &[(&str, Value)]) -> Transaction {
        let datoms = facts.iter().map(|(attribute, value)| Datom {
            entity,
            attribute: format!("alert/{attribute}"),
            value: value.clone(),
            added: true,
        });
        let tx_instant = Timestamp::from_second(1_750_000_000 + t as i64).unwrap();
        Transaction { t, tx_instant, datoms: datoms.collect() }
    }

    fn time(second: i64) -> Value {
        Value::Inst(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn an_alert_is_shown_as_it_stood_at_any_moment() {
        let mut alerts = Alerts::default();
        let text = |text: &str| Value::Str(text.to_owned());
        assert!(alerts.learn(&said(
            3,
            7,
            &[
                ("id", text("a")),
                ("kind", Value::keyword("failing")),
                ("state", Value::keyword("confirming")),
                ("suspected", time(10)),
                ("cases", text("s/c2")),
            ],
        )));
        alerts.learn(&said(5, 7, &[("state", Value::keyword("raised")), ("timestamp", time(20))]));
        alerts.learn(&said(
            6,
            8,
            &[("id", text("b")), ("state", Value::keyword("confirming")), ("suspected", time(30))],
        ));
        alerts.learn(&said(
            9,
            7,
            &[
                ("judgement", Value::keyword("wrong")),
                ("judged-by", text("me@here")),
                ("state", Value::keyword("closed")),
            ],
        ));
        let shown = |t: u64| -> Vec<(String, State)> {
            alerts.at(t).iter().map(|card| (card.id.clone(), card.state)).collect()
        };
        assert!(shown(2).is_empty());
        assert_eq!(shown(4), [("a".to_owned(), State::Confirming)]);
        assert_eq!(shown(6), [("b".to_owned(), State::Confirming), ("a".to_owned(), State::Raised)]);
        let last = &alerts.at(9)[1];
        assert_eq!((last.state, last.judgement.as_ref().unwrap().said), (State::Closed, Said::Wrong));
        assert_eq!((last.cases.as_slice(), last.kind), (&["s/c2".to_owned()][..], Kind::Failing));
        assert!(last.was_raised() && alerts.at(6)[1].judgement.is_none());
    }

    #[test]
    fn what_is_only_named_is_no_alert_and_other_facts_are_none_of_ours() {
        let mut alerts = Alerts::default();
        assert!(alerts.learn(&said(1, 7, &[("id", Value::Str("a".to_owned()))])));
        assert!(alerts.at(1).is_empty());
        let mut other = said(2, 9, &[]);
        other.datoms = vec![Datom {
            entity: 9,
            attribute: "evaluation/id".to_owned(),
            value: Value::Str("x".to_owned()),
            added: true,
        }];
        assert!(!alerts.learn(&other));
    }

    #[test]
    fn the_oldest_go_beyond_the_bound() {
        let mut alerts = Alerts::default();
        for n in 0..=CARDS_MAX as u64 {
            let facts = [("id", Value::Str(format!("a{n}"))), ("state", Value::keyword("raised"))];
            alerts.learn(&said(n, n as i64, &facts));
        }
        assert_eq!(alerts.at(u64::MAX).len(), CARDS_MAX);
        assert!(alerts.at(u64::MAX).iter().all(|card| card.id != "a0"));
    }
}
