//! What the store's logic stands on: the gateway, or in the simulation a history in memory that is lost,
//! late and silent on purpose.

use evalfleet_datomic::guard::Question;
use evalfleet_datomic::{Answer, Batch, Bounds, Client, Error, Transacted};
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

impl Gateway for Client {
    fn transact<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Transacted, Error>> {
        Box::pin(Self::transact(self, batch))
    }

    fn query<'a>(&'a self, question: &'a Question, bounds: Bounds) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(Self::query(self, question, bounds))
    }
}
