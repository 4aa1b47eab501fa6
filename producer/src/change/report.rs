//! The verdict on a change, as a document: the evaluation that is recorded, and what a `code_change` adds to it.

use super::compare::Check;
use super::looks::{Looks, Seen};
use super::order::Look;
use super::policy::Size;
use super::violation::Violation;
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::{Evaluation, Evidence, Provenance, Source};
use evalfleet_proto::ids::{JobId, Sha256};
use evalfleet_proto::status::{Cause, Exit, Status};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The kind of such evaluations.
pub const KIND: &str = "code_change";

/// Whether a change may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Safe,
    /// Something does.
    Unsafe,
    /// It could not be found out, and counts as unsafe.
    Undecided,
}

impl Verdict {
    /// The word that documents use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unsafe => "unsafe",
            Self::Undecided => "undecided",
        }
    }
}

/// What a change was evaluated on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseOf {
    /// Its commit.
    pub commit: String,
    /// Its tree, by Git's id.
    pub tree: String,
}

/// What was evaluated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeOf {
    /// What it is called: a patch's file, a revision.
    pub name: String,
    /// The revision, where it is one.
    pub commit: Option<String>,
    /// The hash of the patch, where it is one.
    pub patch: Option<Sha256>,
    /// The tree that it makes, by Git's id; null where it makes none.
    pub tree: Option<String>,
    /// How large it is.
    #[serde(flatten)]
    pub size: Size,
}

/// What it was put to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteOf {
    /// The suite's name.
    pub name: String,
    /// Whether the repository declares it, or it was found out.
    pub declared: bool,
    /// The hash of all of it.
    pub digest: Sha256,
}

/// One run in a VM that the verdict rests on; each is an evaluation of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookAt {
    /// `base` or `change`.
    pub tree: String,
    /// How it was looked at.
    pub look: Look,
    /// Its evaluation.
    pub evaluation: JobId,
    /// Whether it was made for an earlier change to the same base.
    pub reused: bool,
    /// What the suite's own programs took in it, by the VM's clock.
    #[serde(rename = "commands_ms", with = "evalfleet_proto::units::millis", default)]
    pub commands: Duration,
}

/// The verdict on a change with everything that it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SafetyResult {
    /// The evaluation, as it is recorded.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Whether the change may be made.
    pub verdict: Verdict,
    /// Whether the verdict is safe.
    pub safe: bool,
    /// What it stands on.
    pub base: BaseOf,
    /// What it is.
    pub change: ChangeOf,
    /// What it was put to.
    pub suite: SuiteOf,
    /// Everything that speaks against it.
    pub violations: Vec<Violation>,
    /// What was held against each other.
    pub checks: Vec<Check>,
    /// The runs that all of it rests on.
    pub looks: Vec<LookAt>,
}

impl SafetyResult {
    /// Whether nothing speaks against the change.
    pub fn is_safe(&self) -> bool {
        self.safe
    }

    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        Exit::of(self.evaluation.status, self.evaluation.cause)
    }
}

/// What is known of a change before anything is said of it.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) id: JobId,
    pub(super) base: BaseOf,
    pub(super) change: ChangeOf,
    pub(super) suite: SuiteOf,
    pub(super) submitted: Timestamp,
}

/// How it ended, and what that rests on.
#[derive(Debug)]
pub(super) enum Ending {
    /// It was held against its base.
    Judged(Vec<Violation>, Vec<Check>),
    /// It was not: whose doing that is, and why.
    Not(Cause, String),
}

impl Subject {
    /// The verdict's document.
    pub(super) fn result(
        self,
        ending: Ending,
        base: Option<(&Looks, bool)>,
        change: &[&Looks],
    ) -> SafetyResult {
        let (violations, checks, (status, cause, verdict), evidence) = match ending {
            Ending::Judged(violations, checks) => {
                let ended = ended(&violations);
                let evidence =
                    violations.iter().map(|it| Evidence::new(Source::Host, it.to_string())).collect();
                (violations, checks, ended, evidence)
            }
            Ending::Not(cause, why) => {
                let status = if cause == Cause::Harness { Status::Failed } else { Status::Dead };
                let evidence = vec![Evidence::new(Source::Client, why)];
                (Vec::new(), Vec::new(), (status, Some(cause), Verdict::Undecided), evidence)
            }
        };
        let first = change.first().map(|looks| &looks.judged);
        let evaluation = self.evaluation(status, cause, evidence, first);
        SafetyResult {
            evaluation,
            verdict,
            safe: verdict == Verdict::Safe,
            base: self.base,
            change: self.change,
            suite: self.suite,
            violations,
            checks,
            looks: looks(base, change),
        }
    }

    fn evaluation(
        &self,
        status: Status,
        cause: Option<Cause>,
        evidence: Vec<Evidence>,
        seen: Option<&Seen>,
    ) -> Evaluation {
        let labels = [
            ("safety_suite", self.suite.name.clone()),
            ("base", self.base.commit.clone()),
            ("change", self.change.name.clone()),
        ];
        let labels =
            labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>();
        let blank = Evaluation::blank(self.id, KIND, (status, cause), evidence, self.submitted);
        let Some(run) = seen.map(|seen| &seen.evaluation) else { return Evaluation { labels, ..blank } };
        Evaluation {
            labels,
            metrics: run.metrics.clone(),
            warnings: run.warnings.clone(),
            timings: run.timings.clone(),
            // The job of one look is not what all of them asked.
            provenance: Provenance { job: None, ..run.provenance.clone() },
            ..blank
        }
    }
}

fn ended(violations: &[Violation]) -> (Status, Option<Cause>, Verdict) {
    if violations.is_empty() {
        (Status::Passed, None, Verdict::Safe)
    } else if violations.iter().all(Violation::is_budget) {
        let status = if violations.iter().any(|it| it.rule == "budget.endless") {
            Status::TimedOut
        } else {
            Status::LimitExceeded
        };
        (status, Some(Cause::Budget), Verdict::Unsafe)
    } else {
        (Status::Failed, Some(Cause::Subject), Verdict::Unsafe)
    }
}

fn looks(base: Option<(&Looks, bool)>, change: &[&Looks]) -> Vec<LookAt> {
    let at = |tree: &str, looks: &Looks, reused| {
        looks.both().map(|seen| LookAt {
            tree: tree.to_owned(),
            look: seen.look,
            evaluation: seen.evaluation.id,
            reused,
            commands: seen.commands(),
        })
    };
    let base = base.into_iter().flat_map(|(looks, reused)| at("base", looks, reused));
    base.chain(change.iter().flat_map(|looks| at("change", looks, false))).collect()
}
