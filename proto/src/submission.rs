//! A job as people write it: one JSON document, checked until it can be enqueued.
//!
//! Unknown keys are errors that name the key, and every error says what would do. What the client adds
//! (id, time, attempt) is not the caller's to set.

use crate::ids::{BatchId, ImageRef, JobId, Lane, ToolName};
use crate::job::{
    Command, Content, FileIn, FunctionCall, INLINE_BYTES_MAX, INPUT_BYTES_MAX, Job, LimitError, Limits,
    Network, Task, ordinary_mode, workspace,
};
use crate::network::DESTINATIONS_MAX;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A job as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Submission {
    /// `command` or `function_call`.
    pub kind: Kind,
    /// For a command: the program and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// For a command: what it reads on standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// For a command: its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// For a command: where it starts; `/workspace` when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// For a command: the guest's user; root when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// For a function call: the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolName>,
    /// For a function call: its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<serde_json::Value>,
    /// Files to lay into the VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SubmittedFile>,
    /// Guest paths to keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub out: Vec<String>,
    /// The image; the configured default when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// The image's scenario.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// What it may reach.
    #[serde(default)]
    pub network: Network,
    /// 0 to 9.
    #[serde(default)]
    pub priority: u8,
    /// Whether it overtakes the others: the lane `urgent`.
    #[serde(default)]
    pub urgent: bool,
    /// The lane: jobs of one image or one need may have workers of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Not to be started after this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub deadline: Option<Timestamp>,
    /// The same key, the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The batch it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchId>,
    /// Globs of the paths that it is meant to change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_effects: Vec<String>,
    /// What it belongs to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Kind {
    /// Run a program.
    Command,
    /// Call a tool.
    FunctionCall,
}

/// A file to lay into the VM, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SubmittedFile {
    /// Its absolute path in the guest.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// Its permission bits.
    #[serde(default = "ordinary_mode")]
    pub mode: u32,
}

/// Why a document is not a job. Every one is the caller's to mend: exit code 4.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// It is not JSON, or has a key that does not exist, or a value of the wrong form.
    #[error("not a job: {0}")]
    Json(String),
    /// A key that its kind needs is missing.
    #[error("a {kind} needs {key:?}")]
    Missing {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A key that its kind has no use for.
    #[error("a {kind} has no {key:?}")]
    Foreign {
        /// The kind.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// A value out of its bounds.
    #[error("{key} {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong with it, and what would do.
        problem: String,
    },
    /// A limit that cannot be kept.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// What the client knows that the caller need not say.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The image of jobs that name none.
    pub image: ImageRef,
    /// The time.
    pub now: Timestamp,
}

