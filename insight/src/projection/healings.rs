//! Healings, as the log tells them. Pure.

use super::cards::{Cards, Told, text, time, word};
use evalfleet_datomic::edn::Value;
use evalfleet_proto::Timestamp;
use evalfleet_proto::healing::{Detector, Mode, Remedy, State, Wanted};
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// All healings, every version of each.
pub type Healings = Cards<Healing>;

/// A healing in a line.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = HealingCard)]
pub struct Healing {
    /// Its name.
    pub id: String,
    /// What found it: `bad_worker`, `poison_tool`, …
    #[schema(value_type = String)]
    pub detector: Detector,
    /// What is not well, `attribute=value`.
    pub subject: String,
    /// What helps: `drain`, `quarantine`, `roll_back`, `rebuild`, `restart`, `alert`.
    #[schema(value_type = String)]
    pub remedy: Remedy,
    /// `proposed`, `applied`, `failed`, `undone` or `over`.
    #[schema(value_type = String)]
    pub state: State,
    /// `act` or `propose`.
    #[schema(value_type = String)]
    pub mode: Mode,
    /// In a sentence or two, with the numbers.
    pub message: String,
    /// When it began, by the first evidence.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it was found.
    #[schema(value_type = String, format = DateTime)]
    pub found: Timestamp,
    /// When the remedy was applied.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub applied: Option<Timestamp>,
    /// Who had it applied: `evalfleet`, or `user@host`.
    pub by: Option<String>,
    /// From its being found to the remedy, in milliseconds.
    pub took_ms: Option<f64>,
    /// When all was seen to be well again.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub well: Option<Timestamp>,
    /// From its being found until then, in milliseconds.
    pub well_ms: Option<f64>,
    /// When it was undone, was over, or had failed for good.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// Who undid it.
    pub undone_by: Option<String>,
    /// Why it was not done, or not at once.
    pub held: Option<String>,
    /// What a person decided last.
    pub decision: Option<Word>,
    /// The time of the newest decision that was carried out.
    #[serde(skip)]
    pub answered: Option<Timestamp>,
    /// Where its document is kept.
    #[serde(skip)]
    pub document: Option<String>,
    #[serde(skip)]
    told: bool,
}

/// What a person decided about a healing.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = HealingDecision)]
pub struct Word {
    /// `apply` or `undo`.
    #[schema(value_type = String)]
    pub wanted: Wanted,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl Healing {
    /// What was decided and is not carried out yet.
    pub fn open_decision(&self) -> Option<&Word> {
        self.decision.as_ref().filter(|word| self.answered.is_none_or(|answered| answered < word.at))
    }

    fn word(&mut self) -> &mut Word {
        self.decision.get_or_insert_with(|| Word {
            wanted: Wanted::Unknown,
            reason: String::new(),
            by: String::new(),
            at: Timestamp::UNIX_EPOCH,
        })
    }

    fn since_found(&self, then: Timestamp) -> Option<f64> {
        let passed: Duration = then.duration_since(self.found).try_into().ok()?;
        Some(passed.as_micros() as f64 / 1000.0)
    }
}

impl Told for Healing {
    const OURS: &'static str = "healing/";

    fn unknown() -> Self {
        Self {
            id: String::new(),
            detector: Detector::Unknown,
            subject: String::new(),
            remedy: Remedy::Unknown,
            state: State::Unknown,
            mode: Mode::Unknown,
            message: String::new(),
            since: Timestamp::UNIX_EPOCH,
            found: Timestamp::UNIX_EPOCH,
            applied: None,
            by: None,
            took_ms: None,
            well: None,
            well_ms: None,
            ended: None,
            undone_by: None,
            held: None,
            decision: None,
            answered: None,
            document: None,
            told: false,
        }
    }

    fn learn(&mut self, attribute: &str, value: &Value) {
        match attribute {
            "id" => self.id = text(value),
            "detector" => self.detector = Detector::parse(&word(value)).unwrap_or(Detector::Unknown),
            "subject" => self.subject = text(value),
            "remedy" => self.remedy = Remedy::parse(&word(value)).unwrap_or(Remedy::Unknown),
            "state" => {
                self.state = State::parse(&word(value)).unwrap_or(State::Unknown);
                self.told = true;
            }
            "mode" => self.mode = Mode::parse(&word(value)).unwrap_or(Mode::Unknown),
            "message" => self.message = text(value),
            "since" => self.since = time(value),
            "found" => self.found = time(value),
            "applied" => self.applied = Some(time(value)),
            "by" => self.by = Some(text(value)),
            "well" => self.well = Some(time(value)),
            "ended" => self.ended = Some(time(value)),
            "undone-by" => self.undone_by = Some(text(value)),
            "held" => self.held = Some(text(value)),
            "answered" => self.answered = Some(time(value)),
            "document" => self.document = Some(text(value)),
            "wanted" => self.word().wanted = Wanted::parse(&word(value)).unwrap_or(Wanted::Unknown),
            "decided-by" => self.word().by = text(value),
            "decided-at" => self.word().at = time(value),
            "decide-reason" => self.word().reason = text(value),
            // Its evaluations, its revision: whoever shows one healing has them in its document.
            _ => {}
        }
        // They come in any order.
        if matches!(attribute, "found" | "applied" | "well") {
            self.took_ms = self.applied.and_then(|applied| self.since_found(applied));
            self.well_ms = self.well.and_then(|well| self.since_found(well));
        }
    }

    fn is_told(&self) -> bool {
        self.told
    }

    fn place(&self) -> (Timestamp, &str) {
        (self.found, &self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evalfleet_datomic::{Datom, Transaction};

    fn said(t: u64, facts: &[(&str, Value)]) -> Transaction {
        let datoms = facts.iter().map(|(attribute, value)| Datom {
            entity: 7,
            attribute: format!("healing/{attribute}"),
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
    fn a_healing_is_shown_as_it_stood_and_a_decision_is_open_until_it_is_carried_out() {
        let mut healings = Healings::default();
        let text = |text: &str| Value::Str(text.to_owned());
        let state = |state: &str| ("state", Value::keyword(state));
        let begun = [
            ("id", text("a")),
            ("detector", Value::keyword("bad-worker")),
            state("proposed"),
            ("found", time(10)),
        ];
        assert!(healings.learn(&said(3, &begun)));
        let applied = [state("applied"), ("applied", time(12)), ("by", text("evalfleet"))];
        healings.learn(&said(5, &applied));
        let wanted =
            [("wanted", Value::keyword("undo")), ("decided-by", text("me")), ("decided-at", time(20))];
        healings.learn(&said(7, &wanted));
        healings.learn(&said(9, &[state("undone"), ("answered", time(20))]));
        let shown = |t: u64| healings.at(t).first().map(|card| card.state);
        assert_eq!((shown(2), shown(4), shown(6)), (None, Some(State::Proposed), Some(State::Applied)));
        let then = &healings.at(7)[0];
        assert_eq!((then.detector, then.took_ms), (Detector::BadWorker, Some(2000.0)));
        assert_eq!(then.open_decision().map(|word| word.wanted), Some(Wanted::Undo));
        assert_eq!((healings.at(9)[0].open_decision(), shown(9)), (None, Some(State::Undone)));
    }
}
