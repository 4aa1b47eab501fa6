//! What was seen of one tree, in both looks.

use super::order::{Answer, Look, PROJECT, Step, Test};
use evalfleet_proto::effect::{Change, ObjectType};
use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::status::{Cause, Status};
use globset::GlobSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// One VM's run: what the host says, and what the judge in it answered, if it did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) look: Look,
    pub(super) evaluation: Evaluation,
    /// The tests, and what else must stay as it is, as they were laid into the VM: by path in the project.
    pub(super) laid: BTreeMap<String, Sha256>,
    pub(super) answer: Option<Answer>,
}

/// Both looks at one tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Looks {
    pub(super) judged: Seen,
    pub(super) watched: Seen,
    /// What was built, where that is kept.
    pub(super) prefix: Option<(Sha256, u64)>,
}

/// What became of a test, turn by turn.
pub(super) type Outcomes<'s> = BTreeMap<&'s str, Vec<&'s Test>>;

impl Seen {
    /// What a run in a VM answered; `nonce` tells the judge's own words from others.
    pub(super) fn new(look: Look, evaluation: Evaluation, output: &[u8], nonce: &str) -> Self {
        let answer: Option<Answer> = serde_json::from_slice(output).ok();
        let answer = answer.filter(|answer| answer.nonce == nonce && evaluation.status == Status::Passed);
        Self { look, evaluation, laid: BTreeMap::new(), answer }
    }

    pub(super) fn steps<'s>(&'s self, phase: &'s str) -> impl Iterator<Item = &'s Step> {
        let steps = self.answer.iter().flat_map(|answer| &answer.steps);
        steps.filter(move |step| step.phase == phase)
    }

    pub(super) fn outcomes(&self) -> Outcomes<'_> {
        let mut outcomes = Outcomes::new();
        for test in self.answer.iter().flat_map(|answer| &answer.tests) {
            outcomes.entry(test.name.as_str()).or_default().push(test);
        }
        outcomes
    }

    /// Names of the tests that passed in every turn.
    pub(super) fn passed(&self, repeat: u32) -> Vec<&str> {
        let passed = self.outcomes().into_iter().filter(|(_, turns)| {
            turns.len() == repeat as usize && turns.iter().all(|test| test.outcome == "passed")
        });
        passed.map(|(name, _)| name).collect()
    }

    /// Whether the build did not succeed.
    pub(super) fn failed_build(&self) -> Option<&Step> {
        self.steps("build").find(|step| !step.succeeded())
    }

    /// Our own fault, if it is one: then nothing is known about the subject.
    pub(super) fn fault(&self) -> Option<String> {
        let ours = matches!(self.evaluation.cause, Some(Cause::Infrastructure))
            || matches!(self.evaluation.status, Status::Dead | Status::Cancelled | Status::Expired);
        ours.then(|| self.because())
    }

    /// What the run's own verdict rests on.
    pub(super) fn because(&self) -> String {
        let evaluation = &self.evaluation;
        let said: Vec<_> = evaluation.evidence.iter().map(|evidence| evidence.message.as_str()).collect();
        let err = evaluation.stderr.text.trim();
        let err = if err.is_empty() { String::new() } else { format!("; it says: {err}") };
        format!("{} ({}){err}", evaluation.status.as_str(), said.join("; "))
    }

    /// Seconds that a phase took, by the VM's clock.
    pub(super) fn seconds(&self, phase: &str) -> f64 {
        self.steps(phase).map(|step| step.seconds).sum()
    }

    /// What the suite's own programs took, by the VM's clock: all but what the judge runs for itself.
    pub(super) fn commands(&self) -> Duration {
        let steps = self.answer.iter().flat_map(|answer| &answer.steps);
        let seconds = steps.filter(|step| step.phase != "probe").map(|step| step.seconds).sum();
        // The guest's word: where it is no time, it is none.
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// Bytes of the files under `paths` that the run left in the project, as the host read them from the VM's disk;
    /// none where not all that it left is listed.
    pub(super) fn built(&self, paths: &GlobSet) -> Option<u64> {
        let left = self.evaluation.effects.iter().filter(|effect| {
            effect.object == ObjectType::File
                && effect.change != Change::Deleted
                && inside(&effect.path).is_some_and(|path| paths.is_match(path))
        });
        (self.evaluation.effects_omitted == 0).then(|| left.map(|effect| effect.size).sum())
    }

    /// Memory that the whole of it took, as the VM's kernel counts it.
    pub(super) fn memory(&self) -> u64 {
        let metrics = &self.evaluation.metrics;
        metrics.guest.as_ref().map_or(metrics.memory_peak_bytes, |guest| guest.memory_peak_bytes)
    }
}

/// The path within the project, of what lies there.
pub(super) fn inside(path: &str) -> Option<&str> {
    path.strip_prefix(PROJECT)?.strip_prefix('/')
}

impl Looks {
    pub(super) fn both(&self) -> [&Seen; 2] {
        [&self.judged, &self.watched]
    }
}
