//! Which dead letters are meant. The same words on the command line, in the API and over the queue.

use super::{Card, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a term of a filter is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It has no `=`.
    #[error("{0:?} is no term: it must be KEY=VALUE, such as tool=word_count")]
    Form(String),
    /// There is no such key.
    #[error("dead letters have no {key:?}: it must be one of {}", KEYS.join(", "))]
    Key {
        /// What was given.
        key: String,
    },
    /// The key has another form.
    #[error("{key} is {value:?}, and must be {expected}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// The key was given before.
    #[error("{0} is given twice, and one letter cannot be both")]
    Twice(String),
}

/// Every key of a term.
const KEYS: [&str; 14] = [
    "id", "state", "tool", "cause", "reason", "error", "worker", "batch", "model", "image", "lane", "kind",
    "since", "until",
];
const MOMENT: &str = "a moment such as 2026-01-31 or 2026-01-31T06:00:00Z";
const STATES: &str = "waiting, replayed, dropped or any";

/// Which dead letters are meant: those that fit all of it. The default means those that wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Its name, or the beginning of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What was done with it; `None` means those that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The tool, or the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// Whose doing it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why it is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A part of what went wrong, in any case of letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The part that gave it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The batch of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// The model of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The image of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The lane it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// The kind of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Given up at this moment or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Given up before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Reads terms of the form `KEY=VALUE`, all of which must fit.
    ///
    /// # Errors
    /// Names the first term that is none, and what would do.
    pub fn parse<T: AsRef<str>>(terms: &[T]) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for term in terms.iter().map(AsRef::as_ref) {
            let (key, value) = term.split_once('=').ok_or_else(|| FilterError::Form(term.to_owned()))?;
            filter.add(key.trim(), value.trim())?;
        }
        Ok(filter)
    }

    fn add(&mut self, key: &str, value: &str) -> Result<(), FilterError> {
        let wrong = |expected| FilterError::Value { key: key.to_owned(), value: value.to_owned(), expected };
        let twice = || Err(FilterError::Twice(key.to_owned()));
        match key {
            "since" | "until" => {
                let place = if key == "since" { &mut self.since } else { &mut self.until };
                let before = place.replace(moment(value).ok_or_else(|| wrong(MOMENT))?);
                return if before.is_some() { twice() } else { Ok(()) };
            }
            "state" => {
                let state = [State::Waiting, State::Replayed, State::Dropped, State::Any]
                    .into_iter()
                    .find(|state| state.as_str() == value);
                let before = self.state.replace(state.ok_or_else(|| wrong(STATES))?);
                return if before.is_some() { twice() } else { Ok(()) };
            }
            _ => {}
        }
        let place = match key {
            "id" => &mut self.id,
            "tool" => &mut self.tool,
            "cause" => &mut self.cause,
            "reason" => &mut self.reason,
            "error" => &mut self.error,
            "worker" => &mut self.worker,
            "batch" => &mut self.batch,
            "model" => &mut self.model,
            "image" => &mut self.image,
            "lane" => &mut self.lane,
            "kind" => &mut self.kind,
            _ => return Err(FilterError::Key { key: key.to_owned() }),
        };
        if place.replace(value.to_owned()).is_some() { twice() } else { Ok(()) }
    }

    /// The state that is meant.
    pub fn state(&self) -> State {
        self.state.unwrap_or(State::Waiting)
    }

    /// Whether it means every letter that waits.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a letter is meant.
    pub fn has(&self, card: &Card) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let contains = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| found.to_lowercase().contains(&wanted.to_lowercase()))
        };
        (self.state() == State::Any || self.state() == card.state)
            && self.id.as_ref().is_none_or(|start| card.id.starts_with(start))
            && is(&self.tool, card.tool.as_deref())
            && is(&self.cause, card.cause.map(crate::status::Cause::as_str))
            && is(&self.reason, Some(&card.reason))
            && is(&self.worker, card.worker.as_deref())
            && is(&self.batch, card.batch.as_deref())
            && is(&self.model, card.model.as_deref())
            && is(&self.image, card.image.as_deref())
            && is(&self.lane, card.lane.as_deref())
            && is(&self.kind, card.kind.as_deref())
            && contains(&self.error, &card.error)
            && self.since.is_none_or(|since| card.died >= since)
            && self.until.is_none_or(|until| card.died < until)
    }
}

/// A moment, or the midnight in UTC that a day begins with.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}T00:00:00Z").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead::{DeadLetter, Letter, Reason};

    fn card() -> Card {
        let letter = DeadLetter {
            schema: 1,
            id: "0198c1c2-0000-7000-8000-000000000000".parse().unwrap(),
            reason: Reason::AttemptsSpent,
            error: "QEMU: was killed by somebody".to_owned(),
            lane: "default".parse().unwrap(),
            attempts: Vec::new(),
            worker: "w1".to_owned(),
            died: "2026-01-31T06:00:00Z".parse().unwrap(),
            body: Vec::new(),
        };
        Letter::of_ours(letter).card(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn all_terms_must_fit() {
        for (terms, fits) in [
            (&[][..], true),
            (&["worker=w1", "error=qemu"][..], true),
            (&["worker=w1", "error=disk"], false),
            (&["cause=infrastructure", "reason=attempts_spent", "lane=default"], true),
            (&["tool=word_count"], false),
            (&["since=2026-01-31", "until=2026-02-01"], true),
            (&["since=2026-01-31T06:00:01Z"], false),
            (&["until=2026-01-31T06:00:00Z"], false),
            (&["id=0198c1c2"], true),
            (&["state=dropped"], false),
            (&["state=any"], true),
        ] {
            assert_eq!(Filter::parse(terms).unwrap().has(&card()), fits, "{terms:?}");
        }
    }

    #[test]
    fn a_term_that_is_none_says_what_would_do() {
        for (term, says) in [
            ("tool", "KEY=VALUE"),
            ("colour=red", "one of id, state, tool"),
            ("since=yesterday", "2026-01-31"),
            ("state=gone", "waiting, replayed"),
        ] {
            let error = Filter::parse(&[term]).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(Filter::parse(&["tool=a", "tool=b"]).unwrap_err().to_string().contains("twice"));
    }
}
