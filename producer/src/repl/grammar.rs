//! What a call looks like: `tool(1, path="a")` or `tool {"path": "a"}`. Pure: text in, call out, and back.

use super::literal::{Scanner, SyntaxError, is_name};
use crate::registry::Tool;
use evalfleet_proto::ids::ToolName;
use serde_json::{Map, Value};
use std::fmt;

/// A call as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) tool: ToolName,
    /// In their order: they stand for the required parameters.
    pub(super) positional: Vec<Value>,
    pub(super) named: Map<String, Value>,
}

/// Whether `text` is meant as a call: a name with `(` at once, or with `{`.
pub(super) fn is_call(text: &str) -> bool {
    let rest = text.trim_start_matches(in_tool_name);
    rest.len() < text.len() && (rest.starts_with('(') || rest.trim_start().starts_with('{'))
}

/// The name that `text` begins with.
pub(super) fn name_of(text: &str) -> &str {
    Scanner::new(text).word(in_tool_name)
}

fn in_tool_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

/// Reads a call.
///
/// # Errors
/// Says what is wrong, and where in `text`.
pub(super) fn parse(text: &str) -> Result<Call, SyntaxError> {
    let mut scanner = Scanner::new(text);
    let begin = scanner.clone();
    let tool = scanner.word(in_tool_name).parse::<ToolName>();
    let tool = tool.map_err(|error| begin.error(error.to_string()))?;
    let (mut positional, mut named) = (Vec::new(), Map::new());
    scanner.space();
    if scanner.peek() == Some('{') {
        named = scanner.object(0)?;
    } else if scanner.takes('(') {
        while !scanner.takes(')') {
            argument(&mut scanner, &mut positional, &mut named)?;
            if !scanner.takes(',') {
                scanner.closed_by(')')?;
                break;
            }
        }
    } else {
        return Err(scanner.error(format!("`(` or `{{` is missing before {}", scanner.found())));
    }
    scanner.space();
    match scanner.peek() {
        None => Ok(Call { tool, positional, named }),
        Some(_) => Err(scanner.error(format!("the call ends before {}", scanner.found()))),
    }
}

fn argument(
    scanner: &mut Scanner<'_>,
    positional: &mut Vec<Value>,
    named: &mut Map<String, Value>,
) -> Result<(), SyntaxError> {
    scanner.space();
    let begin = scanner.clone();
    if let Some(name) = parameter(scanner) {
        let value = scanner.value()?;
        if named.contains_key(&name) {
            return Err(begin.error(format!("{name} is given twice")));
        }
        named.insert(name, value);
        return Ok(());
    }
    *scanner = begin.clone();
    let value = scanner.value()?;
    if !named.is_empty() {
        return Err(begin.error("what has no name comes before what has one"));
    }
    positional.push(value);
    Ok(())
}

/// `name=`, or `"name"=`; with a colon as well. None where a value begins.
fn parameter(scanner: &mut Scanner<'_>) -> Option<String> {
    let name = match scanner.peek()? {
        '"' | '\'' => scanner.string().ok()?,
        letter if is_name(letter) => scanner.word(is_name).to_owned(),
        _ => return None,
    };
    (scanner.takes('=') || scanner.takes(':')).then_some(name)
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |name: &str| !name.is_empty() && name.chars().all(is_name);
        let name =
            |name: &String| if plain(name) { name.clone() } else { Value::from(name.as_str()).to_string() };
        let named = self.named.iter().map(|(key, value)| format!("{}={value}", name(key)));
        let all: Vec<_> = self.positional.iter().map(Value::to_string).chain(named).collect();
        write!(f, "{}({})", self.tool, all.join(", "))
    }
}

impl Call {
    /// The arguments by name. What has none takes the names of the required parameters, in the schema's order;
    /// one object alone is all of them, as in JavaScript.
    ///
    /// # Errors
    /// Says how many there may be, and which.
    pub(super) fn arguments(&self, tool: Option<&Tool>) -> Result<Value, String> {
        let mut all = self.named.clone();
        let Some(tool) = tool else {
            return match self.positional.as_slice() {
                [] => Ok(Value::Object(all)),
                [Value::Object(object)] if all.is_empty() => Ok(Value::Object(object.clone())),
                _ => Err(format!("the parameters of {} are not known here: name its arguments", self.tool)),
            };
        };
        let required = required(tool);
        if let ([Value::Object(object)], true) = (self.positional.as_slice(), all.is_empty())
            && required.first().is_none_or(|first| !takes_object(tool, first))
        {
            return Ok(Value::Object(object.clone()));
        }
        if self.positional.len() > required.len() {
            return Err(format!(
                "{} takes {} arguments without a name ({}), and {} are given: name the others",
                self.tool,
                required.len(),
                required.join(", "),
                self.positional.len()
            ));
        }
        for (name, value) in required.into_iter().zip(&self.positional) {
            if all.insert(name.to_owned(), value.clone()).is_some() {
                return Err(format!("{name} of {} is given twice: by its place and by its name", self.tool));
            }
        }
        Ok(Value::Object(all))
    }
}

