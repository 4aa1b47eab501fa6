//! The dead letters: listed, searched, and each shown with what became of it.
//!
//! The queue is never asked: a [`board`] follows the log of transactions, and is brought up to the newest
//! before it answers.

pub mod board;
mod texts;

use crate::history::{Found, History};
use crate::problem::Problem;
use board::{Board, Page};
use evalfleet_datomic::Point;
use evalfleet_proto::dead::Filter;
use evalfleet_service::retry::Delays;
use serde_json::{Value as Json, json as object};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Letters that are kept at hand: some hundred megabytes at most.
const LETTERS_MAX: usize = 250_000;
/// Transactions that are read at once.
const STRETCH: u32 = 1000;
/// The longest wait before the log is read again at the start.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Jobs that a lineage shows.
const LINEAGE_MAX: usize = 100;

/// The dead letters, for reading; clones share what was read.
#[derive(Debug, Clone)]
pub struct Dead {
    history: History,
    board: Arc<Mutex<Board>>,
}

impl Dead {
    /// The dead letters in `history`; nothing is read yet.
    pub fn new(history: History) -> Self {
        Self { history, board: Arc::new(Mutex::new(Board::new(LETTERS_MAX))) }
    }

    /// Reads the log once, however long the store takes to open: whoever asks later reads what is new.
    pub async fn warm_up(&self) {
        let mut delays = Delays::up_to(LONGEST_WAIT);
        while let Err(problem) = self.board().await.map(drop) {
            tracing::debug!(?problem, "the dead letters are not read yet");
            tokio::time::sleep(delays.next_delay()).await;
        }
    }

    async fn board(&self) -> Result<tokio::sync::MutexGuard<'_, Board>, Problem> {
        let mut board = self.board.lock().await;
        loop {
            let log = self.history.log(board.next_t(), STRETCH).await?;
            board.read(&log.transactions, log.next_t, log.basis_t);
            if log.next_t > log.basis_t {
                return Ok(board);
            }
        }
    }

    /// A page of the letters that `filter` means, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(
        &self,
        filter: &Filter,
        as_of: Option<Point>,
        skip: usize,
        limit: usize,
    ) -> Result<Found<Json>, Problem> {
        let board = self.board().await?;
        let Page { letters, total } = board.list(filter, as_of, skip, limit);
        let basis_t = board.basis_t();
        let what = object!({ "dead_letters": letters, "total": total, "omitted": board.omitted(), "basis_t": basis_t });
        Ok(Found { what, basis_t })
    }

    /// One letter with all that is known of it, and the jobs before and after it.
    ///
    /// # Errors
    /// When there is none, or none was known at that moment, or the store does not answer.
    pub async fn show(&self, id: &str, as_of: Option<Point>) -> Result<Found<Json>, Problem> {
        let (found, basis_t) = {
            let board = self.board().await?;
            (board.one(id, as_of), board.basis_t())
        };
        let (card, document) = found.ok_or_else(|| {
            Problem::not_found(format!(
                "no dead letter {id} is recorded{}: `evalfleet dead list --where state=any` shows what there is",
                if as_of.is_some() { " as of that moment" } else { "" }
            ))
        })?;
        let mut what = match document {
            Some(key) => self.history.document(&key).await?,
            None => object!({}),
        };
        // What became of it is newer than its document.
        if let (Some(what), Ok(Json::Object(card))) = (what.as_object_mut(), serde_json::to_value(&card)) {
            what.extend(card);
        }
        if let Some(job) = card.job {
            let job = job.to_string();
            // A job that the broker gave up has no evaluation, and what is missing is no failure here.
            let evaluation = self.history.evaluation(&job, as_of).await.ok();
            if let Some(evidence) = evaluation.and_then(|found| found.what.get("evidence").cloned()) {
                what["evidence"] = evidence;
            }
            what["lineage"] = self.lineage(&job, as_of).await?;
        }
        Ok(Found { what, basis_t })
    }

    /// The jobs that ask the same: from the first that was submitted to the last replay, each once, with
    /// what became of it.
    async fn lineage(&self, of: &str, as_of: Option<Point>) -> Result<Json, Problem> {
        let mut first = of.to_owned();
        let mut seen = BTreeSet::from([first.clone()]);
        while let Some(before) = self.replay_of(&first, as_of).await?
            && seen.len() < LINEAGE_MAX
            && seen.insert(before.clone())
        {
            first = before;
        }
        let (mut lineage, mut left, mut seen) = (Vec::new(), VecDeque::from([first]), BTreeSet::new());
        while let Some(job) = left.pop_front() {
            if lineage.len() >= LINEAGE_MAX || !seen.insert(job.clone()) {
                continue;
            }
            let letter = self.board.lock().await.one(&job, as_of).map(|(card, _)| card);
            let status = self.history.status(&job, as_of).await?;
            let replay_of = self.replay_of(&job, as_of).await?;
            let mut after = self.history.replays(&job, as_of).await?;
            after.extend(letter.iter().flat_map(|card| &card.replays).map(ToString::to_string));
            left.extend(after);
            lineage.push(object!({
                "id": job, "replay_of": replay_of, "status": status, "dead_letter": letter.map(|card| card.state),
            }));
        }
        Ok(Json::Array(lineage))
    }

    /// The job that this one repeats, as its dead letter or its evaluation tells.
    async fn replay_of(&self, job: &str, as_of: Option<Point>) -> Result<Option<String>, Problem> {
        let letter = self.board.lock().await.one(job, as_of);
        if let Some(before) = letter.and_then(|(card, _)| card.replay_of) {
            return Ok(Some(before.to_string()));
        }
        self.history.replay_of(job, as_of).await
    }
}
