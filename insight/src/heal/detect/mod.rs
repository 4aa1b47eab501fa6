//! Finds what is not well, by one rule. Pure.

pub(super) mod image;
mod level;
pub(super) mod tool;
pub(super) mod worker;

use super::rules::{LONG, RULES, Rule};
use super::seen::Seen;
use evalfleet_proto::Timestamp;
use evalfleet_proto::healing::{Change, Detector, Evidence, Healing};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is known to detectors beside what is seen.
#[derive(Debug)]
pub struct Known<'a> {
    /// Now.
    pub now: Timestamp,
    /// How much of the past counts.
    pub window: Duration,
    /// Subjects of open healings of the same rule: they are found already, and are no measure for others.
    pub open: BTreeSet<&'a str>,
    /// When the last healing of each subject ended.
    pub ended: &'a BTreeMap<String, Timestamp>,
}

impl Known<'_> {
    /// Whether something that happened then still speaks against a subject: what was before its last healing ended
    /// does not.
    fn counts(&self, subject: &str, at: Timestamp) -> bool {
        self.ended.get(subject).is_none_or(|ended| at > *ended)
    }
}

/// Something that is not well.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What, as `attribute=value`.
    pub subject: String,
    /// Since when, by the first evidence.
    pub since: Timestamp,
    /// What tells the first evidence from any other.
    pub first: String,
    /// In a sentence or two, with the numbers.
    pub message: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What the remedy makes of it.
    pub change: Option<Change>,
}

/// How it is with what was healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Nothing can be told yet.
    Open,
    /// All is well since then.
    Well(Timestamp),
    /// All is well since then, and there is nothing to heal any more.
    Past(Timestamp, String),
    /// There is nothing to heal, or to undo, any more.
    Over(String),
}

/// What is not well by `rule`.
pub fn find(rule: &Rule, seen: &Seen, known: &Known<'_>) -> Vec<Finding> {
    match rule.detector {
        Detector::BadWorker => worker::find(rule, seen, known),
        Detector::PoisonTool => tool::find(rule, seen, known),
        Detector::BadImage => image::find(rule, seen, known),
        Detector::StuckQueue
        | Detector::SilentRecorder
        | Detector::FullDisk
        | Detector::DeadPart
        | Detector::BadTemplate => level::find(rule, seen, known),
        Detector::Unknown => Vec::new(),
    }
}

/// How it is with a healing that was applied.
pub fn course(healing: &Healing, seen: &Seen, now: Timestamp) -> Course {
    match healing.detector {
        Detector::BadWorker => worker::course(healing, seen, now, LONG),
        Detector::PoisonTool => tool::course(healing, seen, now, LONG),
        Detector::BadImage => image::course(healing, seen, now, LONG),
        Detector::StuckQueue
        | Detector::SilentRecorder
        | Detector::FullDisk
        | Detector::DeadPart
        | Detector::BadTemplate => match RULES.iter().find(|rule| rule.detector == healing.detector) {
            Some(rule) => level::course(rule, healing, seen, now, LONG),
            None => Course::Open,
        },
        Detector::Unknown => Course::Open,
    }
}
