//! The file of a suite: TOML or JSON of its own form, or a result file of the REPL, whose questions are put again.

use evalfleet_proto::ids::{ImageRef, Sha256};
use evalfleet_recorder::history::BatchFile;
use globset::Glob;
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The most questions.
const QUESTIONS_MAX: usize = 10_000;
/// The largest file of questions, in bytes.
const FILE_MAX: u64 = 16 << 20;
/// The most files of a fixture, and the most bytes.
const FIXTURE_FILES_MAX: usize = 2000;
const FIXTURE_BYTES_MAX: u64 = 32 << 20;
/// Where a fixture lies in a VM.
const WORKSPACE: &str = "/workspace";

/// What is wrong with a suite.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no suite.
    #[error("{} is no suite: {what}", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Questions, and how they are put.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Its name; the file's when missing.
    #[serde(default)]
    pub name: String,
    /// What the model is told before each question.
    #[serde(default)]
    pub system: Option<String>,
    /// The image whose tools are offered, and in which they run; the configured one when missing.
    #[serde(default)]
    pub image: Option<ImageRef>,
    /// A folder, from the suite's own, that is laid into every call's workspace.
    #[serde(default)]
    pub fixture: Option<PathBuf>,
    /// The questions.
    pub questions: Vec<Question>,
    /// What the fixture holds.
    #[serde(skip)]
    pub files: Vec<FixtureFile>,
    /// What all this is known by: questions, what is told before them, the fixture.
    #[serde(skip)]
    pub digest: Option<Sha256>,
}

/// A question, and what a right answer does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its name within the suite.
    pub id: String,
    /// What is asked.
    pub question: String,
    /// The tools that must be called, and no others; in any order, each once or more.
    #[serde(default)]
    pub expected_tools: Vec<String>,
    /// Calls that must be among those made: the tool, and the arguments that are stated.
    #[serde(default)]
    pub calls: Vec<ExpectedCall>,
    /// Globs of the paths that must be changed by some call, and no others; anything may be when missing.
    #[serde(default)]
    pub effects: Option<Vec<String>>,
    /// A regular expression that the answer must fit.
    #[serde(default)]
    pub answer: Option<String>,
}

/// A call that must be made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedCall {
    /// The tool.
    pub tool: String,
    /// Arguments that it must have; others do not matter.
    #[serde(default)]
    pub args: Map<String, Value>,
}

/// A file that every call finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixtureFile {
    /// Where it lies in a VM.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

