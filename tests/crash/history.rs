//! What the history holds of the jobs.

use evalfleet_datomic::edn::Value;
use evalfleet_datomic::{Bounds, Client, Config, guard};
use std::time::Duration;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// More rows than the largest course has jobs.
const ROWS_MAX: u32 = 100_000;
/// Every record there ever was, as of any time, and so also one that was taken back or written over.
const RECORDS: &str = "(d/q '[:find ?id ?status ?document ?tx :where [?e :evaluation/id ?id] \
    [?e :evaluation/document ?document ?tx true] [?e :evaluation/status ?status ?tx true]] (d/history db))";
const COUNT: &str = "[:find (count ?e) :where [?e :evaluation/document]]";
const LETTERS: &str = "[:find ?job :where [?e :dead-letter/job ?job]]";

/// The history.
#[derive(Debug)]
pub(crate) struct History(Client);

impl History {
    pub(crate) fn at(url: &str, token: &str) -> anyhow::Result<Self> {
        let mut config = Config::new(url, token);
        config.request_timeout = PATIENCE;
        Ok(Self(Client::new(config)?))
    }

    pub(crate) async fn until_ready(&self) -> anyhow::Result<()> {
        self.0.wait_ready(PATIENCE, |_| ()).await?;
        Ok(())
    }

    /// How many records there are now.
    pub(crate) async fn count(&self) -> anyhow::Result<i64> {
        let rows = self.ask(COUNT).await?;
        Ok(rows.first().and_then(|row| row.first()?.as_int()).unwrap_or(0))
    }

    /// Every record there ever was: job, status.
    pub(crate) async fn records(&self) -> anyhow::Result<Vec<(String, String)>> {
        let rows = self.ask(RECORDS).await?;
        Ok(rows.iter().filter_map(|row| Some((text(row.first()?)?, text(row.get(1)?)?))).collect())
    }

    /// The jobs of the dead letters.
    pub(crate) async fn letters(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.ask(LETTERS).await?.iter().filter_map(|row| text(row.first()?)).collect())
    }

    async fn ask(&self, query: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        let bounds = Bounds { timeout: PATIENCE, rows_max: ROWS_MAX };
        let answer = self.0.query(&guard::check(query, &[])?, bounds).await?;
        anyhow::ensure!(!answer.truncated, "more than {ROWS_MAX} rows");
        Ok(answer.rows.iter().filter_map(|row| row.as_vector().map(<[Value]>::to_vec)).collect())
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.as_keyword()).map(str::to_owned)
}
