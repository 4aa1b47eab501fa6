//! What speaks against a change.

use serde::{Deserialize, Serialize};

/// The most violations that one verdict lists.
pub const VIOLATIONS_MAX: usize = 200;
/// The longest evidence of one.
const EVIDENCE_MAX: usize = 1000;

/// One thing that a change must not do, where it does it, and what shows that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The rule, such as `tests.failed`; the part before the dot is its area.
    pub rule: String,
    /// The path it is about, in the repository or in the VM.
    pub path: Option<String>,
    /// The line in the changed file, from 1.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What shows it: the line itself, a test's words, what the host saw.
    pub evidence: String,
}

impl Violation {
    /// A violation of `rule`, about nothing in particular yet.
    pub(super) fn new(rule: &str, message: impl Into<String>) -> Self {
        Self {
            rule: rule.to_owned(),
            path: None,
            line: None,
            message: message.into(),
            evidence: String::new(),
        }
    }

    pub(super) fn at(self, path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    pub(super) fn line(self, line: usize) -> Self {
        Self { line: u32::try_from(line).ok(), ..self }
    }

    pub(super) fn seen(self, evidence: impl Into<String>) -> Self {
        let evidence: String = evidence.into();
        Self { evidence: evidence.trim().chars().take(EVIDENCE_MAX).collect(), ..self }
    }

    /// Whether it is about what a change uses, and not about what it does.
    pub fn is_budget(&self) -> bool {
        self.rule.starts_with("budget.")
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.rule)?;
        if let Some(path) = &self.path {
            write!(f, " {path}")?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
        }
        write!(f, ": {}", self.message)
    }
}