impl Submission {
    /// Reads one JSON document.
    ///
    /// # Errors
    /// Names the key or the position that is wrong.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        serde_json::from_str(text).map_err(|error| Error::Json(error.to_string()))
    }

    /// A command with nothing but its arguments.
    pub fn command(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::empty(Kind::Command) }
    }

    /// A call of a tool with nothing but its arguments.
    pub fn function_call(call: FunctionCall) -> Self {
        Self { tool: Some(call.name), args: Some(call.args), ..Self::empty(Kind::FunctionCall) }
    }

    fn empty(kind: Kind) -> Self {
        Self {
            kind,
            argv: Vec::new(),
            stdin: None,
            env: BTreeMap::new(),
            cwd: None,
            user: None,
            tool: None,
            args: None,
            files: Vec::new(),
            out: Vec::new(),
            image: None,
            scenario: None,
            limits: Limits::default(),
            network: Network::default(),
            priority: 0,
            urgent: false,
            lane: None,
            deadline: None,
            key: None,
            batch: None,
            expected_effects: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Checks the document and makes it a job, with a fresh id or the one its key stands for.
    ///
    /// # Errors
    /// Names the first thing that cannot be, and what would do.
    pub fn into_job(self, defaults: &Defaults) -> Result<Job, Error> {
        self.check_values()?;
        let id = self.key.as_deref().map_or_else(JobId::fresh, JobId::from_key);
        let lane = match (self.urgent, &self.lane) {
            (true, Some(lane)) if *lane != Lane::urgent() => {
                let problem =
                    format!("is {lane}, and urgent jobs have the lane urgent: leave one of them out");
                return Err(Error::Value { key: "lane", problem });
            }
            (true, _) => Lane::urgent(),
            (false, Some(lane)) => lane.clone(),
            (false, None) => Lane::default_lane(),
        };
        let files = self.files.iter().map(SubmittedFile::to_wire).collect();
        Ok(Job {
            schema: crate::SCHEMA_VERSION,
            id,
            task: self.task()?,
            batch: self.batch,
            image: self.image.unwrap_or_else(|| defaults.image.clone()),
            scenario: self.scenario,
            limits: self.limits,
            network: self.network,
            priority: self.priority,
            lane,
            deadline: self.deadline,
            files,
            out: self.out,
            expected_effects: self.expected_effects,
            labels: self.labels,
            replay_of: None,
            submitted: defaults.now,
            attempts: Vec::new(),
        })
    }

    fn task(&self) -> Result<Task, Error> {
        match self.kind {
            Kind::Command => self.command_task(),
            Kind::FunctionCall => self.call_task(),
        }
    }

    fn command_task(&self) -> Result<Task, Error> {
        let kind = "command";
        if self.argv.is_empty() {
            return Err(Error::Missing { kind, key: "argv" });
        }
        for (given, key) in [(self.tool.is_some(), "tool"), (self.args.is_some(), "args")] {
            if given {
                return Err(Error::Foreign { kind, key });
            }
        }
        Ok(Task::Command(Command {
            argv: self.argv.clone(),
            stdin: self.stdin.clone().map(|text| Content::Inline(text.into_bytes())),
            env: self.env.clone(),
            cwd: self.cwd.clone().unwrap_or_else(workspace),
            user: self.user.clone(),
        }))
    }

    fn call_task(&self) -> Result<Task, Error> {
        let kind = "function_call";
        let foreign = [
            (!self.argv.is_empty(), "argv"),
            (self.stdin.is_some(), "stdin"),
            (!self.env.is_empty(), "env"),
            (self.cwd.is_some(), "cwd"),
            (self.user.is_some(), "user"),
        ];
        if let Some((_, key)) = foreign.into_iter().find(|(given, _)| *given) {
            return Err(Error::Foreign { kind, key });
        }
        let name = self.tool.clone().ok_or(Error::Missing { kind, key: "tool" })?;
        let args = self.args.clone().unwrap_or_else(|| serde_json::json!({}));
        if !args.is_object() {
            return Err(Error::Value { key: "args", problem: "must be a JSON object".to_owned() });
        }
        Ok(Task::FunctionCall(FunctionCall { name, args }))
    }

    fn check_values(&self) -> Result<(), Error> {
        self.limits.check()?;
        let value = |key, problem: String| Err(Error::Value { key, problem });
        let destinations = self.network.destinations().len();
        if destinations > DESTINATIONS_MAX || (destinations == 0 && self.network != Network::None) {
            return value(
                "network",
                format!("allows {destinations} destinations, and may allow 1 to {DESTINATIONS_MAX}"),
            );
        }
        if self.priority > 9 {
            return value("priority", format!("is {}, and must be between 0 and 9", self.priority));
        }
        for path in self.files.iter().map(|file| &file.path).chain(&self.out).chain(&self.cwd) {
            if !path.starts_with('/') || path.contains('\0') {
                return value("path", format!("{path:?} must be absolute, such as /workspace/a"));
            }
        }
        if self.argv.iter().chain(self.env.keys()).chain(self.env.values()).any(|text| text.contains('\0')) {
            return value("argv", "and env must not contain a NUL character".to_owned());
        }
        if self.key.as_ref().is_some_and(|key| key.is_empty() || key.len() > 256) {
            return value("key", "must have 1 to 256 characters".to_owned());
        }
        let arguments = self.args.as_ref().map_or(0, |args| args.to_string().len());
        if arguments > INLINE_BYTES_MAX {
            return value(
                "args",
                format!("has {arguments} bytes, and may have {INLINE_BYTES_MAX}: pass a file instead"),
            );
        }
        let input = self.files.iter().map(|file| file.text.len()).sum::<usize>()
            + self.stdin.as_ref().map_or(0, String::len);
        if input > INPUT_BYTES_MAX {
            return value(
                "files",
                format!("and stdin have {input} bytes together, and may have {INPUT_BYTES_MAX}"),
            );
        }
        Ok(())
    }
}

impl SubmittedFile {
    fn to_wire(&self) -> FileIn {
        FileIn {
            path: self.path.clone(),
            mode: self.mode & 0o7777,
            content: Content::Inline(self.text.clone().into_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults { image: "base".parse().unwrap(), now: Timestamp::UNIX_EPOCH }
    }

    fn job(text: &str) -> Result<Job, Error> {
        Submission::from_json(text)?.into_job(&defaults())
    }

    fn complaint(text: &str) -> String {
        job(text).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_jobs_need_only_their_kind_and_what_it_needs() {
        let command = job(r#"{"kind": "command", "argv": ["true"]}"#).unwrap();
        assert_eq!((command.task.kind(), command.image.to_string()), ("command", "base".to_owned()));
        let call =
            job(r#"{"kind": "function_call", "tool": "word_count", "args": {"text": "a b c"}}"#).unwrap();
        assert_eq!(call.task.kind(), "function_call");
        assert_eq!(call.attempt(), 1);
    }

    #[test]
    fn the_full_document_of_a_command_is_accepted() {
        let text = r#"{"kind": "command", "argv": ["sh", "-c", "echo hi"], "stdin": null, "env": {}, "cwd": "/workspace",
            "user": null, "files": [], "image": "base", "scenario": null,
            "limits": {"wall": "30s", "cpu": "10s", "memory": "256M", "processes": 64, "disk": "256M", "output": "1M"},
            "network": "none", "priority": 0, "urgent": false, "deadline": null, "key": null,
            "expected_effects": ["/workspace/**"],
            "labels": {"suite": "s", "case": "c", "run": "r", "model": "gemini-2.0-flash-exp"}}"#;
        let job = job(text).unwrap();
        assert_eq!(job.limits.cpu.as_secs(), 10);
        assert_eq!(job.labels["model"], "gemini-2.0-flash-exp");
    }

    #[test]
    fn a_lane_is_named_or_meant() {
        let lane = |more: &str| {
            job(&format!(r#"{{"kind": "command", "argv": ["x"]{more}}}"#)).map(|job| job.lane.to_string())
        };
        assert_eq!(lane(""), Ok("default".to_owned()));
        assert_eq!(lane(r#", "urgent": true"#), Ok("urgent".to_owned()));
        assert_eq!(lane(r#", "lane": "gpu""#), Ok("gpu".to_owned()));
        assert_eq!(lane(r#", "lane": "urgent", "urgent": true"#), Ok("urgent".to_owned()));
        assert!(lane(r#", "lane": "gpu", "urgent": true"#).unwrap_err().to_string().contains("leave one"));
        assert!(lane(r#", "lane": "a b""#).is_err());
    }

    #[test]
    fn a_job_may_list_what_it_wants_to_reach() {
        let text =
            r#"{"kind": "command", "argv": ["x"], "network": {"allow": ["pypi.org:443", "10.0.0.5:5432"]}}"#;
        let job = job(text).unwrap();
        let listed: Vec<String> = job.network.destinations().iter().map(ToString::to_string).collect();
        assert_eq!(listed, ["pypi.org:443", "10.0.0.5:5432"]);
    }

    #[test]
    fn every_complaint_names_what_is_wrong() {
        for (text, names) in [
            ("{", "EOF"),
            (r#"{"kind": "command", "argv": ["x"], "colour": 1}"#, "colour"),
            (r#"{"kind": "dance"}"#, "dance"),
            (r#"{"kind": "command"}"#, "argv"),
            (r#"{"kind": "function_call"}"#, "tool"),
            (r#"{"kind": "function_call", "tool": "x", "argv": ["x"]}"#, "argv"),
            (r#"{"kind": "function_call", "tool": "x", "args": [1]}"#, "object"),
            (r#"{"kind": "command", "argv": ["x"], "priority": 10}"#, "priority"),
            (r#"{"kind": "command", "argv": ["x"], "cwd": "here"}"#, "absolute"),
            (r#"{"kind": "command", "argv": ["x"], "limits": {"wall": "0s"}}"#, "wall"),
            (r#"{"kind": "command", "argv": ["x"], "limits": {"memory": "1K"}}"#, "memory"),
            (r#"{"kind": "command", "argv": ["x"], "limits": {"memory": "lots"}}"#, "lots"),
            (r#"{"kind": "command", "argv": ["x"], "limits": {"fuel": 1}}"#, "fuel"),
            (r#"{"kind": "command", "argv": ["x"], "image": "a b"}"#, "image name"),
            (r#"{"kind": "command", "argv": ["x"], "id": "mine"}"#, "id"),
            (r#"{"kind": "command", "argv": ["x"], "network": "all"}"#, "all"),
            (r#"{"kind": "command", "argv": ["x"], "network": {"allow": []}}"#, "network"),
            (r#"{"kind": "command", "argv": ["x"], "network": {"allow": ["a:99999"]}}"#, "a:99999"),
        ] {
            assert!(complaint(text).contains(names), "{text}: {:?} does not name {names:?}", complaint(text));
        }
    }

    #[test]
    fn inputs_may_be_large_and_arguments_may_not() {
        let call = |length: usize| {
            let args = serde_json::json!({ "text": "x".repeat(length) });
            Submission::function_call(FunctionCall { name: "word_count".parse().unwrap(), args })
                .into_job(&defaults())
        };
        assert!(call(INLINE_BYTES_MAX - 100).is_ok());
        assert!(call(INLINE_BYTES_MAX).unwrap_err().to_string().starts_with("args has"));
        let run = |length: usize| {
            let mut submission = Submission::command(["cat"]);
            submission.stdin = Some("x".repeat(length));
            submission.into_job(&defaults())
        };
        assert!(run(INPUT_BYTES_MAX).is_ok());
        assert!(run(INPUT_BYTES_MAX + 1).unwrap_err().to_string().contains("files and stdin have"));
    }

    #[test]
    fn the_same_key_is_the_same_job() {
        let text = r#"{"kind": "command", "argv": ["true"], "key": "nightly-7"}"#;
        assert_eq!(job(text).unwrap().id, job(text).unwrap().id);
    }
}