impl Suite {
    /// Reads a suite with its fixture.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let form = |what: String| Error::Form { path: path.to_owned(), what };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > FILE_MAX {
            return Err(form(format!("it has {bytes} bytes, and may have {FILE_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let is_toml = path.extension().is_some_and(|extension| extension == "toml");
        let mut suite = Self::parse(&text, is_toml).map_err(form)?;
        if suite.name.is_empty() {
            suite.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        if let Some(fixture) = &suite.fixture {
            let folder = path.parent().unwrap_or(Path::new(".")).join(fixture);
            suite.files = fixture_files(&folder)?;
        }
        let mut all = text.into_bytes();
        for file in &suite.files {
            all.extend_from_slice(file.path.as_bytes());
            all.extend_from_slice(Sha256::of(&file.content).to_string().as_bytes());
        }
        suite.digest = Some(Sha256::of(&all));
        suite.check().map_err(form)?;
        Ok(suite)
    }

    fn parse(text: &str, is_toml: bool) -> Result<Self, String> {
        if is_toml {
            return toml::from_str(text).map_err(|error| error.to_string());
        }
        let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if document.get("results").is_some() {
            let batch: BatchFile = serde_json::from_value(document).map_err(|error| error.to_string())?;
            return Ok(Self::again(batch));
        }
        serde_json::from_value(document).map_err(|error| error.to_string())
    }

    /// The questions of a result file.
    fn again(batch: BatchFile) -> Self {
        let question = |result: evalfleet_recorder::history::Question| Question {
            id: result.question_id,
            question: result.question,
            expected_tools: result.expected_tools,
            calls: Vec::new(),
            effects: None,
            answer: None,
        };
        let questions = batch.results.into_iter().map(question).collect();
        Self { name: batch.batch_id, questions, ..Self::default() }
    }

    fn check(&self) -> Result<(), String> {
        let count = self.questions.len();
        if count == 0 || count > QUESTIONS_MAX {
            return Err(format!("it has {count} questions, and must have 1 to {QUESTIONS_MAX}"));
        }
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if self.name.is_empty() || self.name.len() > 100 || !self.name.chars().all(plain) {
            return Err(format!("its name is {:?}: 1 to 100 letters, digits, - _ and .", self.name));
        }
        let mut ids = BTreeSet::new();
        for question in &self.questions {
            let id = &question.id;
            if id.is_empty() || !ids.insert(id) {
                return Err(format!("a question's id is {id:?}: each must have one of its own"));
            }
            for glob in question.effects.iter().flatten() {
                Glob::new(glob).map_err(|error| format!("question {id}: effects: {error}"))?;
            }
            if let Some(answer) = &question.answer {
                Regex::new(answer).map_err(|error| format!("question {id}: answer: {error}"))?;
            }
            if let Some(call) =
                question.calls.iter().find(|call| !question.expected_tools.contains(&call.tool))
            {
                return Err(format!(
                    "question {id}: a call of {} is wanted that expected_tools has not",
                    call.tool
                ));
            }
        }
        Ok(())
    }
}

/// Every file below `folder`, in order of their paths.
fn fixture_files(folder: &Path) -> Result<Vec<FixtureFile>, Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let form = |what: String| Error::Form { path: folder.to_owned(), what };
    let (mut files, mut bytes, mut left) = (Vec::new(), 0, vec![folder.to_owned()]);
    while let Some(next) = left.pop() {
        let read = |source| Error::Read { path: next.clone(), source };
        for entry in std::fs::read_dir(&next).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let known = std::fs::symlink_metadata(&path).map_err(read)?;
            if known.is_dir() {
                left.push(path);
                continue;
            }
            if !known.is_file() {
                return Err(form(format!("{} is neither file nor folder", path.display())));
            }
            bytes += known.len();
            if files.len() == FIXTURE_FILES_MAX || bytes > FIXTURE_BYTES_MAX {
                return Err(form(format!(
                    "a fixture may have {FIXTURE_FILES_MAX} files and {FIXTURE_BYTES_MAX} bytes, and this has more"
                )));
            }
            let inside = path.strip_prefix(folder).unwrap_or(&path).to_str();
            let inside = inside.ok_or_else(|| form(format!("{} is no UTF-8", path.display())))?;
            files.push(FixtureFile {
                path: format!("{WORKSPACE}/{inside}"),
                content: std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?,
                mode: known.permissions().mode() & 0o777,
            });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str, text: &str) -> Result<Suite, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("work/deep")).unwrap();
        std::fs::write(dir.path().join("work/deep/a"), "1").unwrap();
        std::fs::write(dir.path().join("work/b"), "2").unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Suite::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_suite_is_read_in_its_own_form_and_in_the_repls() {
        let text = "fixture = 'work'\n[[questions]]\nid = 'q1'\nquestion = 'Read b'\nexpected_tools = ['read_file']\n\
                    calls = [{tool = 'read_file', args = {path = 'b'}}]\neffects = []\nanswer = '2'\n";
        let suite = loaded("own.toml", text).unwrap();
        assert_eq!((suite.name.as_str(), suite.questions.len()), ("own", 1));
        let paths: Vec<&str> = suite.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["/workspace/b", "/workspace/deep/a"]);
        assert_ne!(loaded("own.toml", &text.replace("Read b", "Read it")).unwrap().digest, suite.digest);
        let results = r#"{"batch_id": "batch_001", "model": "m", "total_questions": 1, "successful": 0, "failed": 1, "success_rate": 0.0,
            "results": [{"question_id": "q1", "question": "?", "expected_tools": ["a"], "actual_tools": [], "success": false,
            "response_time_ms": 1, "error": null}]}"#;
        let suite = loaded("results_batch_001_1753935915.json", results).unwrap();
        assert_eq!(
            (suite.name.as_str(), suite.questions[0].expected_tools.as_slice()),
            ("batch_001", &["a".to_owned()][..])
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let question = "[[questions]]\nid = 'q1'\nquestion = '?'\n";
        for (text, says) in [
            (String::new(), "questions"),
            ("questions = []".to_owned(), "0 questions"),
            (format!("{question}{question}"), "of its own"),
            (format!("{question}efects = []"), "efects"),
            (format!("{question}effects = ['[']"), "effects"),
            (format!("{question}answer = '('"), "answer"),
            (format!("{question}calls = [{{tool = 'a'}}]"), "expected_tools has not"),
            (format!("fixture = 'nosuch'\n{question}"), "nosuch"),
            (format!("name = '../x'\n{question}"), "its name"),
        ] {
            let error = loaded("suite.toml", &text).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
    }
}
