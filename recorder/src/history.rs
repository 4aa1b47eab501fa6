//! The result files of the Gemini REPL: batches of questions that were put to a model. Pure.
//!
//! A file says how many of its questions succeeded, and counts what went wrong at the service (HTTP
//! 429, an answer that does not parse) against the model. Both rates are kept: the one reported, and
//! the one of the questions that were really put to the test.

use evalfleet_proto::Timestamp;
use evalfleet_proto::status::Cause;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most questions of one file.
const QUESTIONS_MAX: usize = 10_000;

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchFile {
    /// What the REPL called it; several files may have the same.
    pub batch_id: String,
    /// The model that was asked.
    pub model: String,
    /// How many questions.
    pub total_questions: u64,
    /// How many succeeded.
    pub successful: u64,
    /// How many did not.
    pub failed: u64,
    /// The share that succeeded.
    pub success_rate: f64,
    /// The questions.
    pub results: Vec<Question>,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its number within the batch.
    pub question_id: String,
    /// What was asked.
    pub question: String,
    /// The tools that it should have led to.
    pub expected_tools: Vec<String>,
    /// The tools that were called.
    pub actual_tools: Vec<String>,
    /// Whether it counts as answered.
    pub success: bool,
    /// How long that took.
    pub response_time_ms: u64,
    /// What went wrong.
    pub error: Option<String>,
    /// Whose doing that was, where whoever put the question knows: the REPL does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// A batch as it goes into the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// `<batch_id>-<unix seconds>`: batches of one name are told apart by their time.
    pub id: String,
    /// When it was run.
    pub at: Timestamp,
    /// What the file says.
    pub file: BatchFile,
    /// The share of success among the questions that were put to the test; none if no question was.
    pub adjusted_rate: Option<f64>,
    /// What each called function came to.
    pub functions: BTreeMap<String, Tally>,
}

/// Calls of one function in one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Questions that called it.
    pub calls: u64,
    /// Those of them that succeeded.
    pub successes: u64,
}

impl Tally {
    /// The share of success.
    pub fn rate(self) -> f64 {
        self.successes as f64 / self.calls as f64
    }
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not a batch.
    #[error("{name} is no result file of the REPL: {source}")]
    Json {
        /// The file.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// Its name does not tell its time.
    #[error("{0} does not tell when it was run: its name must end in _<unix seconds>.json")]
    NoTime(String),
    /// Its numbers contradict each other.
    #[error("{name} contradicts itself: {what}")]
    Contradiction {
        /// The file.
        name: String,
        /// How.
        what: String,
    },
}

impl Question {
    /// Whose doing it is that the question failed; none for one that succeeded.
    ///
    /// The REPL writes an error where the service or its own reading of the answer failed, and none where the model
    /// called the wrong functions. A service that is overloaded, broken or silent is infrastructure; an answer that
    /// does not parse, or a request that the service finds wrong, is the harness's.
    pub fn cause(&self) -> Option<Cause> {
        if self.success {
            return None;
        }
        if self.cause.is_some() {
            return self.cause;
        }
        let Some(error) = &self.error else { return Some(Cause::Subject) };
        let error = error.to_ascii_lowercase();
        match status(&error) {
            Some(429 | 408 | 500..=599) => return Some(Cause::Infrastructure),
            Some(400..=499) => return Some(Cause::Harness),
            Some(_) | None => {}
        }
        let unreadable = ["parse", "deserializ", "missing field", "invalid json", "expected value"];
        let is_unreadable = unreadable.iter().any(|word| error.contains(word));
        Some(if is_unreadable { Cause::Harness } else { Cause::Infrastructure })
    }

    /// Whether the model was put to the test at all.
    pub fn is_tested(&self) -> bool {
        matches!(self.cause(), None | Some(Cause::Subject | Cause::Budget))
    }
}

/// The HTTP status that an error names.
fn status(error: &str) -> Option<u16> {
    let (_, rest) = error.split_once("status ").or_else(|| error.split_once("http "))?;
    let rest = rest.trim_start_matches("code ").trim_start_matches(|letter: char| !letter.is_ascii_digit());
    rest.get(..3)?.parse().ok()
}

/// Reads one file; `name` is its file name, which tells when it was run.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn parse(name: &str, text: &str) -> Result<Imported, Error> {
    let file: BatchFile =
        serde_json::from_str(text).map_err(|source| Error::Json { name: name.to_owned(), source })?;
    check(&file).map_err(|what| Error::Contradiction { name: name.to_owned(), what })?;
    let at = time_of(name).ok_or_else(|| Error::NoTime(name.to_owned()))?;
    let tested: Vec<&Question> = file.results.iter().filter(|question| question.is_tested()).collect();
    let passed = tested.iter().filter(|question| question.success).count();
    let adjusted_rate = (!tested.is_empty()).then(|| passed as f64 / tested.len() as f64);
    let functions = functions(&file.results);
    Ok(Imported { id: format!("{}-{}", file.batch_id, at.as_second()), at, file, adjusted_rate, functions })
}

