//! Replay: any recorded evaluation again, from its content hashes, and the first thing that comes out otherwise.
//!
//! ```text
//! record ─▶ its job, by hash ─▶ the same job, its image pinned ─▶ a VM ─▶ evaluation ─▶ compared with the record
//!   │ refused: no job kept, image gone, …                                     ▲
//!   └──────────────── what earlier runs of the same used: the noise ──────────┘
//! ```
//!
//! A replay is an evaluation of its own, with `replay_of`; it belongs to no batch and has no labels, so that it changes
//! nobody's sums. [`refusal`] says what can be replayed and makes the job, [`divergence`] compares; both are pure and
//! serve the API as well. Dead letters have a replay of their own ([`crate::dead`]): they are taken out of a queue.

pub mod divergence;
pub mod noise;
pub mod refusal;

mod effects;

use crate::api::{self, Api, Query};
use divergence::{Comparison, Outcome};
use evalfleet_proto::Timestamp;
use evalfleet_proto::evaluation::{Evaluation, Metrics, Output};
use evalfleet_proto::ids::{JobId, Sha256};
use evalfleet_proto::job::Job;
use evalfleet_proto::kept::KeptJob;
use evalfleet_proto::status::Exit;
use evalfleet_service::settings::Settings;
use refusal::Refusal;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// The longest output that is fetched to find where it differs.
const OUTPUT_BYTES_MAX: u64 = 8 << 20;
/// Earlier runs that are read.
const EARLIER_MAX: u32 = 1000;

/// Why an evaluation was not run again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record cannot be asked, or there is none.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// It cannot be run again.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Error {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Api(error) => error.exit(),
            Self::Refused(_) => Exit::Harness,
        }
    }
}

/// A recorded evaluation that can be run again, as often as wanted.
#[derive(Debug)]
pub struct Replay {
    original: Evaluation,
    kept: KeptJob,
    key: Sha256,
    api: Api,
}

/// What one replay came to.
#[derive(Debug, Clone, Serialize)]
pub struct Replayed {
    /// The job that repeated the recorded one.
    pub id: JobId,
    /// How it compares.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Its evaluation's own exit code.
    #[serde(skip)]
    pub own_exit: Exit,
}

impl Replayed {
    /// The exit code: 0 the same, 1 diverged; where it was not put to the test, what its evaluation says.
    pub fn exit(&self) -> Exit {
        match self.comparison.outcome {
            Outcome::Same => Exit::Passed,
            Outcome::Diverged => Exit::Subject,
            Outcome::Undecided => self.own_exit,
        }
    }
}

impl Replay {
    /// Fetches the record of `id` and its job, and looks whether it can be run again.
    ///
    /// # Errors
    /// When it is not recorded, the API does not answer, or it cannot: says why, and what would help.
    pub async fn of(settings: &Settings, id: &str) -> Result<Self, Error> {
        let api = Api::new(&settings.api)?;
        let document = api.evaluation(id, None).await?;
        // A keyword, as the store names it.
        let kind = document["evaluation/kind"].as_str().unwrap_or("record of another form");
        let kind = kind.trim_start_matches(':').to_owned();
        let original: Evaluation =
            serde_json::from_value(document).map_err(|_| Refusal::NotOneJob { id: id.to_owned(), kind })?;
        let key = refusal::key(&original)?;
        let lost = |why: String| Refusal::Lost { id: original.id, why };
        let bytes = match api.blob(key).await {
            Err(api::Error::NotFound(why)) => return Err(lost(why).into()),
            other => other?,
        };
        let kept = refusal::read(&original, &bytes)?;
        let replay = Self { original, kept, key, api };
        refusal::present(&replay.original, &replay.job(), &settings.images_dir())?;
        Ok(replay)
    }

    /// The evaluation, as it was recorded.
    pub fn original(&self) -> &Evaluation {
        &self.original
    }

    /// A job that asks the same again, each time another one.
    pub fn job(&self) -> Job {
        refusal::again(&self.original, &self.kept, Timestamp::now())
    }

