//! What the store's logic stands on: the gateway, or in the simulation a history in memory that is lost,
//! late and silent on purpose.

use evalfleet_datomic::edn::Value;
use evalfleet_datomic::guard::{self, Question};
use evalfleet_datomic::{Answer, Batch, Bounds, Client, Error, Transacted, View};
use futures::future::BoxFuture;
use std::fmt::Debug;

/// Writes and asks the history.
pub trait Gateway: Debug + Send + Sync {
    /// Writes a batch, once however often it is asked.
    ///
    /// # Errors
    /// As [`Client::transact`].
    fn transact<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Transacted, Error>>;

    /// Answers a question that the guard let through.
    ///
    /// # Errors
    /// As [`Client::query`].
    fn query<'a>(&'a self, question: &'a Question, bounds: Bounds) -> BoxFuture<'a, Result<Answer, Error>>;
}

/// Puts a question as people write it, its further inputs as values.
///
/// # Errors
/// When the guard refuses it, or the store does.
pub(crate) async fn ask(
    client: &dyn Gateway,
    query: &str,
    inputs: &[Value],
    view: View,
    rows_max: u32,
) -> Result<Answer, Error> {
    let texts: Vec<String> = inputs.iter().map(ToString::to_string).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let question = guard::check(query, &texts).and_then(|question| question.with_view(view))?;
    client.query(&question, Bounds { rows_max, ..Bounds::default() }).await
}

impl Gateway for Client {
    fn transact<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Transacted, Error>> {
        Box::pin(Self::transact(self, batch))
    }

    fn query<'a>(&'a self, question: &'a Question, bounds: Bounds) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(Self::query(self, question, bounds))
    }
}
