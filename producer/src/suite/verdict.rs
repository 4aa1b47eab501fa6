//! Whether a question was answered as it should be, and whose doing it is that it was not. Pure.

use super::file::{ExpectedCall, Question};
use crate::gemini::chat::{Called, Outcome, Stopped};
use evalfleet_proto::status::{Cause, Exit};
use globset::Glob;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;

/// How a question went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whose doing it is that it did not go well; none where it did.
    pub cause: Option<Cause>,
    /// What did not go well.
    pub why: Option<String>,
}

impl Verdict {
    /// Whether the question was answered as it should be.
    pub fn passed(&self) -> bool {
        self.cause.is_none()
    }

    fn not(cause: Cause, why: impl Into<String>) -> Self {
        Self { cause: Some(cause), why: Some(why.into()) }
    }
}

/// What of an answer was not right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Other tools were called than those that were expected.
    Tools,
    /// A call that was expected was made with other arguments.
    Arguments,
    /// Something else was changed, or nothing.
    Effects,
    /// The words.
    Answer,
}

/// How the reason begins that is given for each fault: it is all that the history keeps of it.
const OPENINGS: [(&str, Fault); 5] = [
    ("expected to call ", Fault::Tools),
    ("expected ", Fault::Arguments),
    ("nothing that fits ", Fault::Effects),
    ("changed what it should not: ", Fault::Effects),
    ("the answer does not fit ", Fault::Answer),
];

impl Fault {
    /// The fault that a verdict's reason names, if it is the model's.
    pub fn of(why: &str) -> Option<Self> {
        OPENINGS.iter().find(|(opening, _)| why.starts_with(opening)).map(|(_, fault)| *fault)
    }

    /// Its word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Arguments => "arguments",
            Self::Effects => "effects",
            Self::Answer => "answer",
        }
    }
}

/// Judges a question. What kept the model from answering comes first: it says nothing about the model. Then the tools,
/// their arguments, what they changed, and its words.
pub fn judge(question: &Question, outcome: &Outcome) -> Verdict {
    let not_run = outcome.calls.iter().find(|called| ours(called));
    if let Some(called) = not_run {
        let why = format!("{} could not be run: {}", called.call.name, said(&called.result.result.response));
        return Verdict::not(Cause::Infrastructure, why);
    }
    let answer = match &outcome.answer {
        Ok(answer) => answer,
        Err(Stopped::Model(error)) => return Verdict::not(error.cause(), error.to_string()),
        Err(spent @ Stopped::Spent(_)) => return Verdict::not(Cause::Budget, spent.to_string()),
    };
    let wrong = tools(question, outcome)
        .or_else(|| question.calls.iter().find_map(|wanted| made(wanted, &outcome.calls)))
        .or_else(|| question.effects.as_deref().and_then(|globs| effects(globs, &outcome.calls)))
        .or_else(|| words(question, answer));
    wrong.map_or(Verdict { cause: None, why: None }, |why| Verdict::not(Cause::Subject, why))
}

/// Whether a call failed by no doing of the model or the tool: it was never run, or our machines failed.
fn ours(called: &Called) -> bool {
    match &called.result.evaluation {
        Some(evaluation) => evaluation.cause == Some(Cause::Infrastructure),
        // A call that fits no tool is the model's mistake, and it was told.
        None => !matches!(called.result.exit, Exit::Passed | Exit::Harness),
    }
}