fn check(file: &BatchFile) -> Result<(), String> {
    if file.results.len() > QUESTIONS_MAX {
        return Err(format!("it has {} questions, and may have {QUESTIONS_MAX}", file.results.len()));
    }
    if file.results.len() as u64 != file.total_questions {
        return Err(format!(
            "{} questions, and total_questions is {}",
            file.results.len(),
            file.total_questions
        ));
    }
    let passed = file.results.iter().filter(|question| question.success).count() as u64;
    if passed != file.successful || file.total_questions - passed != file.failed {
        return Err(format!("{passed} questions succeeded, and successful is {}", file.successful));
    }
    if !(0.0..=1.0).contains(&file.success_rate) {
        return Err(format!("success_rate is {}", file.success_rate));
    }
    Ok(())
}

/// Each function counts once for a question that called it, however often.
pub fn functions(questions: &[Question]) -> BTreeMap<String, Tally> {
    let mut functions: BTreeMap<String, Tally> = BTreeMap::new();
    for question in questions {
        let mut called = question.actual_tools.clone();
        called.sort();
        called.dedup();
        for name in called {
            let tally = functions.entry(name).or_default();
            tally.calls += 1;
            tally.successes += u64::from(question.success);
        }
    }
    functions
}

fn time_of(name: &str) -> Option<Timestamp> {
    let stem = name.strip_suffix(".json")?;
    let seconds = stem.rsplit('_').next()?.parse().ok()?;
    Timestamp::from_second(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "results_batch_007_1753939654.json";

    fn file(questions: &[(&[&str], bool, Option<&str>)]) -> String {
        let results: Vec<_> = questions
            .iter()
            .enumerate()
            .map(|(number, (tools, success, error))| {
                serde_json::json!({"question_id": format!("q{number}"), "question": "?", "expected_tools": [], "actual_tools": tools,
                    "success": success, "response_time_ms": 5, "error": error})
            })
            .collect();
        let successful = questions.iter().filter(|(_, success, _)| *success).count();
        serde_json::json!({"batch_id": "batch_007", "model": "m", "total_questions": questions.len(), "successful": successful,
            "failed": questions.len() - successful, "success_rate": successful as f64 / questions.len() as f64, "results": results})
        .to_string()
    }

    #[test]
    fn what_the_service_did_wrong_is_not_the_models_failure() {
        let text = file(&[
            (&["read_file"], true, None),
            (&[], false, None),
            (&[], false, Some("HTTP 429")),
            (&[], false, Some("HTTP 429")),
        ]);
        let batch = parse(NAME, &text).unwrap();
        assert_eq!((batch.file.success_rate, batch.adjusted_rate), (0.25, Some(0.5)));
        assert_eq!((batch.id.as_str(), batch.at.as_second()), ("batch_007-1753939654", 1_753_939_654));
    }

    #[test]
    fn whose_doing_an_error_is() {
        let cause = |success, error: Option<&str>| {
            let text = file(&[(&[], success, error)]);
            parse(NAME, &text).unwrap().file.results[0].cause()
        };
        for (error, whose) in [
            (
                "API request failed with status 429 Too Many Requests: {\n  \"error\": {",
                Cause::Infrastructure,
            ),
            ("API request failed with status 503 Service Unavailable", Cause::Infrastructure),
            ("error sending request: operation timed out", Cause::Infrastructure),
            ("HTTP 429", Cause::Infrastructure),
            ("", Cause::Infrastructure),
            ("API request failed with status 400 Bad Request: malformed tool", Cause::Harness),
            ("Failed to parse response: missing field `parts` at line 4 column 19 - Body: {", Cause::Harness),
        ] {
            assert_eq!(cause(false, Some(error)), Some(whose), "{error}");
        }
        assert_eq!((cause(false, None), cause(true, None)), (Some(Cause::Subject), None));
        let text = file(&[(&[], false, Some("no answer within 3 turns"))]);
        let text = text.replace("\"error\":", "\"cause\":\"budget\",\"error\":");
        let question = parse(NAME, &text).unwrap().file.results.remove(0);
        assert_eq!((question.cause(), question.is_tested()), (Some(Cause::Budget), true));
    }

    #[test]
    fn a_function_counts_once_for_each_question_that_called_it() {
        let text = file(&[(&["a", "a", "b"], true, None), (&["a"], false, None)]);
        let functions = parse(NAME, &text).unwrap().functions;
        assert_eq!(functions["a"], Tally { calls: 2, successes: 1 });
        assert_eq!(functions["b"].rate(), 1.0);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        assert!(parse(NAME, "{}").unwrap_err().to_string().contains("batch_id"));
        assert!(matches!(parse("results.json", &file(&[(&[], true, None)])), Err(Error::NoTime(_))));
        let lying = file(&[(&[], true, None)]).replace("\"successful\":1", "\"successful\":2");
        assert!(parse(NAME, &lying).unwrap_err().to_string().contains("successful is 2"));
    }
}
