//! What is looked for and what is done about it, as data.

use evalfleet_proto::healing::{Detector, Remedy};
use std::time::Duration;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// What finds it.
    pub detector: Detector,
    /// What helps.
    pub remedy: Remedy,
    /// The fewest jobs that have to speak for it.
    pub jobs_min: usize,
    /// How probable it may be by chance, all that are compared taken together. Looked at again and again, so small.
    pub chance_max: f64,
    /// The least share of tries that have to be bad.
    pub share_min: f64,
    /// How much of the past is looked at; `insight.healing.window` where it is none.
    pub window: Option<Duration>,
    /// How long it has to last, where it is seen as long as it lasts.
    pub lasts: Duration,
    /// What may be so at one moment by our own doing.
    pub bound: Bound,
}

/// What may be so at one moment, without a person's word. What one rule may do in an hour is in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Half of the fleet's workers at most, and never the last that is well.
    HalfOfFleet,
    /// So many at most.
    AtOnce(usize),
}

/// The rules that this build has detectors for.
pub const RULES: &[Rule] = &[
    Rule {
        detector: Detector::BadWorker,
        remedy: Remedy::Drain,
        jobs_min: 3,
        chance_max: 0.0002,
        share_min: 0.2,
        window: None,
        lasts: Duration::ZERO,
        bound: Bound::HalfOfFleet,
    },
    Rule {
        detector: Detector::PoisonTool,
        remedy: Remedy::Quarantine,
        jobs_min: 3,
        chance_max: 0.001,
        share_min: 0.5,
        window: None,
        lasts: Duration::ZERO,
        bound: Bound::AtOnce(3),
    },
    Rule {
        detector: Detector::BadImage,
        remedy: Remedy::RollBack,
        jobs_min: 4,
        chance_max: 0.001,
        share_min: 0.3,
        // What it is compared with may have run long before it was built anew.
        window: Some(LONG),
        lasts: Duration::ZERO,
        bound: Bound::AtOnce(1),
    },
    Rule { lasts: Duration::from_secs(60), ..alerting(Detector::StuckQueue, Remedy::Alert) },
    Rule { lasts: Duration::from_secs(60), ..alerting(Detector::SilentRecorder, Remedy::Alert) },
    Rule { share_min: 0.95, window: Some(LONG), ..alerting(Detector::FullDisk, Remedy::Alert) },
    // The supervisor starts parts again, and workers make templates anew, whatever is found here: these say so.
    alerting(Detector::DeadPart, Remedy::Restart),
    alerting(Detector::BadTemplate, Remedy::Rebuild),
];

/// A rule about something that is seen as long as it lasts, and by whose remedy nothing can be lost.
const fn alerting(detector: Detector, remedy: Remedy) -> Rule {
    Rule {
        detector,
        remedy,
        jobs_min: 0,
        chance_max: 0.0002,
        share_min: 0.0,
        window: None,
        lasts: Duration::ZERO,
        bound: Bound::AtOnce(usize::MAX),
    }
}

/// The longest window that a rule has.
pub const LONG: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_detector_has_one_rule_and_each_rule_a_remedy() {
        for (at, rule) in RULES.iter().enumerate() {
            assert!(RULES[..at].iter().all(|other| other.detector != rule.detector), "{rule:?}");
            assert!(rule.detector != Detector::Unknown && rule.remedy != Remedy::Unknown, "{rule:?}");
            assert!(rule.chance_max > 0.0 && rule.chance_max < 0.01, "{rule:?}");
        }
    }
}
