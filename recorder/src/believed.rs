//! What is believed of an evaluation: its document says how it was reported, and the facts how its verdict was amended
//! since.

use evalfleet_datomic::edn::Value;
use evalfleet_proto::amendment::Amended;
use evalfleet_proto::evaluation::{Evaluation, Verdict};
use evalfleet_proto::status::{Cause, Status};

/// Why a document cannot be amended.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// It is no evaluation's.
    #[error("the document is no evaluation: {0}")]
    Document(#[from] serde_json::Error),
    /// The facts do not say how it ended.
    #[error("an evaluation without a status")]
    NoVerdict,
}

/// The document with the verdict that the facts have: it is kept as it was reported, whatever was amended since.
///
/// # Errors
/// When the document is none, or the facts have no verdict.
pub fn amended(document: serde_json::Value, facts: &Value) -> Result<serde_json::Value, Damaged> {
    let told = facts.get("evaluation/amendments").and_then(Value::as_vector).unwrap_or_default();
    if told.is_empty() {
        return Ok(document);
    }
    let mut evaluation: Evaluation = serde_json::from_value(document)?;
    let now = verdict(facts, "evaluation/status", "evaluation/cause");
    let now = now.ok_or(Damaged::NoVerdict)?;
    evaluation.amend(now, told.iter().filter_map(amendment).collect());
    Ok(serde_json::to_value(evaluation)?)
}

fn amendment(facts: &Value) -> Option<Amended> {
    let text = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(Amended {
        at: facts.get("amendment/at").and_then(Value::as_inst)?,
        by: text("amendment/by"),
        reason: text("amendment/reason"),
        from: verdict(facts, "amendment/status-before", "amendment/cause-before")?,
        to: verdict(facts, "amendment/status", "amendment/cause")?,
    })
}

fn verdict(facts: &Value, status: &str, cause: &str) -> Option<Verdict> {
    let word = |name: &str| facts.get(name).and_then(Value::as_keyword).map(|word| word.replace('-', "_"));
    let cause = word(cause).and_then(|word| Cause::parse(&word));
    Some(Verdict { status: Status::parse(&word(status)?)?, cause })
}
