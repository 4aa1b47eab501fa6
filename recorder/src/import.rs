//! Bringing past result files into the history, with their own times, oldest first.

use crate::facts;
use crate::history::{self, Imported};
use crate::store::{self, Store};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Why files were not imported; files before the one named are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no result file.
    #[error(transparent)]
    File(#[from] history::Error),
    /// The history cannot be written.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The batch's id in the history.
    pub id: String,
    /// The model that was asked.
    pub model: String,
    /// The share of success, as the file has it.
    pub success_rate: f64,
    /// The same without what went wrong at the service.
    pub success_rate_adjusted: Option<f64>,
    /// Questions.
    pub questions: usize,
    /// New facts; 0 when it was imported before.
    pub datoms: u64,
    /// Whether the history has it at its own time. If not, something newer was recorded before: its event
    /// time is right, its transaction time is now.
    pub at_its_own_time: bool,
}

/// Reads all files, and only then writes them, oldest first.
///
/// # Errors
/// Names the file, and why.
pub async fn import(store: &Store, files: &[PathBuf]) -> Result<Vec<Report>, Error> {
    let mut batches = files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    batches.sort_by_key(|batch| batch.at);
    let mut reports = Vec::new();
    for batch in &batches {
        let (transacted, at_its_own_time) = store.import(&batch.id, facts::imported(batch), batch.at).await?;
        reports.push(Report {
            id: batch.id.clone(),
            model: batch.file.model.clone(),
            success_rate: batch.file.success_rate,
            success_rate_adjusted: batch.adjusted_rate,
            questions: batch.file.results.len(),
            datoms: transacted.datoms,
            at_its_own_time: at_its_own_time || transacted.duplicate,
        });
    }
    Ok(reports)
}

fn read(path: &Path) -> Result<Imported, Error> {
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(history::parse(&name, &text)?)
}