/// The required parameters, in the schema's order.
fn required(tool: &Tool) -> Vec<&str> {
    let names = tool.parameters.get("required").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).collect()
}

fn takes_object(tool: &Tool, parameter: &str) -> bool {
    tool.parameters["properties"][parameter]["type"] == "object"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn tool() -> Tool {
        serde_json::from_value(json!({"name": "write_file", "description": "", "parameters": {"type": "object",
            "properties": {"content": {"type": "string"}, "path": {"type": "string"}, "create_dirs": {"type": "boolean"}},
            "required": ["path", "content"]}}))
        .unwrap()
    }

    fn arguments(text: &str) -> Result<Value, String> {
        parse(text).map_err(|error| error.to_string())?.arguments(Some(&tool()))
    }

    #[test]
    fn a_call_is_told_from_a_command() {
        for text in ["f()", "a-b.c(1)", "f {}", "f{\"a\": 1}", "f(\n"] {
            assert!(is_call(text), "{text}");
        }
        for text in ["", "run (", "(f)", "run -- echo {}", "list", "{}"] {
            assert!(!is_call(text), "{text}");
        }
    }

    #[test]
    fn arguments_have_names_or_places() {
        let expected = json!({"path": "a", "content": "b"});
        for text in [
            r#"write_file("a", "b")"#,
            r#"write_file('a', content='b')"#,
            r#"write_file(content: "b", path: "a",)"#,
            r#"write_file({path: "a", content: "b"})"#,
            r#"write_file {"content": "b", "path": "a"}"#,
            "write_file(\n  \"a\",\n  \"b\"\n)",
        ] {
            let arguments = arguments(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(arguments, expected, "{text}");
        }
        assert_eq!(arguments("write_file()"), Ok(json!({})));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let long = format!("{}()", "f".repeat(65));
        for (text, expected) in [
            ("f(", "column 3: a value is missing before the end"),
            ("f(path=)", "column 8: a value is missing before `)`"),
            ("f(a=1 b=2)", "column 7: `,` or `)` is missing before `b`"),
            ("f(a=1, 2)", "column 8: what has no name comes before what has one"),
            ("f(a=1, a=2)", "column 8: a is given twice"),
            ("f(README.md)", "column 3: README is no value; a text stands in quotes"),
            ("f() g()", "column 5: the call ends before `g`"),
            ("f(\"a)", "column 3: the quote that begins here is not closed"),
            ("f", "column 2: `(` or `{` is missing before the end"),
            (&long, "column 1: "),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(
            arguments("write_file(1, 2, 3)")
                .unwrap_err()
                .contains("takes 2 arguments without a name (path, content)")
        );
        assert!(
            arguments("write_file(1, path=2)").unwrap_err().contains("path of write_file is given twice")
        );
        let unknown = parse("f(1)").unwrap().arguments(None).unwrap_err();
        assert!(unknown.contains("name its arguments"), "{unknown}");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            name in "[A-Za-z0-9_.-]{1,64}",
            positional in proptest::collection::vec(values(), 0..4),
            named in proptest::collection::btree_map(any::<String>(), values(), 0..4),
        ) {
            let Ok(tool) = name.parse() else { return Ok(()) };
            let call = Call { tool, positional, named: named.into_iter().collect() };
            let text = call.to_string();
            prop_assert!(is_call(&text), "{text}");
            prop_assert_eq!(parse(&text), Ok(call.clone()), "{}", text);
            if call.positional.is_empty() {
                let json = format!("{} {}", call.tool, Value::Object(call.named.clone()));
                prop_assert_eq!(parse(&json), Ok(call), "{}", json);
            }
        }

        #[test]
        fn whatever_is_typed_is_answered(text in any::<String>(), like in r#"f[({][ \na-c"'\\:=,0-9{}()\[\].u-]{0,40}"#) {
            for text in [text, like] {
                if let Err(error) = parse(&text) {
                    let line = text.split('\n').nth(error.line - 1);
                    prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{error}: {text}");
                }
            }
        }
    }
}
