//! The Gemini API's notation: declarations out, `functionCall` parts in, `functionResponse` parts back. Pure.

use super::{CALLS_MAX, Error};
use crate::registry::Tool;
use evalfleet_proto::job::{FunctionCall, FunctionResponse};
use serde_json::{Value, json};

/// How deep calls may lie in a document.
const DEPTH_MAX: usize = 8;

/// The tools as a request's `tools` carries them.
pub fn declarations<'t>(tools: impl Iterator<Item = &'t Tool>) -> Value {
    json!([{"functionDeclarations": tools.map(Tool::declaration).collect::<Vec<_>>()}])
}

/// The calls of a document: a call by itself, a part, a content, a whole answer of the service, or a list of any.
/// Both spellings are accepted, `functionCall` and `function_call`.
///
/// # Errors
/// When a call has no name, or there are too many. A document without calls has none.
pub fn calls(document: &Value) -> Result<Vec<FunctionCall>, Error> {
    let mut found = Vec::new();
    gather(document, 0, &mut found)?;
    if found.len() > CALLS_MAX { Err(Error::TooMany(found.len())) } else { Ok(found) }
}

fn gather(document: &Value, depth: usize, found: &mut Vec<FunctionCall>) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    match document {
        Value::Array(items) => items.iter().try_for_each(|item| gather(item, depth + 1, found)),
        Value::Object(object) => {
            if let Some(call) = object.get("functionCall").or_else(|| object.get("function_call")) {
                found.push(read(call)?);
                return Ok(());
            }
            if object.contains_key("args") && object.contains_key("name") {
                found.push(read(document)?);
                return Ok(());
            }
            let inner = ["candidates", "content", "parts"].iter().filter_map(|key| object.get(*key));
            inner.into_iter().try_for_each(|value| gather(value, depth + 1, found))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn read(call: &Value) -> Result<FunctionCall, Error> {
    let mut read: FunctionCall =
        serde_json::from_value(call.clone()).map_err(|error| Error::NoCall(format!("{error}: {call}")))?;
    // The service leaves out the arguments of a call that has none.
    if read.args.is_null() {
        read.args = json!({});
    }
    Ok(read)
}

/// The part that goes back for a call.
pub fn part(response: &FunctionResponse) -> Value {
    json!({"functionResponse": response})
}

/// The parts of several calls as one content, in their order, as a request carries them.
pub fn content(responses: &[FunctionResponse]) -> Value {
    json!({"role": "user", "parts": responses.iter().map(part).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_wherever_the_service_puts_them() {
        let call = json!({"name": "read_file", "args": {"path": "a"}});
        for document in [
            call.clone(),
            json!({"functionCall": call}),
            json!({"function_call": call}),
            json!({"role": "model", "parts": [{"text": "I look."}, {"functionCall": call}]}),
            json!({"candidates": [{"content": {"role": "model", "parts": [{"functionCall": call}]}, "finishReason": "STOP"}]}),
            json!([{"functionCall": call}]),
        ] {
            let found = calls(&document).unwrap();
            assert_eq!(
                (found.len(), found[0].name.as_str(), &found[0].args["path"]),
                (1, "read_file", &json!("a"))
            );
        }
        let two = json!({"parts": [{"functionCall": {"name": "a"}}, {"functionCall": {"name": "b", "args": null}}]});
        let found = calls(&two).unwrap();
        assert_eq!(found.iter().map(|call| call.args.clone()).collect::<Vec<_>>(), [json!({}), json!({})]);
        assert!(calls(&json!({"parts": [{"text": "no"}]})).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_call_is_named() {
        let error = calls(&json!({"functionCall": {"args": {}}})).unwrap_err().to_string();
        assert!(error.contains("name"), "{error}");
        let many = json!({"parts": vec![json!({"functionCall": {"name": "a"}}); CALLS_MAX + 1]});
        assert_eq!(calls(&many), Err(Error::TooMany(CALLS_MAX + 1)));
    }

    #[test]
    fn what_goes_back_has_the_services_form() {
        let response = FunctionResponse { name: "a".parse().unwrap(), response: json!({"n": 1}) };
        let content = content(&[response]);
        assert_eq!(content["parts"][0]["functionResponse"], json!({"name": "a", "response": {"n": 1}}));
    }
}
