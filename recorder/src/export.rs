//! Getting the history out again: every evaluation's document, and imported batches as the files they came from.
//!
//! What the history cuts or does not order comes back so: texts beyond its bound, and the tools of a question,
//! which are sets. Importing an exported file adds nothing to the history that it came from.

use crate::believed::{self, Damaged};
use crate::gateway::{self, Gateway};
use crate::history::{BatchFile, Question};
use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Error as Refusal, Point, View};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::Sha256;
use evalfleet_proto::status::Cause;
use evalfleet_service::blobs::{self, Blobs};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most evaluations of one day, and the most questions of one batch.
const ROWS_MAX: u32 = 100_000;

const DAYS: &str = "[:find ?day (count ?e) :where [?e :evaluation/document] [?e :evaluation/day ?day]]";
const OF_DAY: &str = "[:find ?at ?id ?document :in $ ?day :where [?e :evaluation/day ?day] \
    [?e :evaluation/document ?document] [?e :evaluation/id ?id] [?e :evaluation/timestamp ?at]]";
const AMENDED: &str = "[:find ?id (pull ?e [:evaluation/status :evaluation/cause {:evaluation/amendments [*]}]) \
    :in $ ?day :where [?e :evaluation/day ?day] [?e :evaluation/amendments] [?e :evaluation/id ?id]]";
const BATCHES: &str = "[:find (pull ?e [:evaluation/id :evaluation/model :evaluation/timestamp :evaluation/total \
    :evaluation/passed :evaluation/failed :evaluation/success-rate :evaluation/labels]) \
    :where [?e :evaluation/kind :batch] [?e :evaluation/labels]]";
const QUESTIONS: &str = "[:find (pull ?e [:evaluation/id :evaluation/status :evaluation/cause :evaluation/question \
    :evaluation/expected-tools :evaluation/actual-tools :evaluation/response-us :evaluation/error]) \
    :in $ ?batch :where [?b :evaluation/id ?batch] [?e :evaluation/batch ?b] [?e :evaluation/kind :question]]";

/// Why the history cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store's own.
    #[error(transparent)]
    Store(#[from] Refusal),
    /// A document is missing or damaged.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// A document and the facts about it do not fit.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// More than can be asked for at once.
    #[error("{what} has more than {ROWS_MAX} entries: that is more than can be asked for at once")]
    TooMany {
        /// A day, or a batch.
        what: String,
    },
}

/// The history, as of a moment, for reading it out.
#[derive(Debug)]
pub struct Export {
    client: Arc<dyn Gateway>,
    blobs: Blobs,
    view: View,
}

/// An evaluation's document, and how its verdict was amended.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    key: Sha256,
    facts: Option<Value>,
}

/// An imported batch, as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// What the file is to be called, so that its time can be told: `results_<batch>_<unix seconds>.json`.
    pub name: String,
    /// What is in it.
    pub file: BatchFile,
}

impl Export {
    /// The history behind `client` as of a moment, now when there is none, with its documents in `blobs`.
    pub fn new(client: impl Gateway + 'static, blobs: Blobs, as_of: Option<Point>) -> Self {
        Self { client: Arc::new(client), blobs, view: View { as_of, ..View::default() } }
    }

    /// The days on which evaluations ended, in UTC and the oldest first, each with how many.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn days(&self) -> Result<Vec<(String, u64)>, Error> {
        let rows = self.ask("the list of days", DAYS, &[]).await?;
        let read = |row: &Value| {
            let [day, count] = row.as_vector()? else { return None };
            Some((day.as_str()?.to_owned(), count.as_int()?.try_into().ok()?))
        };
        let mut days: Vec<(String, u64)> = rows.iter().filter_map(read).collect();
        days.sort();
        Ok(days)
    }

    /// The documents of a day's evaluations, the oldest first.
    ///
    /// # Errors
    /// When the store does not answer, or there are too many.
    pub async fn of_day(&self, day: &str) -> Result<Vec<Kept>, Error> {
        let mut amended = BTreeMap::new();
        for row in self.ask(day, AMENDED, &[Value::Str(day.to_owned())]).await? {
            if let Some([id, facts]) = row.as_vector() {
                amended.insert(id.as_str().unwrap_or_default().to_owned(), facts.clone());
            }
        }
        let rows = self.ask(day, OF_DAY, &[Value::Str(day.to_owned())]).await?;
        let read = |row: &Value| {
            let [at, id, key] = row.as_vector()? else { return None };
            Some((at.as_inst()?, id.as_str()?.to_owned(), key.as_str()?.parse().ok()?))
        };
        let mut found: Vec<(Timestamp, String, Sha256)> = rows.iter().filter_map(read).collect();
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        Ok(found.into_iter().map(|(_, id, key)| Kept { key, facts: amended.remove(&id) }).collect())
    }

    /// One document as it is believed at that moment: JSON, on one line.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub async fn document(&self, kept: &Kept) -> Result<Vec<u8>, Error> {
        let document = self.blobs.get(kept.key).await?;
        let Some(facts) = &kept.facts else { return Ok(document) };
        let document = serde_json::from_slice(&document).map_err(Damaged::from)?;
        Ok(serde_json::to_vec(&believed::amended(document, facts)?).map_err(Damaged::from)?)
    }

    /// The batches that were imported, the oldest first.
    ///
    /// # Errors
    /// When the store does not answer, or a batch has too many questions.
    pub async fn batches(&self) -> Result<Vec<Exported>, Error> {
        let mut batches = Vec::new();
        for row in self.ask("the list of batches", BATCHES, &[]).await? {
            let Some(whole) = row.as_vector().and_then(<[Value]>::first) else { continue };
            let Some(id) = whole.get("evaluation/id").and_then(Value::as_str) else { continue };
            let rows = self.ask(id, QUESTIONS, &[Value::Str(id.to_owned())]).await?;
            let questions: Vec<&Value> = rows.iter().filter_map(|row| row.as_vector()?.first()).collect();
            if let Some((at, exported)) = exported(whole, &questions) {
                batches.push((at, exported));
            }
        }
        batches.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        Ok(batches.into_iter().map(|(_, batch)| batch).collect())
    }

    async fn ask(&self, what: &str, query: &str, arguments: &[Value]) -> Result<Vec<Value>, Error> {
        let answer = gateway::ask(&*self.client, query, arguments, self.view, ROWS_MAX).await?;
        if answer.truncated {
            return Err(Error::TooMany { what: what.to_owned() });
        }
        Ok(answer.rows)
    }
}

