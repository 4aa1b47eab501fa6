//! Tools that were found bad, and are not called until they prove themselves or a person lets them out.

use super::evaluate::EvaluationResult;
use evalfleet_analytics::recommend::Action;
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::JobId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The file in the state directory.
const FILE: &str = "quarantine.json";

/// One tool in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The tool.
    pub tool: String,
    /// The evaluation that put it there.
    pub evaluation: JobId,
    /// Why.
    pub because: String,
    /// Since when.
    pub since: Timestamp,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tool, evaluation, because, since } = self;
        write!(
            f,
            "{tool} is in quarantine since {since}: {because} (evaluation {evaluation}). `--force` calls it all the \
             same, `evalfleet tool release {tool}` lets it out"
        )
    }
}

/// The list of them, in a state directory.
#[derive(Debug, Clone)]
pub struct Quarantine(PathBuf);

impl Quarantine {
    /// The list in `state_dir`, which need not be there yet.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// When the list is there and cannot be read.
    pub fn all(&self) -> io::Result<BTreeMap<String, Entry>> {
        match std::fs::read(&self.0) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    /// The entry of a tool that is in quarantine.
    ///
    /// # Errors
    /// As [`Quarantine::all`].
    pub fn of(&self, tool: &str) -> io::Result<Option<Entry>> {
        Ok(self.all()?.remove(tool))
    }

    /// Puts a tool in. One that is in already stays there for the reason that it was put there for.
    ///
    /// # Errors
    /// When the list cannot be read or written.
    pub fn put(&self, entry: Entry) -> io::Result<()> {
        let mut all = self.all()?;
        if all.contains_key(&entry.tool) {
            return Ok(());
        }
        all.insert(entry.tool.clone(), entry);
        self.write(&all)
    }

    /// Lets a tool out; tells whether it was in.
    ///
    /// # Errors
    /// When the list cannot be read or written.
    pub fn release(&self, tool: &str) -> io::Result<bool> {
        let mut all = self.all()?;
        let was = all.remove(tool).is_some();
        if was {
            self.write(&all)?;
        }
        Ok(was)
    }

    /// Puts a tool in, or lets it out, as its evaluation recommends; otherwise it stays where it is.
    pub(super) fn follow(&self, result: &EvaluationResult) -> io::Result<()> {
        let tool = result.tool.clone();
        match result.recommendation.action {
            Action::Quarantine => {
                let because = result.recommendation.because.clone();
                let entry = Entry {
                    tool: tool.clone(),
                    evaluation: result.evaluation.id,
                    because,
                    since: Timestamp::now(),
                };
                let mut all = self.all()?;
                all.insert(tool, entry);
                self.write(&all)
            }
            Action::Promote | Action::Keep => self.release(&tool).map(|_| ()),
            Action::NeedsMoreEvidence => Ok(()),
        }
    }

    fn write(&self, all: &BTreeMap<String, Entry>) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(all)?)?;
        file.persist(&self.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_goes_in_and_is_let_out() {
        let dir = tempfile::tempdir().unwrap();
        let list = Quarantine::in_dir(&dir.path().join("not-there-yet"));
        assert_eq!(list.of("a").unwrap(), None);
        let entry = Entry {
            tool: "a".to_owned(),
            evaluation: JobId::fresh(),
            because: "it passed 0 of 9".to_owned(),
            since: Timestamp::now(),
        };
        list.write(&[("a".to_owned(), entry.clone())].into()).unwrap();
        let found = list.of("a").unwrap().unwrap();
        assert_eq!(found, entry);
        assert!(found.to_string().contains("0 of 9") && found.to_string().contains("tool release a"));
        assert!(list.release("a").unwrap() && !list.release("a").unwrap());
        list.put(entry.clone()).unwrap();
        list.put(Entry { because: "once more".to_owned(), ..entry.clone() }).unwrap();
        assert_eq!(list.of("a").unwrap(), Some(entry), "the first reason stands");
        std::fs::write(dir.path().join("not-there-yet").join(FILE), "no").unwrap();
        assert!(list.of("a").is_err());
    }
}
