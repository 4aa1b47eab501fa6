//! Function calls as models make them, and what goes back.
//!
//! [`gemini`] and [`openai`] are the two notations; [`evaluator`] is the front door for a REPL: it tests a call,
//! or a change to the REPL itself, in a clean VM.

pub mod gemini;
pub mod openai;

mod evaluator;

pub use evaluator::{EvalResult, SecureEvaluator};

use evalfleet_proto::evaluation::Evaluation;
use evalfleet_proto::job::FunctionResponse;
use evalfleet_proto::status::Status;
use serde_json::{Value, json};

/// Calls that one document may hold.
pub const CALLS_MAX: usize = 128;

/// A document in which calls were looked for and not found as they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A call without what makes one.
    #[error("no function call: {0}")]
    NoCall(String),
    /// More than anybody means.
    #[error("{0} function calls in one document, and {CALLS_MAX} may be")]
    TooMany(usize),
}

/// What a model is told of a call: the tool's own answer, or why there is none. Always an object, as Gemini wants
/// it.
pub fn response(evaluation: &Evaluation) -> Value {
    let call = evaluation.calls.first();
    let value = call.and_then(|call| call.value.clone());
    if evaluation.status == Status::Passed {
        return match value {
            Some(Value::Object(answer)) => Value::Object(answer),
            Some(answer) => json!({"output": answer}),
            None => json!({"output": evaluation.stdout.text}),
        };
    }
    let said = value.as_ref().and_then(|value| value["error"].as_str()).map(ToOwned::to_owned);
    let evidence = evaluation.evidence.first().map(|evidence| evidence.message.clone());
    let cause = evaluation.cause.map(|cause| cause.as_str());
    json!({"error": said.or(evidence).unwrap_or_default(), "status": evaluation.status.as_str(), "cause": cause})
}

/// The same under its function's name.
pub fn function_response(
    evaluation: &Evaluation,
    call: &evalfleet_proto::job::FunctionCall,
) -> FunctionResponse {
    FunctionResponse { name: call.name.clone(), response: response(evaluation) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::sample;
    use evalfleet_proto::evaluation::Call;
    use std::time::Duration;

    fn with(value: Value, status: Status) -> Value {
        let mut evaluation = sample();
        evaluation.status = status;
        let value = (!value.is_null()).then_some(value);
        let name = "t".to_owned();
        evaluation.calls =
            vec![Call { name, success_rate: None, exit_code: None, value, duration: Duration::ZERO }];
        response(&evaluation)
    }

    #[test]
    fn a_model_hears_an_answer_or_why_there_is_none() {
        assert_eq!(with(json!({"n": 1}), Status::Passed), json!({"n": 1}));
        assert_eq!(with(json!([1]), Status::Passed), json!({"output": [1]}));
        assert_eq!(with(Value::Null, Status::Passed), json!({"output": "héllo"}));
        let failed = with(json!({"error": "no such file"}), Status::Failed);
        assert_eq!((&failed["error"], &failed["status"]), (&json!("no such file"), &json!("failed")));
        let timed_out = with(Value::Null, Status::TimedOut);
        assert_eq!(timed_out, json!({"error": "30s passed", "status": "timed_out", "cause": "budget"}));
    }
}
