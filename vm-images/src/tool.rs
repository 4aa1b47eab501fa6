//! A tool: a folder with `tool.toml` and `parameters.json`, the latter as in a Gemini function declaration.
//!
//! A tool's entry is run in the VM. What is here describes it: the client checks a call's arguments against it before
//! anything is enqueued, and an evaluation runs its cases.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest name that Gemini takes for a function.
const NAME_LENGTH_MAX: usize = 63;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("the tool in {path}: {what}")]
    Invalid { path: PathBuf, what: String },
}

/// Arguments that a tool's parameters do not admit: every reason, not the first.
#[derive(Debug, thiserror::Error)]
#[error("the arguments of `{tool}` do not fit its parameters: {}", .reasons.join("; "))]
pub struct ArgumentError {
    pub tool: String,
    pub reasons: Vec<String>,
}

/// Everything about a tool but its code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolSpec {
    pub name: String,
    /// For models and people.
    pub description: String,
    /// The command that runs it in the VM: arguments as JSON on its standard input, the answer on its standard output.
    pub entry: Vec<String>,
    /// The image that has it; an image's build says so for tools that several share.
    #[serde(default)]
    pub image: String,
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Globs of paths that it may change.
    #[serde(default)]
    pub expected_effects: Vec<String>,
    #[serde(default)]
    pub cases: Vec<Case>,
    /// The JSON Schema of its arguments; in `parameters.json`, not in `tool.toml`.
    #[serde(default)]
    pub parameters: Value,
}

/// Limits of a tool's calls where the caller sets none, spelled as on the command line (`30s`, `256M`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

impl Limits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A call whose answer is known. Each runs in a clean workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub args: Value,
    pub expect: Expect,
}

/// What a case's call must answer; at least one of the three.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// It succeeds, with exactly this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// It succeeds, with an object that has at least these members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub includes: Option<serde_json::Map<String, Value>>,
    /// It fails, with an error that contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Expect {
    /// Says how an answer differs from what was expected, if it does.
    pub fn check(&self, succeeded: bool, answer: &Value) -> Result<(), String> {
        if let Some(text) = &self.error {
            let said = answer.get("error").and_then(Value::as_str);
            return match said {
                Some(said) if !succeeded && said.contains(text) => Ok(()),
                _ => Err(format!("expected an error with `{text}`, got {answer}")),
            };
        }
        if !succeeded {
            return Err(format!("expected success, got {answer}"));
        }
        if let Some(value) = self.value.as_ref().filter(|value| !equal(value, answer)) {
            return Err(format!("expected {value}, got {answer}"));
        }
        for (key, value) in self.includes.iter().flatten() {
            if !answer.get(key).is_some_and(|found| equal(value, found)) {
                return Err(format!("expected `{key}` to be {value}, got {answer}"));
            }
        }
        Ok(())
    }
}

/// Equality of JSON, where 3 and 3.0 are one number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

