//! What was learnt of a tool before, out of the history.

use super::evaluate::{CaseResult, KIND, cases_of};
use crate::api::{self, Api, Query};
use evalfleet_analytics::rate::{Pairs, Tally};
use evalfleet_proto::Timestamp;
use evalfleet_proto::ids::{JobId, Sha256};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde_json::Value;

/// Earlier evaluations of a name that are read, the newest first.
const READ_MAX: usize = 50;
/// How many of them are asked for at one moment.
const AT_ONCE: usize = 8;

/// One earlier evaluation of the name.
#[derive(Debug, Clone, Serialize)]
pub struct Earlier {
    /// The evaluation.
    pub evaluation: JobId,
    /// When.
    pub finished: Timestamp,
    /// The version: the hash of its code.
    pub code: String,
    /// How its cases went.
    pub tally: Tally,
    #[serde(skip)]
    pub(super) cases: Vec<CaseResult>,
}

/// A tool's past, across its versions.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Historical {
    /// Calls of the name, by whomever, and how many of them passed.
    pub calls: Tally,
    /// The same code before.
    pub same_code: Tally,
    /// Other versions, together.
    pub other_versions: Tally,
    /// The newest evaluations of it.
    pub evaluations: Vec<Earlier>,
}

impl Historical {
    /// The last other version and this one, on the cases that both have. A case passes where most of its runs do.
    pub(super) fn pairs(&self, code: &Sha256, now: &[CaseResult]) -> Pairs {
        let mut pairs = Pairs::default();
        let code = code.to_string();
        let Some(last) = self.evaluations.iter().find(|earlier| earlier.code != code) else { return pairs };
        for case in now {
            if let Some(before) = last.cases.iter().find(|before| before.name == case.name) {
                pairs.add(before.mostly_passed(), case.mostly_passed());
            }
        }
        pairs
    }
}

/// Asks the history for what is known of `name`, whose code is `code` now.
pub(super) async fn read(api: &Api, name: &str, code: &Sha256) -> Result<Historical, api::Error> {
    let (calls, ids) = tokio::try_join!(calls(api, name), evaluations(api, name))?;
    let mut historical = Historical { calls, ..Historical::default() };
    let documents =
        futures::stream::iter(ids).map(async |id| Ok::<_, api::Error>((id, api.recorded(id).await?)));
    let mut documents = documents.buffered(AT_ONCE);
    while let Some((id, evaluation)) = documents.try_next().await? {
        let Some(evaluation) = evaluation else { continue };
        let cases = cases_of(&evaluation);
        let tally = cases.iter().fold(Tally::default(), |sum, case| Tally {
            passed: sum.passed + case.runs.passed,
            tries: sum.tries + case.runs.tries,
        });
        let version = evaluation.labels.get("code").cloned().unwrap_or_default();
        let sum = if version == code.to_string() {
            &mut historical.same_code
        } else {
            &mut historical.other_versions
        };
        sum.passed += tally.passed;
        sum.tries += tally.tries;
        historical.evaluations.push(Earlier {
            evaluation: id,
            finished: evaluation.finished,
            code: version,
            tally,
            cases,
        });
    }
    Ok(historical)
}

/// The newest evaluations of the name as a tool.
async fn evaluations(api: &Api, name: &str) -> Result<Vec<JobId>, api::Error> {
    let query = format!(
        "[:find ?id ?at :in $ ?label :where [?e :evaluation/labels ?label] [?e :evaluation/kind :{KIND}] \
         [?e :evaluation/id ?id] [?e :evaluation/timestamp ?at]]"
    );
    let rows = ask(api, query, &format!("tool={name}")).await?;
    let mut found: Vec<(String, JobId)> = rows
        .iter()
        .filter_map(|row| Some((row[1].as_str()?.to_owned(), row[0].as_str()?.parse().ok()?)))
        .collect();
    found.sort_by(|a, b| b.0.cmp(&a.0));
    found.truncate(READ_MAX);
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// Calls of the name that were put to the test.
async fn calls(api: &Api, name: &str) -> Result<Tally, api::Error> {
    let query = "[:find (count ?c) (sum ?rate) :in $ ?name :with ?e :where [?e :evaluation/kind :function-call] \
                 [?e :evaluation/function-calls ?c] [?c :function-call/name ?name] [?c :function-call/success-rate ?rate]]";
    let rows = ask(api, query.to_owned(), name).await?;
    let number = |at: usize| rows.first().and_then(|row| row[at].as_f64()).unwrap_or_default();
    // A call's rate is 1 or 0: their sum is a count.
    Ok(Tally { passed: number(1) as u64, tries: number(0) as u64 })
}

async fn ask(api: &Api, query: String, text: &str) -> Result<Vec<Value>, api::Error> {
    // A name has no quotes and no backslashes: it is a string in EDN as it is in JSON.
    let args = vec![Value::from(text).to_string()];
    Ok(api.query(&Query { query, args, as_of: None, rows_max: None }).await?.rows)
}
