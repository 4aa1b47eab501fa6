//! What people are told: an alert, or a healing, as it stands. Pure.

use crate::heal::healer::can_undo;
use evalfleet_proto::Timestamp;
use evalfleet_proto::alert::{self, Alert};
use evalfleet_proto::healing::{self, Healing, Mode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// Something became worse, or is well again.
    Alert(Box<Alert>),
    /// Something of the fleet is not well, and what is done about it.
    Healing(Box<Healing>),
}

impl Notice {
    /// What names it: one that was taken and whose answer was lost comes twice, with the same key.
    pub fn key(&self) -> (String, u32) {
        match self {
            Self::Alert(alert) => (alert.id.to_string(), alert.revision),
            Self::Healing(healing) => (healing.id.to_string(), healing.revision),
        }
    }

    /// When what it tells came to be.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Alert(alert) => alert.closed.or(alert.confirmed),
            Self::Healing(healing) => healing.ended.or(healing.applied).or(Some(healing.found)),
        }
    }

    /// How what it tells of stands, in a word.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Self::Alert(alert) => alert.state.as_str(),
            Self::Healing(healing) => healing.state.as_str(),
        }
    }

    /// Whether something is not as it should be.
    pub(super) fn is_bad(&self) -> bool {
        match self {
            Self::Alert(alert) => alert.state == alert::State::Raised,
            Self::Healing(healing) => healing.state != healing::State::Over,
        }
    }

    /// The whole of it in a sentence or two.
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Alert(alert) => &alert.message,
            Self::Healing(healing) => &healing.message,
        }
    }

    /// As programs read it.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Alert(alert) => json!({ "event": self.state(), "alert": alert }),
            Self::Healing(healing) => json!({ "event": self.state(), "healing": healing }),
        }
    }

    /// What there is to know beside the message: names and values, the empty ones left out; last, what to do.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = match self {
            Self::Alert(alert) => of_alert(alert),
            Self::Healing(healing) => of_healing(healing),
        };
        facts.retain(|(_, what)| !what.is_empty());
        facts
    }
}

fn of_alert(alert: &Alert) -> Vec<(&'static str, String)> {
    let culprit = |one: &alert::Culprit| format!("{} {} (before: {})", one.attribute, one.value, one.before);
    let cost = match alert.cost.reruns {
        0 => String::new(),
        reruns => format!("{reruns} reruns, {:.1} s of workers' time", alert.cost.worker.as_secs_f64()),
    };
    vec![
        ("About", alert.subject.clone()),
        ("Cases", alert.cases.join(", ")),
        ("Severity", alert.severity.as_str().to_owned()),
        ("New when it began", alert.culprit.as_ref().map(culprit).unwrap_or_default()),
        ("Cost of finding it", cost),
        ("More", format!("evalfleet alerts show {}", alert.id)),
        ("Was it right?", format!("evalfleet alerts judge {} right|wrong --reason …", alert.id)),
    ]
}

fn of_healing(healing: &Healing) -> Vec<(&'static str, String)> {
    let id = healing.id;
    let to_do = match healing.state {
        healing::State::Proposed => {
            format!("evalfleet healing apply {id} --reason …, or healing undo {id} --reason … to decline it")
        }
        healing::State::Applied if can_undo(healing.remedy) => {
            format!("evalfleet healing undo {id} --reason …")
        }
        healing::State::Applied
        | healing::State::Failed
        | healing::State::Undone
        | healing::State::Over
        | healing::State::Unknown => String::new(),
    };
    let done = healing.by.as_ref().map(|by| format!("{} by {by}", healing.remedy.as_str()));
    vec![
        ("About", healing.subject.clone()),
        ("Found by", healing.detector.as_str().to_owned()),
        ("Done", done.unwrap_or_default()),
        ("To be done", if healing.by.is_none() { healing.remedy.as_str().to_owned() } else { String::new() }),
        ("Held", healing.held.clone().unwrap_or_default()),
        ("More", format!("evalfleet healing show {id}")),
        ("Otherwise", to_do),
    ]
}

/// Whether people are told of a healing as it stands now, where `before` is how it stood when it was last recorded: of what
/// waits for them, what was done or could not be, and the end; not of what is about to be done anyway.
pub fn is_news(healing: &Healing, before: Option<(healing::State, bool)>) -> bool {
    let waits = healing.held.is_some() || healing.mode == Mode::Propose;
    let is_told = healing.state != healing::State::Proposed || waits;
    is_told && before != Some((healing.state, healing.held.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::healing;
    use crate::watch::testing::alert;
    use evalfleet_proto::healing::State;

    #[test]
    fn both_are_told_with_what_to_do_next() {
        let raised = Notice::Alert(Box::new(alert(0, 3)));
        assert_eq!((raised.state(), raised.key().1, raised.is_bad()), ("raised", 3, true));
        assert!(raised.facts().iter().any(|(_, what)| what.contains("alerts judge")));
        let applied = Notice::Healing(Box::new(healing(State::Applied)));
        assert_eq!(applied.json()["event"], "applied");
        assert!(
            applied.facts().iter().any(|(_, what)| what.contains("healing undo")),
            "{:?}",
            applied.facts()
        );
        assert!(!Notice::Healing(Box::new(healing(State::Over))).is_bad());
    }

    #[test]
    fn a_file_of_an_earlier_version_is_read() {
        let text = serde_json::to_string(&json!({ "alert": alert(0, 3) })).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&text).unwrap(), Notice::Alert(Box::new(alert(0, 3))));
    }

    #[test]
    fn what_is_about_to_be_done_is_told_once_it_is_done() {
        let (mut proposed, applied) = (healing(State::Proposed), healing(State::Applied));
        assert!(!is_news(&proposed, None));
        assert!(is_news(&applied, Some((State::Proposed, false))));
        assert!(!is_news(&applied, Some((State::Applied, false))), "more evidence is no news");
        proposed.held = Some("half of the fleet is drained".to_owned());
        assert!(is_news(&proposed, Some((State::Proposed, false))), "somebody has to decide");
        proposed.held = None;
        proposed.mode = Mode::Propose;
        assert!(is_news(&proposed, None));
    }
}