impl ToolSpec {
    /// Reads and checks the tool in `folder`.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|source| Error::Read { path, source })
        };
        let mut tool: Self = toml::from_str(&read("tool.toml")?)
            .map_err(|source| Error::Toml { path: folder.join("tool.toml"), source: Box::new(source) })?;
        let invalid = |what: String| Error::Invalid { path: folder.to_owned(), what };
        if !tool.parameters.is_null() {
            return Err(invalid("the parameters belong in parameters.json".to_owned()));
        }
        tool.parameters = serde_json::from_str(&read("parameters.json")?)
            .map_err(|source| Error::Json { path: folder.join("parameters.json"), source })?;
        tool.validate().map_err(invalid)?;
        Ok(tool)
    }

    /// Reads the tools in the subfolders of `folder` that have a `tool.toml`, sorted by name.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>, Error> {
        let failed = |source| Error::Read { path: folder.to_owned(), source };
        let mut tools = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !entry.path().join("tool.toml").is_file() {
                continue;
            }
            let tool = Self::load(&entry.path())?;
            if entry.file_name() != tool.name.as_str() {
                let what = format!("its name is `{}`, unlike its folder's", tool.name);
                return Err(Error::Invalid { path: entry.path(), what });
            }
            tools.push(tool);
        }
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tools)
    }

    /// Checks what its types do not say. The message completes "the tool in …:".
    pub fn validate(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err(format!(
                "`{}` is no name for a function: a letter or underscore, then letters, digits, `_`, `.` and `-`, \
                 {NAME_LENGTH_MAX} at most",
                self.name
            ));
        }
        if self.description.trim().is_empty() {
            return Err("the description is empty; models choose tools by it".to_owned());
        }
        if self.entry.first().is_none_or(String::is_empty) {
            return Err("the entry is empty".to_owned());
        }
        if self.parameters.get("type").and_then(Value::as_str) != Some("object") {
            return Err("the parameters are not the schema of an object (`\"type\": \"object\"`)".to_owned());
        }
        jsonschema::validator_for(&self.parameters)
            .map_err(|error| format!("the parameters are no schema: {error}"))?;
        self.cases.iter().try_for_each(|case| self.validate_case(case))
    }

    fn validate_case(&self, case: &Case) -> Result<(), String> {
        let fault = |what: &str| Err(format!("case `{}` {what}", case.name));
        match &case.expect {
            Expect { value: None, includes: None, error: None } => fault("expects nothing"),
            Expect { error: Some(_), value, includes } if value.is_some() || includes.is_some() => {
                fault("expects both a success and an error")
            }
            _ => self.check_arguments(&case.args).map_err(|error| format!("case `{}`: {error}", case.name)),
        }
    }

    /// Checks the arguments of a call. Compiles the schema: one who checks many keeps a validator instead.
    pub fn check_arguments(&self, args: &Value) -> Result<(), ArgumentError> {
        let fault = |reasons| Err(ArgumentError { tool: self.name.clone(), reasons });
        let validator = match jsonschema::validator_for(&self.parameters) {
            Ok(validator) => validator,
            Err(error) => return fault(vec![format!("the parameters are no schema: {error}")]),
        };
        let reason = |error: jsonschema::ValidationError<'_>| match error.instance_path().to_string() {
            path if path.is_empty() => error.to_string(),
            path => format!("{path}: {error}"),
        };
        let reasons: Vec<_> = validator.iter_errors(args).map(reason).collect();
        if reasons.is_empty() { Ok(()) } else { fault(reasons) }
    }

    /// The tool as a Gemini function declaration.
    pub fn declaration(&self) -> Value {
        json!({"name": self.name, "description": self.description, "parameters": self.parameters})
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    let follows = |character: char| character.is_ascii_alphanumeric() || "_.-".contains(character);
    begins && characters.all(follows) && name.len() <= NAME_LENGTH_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool() -> ToolSpec {
        serde_json::from_value(json!({
            "name": "word_count", "description": "Counts.", "entry": ["wc"], "image": "base",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
            "cases": [{"name": "one", "args": {"text": "a"}, "expect": {"value": {"words": 1}}}],
        }))
        .unwrap()
    }

    #[test]
    fn a_sound_tool_passes_and_exports() {
        let tool = tool();
        tool.validate().unwrap();
        assert_eq!(tool.declaration()["parameters"]["required"], json!(["text"]));
        let written = serde_json::to_value(&tool).unwrap();
        assert_eq!(serde_json::from_value::<ToolSpec>(written).unwrap(), tool);
    }

    #[test]
    fn each_fault_is_named() {
        type Spoil = fn(&mut ToolSpec);
        let faults: [(&str, Spoil); 8] = [
            ("no name for a function", |tool| tool.name = "a b".to_owned()),
            ("no name for a function", |tool| tool.name = "a".repeat(64)),
            ("description is empty", |tool| tool.description = " ".to_owned()),
            ("entry is empty", |tool| tool.entry.clear()),
            ("not the schema of an object", |tool| tool.parameters = json!([])),
            ("are no schema", |tool| tool.parameters = json!({"type": "object", "properties": 3})),
            ("case `one`: the arguments of `word_count`", |tool| tool.cases[0].args = json!({"text": 3})),
            ("case `one` expects nothing", |tool| tool.cases[0].expect = Expect::default()),
        ];
        for (message, spoil) in faults {
            let mut tool = tool();
            spoil(&mut tool);
            let fault = tool.validate().unwrap_err();
            assert!(fault.contains(message), "{fault}");
        }
    }

    #[test]
    fn all_faults_of_arguments_are_told() {
        let mut tool = tool();
        tool.parameters["required"] = json!(["text", "other"]);
        let error = tool.check_arguments(&json!({"text": 3})).unwrap_err();
        assert_eq!(error.reasons.len(), 2);
        assert!(error.to_string().contains("/text: 3 is not of type \"string\""), "{error}");
    }

    #[test]
    fn expectations_tell_success_from_failure() {
        let expect = |json: Value| serde_json::from_value::<Expect>(json).unwrap();
        assert!(expect(json!({"value": {"n": 3}})).check(true, &json!({"n": 3.0})).is_ok());
        assert!(expect(json!({"value": {"n": 3}})).check(true, &json!({"n": 3, "m": 1})).is_err());
        assert!(expect(json!({"includes": {"n": 3}})).check(true, &json!({"n": 3, "m": 1})).is_ok());
        assert!(expect(json!({"includes": {"n": 3}})).check(false, &json!({"n": 3})).is_err());
        assert!(expect(json!({"error": "gone"})).check(false, &json!({"error": "it is gone"})).is_ok());
        assert!(expect(json!({"error": "gone"})).check(true, &json!({"error": "it is gone"})).is_err());
    }
}
