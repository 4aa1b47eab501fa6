//! OpenAI's notation, of chat completions and of responses alike: tools out, calls in, messages back. Pure.

use super::{CALLS_MAX, Error};
use crate::registry::Tool;
use evalfleet_proto::job::FunctionCall;
use serde_json::{Value, json};

/// A call, with the id that its answer must bear.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The id that the model gave it.
    pub id: String,
    /// The call.
    pub call: FunctionCall,
}

/// The tools as a request's `tools` carries them.
pub fn tools<'t>(tools: impl Iterator<Item = &'t Tool>) -> Value {
    let tool = |tool: &Tool| json!({"type": "function", "function": tool.declaration()});
    Value::Array(tools.map(tool).collect())
}

/// The calls of a message, of a whole answer (`choices`, `output`), or of a list of calls.
///
/// # Errors
/// When a call has no id or name, its arguments are no JSON, or there are too many.
pub fn calls(document: &Value) -> Result<Vec<ToolCall>, Error> {
    let places = [
        document,
        &document["tool_calls"],
        &document["choices"][0]["message"]["tool_calls"],
        &document["output"],
    ];
    let list = places.into_iter().find_map(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_call = |item: &&Value| item["function"].is_object() || item["type"] == "function_call";
    let found = list.iter().filter(is_call).map(read).collect::<Result<Vec<_>, _>>()?;
    if found.len() > CALLS_MAX { Err(Error::TooMany(found.len())) } else { Ok(found) }
}

fn read(item: &Value) -> Result<ToolCall, Error> {
    let no_call = |why: String| Error::NoCall(format!("{why}: {item}"));
    // Responses have it flat, with a `call_id`.
    let (function, id) = if item["function"].is_object() {
        (&item["function"], &item["id"])
    } else {
        (item, &item["call_id"])
    };
    let id = id.as_str().ok_or_else(|| no_call("it has no id".to_owned()))?.to_owned();
    let name = function["name"].as_str().ok_or_else(|| no_call("it has no name".to_owned()))?;
    let name = name.parse().map_err(|error| no_call(format!("{error}")))?;
    let args = match &function["arguments"] {
        Value::String(text) if text.trim().is_empty() => json!({}),
        Value::String(text) => serde_json::from_str(text)
            .map_err(|error| no_call(format!("its arguments are no JSON ({error})")))?,
        Value::Null => json!({}),
        stated @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => stated.clone(),
    };
    Ok(ToolCall { id, call: FunctionCall { name, args } })
}

/// The message that goes back for a call.
pub fn message(id: &str, response: &Value) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": response.to_string()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_in_both_apis() {
        let call = json!({"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": "{\"path\": \"a\"}"}});
        let flat = json!({"type": "function_call", "call_id": "c1", "name": "read_file", "arguments": "{\"path\": \"a\"}"});
        for document in [
            json!({"role": "assistant", "tool_calls": [call]}),
            json!({"choices": [{"message": {"tool_calls": [call]}}]}),
            json!({"output": [{"type": "reasoning"}, flat]}),
            json!([call]),
        ] {
            let found = calls(&document).unwrap();
            assert_eq!(
                (found.len(), found[0].id.as_str(), &found[0].call.args["path"]),
                (1, "c1", &json!("a"))
            );
        }
        assert!(calls(&json!({"role": "assistant", "content": "no"})).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_call_is_named() {
        for (item, word) in [
            (json!({"function": {"name": "a"}}), "id"),
            (json!({"id": "c", "function": {}}), "name"),
            (json!({"id": "c", "function": {"name": "a", "arguments": "{"}}), "JSON"),
        ] {
            let error = calls(&json!([item])).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_answer_bears_its_calls_id() {
        let message = message("c1", &json!({"n": 1}));
        assert_eq!((&message["tool_call_id"], &message["content"]), (&json!("c1"), &json!("{\"n\":1}")));
    }
}