    /// Compares what came of such a job with the record. What cannot be fetched for that is left out, and noted.
    pub async fn compare(&self, evaluation: &Evaluation) -> Replayed {
        let (mut before, mut now) = (self.original.clone(), evaluation.clone());
        let mut notes = Vec::new();
        for (before, now) in [(&mut before.stdout, &mut now.stdout), (&mut before.stderr, &mut now.stderr)] {
            if before.sha256 != now.sha256 {
                for output in [before, now] {
                    if let Err(error) = self.whole(output).await {
                        notes.push(format!("an output is compared by its beginning and its hash: {error}"));
                    }
                }
            }
        }
        let earlier = match self.earlier(&now).await {
            Ok(earlier) => earlier,
            Err(error) => {
                notes.push(format!("what earlier runs used is not known: {error}"));
                Vec::new()
            }
        };
        let mut comparison = divergence::compare(&before, &now, &earlier);
        comparison.notes.extend(notes);
        Replayed { id: now.id, comparison, own_exit: Exit::of(now.status, now.cause) }
    }

    /// Fetches what an output's document has only the beginning of.
    async fn whole(&self, output: &mut Output) -> Result<(), api::Error> {
        if let Some(key) = output.sha256.filter(|_| output.truncated && output.bytes <= OUTPUT_BYTES_MAX) {
            output.text = String::from_utf8_lossy(&self.api.blob(key).await?).into_owned();
            output.truncated = false;
        }
        Ok(())
    }

    /// What other runs used that asked the same in the same image on the same accelerator, and ended so.
    async fn earlier(&self, now: &Evaluation) -> Result<Vec<Metrics>, api::Error> {
        let from = &now.provenance;
        let (Some(image), Some(accelerator)) = (&from.image, &from.accelerator) else {
            return Ok(Vec::new());
        };
        let query = "[:find ?id ?memory ?read ?written ?received ?sent ?user ?system ?wall \
            :in $ [?job ...] ?image ?accelerator ?status \
            :where [?e :evaluation/job ?job] [?e :evaluation/id ?id] [?e :evaluation/status ?status] \
            [?e :evaluation/image ?i] [?i :image/digest ?image] [?e :evaluation/accelerator ?accelerator] \
            [(get-else $ ?e :evaluation/memory-peak-bytes 0) ?memory] [(get-else $ ?e :evaluation/disk-read-bytes 0) ?read] \
            [(get-else $ ?e :evaluation/disk-written-bytes 0) ?written] [(get-else $ ?e :evaluation/net-rx-bytes 0) ?received] \
            [(get-else $ ?e :evaluation/net-tx-bytes 0) ?sent] [(get-else $ ?e :evaluation/cpu-user-us 0) ?user] \
            [(get-else $ ?e :evaluation/cpu-system-us 0) ?system] [(get-else $ ?e :evaluation/wall-us 0) ?wall]]";
        // The job of a replay pins its image: its question is another one, though it asks the same.
        let keys: Vec<String> =
            std::iter::once(self.key).chain(from.job).map(|key| format!("\"{key}\"")).collect();
        let args = vec![
            format!("[{}]", keys.join(" ")),
            format!("\"{image}\""),
            format!(":{accelerator}"),
            format!(":{}", now.status.as_str().replace('_', "-")),
        ];
        let query = Query { query: query.to_owned(), args, as_of: None, rows_max: Some(EARLIER_MAX) };
        let rows = self.api.query(&query).await?.rows;
        let ours = [self.original.id, now.id].map(|id| id.to_string());
        let others =
            rows.iter().filter(|row| row[0].as_str().is_some_and(|id| !ours.iter().any(|our| our == id)));
        Ok(others.map(metrics).collect())
    }
}

fn metrics(row: &Value) -> Metrics {
    let number = |at: usize| row[at].as_u64().unwrap_or_default();
    Metrics {
        memory_peak_bytes: number(1),
        disk_read_bytes: number(2),
        disk_written_bytes: number(3),
        net_rx_bytes: number(4),
        net_tx_bytes: number(5),
        cpu_user: Duration::from_micros(number(6)),
        cpu_system: Duration::from_micros(number(7)),
        wall: Duration::from_micros(number(8)),
        ..Metrics::default()
    }
}
