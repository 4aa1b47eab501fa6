//! The loop: a question, calls and what they came to, until there is an answer.

use super::{Error, Model, Request};
use crate::functions::{EvalResult, SecureEvaluator, gemini};
use evalfleet_proto::job::{FunctionCall, FunctionResponse};
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};

/// The largest answer of a tool that a model is given, in bytes of JSON: more is cut, and the model is told so.
const RESPONSE_MAX: usize = 64 << 10;

/// What runs a model's calls.
pub trait Hands: Sync {
    /// Runs one, and tells what came of it.
    fn call<'a>(&'a self, call: &'a FunctionCall) -> BoxFuture<'a, EvalResult>;
}

impl Hands for SecureEvaluator {
    fn call<'a>(&'a self, call: &'a FunctionCall) -> BoxFuture<'a, EvalResult> {
        Box::pin(self.test_function_call(call))
    }
}

/// How far a conversation may go for one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Answers of the model.
    pub turns: usize,
    /// Calls, over all of them.
    pub calls: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { turns: 12, calls: 32 }
    }
}

/// A call, and what came of it.
#[derive(Debug, Clone)]
pub struct Called {
    /// The call.
    pub call: FunctionCall,
    /// What came of it.
    pub result: EvalResult,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The model did not say anything that can be used.
    #[error(transparent)]
    Model(#[from] Error),
    /// It went on beyond its bounds.
    #[error("no answer within {} turns and {} calls", .0.turns, .0.calls)]
    Spent(Bounds),
}

/// What came of a question.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All calls, in their order.
    pub calls: Vec<Called>,
    /// The model's last words, or why there are none.
    pub answer: Result<String, Stopped>,
}

/// A conversation.
#[derive(Debug)]
pub struct Chat {
    request: Request,
}

impl Chat {
    /// A conversation in which `tools` may be called ([`gemini::declarations`]).
    pub fn new(system: Option<String>, tools: Value) -> Self {
        Self { request: Request { system, contents: Vec::new(), tools } }
    }

    /// Puts a question, has the model's calls run, those of one turn side by side, and gives its answer. What stopped
    /// it stays in the conversation only where the model can go on from there.
    pub async fn ask(&mut self, model: &Model, hands: &dyn Hands, question: &str, bounds: Bounds) -> Outcome {
        let before = self.request.contents.len();
        self.request.contents.push(json!({"role": "user", "parts": [{"text": question}]}));
        let mut calls = Vec::new();
        let answer = self.go_on(model, hands, bounds, &mut calls).await;
        if answer.is_err() {
            self.request.contents.truncate(before);
        }
        Outcome { calls, answer }
    }

    async fn go_on(
        &mut self,
        model: &Model,
        hands: &dyn Hands,
        bounds: Bounds,
        calls: &mut Vec<Called>,
    ) -> Result<String, Stopped> {
        for _ in 0..bounds.turns {
            let reply = model.generate(&self.request).await?;
            self.request.contents.push(reply.content);
            if reply.calls.is_empty() {
                return Ok(reply.text);
            }
            if calls.len() + reply.calls.len() > bounds.calls {
                break;
            }
            let results = join_all(reply.calls.iter().map(|call| hands.call(call))).await;
            let responses: Vec<FunctionResponse> =
                results.iter().map(|result| bounded(&result.result)).collect();
            self.request.contents.push(gemini::content(&responses));
            let called = reply.calls.into_iter().zip(results);
            calls.extend(called.map(|(call, result)| Called { call, result }));
        }
        Err(Stopped::Spent(bounds))
    }
}

fn bounded(response: &FunctionResponse) -> FunctionResponse {
    let text = response.response.to_string();
    if text.len() <= RESPONSE_MAX {
        return response.clone();
    }
    let end = (0..=RESPONSE_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let response_cut = json!({
        "truncated": format!("the answer has {} bytes, the first {end} are here", text.len()),
        "beginning": &text[..end],
    });
    FunctionResponse { name: response.name.clone(), response: response_cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemini::recorded::{Exchange, Recorded};
    use evalfleet_proto::evaluation::Metrics;
    use evalfleet_proto::status::Exit;

    /// Echoes its arguments.
    struct Echo;

    impl Hands for Echo {
        fn call<'a>(&'a self, call: &'a FunctionCall) -> BoxFuture<'a, EvalResult> {
            let response = json!({"echo": call.args, "large": "x".repeat(call.args["size"].as_u64().unwrap_or(0) as usize)});
            let result = FunctionResponse { name: call.name.clone(), response };
            Box::pin(async move {
                EvalResult {
                    result,
                    effects: Vec::new(),
                    metrics: Metrics::default(),
                    evaluation: None,
                    exit: Exit::Passed,
                }
            })
        }
    }

    fn model(answers: &[Value]) -> Model {
        let line = |(turn, parts): (usize, &Value)| {
            serde_json::to_string(&Exchange {
                model: "m".to_owned(),
                question: "q".to_owned(),
                contents: 2 * turn + 1,
                status: 200,
                answer: json!({"candidates": [{"content": {"parts": parts}}]}),
            })
            .unwrap()
        };
        let text: Vec<String> = answers.iter().enumerate().map(line).collect();
        Model::new("m", Recorded::parse(&text.join("\n"), "m").unwrap(), 1)
    }

    #[tokio::test]
    async fn calls_are_run_and_answered_until_there_are_words() {
        let call = |size: usize| json!({"functionCall": {"name": "echo", "args": {"size": size}}});
        let model =
            model(&[json!([call(1), call(2)]), json!([call(RESPONSE_MAX)]), json!([{"text": "done"}])]);
        let mut chat = Chat::new(None, Value::Null);
        let outcome = chat.ask(&model, &Echo, "q", Bounds::default()).await;
        assert_eq!(outcome.answer.unwrap(), "done");
        let sizes: Vec<_> = outcome.calls.iter().map(|called| called.call.args["size"].as_u64()).collect();
        assert_eq!(sizes, [Some(1), Some(2), Some(RESPONSE_MAX as u64)]);
        let contents = &chat.request.contents;
        assert_eq!(contents.len(), 6);
        assert_eq!(contents[2]["parts"].as_array().unwrap().len(), 2);
        let cut = contents[4]["parts"][0]["functionResponse"]["response"]["beginning"].as_str().unwrap();
        assert_eq!(cut.len(), RESPONSE_MAX);
    }

    #[tokio::test]
    async fn who_goes_on_and_on_is_stopped_and_the_conversation_is_as_before() {
        let call = json!([{"functionCall": {"name": "echo"}}]);
        let endless: Vec<Value> = vec![call.clone(); 4];
        let mut chat = Chat::new(None, Value::Null);
        for (bounds, calls) in [(Bounds { turns: 3, calls: 9 }, 3), (Bounds { turns: 9, calls: 1 }, 1)] {
            let outcome = chat.ask(&model(&endless), &Echo, "q", bounds).await;
            assert_eq!((outcome.answer, outcome.calls.len()), (Err(Stopped::Spent(bounds)), calls));
            assert!(chat.request.contents.is_empty());
        }
        let outcome = chat.ask(&model(&[call]), &Echo, "q", Bounds::default()).await;
        assert!(matches!(outcome.answer, Err(Stopped::Model(Error::Refused { status: 404, .. }))));
    }
}
