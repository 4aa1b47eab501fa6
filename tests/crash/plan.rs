//! The jobs of a course: each is planned by its number, so that whoever is killed can go on.

use evalfleet_proto::Timestamp;
use evalfleet_proto::job::Job;
use evalfleet_proto::submission::{Defaults, Submission};

/// The label that tells a stand-in for VMs how a job is to end.
pub(crate) const FATE: &str = "fate";

/// How a job is meant to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// At once.
    Passes,
    /// At once, by its own fault.
    Fails,
    /// By a fault of ours, then it passes.
    Retried,
    /// By a fault of ours, as often as it is tried.
    Hopeless,
}

impl Fate {
    /// Of every hundred jobs 85 pass, 10 fail, 4 need a second try and one is hopeless. Real VMs end as they
    /// do: there only the kills make trouble.
    fn of(seed: u64, number: u64, real: bool) -> Self {
        match fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).u32(0..100) {
            0..10 => Self::Fails,
            10..14 if !real => Self::Retried,
            14 if !real => Self::Hopeless,
            _ => Self::Passes,
        }
    }

    /// The word that the job carries.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::Fails => "fails",
            Self::Retried => "retried",
            Self::Hopeless => "hopeless",
        }
    }

    /// The status that is to be recorded.
    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::Passes | Self::Retried => "passed",
            Self::Fails => "failed",
            Self::Hopeless => "dead",
        }
    }
}

/// The job with this number, and its fate.
pub(crate) fn job(seed: u64, number: u64, real: bool) -> anyhow::Result<(Job, Fate)> {
    let fate = Fate::of(seed, number, real);
    let mut submission = Submission::command([if fate == Fate::Fails { "false" } else { "true" }]);
    submission.key = Some(format!("crash-{seed}-{number}"));
    submission.labels.insert(FATE.to_owned(), fate.word().to_owned());
    // No job of these needs an interpreter that is warm.
    submission.scenario = real.then(|| "shell".to_owned());
    let defaults = Defaults { image: "base".parse()?, now: Timestamp::now() };
    Ok((submission.into_job(&defaults)?, fate))
}