fn said(response: &Value) -> String {
    response["error"].as_str().map_or_else(|| response.to_string(), str::to_owned)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn tools(question: &Question, outcome: &Outcome) -> Option<String> {
    let expected: BTreeSet<&str> = question.expected_tools.iter().map(String::as_str).collect();
    let called: BTreeSet<&str> = outcome.calls.iter().map(|called| called.call.name.as_str()).collect();
    let (expected_list, called_list) = (listed(expected.iter().copied()), listed(called.iter().copied()));
    (expected != called).then(|| format!("expected to call {expected_list}, called {called_list}"))
}

fn made(wanted: &ExpectedCall, calls: &[Called]) -> Option<String> {
    let of_tool = || calls.iter().filter(|called| called.call.name.as_str() == wanted.tool);
    let fits =
        |called: &Called| wanted.args.iter().all(|(name, value)| called.call.args.get(name) == Some(value));
    if of_tool().any(fits) {
        return None;
    }
    let made: Vec<String> = of_tool().map(|called| called.call.args.to_string()).collect();
    let stated = Value::Object(wanted.args.clone());
    Some(format!(
        "expected {} with {stated}, called with {}",
        wanted.tool,
        listed(made.iter().map(String::as_str))
    ))
}

fn effects(globs: &[String], calls: &[Called]) -> Option<String> {
    let changed: BTreeSet<&str> =
        calls.iter().flat_map(|called| &called.result.effects).map(|effect| effect.path.as_str()).collect();
    let matchers: Vec<_> =
        globs.iter().filter_map(|glob| Some((glob, Glob::new(glob).ok()?.compile_matcher()))).collect();
    if let Some((glob, _)) =
        matchers.iter().find(|(_, matcher)| !changed.iter().any(|path| matcher.is_match(path)))
    {
        return Some(format!("nothing that fits {glob} was changed, but: {}", listed(changed.into_iter())));
    }
    let beyond =
        changed.iter().copied().filter(|path| !matchers.iter().any(|(_, matcher)| matcher.is_match(path)));
    let beyond: Vec<&str> = beyond.collect();
    (!beyond.is_empty()).then(|| format!("changed what it should not: {}", beyond.join(", ")))
}

fn words(question: &Question, answer: &str) -> Option<String> {
    let wanted = question.answer.as_deref()?;
    let fits = Regex::new(wanted).is_ok_and(|wanted| wanted.is_match(answer));
    let beginning: String = answer.chars().take(200).collect();
    (!fits).then(|| format!("the answer does not fit {wanted:?}: {beginning:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::tests::sample;
    use crate::functions::EvalResult;
    use crate::gemini;
    use crate::gemini::chat::Bounds;
    use evalfleet_proto::evaluation::Metrics;
    use evalfleet_proto::job::{FunctionCall, FunctionResponse};
    use evalfleet_proto::status::Status;
    use serde_json::json;

    fn called(tool: &str, args: Value, cause: Option<Cause>, effects: &[&str]) -> Called {
        let call = FunctionCall { name: tool.parse().unwrap(), args };
        let mut evaluation = sample();
        evaluation.cause = cause;
        evaluation.status = if cause.is_some() { Status::Failed } else { Status::Passed };
        let form = evaluation.effects.first().cloned().expect("the sample has one");
        evaluation.effects = effects
            .iter()
            .map(|path| {
                let mut effect = form.clone();
                (*path).clone_into(&mut effect.path);
                effect
            })
            .collect();
        Called { result: EvalResult::of(&call, evaluation), call }
    }

    fn question() -> Question {
        Question {
            id: "q".to_owned(),
            question: "?".to_owned(),
            expected_tools: vec!["write_file".to_owned()],
            calls: vec![ExpectedCall {
                tool: "write_file".to_owned(),
                args: serde_json::from_value(json!({"path": "a"})).unwrap(),
            }],
            effects: Some(vec!["/workspace/a*".to_owned()]),
            answer: Some("(?i)done".to_owned()),
        }
    }

    fn judged(calls: Vec<Called>, answer: Result<&str, Stopped>) -> (Option<Cause>, String) {
        let verdict = judge(&question(), &Outcome { calls, answer: answer.map(str::to_owned) });
        (verdict.cause, verdict.why.unwrap_or_default())
    }

    #[test]
    fn a_right_answer_makes_the_right_calls_with_the_right_effects() {
        let right = || called("write_file", json!({"path": "a", "content": "x"}), None, &["/workspace/a"]);
        assert_eq!(judged(vec![right()], Ok("Done.")), (None, String::new()));
        let other = || called("write_file", json!({"path": "b"}), None, &["/workspace/b"]);
        for (calls, answer, says, fault) in [
            (vec![], "Done.", "called nothing", Fault::Tools),
            (
                vec![right(), called("read_file", json!({}), None, &[])],
                "Done.",
                "called read_file, write_file",
                Fault::Tools,
            ),
            (vec![other()], "Done.", "{\"path\":\"a\"}", Fault::Arguments),
            (vec![right(), other()], "Done.", "should not: /workspace/b", Fault::Effects),
            (
                vec![called("write_file", json!({"path": "a"}), None, &[])],
                "Done.",
                "nothing that fits",
                Fault::Effects,
            ),
            (vec![right()], "I could not.", "does not fit", Fault::Answer),
        ] {
            let (cause, why) = judged(calls, Ok(answer));
            assert_eq!(cause, Some(Cause::Subject));
            assert!(why.contains(says), "{says}: {why}");
            assert_eq!(Fault::of(&why), Some(fault), "{why}");
        }
    }

    #[test]
    fn what_is_not_the_models_doing_is_not_held_against_it() {
        let infrastructure = called("write_file", json!({}), Some(Cause::Infrastructure), &[]);
        assert_eq!(judged(vec![infrastructure], Ok("Done.")).0, Some(Cause::Infrastructure));
        // The tool's own failure is an answer like any other.
        let failed = called("write_file", json!({"path": "a"}), Some(Cause::Subject), &["/workspace/a"]);
        assert_eq!(judged(vec![failed], Ok("Done.")).0, None);
        let busy = gemini::Error::Failing { status: 429, tries: 3, message: "too many".to_owned() };
        let unreadable = gemini::Error::Unreadable("no candidate".to_owned());
        for (stopped, cause) in [
            (Stopped::Model(busy), Cause::Infrastructure),
            (Stopped::Model(unreadable), Cause::Harness),
            (Stopped::Spent(Bounds::default()), Cause::Budget),
        ] {
            assert_eq!(judged(vec![], Err(stopped)).0, Some(cause));
        }
        let call = FunctionCall { name: "nosuch".parse().unwrap(), args: json!({}) };
        let result = |exit| EvalResult {
            result: FunctionResponse { name: call.name.clone(), response: json!({"error": "x"}) },
            effects: Vec::new(),
            metrics: Metrics::default(),
            evaluation: None,
            exit,
        };
        let with = |exit| judged(vec![Called { call: call.clone(), result: result(exit) }], Ok("Done.")).0;
        assert_eq!(
            (with(Exit::Harness), with(Exit::Unreachable)),
            (Some(Cause::Subject), Some(Cause::Infrastructure))
        );
    }
}
