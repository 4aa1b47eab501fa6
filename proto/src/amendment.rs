//! Verdicts that turned out to be wrong: a new fact with its author and its reason, and the old one stays as it was
//! believed. A question as of an earlier moment has the verdict of that moment.

use crate::evaluation::{Evaluation, Verdict};
use crate::ids::{JobId, Sha256};
use crate::wire;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest reason, in characters.
pub const REASON_CHARS_MAX: usize = 1000;

/// That a verdict is to be another one, as the recorder is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// The version of this document.
    pub schema: u16,
    /// Of which evaluation.
    pub evaluation: JobId,
    /// What it is now.
    pub to: Verdict,
    /// Why.
    pub reason: String,
    /// Who says so: the user and the host, as far as they are known.
    pub by: String,
    /// When it was said.
    pub at: Timestamp,
}

impl Amendment {
    /// Its name: whoever sends the same again is told so.
    pub fn name(&self) -> String {
        format!("{}/amendment/{}", self.evaluation, Sha256::of(&wire::encode(self)))
    }
}

/// A verdict that was amended, as documents tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Amended {
    /// When it was said.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What was believed before.
    pub from: Verdict,
    /// What is believed since.
    pub to: Verdict,
}

impl Evaluation {
    /// Takes its amendments in, and what its verdict has come to by them.
    pub fn amend(&mut self, verdict: Verdict, amendments: Vec<Amended>) {
        (self.status, self.cause) = (verdict.status, verdict.cause);
        self.success_rate = self.status.success_rate(self.cause);
        for call in &mut self.calls {
            call.success_rate = self.success_rate;
        }
        self.amendments = amendments;
        self.amendments.sort_by_key(|amended| amended.at);
    }
}
