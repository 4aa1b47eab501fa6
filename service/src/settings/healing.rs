//! `[insight.healing]`: what is healed, at once or once a person says so.

use evalfleet_proto::healing::Detector;
use evalfleet_proto::units;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest stretch of the past that is looked at.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The most that one rule may do in an hour.
const ACTIONS_MAX: u32 = 60;

/// `[insight.healing]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healing {
    /// What becomes of what is found, unless `rules` says otherwise.
    pub mode: Mode,
    /// The same for one rule, by the name of its detector.
    pub rules: BTreeMap<String, Mode>,
    /// How much of the past speaks for something not being well now.
    #[serde(with = "units::duration")]
    pub window: Duration,
    /// What one rule may do in an hour by itself.
    pub actions_max: u32,
}

/// `insight.healing.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is healed at once, within the rule's bound.
    Act,
    /// It is proposed: a person applies it.
    Propose,
    /// It is not looked for. What people decide about earlier healings is carried out.
    Off,
}

impl Healing {
    /// What becomes of what `detector` finds.
    pub fn mode_of(&self, detector: Detector) -> Mode {
        self.rules.get(detector.as_str()).copied().unwrap_or(self.mode)
    }

    /// All that does not go together, or exceeds a bound.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for name in self.rules.keys().filter(|name| Detector::parse(name).is_none()) {
            let known: Vec<&str> = Detector::ALL.iter().map(|detector| detector.as_str()).collect();
            wrong.push(format!(
                "insight.healing.rules names {name:?}, and there is no such rule; there are: {}",
                known.join(", ")
            ));
        }
        if self.window.is_zero() || self.window > WINDOW_MAX {
            wrong.push("insight.healing.window must be more than nothing, and 24 h at most".to_owned());
        }
        if self.actions_max > ACTIONS_MAX {
            wrong.push(format!("insight.healing.actions_max must be {ACTIONS_MAX} or less"));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rules: &[(&str, Mode)]) -> Healing {
        let rules = rules.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect();
        Healing { mode: Mode::Act, rules, window: Duration::from_secs(900), actions_max: 3 }
    }

    #[test]
    fn a_rule_has_its_own_mode_and_one_that_is_none_is_named() {
        let own = settings(&[("bad_worker", Mode::Propose), ("full_disk", Mode::Off)]);
        assert_eq!(own.wrong(), Vec::<String>::new());
        let of = |detector| own.mode_of(detector);
        assert_eq!(
            (of(Detector::BadWorker), of(Detector::FullDisk), of(Detector::PoisonTool)),
            (Mode::Propose, Mode::Off, Mode::Act)
        );
        let wrong = Healing { actions_max: 61, window: Duration::ZERO, ..settings(&[("worker", Mode::Off)]) };
        let said = wrong.wrong().join("; ");
        for part in ["\"worker\"", "bad_worker", "window", "actions_max"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