/// The file of a batch out of its facts and those of its questions; `None` for one that was not imported.
fn exported(whole: &Value, questions: &[&Value]) -> Option<(Timestamp, Exported)> {
    let number =
        |name: &str| whole.get(name).and_then(Value::as_int).and_then(|number| u64::try_from(number).ok());
    let labels = whole.get("evaluation/labels")?;
    let batch_id =
        labels.children().into_iter().find_map(|label| label.as_str()?.strip_prefix("batch_id="))?;
    let id = whole.get("evaluation/id")?.as_str()?;
    let at = whole.get("evaluation/timestamp")?.as_inst()?;
    let mut results: Vec<Question> = questions.iter().filter_map(|facts| question(id, facts)).collect();
    results.sort_by(|a, b| place(&a.question_id).cmp(&place(&b.question_id)));
    let file = BatchFile {
        batch_id: batch_id.to_owned(),
        model: whole.get("evaluation/model").and_then(Value::as_str).unwrap_or_default().to_owned(),
        total_questions: number("evaluation/total")?,
        successful: number("evaluation/passed")?,
        failed: number("evaluation/failed")?,
        success_rate: whole.get("evaluation/success-rate")?.as_float()?,
        results,
    };
    Some((at, Exported { name: format!("results_{batch_id}_{}.json", at.as_second()), file }))
}

/// In the order of their numbers, where their names end in one.
fn place(id: &str) -> (&str, u64, &str) {
    let name = id.trim_end_matches(|letter: char| letter.is_ascii_digit());
    (name, id[name.len()..].parse().unwrap_or(0), id)
}

fn question(batch: &str, facts: &Value) -> Option<Question> {
    let text = |name: &str| facts.get(name).and_then(Value::as_str).map(str::to_owned);
    let word = |name: &str| facts.get(name).and_then(Value::as_keyword);
    let tools = |name: &str| {
        let tools = facts.get(name).map(Value::children).unwrap_or_default();
        let mut tools: Vec<String> = tools.into_iter().filter_map(Value::as_str).map(str::to_owned).collect();
        tools.sort();
        tools
    };
    let micros = facts.get("evaluation/response-us").and_then(Value::as_int).unwrap_or(0);
    let error = text("evaluation/error");
    let known = word("evaluation/cause").and_then(Cause::parse);
    let mut question = Question {
        question_id: text("evaluation/id")?.strip_prefix(batch)?.strip_prefix('/')?.to_owned(),
        question: text("evaluation/question").unwrap_or_default(),
        expected_tools: tools("evaluation/expected-tools"),
        actual_tools: tools("evaluation/actual-tools"),
        success: word("evaluation/status")? == "passed",
        response_time_ms: u64::try_from(micros).unwrap_or(0) / 1000,
        // An error without words is told by its cause alone.
        error: error.or_else(|| (known == Some(Cause::Infrastructure)).then(String::new)),
        cause: None,
    };
    // Said only where the error does not tell it: the REPL's own files come out as they came in.
    question.cause = known.filter(|known| question.cause() != Some(*known));
    Some(question)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts;
    use crate::history::parse;

    #[test]
    fn an_exported_batch_is_the_file_that_was_imported() {
        let question = |id: &str, success: bool, error: Option<&str>| {
            serde_json::json!({"question_id": id, "question": "what?", "expected_tools": ["a", "b"],
                "actual_tools": if success { vec!["a"] } else { vec![] }, "success": success, "response_time_ms": 1234,
                "error": error})
        };
        let results = [
            question("q2", true, None),
            question("q9", false, Some("HTTP 429")),
            question("q10", false, None),
            question("q11", false, Some("")),
        ];
        let text =
            serde_json::json!({"batch_id": "batch_007", "model": "m", "total_questions": 4, "successful": 1,
            "failed": 3, "success_rate": 0.25, "results": results})
            .to_string();
        let name = "results_batch_007_1753939654.json";
        let batch = parse(name, &text).unwrap();
        let facts = facts::imported(&batch);
        let (whole, questions) = facts.split_first().unwrap();
        let mut questions: Vec<&Value> = questions.iter().collect();
        // The store gives them in no order.
        questions.reverse();
        let (at, exported) = exported(whole, &questions).unwrap();
        assert_eq!((at, exported.name.as_str(), &exported.file), (batch.at, name, &batch.file));
        let again = parse(&exported.name, &serde_json::to_string(&exported.file).unwrap()).unwrap();
        assert_eq!(facts::imported(&again), facts);
    }

    #[test]
    fn a_batch_of_jobs_was_not_imported() {
        let now = Timestamp::from_second(1_750_000_000).unwrap();
        let [whole, _] = facts::batch("night", None, facts::Sum::default(), None, now);
        assert_eq!(exported(&whole, &[]), None);
    }
}
