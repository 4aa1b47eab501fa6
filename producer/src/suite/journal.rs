//! What a run has done so far, on disk: one line for its beginning, one for each question. A run that was stopped goes
//! on where its journal ends.

use super::file::Suite;
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::Sha256;
use evalfleet_recorder::history::Question;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The longest journal that is read, in bytes.
const JOURNAL_MAX: u64 = 256 << 20;

/// How a run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The suite's name.
    pub suite: String,
    /// What its questions and its fixture are known by.
    pub digest: Sha256,
    /// Who is asked.
    pub model: String,
    /// What its batch is called, before its time.
    pub batch: String,
    /// When.
    pub at: Timestamp,
}

impl Begun {
    /// The run of a suite that begins now; `nonce` tells it from others of the same second.
    pub fn now(suite: &Suite, model: &str, nonce: u32) -> Self {
        Self {
            suite: suite.name.clone(),
            digest: suite.digest.unwrap_or_else(|| Sha256::of(b"")),
            model: model.to_owned(),
            batch: format!("{}-{nonce:08x}", suite.name),
            // Batches are told by whole seconds.
            at: Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default(),
        }
    }

    /// Its name: what the history calls its batch.
    pub fn id(&self) -> String {
        format!("{}-{}", self.batch, self.at.as_second())
    }

    /// Its result file's name, which tells its time, as the REPL's do.
    pub fn results(&self) -> String {
        format!("results_{}_{}.json", self.batch, self.at.as_second())
    }
}

/// The journal of a run.
#[derive(Debug)]
pub struct Journal {
    begun: Begun,
    dir: PathBuf,
    file: Mutex<File>,
    done: BTreeMap<String, Question>,
}

impl Journal {
    /// Begins one in `dir`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(dir: &Path, begun: Begun) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}.jsonl", begun.id()));
        let mut file = File::options().create_new(true).append(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string(&begun)?)?;
        file.sync_data()?;
        Ok(Self { begun, dir: dir.to_owned(), file: Mutex::new(file), done: BTreeMap::new() })
    }

    /// Opens the newest one of the same suite and model that has no results yet; none where there is none.
    ///
    /// # Errors
    /// When the folder or a journal cannot be read.
    pub fn resume(dir: &Path, suite: &Suite, model: &str) -> std::io::Result<Option<Self>> {
        let mut newest: Option<(Begun, PathBuf)> = None;
        let entries = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let Some(begun) = first_line(&path)? else { continue };
            let same =
                begun.suite == suite.name && Some(begun.digest) == suite.digest && begun.model == model;
            let open = !dir.join(begun.results()).exists();
            if same && open && newest.as_ref().is_none_or(|(known, _)| known.at < begun.at) {
                newest = Some((begun, path));
            }
        }
        let Some((begun, path)) = newest else { return Ok(None) };
        let mut done = BTreeMap::new();
        for line in BufReader::new(File::open(&path)?.take(JOURNAL_MAX)).lines().skip(1) {
            // The last one may have been cut off in the middle: that question is put again.
            if let Ok(question) = serde_json::from_str::<Question>(&line?) {
                done.insert(question.question_id.clone(), question);
            }
        }
        let mut file = File::options().append(true).open(&path)?;
        // What was cut off ends here.
        writeln!(file)?;
        Ok(Some(Self { begun, dir: dir.to_owned(), file: Mutex::new(file), done }))
    }

    /// How the run began.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// The questions that were done before, by their ids. Those that failed at the service are done again.
    pub fn done(&self) -> &BTreeMap<String, Question> {
        &self.done
    }

    /// Notes that a question is done.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&self, question: &Question) -> std::io::Result<()> {
        let line = serde_json::to_string(question)?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{line}")?;
        file.sync_data()
    }

    /// Where the results of the run belong.
    pub fn results(&self) -> PathBuf {
        self.dir.join(self.begun.results())
    }
}

fn first_line(path: &Path) -> std::io::Result<Option<Begun>> {
    let mut line = String::new();
    BufReader::new(File::open(path)?.take(64 << 10)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(id: &str) -> Question {
        Question {
            question_id: id.to_owned(),
            question: "?".to_owned(),
            expected_tools: Vec::new(),
            actual_tools: Vec::new(),
            success: true,
            response_time_ms: 1,
            error: None,
            cause: None,
        }
    }

    #[test]
    fn a_run_that_was_stopped_is_found_again_with_what_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let suite = Suite { name: "s".to_owned(), digest: Some(Sha256::of(b"s")), ..Suite::default() };
        assert!(Journal::resume(dir.path(), &suite, "m").unwrap().is_none());
        let journal = Journal::begin(dir.path(), Begun::now(&suite, "m", 7)).unwrap();
        journal.note(&question("q1")).unwrap();
        let id = journal.begun().id();
        let path = dir.path().join(format!("{id}.jsonl"));
        let mut cut = std::fs::read_to_string(&path).unwrap();
        cut.push_str("{\"question_id\": \"q2\", \"que");
        std::fs::write(&path, cut).unwrap();
        drop(journal);
        let journal = Journal::resume(dir.path(), &suite, "m").unwrap().unwrap();
        assert_eq!(
            (journal.begun().id(), journal.done().keys().collect::<Vec<_>>()),
            (id, vec![&"q1".to_owned()])
        );
        journal.note(&question("q2")).unwrap();
        let again = Journal::resume(dir.path(), &suite, "m").unwrap().unwrap();
        assert_eq!(again.done().len(), 2);
        let other = Suite { digest: Some(Sha256::of(b"other")), ..suite.clone() };
        assert!(Journal::resume(dir.path(), &other, "m").unwrap().is_none());
        assert!(Journal::resume(dir.path(), &suite, "n").unwrap().is_none());
        std::fs::write(again.results(), "{}").unwrap();
        assert!(Journal::resume(dir.path(), &suite, "m").unwrap().is_none());
    }
}
